"""One shard, from its message to its entry: stopped anywhere, killed, doubled or late."""

from __future__ import annotations

import bz2
import gzip
import math
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel, field_validator

from coordinator.errors import (
    AttemptFailed,
    CodeChanged,
    Fate,
    InputChanged,
    LedgerBroken,
    MapFailed,
    RetryableError,
    ShardsFailed,
    StoreUnavailable,
)
from coordinator.formats.base import Source
from coordinator.formats.csv import Csv
from coordinator.formats.jsonlines import JsonLines
from coordinator.formats.lines import Lines
from coordinator.formats.objects import Objects
from coordinator.job import Job
from coordinator.limits import Limits
from coordinator.loading.program import Program
from coordinator.machine.local import ON_OWN_MACHINE, Hear
from coordinator.model import Entry, Message, Pinned, Receipt, RunRecord, Shard, Slice
from coordinator.rules.pacing import backoff_seconds
from coordinator.state import ledger, notes, runs
from coordinator.steps.attempts import (
    Again,
    Answered,
    Failed,
    Unwanted,
    attend,
    bury,
    check_split,
    peak_memory_bytes,
    perform,
)
from coordinator.steps.plan import plan as plan_map
from coordinator.steps.reconcile import FanOut, reconcile
from coordinator.steps.workplace import UNHURRIED, Done, Guard, Workplace
from coordinator.store.memory import MemoryStore
from coordinator.testing import outcome_of
from tests.support import World, a_job, examples, words

# ------------------------------------------------------------------------------------------------
# A crew that stops, dies and repeats as it is told
# ------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The worker process is gone, at once."""


class TripAfter:
    """A guard that trips when it has been asked so many times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def tripped(self) -> bool:
        self.left -= 1
        return self.left < 0


@dataclass
class Crew:
    """Attends to every message as the queue does: received again after a death or a failure."""

    world: World
    trips: Iterator[int] = field(default_factory=lambda: iter(()))
    attempts: Iterator[int] = field(default_factory=count)
    calls: int = 0

    def work(self, run: RunRecord, messages: Sequence[Message], hear: Hear) -> None:
        place = place_of(self.world, run)
        for message in messages:
            self._finish(place, message, hear)

    def _finish(self, place: Workplace, message: Message, hear: Hear) -> None:
        for receives in count(1):
            times = next(self.trips, None)
            guard: Guard = UNHURRIED if times is None else TripAfter(times)
            self.calls += 1
            try:
                verdict = attend(
                    place,
                    message,
                    attempt=f"a{next(self.attempts)}",
                    receives=receives,
                    guard=guard,
                    jitter=lambda: 0.0,
                )
            except Killed:
                if receives < place.job.limits.attempts:
                    continue
                hear(bury(place, message, receives=receives, reason="It died."))
                return
            hear(verdict)
            if not isinstance(verdict, Again):
                return


def place_of(world: World, run: RunRecord) -> Workplace:
    return Workplace(world.store, run, world.clock, world.inputs, world.job, Program("test"))


def begun(world: World) -> tuple[Workplace, list[Message]]:
    """A run whose map is planned, and the messages of its first wave."""
    run = runs.claim(
        world.store,
        runs.Claim(
            keys=world.keys,
            owner="owner",
            code_version="test",
            declaration=world.job.declaration(),
            inputs=("**",),
            logical_time=0.0,
            waves=2,
            hints=ON_OWN_MACHINE.model_copy(update={"shard_bytes": world.shard_bytes}),
        ),
        now=world.clock(),
        is_live=lambda owner: False,
    )
    run = plan_map(
        world.store,
        world.inputs,
        world.job,
        run,
        draft="plan",
        code_version="test",
        clock=lambda: 0.0,
    )
    ahead = reconcile(
        world.store, world.job, run, draft="first", code_version="test", clock=lambda: 0.0
    )
    assert isinstance(ahead, FanOut)
    return place_of(world, ahead.run), ahead.messages()


def following(place: Workplace, messages: Sequence[Message]) -> tuple[Workplace, list[Message]]:
    """The first wave of the next stage, once these messages are done."""
    for message in messages:
        assert isinstance(try_once(place, message, f"of-{message.shard.id}"), Answered)
    ahead = reconcile(
        place.store,
        place.job,
        place.run,
        draft=f"after-{messages[0].stage}",
        code_version="test",
        clock=lambda: 0.0,
    )
    assert isinstance(ahead, FanOut)
    return replace(place, run=ahead.run), ahead.messages()


def result(world: World, crew: Crew | None = None) -> dict[str, bytes]:
    return outcome_of(world.job, world.store, world.run(crew).manifest).results


# ------------------------------------------------------------------------------------------------
# Splits
# ------------------------------------------------------------------------------------------------


def batched(source: Source) -> Job:
    job = Job("job", source, limits=Limits(tolerated=1000))
    job.map_batch(size=3)(lambda records: [records])
    return job


def by_shard(source: Source) -> Job:
    job = Job("job", source, limits=Limits(tolerated=1000))
    job.map_shard(lambda records: ([record] for record in records), splittable=True)
    return job


def counted(source: Source) -> Job:
    return a_job(
        source,
        lambda record: [(str(record), ["seen"])],
        combine=lambda one, other: one + other,
        reduce=lambda key, seen: [key, len(seen)],
        limits=Limits(tolerated=1000, reduce_bytes=30),
    )


JOBS: dict[str, Callable[[Source], Job]] = {
    "map": a_job,
    "map_batch": batched,
    "map_shard": by_shard,
    "reduce": counted,
    "parts": lambda source: a_job(source, merge="parts"),
}
FORMATS: list[Source] = [
    Lines(),
    JsonLines(),
    Csv(),
    Csv(multiline=False),
]
ROW = b'{"a": 1}\n\n"two, 2"\n\xff\n3,4\r\n[1,2]\n'


def bodies_for(source: Source) -> dict[str, bytes]:
    head = b"a,b\n" if isinstance(source, Csv) else b""
    return {
        "1": head + ROW,
        "2": head,
        "3.gz": gzip.compress(head + ROW * 2),
        "4.bz2": bz2.compress(head + ROW)[:-4],
        "5": head + ROW[:-1],
    }


@given(
    st.sampled_from(sorted(JOBS)),
    st.sampled_from(range(len(FORMATS))),
    st.lists(st.integers(0, 6), max_size=60),
    st.sampled_from([7, 40, 1000]),
)
@examples(120)
def test_a_shard_stopped_anywhere_and_its_rest_stopped_again_give_the_same_bytes(
    name: str, source: int, trips: list[int], shard_bytes: int
) -> None:
    job = JOBS[name](FORMATS[source])
    bodies = bodies_for(FORMATS[source])
    undisturbed = World(job, bodies, shard_bytes=shard_bytes)
    world = World(job, bodies, shard_bytes=shard_bytes)

    expected, found = result(undisturbed), result(world, Crew(world, iter(trips)))

    assert found == expected
    assert world.findings() == []
    before, after = undisturbed.run().manifest.stages["map"], world.run().manifest.stages["map"]
    for number in ("records_in", "records_out", "mapped", "quarantined", "blank", "bytes_in"):
        assert getattr(after, number) == getattr(before, number)


def test_a_shard_that_is_always_stopped_ends_all_the_same() -> None:
    world = World(a_job(Lines()), {"a": b"line\n" * 400})
    crew = Crew(world, trips=iter(lambda: 1, None))  # one record at a time

    assert len(result(world, crew)["job.jsonl"].splitlines()) == 400
    assert world.run().manifest.stages["map"].splits > 3


def test_a_shard_that_can_not_be_cut_and_comes_a_record_further_each_time_is_named() -> None:
    world = World(a_job(Lines()), {"a.gz": gzip.compress(b"line\n" * 400)})
    crew = Crew(world, trips=iter(lambda: 1, None))

    with pytest.raises(ShardsFailed, match=r"split 12 times.* read a\.gz up to there") as caught:
        result(world, crew)
    assert len(str(caught.value)) < 700


def a_split(depth: int, records: int) -> tuple[Shard, Done]:
    """The last child after so many splits, split again after so many records."""
    first, second = (
        Slice.whole(Pinned(key=key, size=9, etag="e")) for key in ("first.gz", "second.gz")
    )
    done = Done(Receipt(attempt="a", records_in=records), (first,), ((second,),))
    return Shard(id=".".join(["0"] * (depth + 1)), slices=(first, second)), done


def test_a_shard_that_gets_on_is_split_again() -> None:
    for depth, records in [(11, 0), (11, 1), (12, 2), (99, 2), (99, 1000)]:
        check_split(*a_split(depth, records))


def test_a_shard_that_does_not_get_on_is_not_split_for_ever() -> None:
    for depth, records, says in [
        (12, 0, "0 records"),
        (12, 1, "1 record"),
        (13, 1, "1 record"),
        (100, 2, "2 records"),
        (100, 1000, "1000 records"),
    ]:
        shard, done = a_split(depth, records)
        with pytest.raises(MapFailed, match=f"split {depth} times.* after {says}:") as caught:
            check_split(shard, done)
        assert str(caught.value).startswith(f"Shard {shard.id[:40]} was split")
        assert "too short to read first.gz up to there" in str(caught.value)
        check_split(shard, replace(done, children=()))


def test_a_map_of_lists_gets_the_same_lists_wherever_its_shard_is_split() -> None:
    bodies = dict.fromkeys("abcdef", b"1\n2\n3\n4\n")
    world = World(batched(Lines()), bodies)

    found = result(world, Crew(world, trips=iter([0, 1, 0, 0])))

    assert found == result(World(batched(Lines()), bodies))
    assert world.run().manifest.stages["map"].splits > 1


def test_a_map_of_whole_shards_is_not_split_unless_it_says_so() -> None:
    job = Job("job", Lines())
    job.map_shard(lambda records: [list(records)])
    world = World(job, {"a": b"line\n" * 9})

    result(world, Crew(world, trips=iter([1, 1, 1])))

    assert world.run().manifest.stages["map"].splits == 0


@pytest.mark.parametrize("form", ["map", "map_batch", "map_shard"])
def test_an_input_that_changes_while_a_shard_is_split_stops_the_run(form: str) -> None:
    bodies = {"a": b"line\n" * 30}
    job = JOBS[form](Lines())
    inner = job.function()

    def change_input(records: Any) -> Any:
        bodies["a"] = b"LINE\n" * 30
        return inner(records)

    job.map_function = change_input
    world = World(job, bodies)

    with pytest.raises(InputChanged, match="a was changed under the run"):
        world.run(Crew(world, trips=iter([4])))
    assert [*world.store.list(world.keys.ledger("map"))] == []


# ------------------------------------------------------------------------------------------------
# Records that kill
# ------------------------------------------------------------------------------------------------


def deadly(source: Source, form: str) -> Job:
    """A map that ends its process at any record that holds `poison`."""

    def check(record: Any) -> Any:
        if "poison" in str(record):
            raise Killed
        return record

    job = Job("job", source, limits=Limits(tolerated=1000))
    if form == "map":
        job.map(lambda record: [check(record)])
    elif form == "map_batch":
        job.map_batch(size=2)(lambda records: [check(record) for record in records])
    else:
        job.map_shard(lambda records: (check(r) for r in records), splittable=True)
    return job


@given(
    st.lists(st.sampled_from(["a", "b", "c", "poison"]), min_size=1, max_size=12),
    st.sampled_from(["map", "map_batch", "map_shard"]),
    st.sampled_from([5, 17, 1000]),
    st.booleans(),
)
@examples(60)
def test_records_that_kill_are_quarantined_and_all_others_are_mapped(
    records: list[str], form: str, shard_bytes: int, packed: bool
) -> None:
    body = "".join(f"{number}-{record}\n" for number, record in enumerate(records)).encode()
    bodies = {"a.gz": gzip.compress(body)} if packed else {"a": body}
    world = World(deadly(Lines(), form), bodies, shard_bytes=shard_bytes)

    outcome = outcome_of(world.job, world.store, world.run(Crew(world)).manifest)

    assert outcome.records() == [
        f"{number}-{record}" for number, record in enumerate(records) if record != "poison"
    ]
    assert len(outcome.quarantine) == records.count("poison")
    assert all("killed its worker" in line["reason"] for line in outcome.quarantine)
    assert world.findings() == []


def test_a_record_whose_model_kills_is_quarantined() -> None:
    class Deadly(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def check(cls, n: int) -> int:
            if n == 2:
                raise Killed
            return n

    job = a_job(JsonLines(model=Deadly), lambda record: [record.n])
    world = World(job, {"a": b'{"n":1}\n{"n":2}\n{"n":3}\n'})

    outcome = outcome_of(job, world.store, world.run(Crew(world)).manifest)

    assert outcome.records() == [1, 3]
    assert [line["offset"] for line in outcome.quarantine] == [8]


def test_a_shard_that_is_taken_apart_says_by_which_code() -> None:
    world = World(deadly(Lines(), "map"), {"a": b"fine\npoison\n"})

    manifest = world.run(Crew(world)).manifest

    assert [program.code_version for program in manifest.programs] == ["test"]


def test_a_shard_that_may_not_be_split_is_not_taken_apart_whatever_dies_of_it() -> None:
    job = Job("job", Lines(), limits=Limits(tolerated=1000, attempts=4))

    @job.map_shard
    def die(lines: Iterator[str]) -> Iterator[str]:
        yield next(lines)
        raise Killed

    world = World(job, {"a": b"1\n2\n3\n"})

    with pytest.raises(ShardsFailed, match=r"4 times without an outcome\. It died"):
        world.run(Crew(world))
    assert [*world.store.list(world.keys.ledger("map"))] == []


def test_an_object_that_kills_is_quarantined() -> None:
    job = deadly(Objects(), "map")
    job.map_function = lambda found: deadly_object(found)
    world = World(job, {"a": b"fine", "b": b"poison", "c": b"fine"})

    outcome = outcome_of(world.job, world.store, world.run(Crew(world)).manifest)

    assert outcome.records() == ["a", "c"]
    assert [line["key"] for line in outcome.quarantine] == ["b"]


def deadly_object(found: Any) -> list[str]:
    if found.read() == b"poison":
        raise Killed
    return [found.name]


# ------------------------------------------------------------------------------------------------
# Doubled, late and concurrent attempts
# ------------------------------------------------------------------------------------------------


def try_once(place: Workplace, message: Message, attempt: str, receives: int = 1) -> Any:
    return attend(
        place,
        message,
        attempt=attempt,
        receives=receives,
        guard=UNHURRIED,
        jitter=lambda: 0.5,
    )


def a_world(**fields: Any) -> World:
    return World(words(), {"a": b"to be or\nnot to be\n", "b": b"that is"}, shard_bytes=9, **fields)


def test_an_attempt_that_finds_an_entry_answers_with_it_and_changes_nothing() -> None:
    world = a_world()
    place, messages = begun(world)
    first = try_once(place, messages[0], "first")
    files = [(stat.key, stat.tag) for stat in world.store.list("")]

    second = try_once(place, messages[0], "second", receives=2)

    assert isinstance(second, Answered)
    assert second == first
    assert second.answer.attempt == "first"
    assert files == [(stat.key, stat.tag) for stat in world.store.list("")]


def test_of_two_concurrent_attempts_one_stands_and_both_answer_with_it() -> None:
    world = a_world()
    place, messages = begun(world)
    rival: list[Any] = []

    class Rivalled(MemoryStore):
        """Just before the entry is created, another attempt creates it."""

        def __init__(self, store: MemoryStore) -> None:
            super().__init__()
            self._objects = store._objects
            self._tags = store._tags

        def perform(self, operation: str, key: str, action: Callable[[], Any]) -> Any:
            if operation == "create" and "/ledger/" in key and not rival:
                rival.append(None)
                rival[0] = try_once(place, messages[0], "rival")
            return action()

    assert isinstance(world.store, MemoryStore)
    slow = Workplace(
        Rivalled(world.store), place.run, place.clock, place.inputs, place.job, Program("test")
    )

    verdict = try_once(slow, messages[0], "slow")

    assert isinstance(verdict, Answered)
    assert verdict.answer.attempt == "rival"
    entry = ledger.find(world.store, world.keys, "map", messages[0].shard.id)
    assert entry is not None
    assert entry.receipt.attempt == "rival"


def test_messages_done_in_any_order_any_number_of_times_give_the_same_result() -> None:
    expected = result(a_world())
    world = a_world()
    place, messages = begun(world)
    for message in [*reversed(messages), *messages]:
        assert isinstance(try_once(place, message, "again"), Answered)

    assert result(world) == expected


def test_a_shard_whose_plan_was_tampered_with_is_refused() -> None:
    world = a_world()
    place, messages = begun(world)
    key = messages[0].shard.key
    world.overwrite(key, world.body(key).replace(b'"stop":9', b'"stop":8'))

    verdict = try_once(place, messages[0], "a")

    assert isinstance(verdict, Failed)
    assert (verdict.note.error, verdict.note.fate) == ("LedgerBroken", Fate.RUN)


def test_a_shard_that_nobody_died_of_is_done_as_a_whole() -> None:
    place, [message] = begun(World(a_job(Lines()), {"a": b"1\n2\n"}))

    answer = perform(place, message, attempt="a", guard=UNHURRIED)

    assert (answer.outcome, answer.records_in) == ("done", 2)


def test_an_attempt_takes_the_time_to_its_end_and_none_if_the_clock_is_set_back() -> None:
    for ended, seconds in [(400.0, 0.0), (1000.25, 0.25), (1001.23456789, 1.234568)]:
        place, messages = begun(a_world())
        times = iter([1000.0, ended])
        timed = replace(place, clock=times.__next__)
        answer = perform(timed, messages[0], attempt="a", guard=UNHURRIED)
        assert (answer.seconds, answer.outcome) == (seconds, "done")


def test_an_attempt_of_more_than_half_a_day_does_not_commit() -> None:
    world = a_world()
    place, messages = begun(world)

    def perform_for(seconds: float) -> None:
        times = iter([0.0, seconds])
        late = replace(place, clock=lambda: next(times))
        perform(late, messages[0], attempt="late", guard=UNHURRIED)

    with pytest.raises(AttemptFailed, match="more than 12 hours and does not commit"):
        perform_for(12 * 3600 + 0.5)
    assert ledger.find(world.store, world.keys, "map", "0") is None
    perform_for(12 * 3600)
    assert ledger.find(world.store, world.keys, "map", "0") is not None


def test_an_attempt_at_what_nobody_wants_any_more_does_nothing_and_says_why() -> None:
    world = a_world()
    place, messages = begun(world)
    runs.cancel(world.store, world.keys)
    place = replace(place, run=world.record())
    files = [(stat.key, stat.tag) for stat in world.store.list("")]

    tried = try_once(place, messages[0], "a", receives=2)
    buried = bury(place, messages[0], receives=5, reason="Its worker died.")

    assert tried == buried == Unwanted(reason="Run r1 is cancelled.")
    assert files == [(stat.key, stat.tag) for stat in world.store.list("")]


def test_the_peak_of_memory_is_in_bytes_wherever_a_worker_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Usage:
        ru_maxrss = 77

    for platform, unit in [("linux", 1024), ("darwin", 1)]:
        with monkeypatch.context() as patch:
            patch.setattr(resource, "getrusage", lambda who: Usage)
            patch.setattr(sys, "platform", platform)
            assert peak_memory_bytes() == 77 * unit


# ------------------------------------------------------------------------------------------------
# Fates and notes
# ------------------------------------------------------------------------------------------------


def failing(error: BaseException) -> World:
    job = a_job(Lines(), limits=Limits(attempts=3))

    def fail(line: str) -> None:
        raise error

    job.map_function = fail
    return World(job, {"a": b"x\n"})


def test_what_may_pass_is_tried_again_and_each_failure_is_counted() -> None:
    world = failing(RetryableError("Try later."))
    place, [message] = begun(world)

    verdicts = [try_once(place, message, f"a{n}", receives=n) for n in (1, 2, 3)]

    assert [type(verdict) for verdict in verdicts] == [Again, Again, Failed]
    note = notes.find_note(world.store, world.keys, "map", "0", message.wave)
    assert note is not None
    assert (note.failures, note.receives, note.attempt) == (3, 3, "a3")
    assert (note.error, note.reason, note.fate) == ("RetryableError", "Try later.", Fate.RETRY)


def test_a_failed_attempt_is_tried_again_after_a_wait_that_doubles() -> None:
    job = failing(RetryableError("Try later.")).job.with_limits(Limits(attempts=100))
    place, [message] = begun(World(job, {"a": b"x\n"}))

    def waits(jitter: float) -> list[float]:
        verdicts = [
            attend(
                place,
                message,
                attempt="a",
                receives=receives,
                guard=UNHURRIED,
                jitter=lambda: jitter,
            )
            for receives in (1, 2, 3, 8, 9, 99)
        ]
        return [verdict.delay_seconds for verdict in verdicts if isinstance(verdict, Again)]

    assert waits(0.5) == [1.0, 2.0, 4.0, 128.0, 150.0, 150.0]
    assert waits(0.25) == [0.5, 1.0, 2.0, 64.0, 75.0, 75.0]


def test_a_shard_is_taken_apart_when_two_attempts_have_died_that_left_a_mark() -> None:
    job = a_job(Lines())

    def die(line: str) -> None:
        raise Killed

    job.map_function = die
    world = World(job, {"a": b"1\n2\n3\n"})
    place, [message] = begun(world)

    marks = []
    for receives in (1, 2, 3):
        with pytest.raises(Killed):
            try_once(place, message, f"a{receives}", receives=receives)
        note = notes.find_note(world.store, world.keys, "map", "0", message.wave)
        marks.append(note.unfinished if note else None)
    verdict = try_once(place, message, "a4", receives=4)

    assert marks == [None, 1, 2]
    assert isinstance(verdict, Answered)
    assert (verdict.answer.outcome, verdict.answer.records_in) == ("split", 0)


def test_a_message_whose_shard_is_done_is_not_buried() -> None:
    world = a_world()
    place, messages = begun(world)
    done = try_once(place, messages[0], "a")

    verdict = bury(place, messages[0], receives=5, reason="Its worker died.")

    assert verdict == done
    assert notes.find_note(world.store, world.keys, "map", "0", messages[0].wave) is None


class Edited(Program):
    """A program whose files were changed under the attempt."""

    def check(self) -> None:
        raise CodeChanged("words.py was changed.")


@pytest.mark.parametrize("program", [Program("other"), Edited("test")], ids=["other", "edited"])
def test_code_that_its_epoch_is_not_bound_to_commits_nothing(program: Program) -> None:
    world = a_world()
    place, messages = begun(world)

    verdict = try_once(replace(place, program=program), messages[0], "a")

    assert isinstance(verdict, Failed)
    assert (verdict.note.error, verdict.note.fate) == ("CodeChanged", Fate.RUN)
    assert ledger.find(world.store, world.keys, "map", "0") is None


def test_what_is_fatal_to_the_run_is_not_tried_again() -> None:
    world = failing(InputChanged("a was changed."))
    place, [message] = begun(world)

    verdict = try_once(place, message, "a")

    assert isinstance(verdict, Failed)
    assert verdict.note.fate is Fate.RUN


def test_what_is_fatal_to_the_shard_is_not_tried_again() -> None:
    world = World(a_job(Lines(), lambda line: 7), {"a": b"x\n"})
    place, [message] = begun(world)

    verdict = try_once(place, message, "a")

    assert isinstance(verdict, Failed)
    assert (verdict.note.error, verdict.note.fate) == ("OutputInvalid", Fate.SHARD)


class Mute(RetryableError):
    """An error of a job's whose text is another error."""

    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RetryableError("half a \ud83d pair"), r"half a \ud83d pair"),
        (RetryableError("x" * 1_000_000), "x" * 2000 + "..."),
        (RetryableError(" of\nlines\n"), "of\nlines"),
        (Mute(), ""),
    ],
    ids=["no Unicode", "too long", "of lines", "another error"],
)
def test_whatever_a_job_says_of_its_failure_can_be_noted(error: Exception, reason: str) -> None:
    world = failing(error)
    place, [message] = begun(world)

    verdict = try_once(place, message, "a")

    assert isinstance(verdict, Again)
    assert verdict.note.reason == reason
    assert verdict.note == notes.find_note(world.store, world.keys, "map", "0", message.wave)


def test_an_attempt_that_breaks_off_is_tried_again() -> None:
    class Broken(MemoryStore):
        broken = False

        def perform(self, operation: str, key: str, action: Callable[[], Any]) -> Any:
            if self.broken and "/ledger/" in key:
                raise MemoryError("no more")
            return action()

    store = Broken()
    place, [message] = begun(World(a_job(Lines()), {"a": b"x\n"}, store=store))
    store.broken = True

    verdict = try_once(place, message, "a")

    assert isinstance(verdict, Again)
    assert verdict.note.error == "AttemptFailed"
    assert verdict.note.reason == "The attempt broke off with MemoryError: no more."


def test_a_note_that_cannot_be_written_is_let_go() -> None:
    world = failing(StoreUnavailable("down"))
    place, [message] = begun(world)

    class Down(MemoryStore):
        def perform(self, operation: str, key: str, action: Callable[[], Any]) -> Any:
            raise StoreUnavailable("down")

    down = Workplace(Down(), place.run, place.clock, place.inputs, place.job, Program("test"))

    assert isinstance(try_once(down, message, "a"), Again)


def test_a_message_received_too_often_is_buried_with_a_note() -> None:
    world = a_world()
    place, messages = begun(world)

    verdict = bury(place, messages[0], receives=5, reason="Its worker died.", timeout_seconds=2.0)

    assert isinstance(verdict, Failed)
    note = verdict.note
    assert (note.fate, note.failures, note.receives, note.seconds) == (Fate.RETRY, 5, 5, 10.0)
    assert note.reason == "Shard 0 was tried 5 times without an outcome. Its worker died."
    assert note == notes.find_note(world.store, world.keys, "map", "0", messages[0].wave)


def test_a_note_says_what_its_shard_reads() -> None:
    world = failing(RetryableError("Try later."))
    place, [message] = begun(world)

    verdict = try_once(place, message, "a")

    assert isinstance(verdict, Again)
    assert verdict.note.reads == "a"


@given(st.integers(1, 100), st.floats(0, 1, exclude_max=True))
@examples(100)
def test_backoff_grows_with_full_jitter_and_stays_within_its_bounds(
    receives: int, spread: float
) -> None:
    delay = backoff_seconds(receives, spread)

    assert 0 <= delay < min(300.0, 2.0**receives)
    assert backoff_seconds(receives, 0.0) == 0.0
    assert math.isclose(backoff_seconds(receives, 0.5), min(300.0, 2.0 ** min(receives, 16)) / 2)


# ------------------------------------------------------------------------------------------------
# The ledger
# ------------------------------------------------------------------------------------------------


def an_entry(attempt: str) -> Entry:
    return Entry(
        shard="0", stage="map", outcome="done", digest="d", receipt=Receipt(attempt=attempt)
    )


def test_the_first_entry_of_a_shard_stands() -> None:
    world = a_world()
    begun(world)

    assert ledger.commit(world.store, world.keys, an_entry("one")) == an_entry("one")
    assert ledger.commit(world.store, world.keys, an_entry("two")) == an_entry("one")


def test_an_entry_under_another_shards_name_breaks_the_ledger() -> None:
    world = a_world()
    begun(world)
    world.store.create(world.keys.entry("map", "1"), an_entry("one").encode())

    with pytest.raises(LedgerBroken, match=r"map/plan/ledger/1\.json is not a readable entry"):
        ledger.Ledger(world.store, world.keys, "map")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b'{"shard":"0"}', b"null", b"\xff"])
def test_an_entry_that_cannot_be_read_is_named(body: bytes) -> None:
    world = a_world()
    begun(world)
    world.store.create(world.keys.entry("map", "0"), body)

    with pytest.raises(LedgerBroken, match=r"map/plan/ledger/0\.json is not a readable"):
        ledger.Ledger(world.store, world.keys, "map")
    with pytest.raises(LedgerBroken, match=r"map/plan/ledger/0\.json is not a readable"):
        ledger.find(world.store, world.keys, "map", "0")

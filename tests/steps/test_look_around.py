"""What a shard sees that runs for long: that nobody wants it any more, or that all others are done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from coordinator.errors import Fate, RunCancelled, Superseded
from coordinator.formats.lines import Lines
from coordinator.loading.program import Program
from coordinator.model import Entry, Message, Receipt
from coordinator.rules.pacing import LOOK_SECONDS, SKEW_FACTOR, Pace
from coordinator.state import ledger, runs
from coordinator.steps.attempts import Answered, Failed, Verdict, attend
from coordinator.steps.split import SAMPLED, look_around
from coordinator.steps.workplace import Workplace
from coordinator.store.memory import MemoryStore
from tests.steps.test_attempts import begun
from tests.support import World, a_job

SHARDS = 40
LINES = [f"line {number}" for number in range(9)]


def a_world(shards: int = SHARDS) -> tuple[World, Workplace, list[Message]]:
    """A run with so many shards of one object each."""
    body = "".join(f"{line}\n" for line in LINES).encode()
    world = World(a_job(Lines()), {f"{n:02}": body for n in range(shards)}, shard_bytes=len(body))
    place, messages = begun(world)
    assert len(messages) == shards
    return world, place, messages


def finish(world: World, messages: Iterable[Message], seconds: Sequence[float]) -> None:
    """Entries as workers leave them that took so long."""
    for message, taken in zip(messages, seconds, strict=False):
        entry = Entry(
            shard=message.shard.id,
            stage="map",
            outcome="done",
            digest=message.shard.digest,
            receipt=Receipt(attempt="other", seconds=taken),
        )
        ledger.commit(world.store, world.keys, entry)


def test_a_shard_is_behind_when_half_of_all_are_done_and_took_a_quarter_of_its_time() -> None:
    world, place, messages = a_world()
    look = look_around(place, messages[-1])

    finish(world, messages[: SHARDS // 2 - 1], [10.0] * SHARDS)
    assert not look(1e6)
    finish(world, messages[SHARDS // 2 - 1 :], [10.0])
    assert not look(10.0 * SKEW_FACTOR)
    assert look(10.0 * SKEW_FACTOR + 0.1)


def test_of_a_few_shards_it_compares_itself_with_all_that_are_done() -> None:
    world, place, messages = a_world(3)
    look = look_around(place, messages[-1])

    finish(world, messages[:2], [100.0, 1.0])

    median = (100.0 + 1.0) / 2
    assert not look(median * SKEW_FACTOR)
    assert look(median * SKEW_FACTOR + 0.1)


def test_the_other_of_two_shards_is_enough_to_compare_with() -> None:
    world, place, messages = a_world(2)
    look = look_around(place, messages[-1])
    assert not look(1e6)

    finish(world, messages[:1], [10.0])

    assert not look(10.0 * SKEW_FACTOR)
    assert look(10.0 * SKEW_FACTOR + 0.1)


def test_those_it_compares_itself_with_are_from_all_over_the_stage() -> None:
    world, place, messages = a_world()
    seconds = [0.1] * 4 + [100.0] * 20
    finish(world, messages, seconds)

    assert not look_around(place, messages[-1])(50.0)


def test_a_look_reads_a_few_entries_however_many_are_done() -> None:
    class Counting(MemoryStore):
        read = 0

        def perform(self, operation: str, key: str, action: Any) -> Any:
            self.read += operation.startswith("get") and "/ledger/" in key
            return action()

    store = Counting()
    body = b"a line\n"
    world = World(a_job(Lines()), {f"{n:03}": body for n in range(200)}, store=store, shard_bytes=7)
    place, messages = begun(world)
    finish(world, messages, [1.0] * 190)
    store.read = 0

    look_around(place, messages[-1])(5.0)

    assert 0 < store.read <= SAMPLED + 1


def test_a_shard_of_another_stage_is_never_behind() -> None:
    world, place, messages = a_world()
    finish(world, messages[:-1], [0.001] * SHARDS)
    run = runs.change(
        world.store,
        world.keys,
        lambda found: found.model_copy(
            update={"plans": {**found.plans, "merge": found.plans["map"]}}
        ),
    )
    merge = messages[-1].model_copy(update={"stage": "merge"})
    assert run.plans["merge"].draft == merge.draft

    assert not look_around(place, merge)(1e6)


# ------------------------------------------------------------------------------------------------
# What others do to the run
# ------------------------------------------------------------------------------------------------


def cancel(world: World) -> None:
    runs.cancel(world.store, world.keys)


def take_over(world: World) -> None:
    change(world, epoch=2)


def draft_anew(world: World) -> None:
    plans = world.record().plans
    change(world, plans={"map": plans["map"].model_copy(update={"draft": "another"})})


def begin_to_publish(world: World) -> None:
    change(world, state="publishing")


def change(world: World, **fields: Any) -> None:
    runs.change(world.store, world.keys, lambda found: found.model_copy(update=fields))


@pytest.mark.parametrize(
    ("others", "error", "says"),
    [
        (cancel, RunCancelled, "is cancelled"),
        (take_over, Superseded, "Epoch 1 of run r1 has ended; its epoch is 2"),
        (draft_anew, Superseded, "has been drafted anew"),
        (begin_to_publish, Superseded, "is publishing"),
    ],
)
def test_a_shard_that_nobody_wants_any_more_ends_at_its_next_look(
    others: Any, error: type[Exception], says: str
) -> None:
    world, place, messages = a_world(3)
    look = look_around(place, messages[0])
    assert not look(60.0)

    others(world)

    with pytest.raises(error, match=says):
        look(120.0)


@dataclass
class Slowly:
    """A function in which each record takes so long, and others act at one of them."""

    world: World
    place: Workplace
    message: Message
    record_seconds: float
    at: int
    others: Any
    now: float = 0.0
    mapped: int = 0

    def attend(self, remaining_seconds: float = 900.0) -> Verdict:
        def slowly(line: str) -> list[str]:
            self.mapped += 1
            self.now += self.record_seconds
            if self.mapped == self.at:
                self.others(self.world)
            return [line]

        place = Workplace(
            self.world.store,
            self.place.run,
            lambda: self.now,
            self.world.inputs,
            a_job(Lines(), slowly),
            Program("test"),
        )
        look = look_around(place, self.message)
        return attend(
            place,
            self.message,
            attempt="slow",
            receives=1,
            guard=Pace(remaining_seconds, look, lambda: self.now),
            jitter=lambda: 0.0,
        )


@pytest.mark.parametrize("others", [cancel, take_over, draft_anew, begin_to_publish])
def test_a_long_shard_stops_within_a_minute_and_commits_nothing(others: Any) -> None:
    world, place, messages = a_world(3)
    ledgers = world.keys.ledger("map")
    slowly = Slowly(world, place, messages[0], record_seconds=25.0, at=4, others=others)

    verdict = slowly.attend()

    assert isinstance(verdict, Failed)
    assert verdict.note.fate is Fate.RUN
    assert slowly.mapped == 6  # it looks around after 75 seconds, and again after 150
    assert slowly.now - 4 * 25.0 <= LOOK_SECONDS
    assert [*world.store.list(ledgers)] == []


def test_a_long_shard_splits_when_the_others_are_done_and_not_before() -> None:
    world, place, messages = a_world(3)

    def do_the_others(world: World) -> None:
        finish(world, messages[1:], [1.0, 2.0])

    slowly = Slowly(world, place, messages[0], record_seconds=25.0, at=4, others=do_the_others)

    verdict = slowly.attend()

    assert isinstance(verdict, Answered)
    assert (verdict.answer.outcome, verdict.answer.records_in) == ("split", 6)


def test_a_long_shard_that_is_not_behind_is_done_by_one_worker() -> None:
    world, place, messages = a_world(3)
    slowly = Slowly(world, place, messages[0], 25.0, at=1, others=lambda world: None)

    verdict = slowly.attend()

    assert isinstance(verdict, Answered)
    assert (verdict.answer.outcome, verdict.answer.records_in) == ("done", len(LINES))

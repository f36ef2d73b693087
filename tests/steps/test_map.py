"""What goes wrong with reading is nobody's record: no map can pass over it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from pydantic import BaseModel

from coordinator.errors import (
    FanfoldError,
    InputChanged,
    MapFailed,
    OutputInvalid,
    Retry,
    RetryableError,
    RunCancelled,
    StoreUnavailable,
)
from coordinator.formats.base import Batch
from coordinator.formats.jsonlines import JsonLines
from coordinator.formats.lines import Lines
from coordinator.formats.objects import Object, ObjectReader, Objects
from coordinator.job import Job
from coordinator.limits import Limits
from coordinator.model import Pinned, Slice
from coordinator.steps.map import Context, MapShard
from coordinator.steps.workplace import UNHURRIED, Guard
from coordinator.store.memory import MemoryInputs
from coordinator.store.ports import Readable
from coordinator.testing import outcome_of
from tests.support import World, a_job, pin

FORMS = ["map", "map_batch", "map_shard"]


class Changing(MemoryInputs):
    """Objects of which one changes when it is read, at a moment of the test's choice.

    `opened` and `closed` count streams; `fault` is raised in place of a read.
    """

    def __init__(self, names: str = "abc", *, when: str = "never", fault: str = "") -> None:
        self.bodies = {name: name.encode() * 100 for name in names}
        super().__init__(self.bodies)
        self.when = when
        self.fault = fault
        self.opened = self.closed = 0

    def open(self, pinned: Pinned, start: int, stop: int) -> Readable:
        if self.when == "open":
            self._change(pinned.key)
        stream = super().open(pinned, start, stop)
        self.opened += 1
        return _Stream(self, stream, pinned.key)

    def _change(self, key: str) -> None:
        if key == "b":
            self.bodies[key] = b"changed"


class _Stream:
    def __init__(self, inputs: Changing, stream: Readable, key: str) -> None:
        self.inputs = inputs
        self.stream = stream
        self.key = key
        self.closed = False

    def read(self, size: int = -1, /) -> bytes:
        if self.inputs.fault and self.key == "b":
            raise StoreUnavailable(self.inputs.fault)
        if self.inputs.when == "read":
            self.inputs._change(self.key)
        return self.stream.read(size)

    def close(self) -> None:
        self.inputs.closed += not self.closed
        self.closed = True
        self.stream.close()


class Kept:
    """An outlet that keeps what it takes."""

    def __init__(self) -> None:
        self.outputs: list[Any] = []

    def take(self, outputs: Any, /) -> None:
        self.outputs += list(outputs)

    def settle(self) -> list[tuple[int, Exception]]:
        return []


def job_of(form: str, look: Callable[[Object], Any]) -> Job:
    """A map of each form that looks at every object."""
    job = Job("job", Objects(), limits=Limits(tolerated=1000))
    if form == "map":
        job.map(lambda found: [look(found)])
    elif form == "map_batch":
        job.map_batch(size=2)(lambda found: [look(one) for one in found])
    else:
        job.map_shard(lambda found: (look(one) for one in found))
    return job


def once(do: Callable[[], None], error: Retry) -> None:
    """Does nothing again."""
    raise error


def shard_over(
    job: Job,
    inputs: MemoryInputs,
    *,
    guard: Guard = UNHURRIED,
    refused: list[str] | None = None,
    insist: Callable[[Callable[[], None], Retry], None] = once,
) -> MapShard:
    """A shard of all the objects."""
    slices = [Slice.whole(pin(inputs, key)) for key in sorted(inputs.objects)]
    said = [] if refused is None else refused
    return MapShard(
        job,
        job.source.reader(inputs, 1000),
        slices,
        outlet=Kept(),
        refuse=lambda key, offset, number, reason: said.append(f"{key}: {reason}"),
        guard=guard,
        context=lambda key, offset: Context("job", "run", "0", key, offset),
        insist=insist,
    )


# ------------------------------------------------------------------------------------------------
# Streams of objects
# ------------------------------------------------------------------------------------------------


def leave_open(found: Object) -> str:
    stream = found.open()
    left_open.append(stream)
    return stream.read(10).decode()


def let_go(found: Object) -> str:
    return found.open().read(10).decode()


def swallow(found: Object) -> str:
    try:
        return found.read().decode()
    except BaseException:  # noqa: BLE001
        return "?"


def make_it_its_own(found: Object) -> str:
    try:
        return found.read().decode()
    except InputChanged as error:
        raise KeyError("no such thing") from error


def make_it_another_of_the_tree(found: Object) -> str:
    try:
        return found.read().decode()
    except InputChanged as error:
        raise RetryableError("again") from error


left_open: list[Readable] = []
LOOKS = [leave_open, let_go, swallow, make_it_its_own, make_it_another_of_the_tree]


@pytest.fixture(autouse=True)
def _nothing_left_open() -> Iterator[None]:
    left_open.clear()
    yield
    left_open.clear()


@pytest.mark.parametrize("when", ["open", "read"])
@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("form", FORMS)
def test_an_object_that_changed_is_an_error_whatever_the_map_does(
    form: str, look: Callable[[Object], str], when: str
) -> None:
    inputs = Changing(when=when)
    shard = shard_over(job_of(form, look), inputs)

    with pytest.raises(InputChanged, match="b was changed under the run"):
        shard.run()
    gc.collect()
    assert inputs.closed == inputs.opened


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("form", FORMS)
def test_an_object_that_did_not_change_is_read_whatever_the_map_does(
    form: str, look: Callable[[Object], str]
) -> None:
    inputs = Changing()
    shard = shard_over(job_of(form, look), inputs)

    shard.run()

    assert [output[0] for output in shard.outlet.outputs] == ["a", "b", "c"]  # type: ignore[attr-defined]
    assert (shard.records_in, shard.quarantined) == (3, 0)
    assert (inputs.opened, inputs.closed) == (3, 3)


@pytest.mark.parametrize("form", FORMS)
def test_what_may_pass_is_tried_again_though_the_map_caught_it(form: str) -> None:
    world = World(job_of(form, swallow), {})
    world.inputs = Changing(fault="down")
    world.bodies = world.inputs.bodies

    with pytest.raises(FanfoldError, match="down"):
        world.run()
    world.inputs.fault = ""
    assert world.run().manifest.stages["map"].mapped == 3


@pytest.mark.parametrize("form", FORMS)
def test_a_change_is_found_before_the_record_counts(form: str) -> None:
    inputs = Changing("ab", when="read")
    refused: list[str] = []
    job = job_of(form, make_it_its_own)
    if form == "map_batch":
        job.batch_size = 1
    shard = shard_over(job, inputs, refused=refused)

    with pytest.raises(InputChanged):
        shard.run()
    assert refused == []
    assert shard.records_in == 1


def test_streams_are_closed_record_by_record_and_a_closed_one_is_not_read() -> None:
    inputs = Changing()
    states: list[tuple[int, int]] = []

    def look(found: Object) -> str:
        states.append((inputs.opened, inputs.closed))
        for stream in left_open:
            with pytest.raises(ValueError, match="closed"):
                stream.read(1)
        return leave_open(found)

    shard_over(job_of("map", look), inputs).run()

    assert states == [(0, 0), (1, 1), (2, 2)]


def test_a_stream_that_the_map_lets_go_of_is_closed_at_once() -> None:
    inputs = Changing("abcdefghij")
    seen: list[int] = []

    def look(found: Object) -> str:
        seen.append(inputs.opened - inputs.closed)
        return let_go(found)

    shard_over(job_of("map_shard", look), inputs).run()

    assert max(seen) == 0


def test_objects_may_be_read_side_by_side() -> None:
    job = Job("job", Objects())
    job.map_shard(lambda found: [bytes(map(_first, [one.open() for one in list(found)]))])
    shard = shard_over(job, Changing())

    shard.run()

    assert shard.outlet.outputs == [b"abc"]  # type: ignore[attr-defined]


def _first(stream: Readable) -> int:
    return stream.read(1)[0]


def test_of_several_troubles_the_first_is_raised_and_then_forgotten() -> None:
    inputs = Changing(fault="down")
    reader = Objects().reader(inputs, 1000)
    batches = [batch for key in "bc" for batch in reader.batches(Slice.whole(pin(inputs, key)))]
    with suppress(StoreUnavailable):
        batches[0].records[0].read()
    left = batches[1].records[0].open()
    inputs.bodies["c"] = b"changed"

    with pytest.raises(StoreUnavailable):
        reader.settle()
    reader.settle()
    assert isinstance(reader, ObjectReader)
    left.close()


# ------------------------------------------------------------------------------------------------
# The supply of a map of whole shards
# ------------------------------------------------------------------------------------------------


class Cancelled:
    """A guard of a shard that nobody wants any more, from the third record on."""

    def __init__(self) -> None:
        self.asked = 0

    def tripped(self) -> bool:
        self.asked += 1
        if self.asked > 2:
            raise RunCancelled("The run was cancelled.")
        return False


class Killed(BaseException):
    """The worker process is to end."""


def take_what_comes(records: Iterator[Any]) -> Iterator[Any]:
    try:
        yield from records
    except BaseException:  # noqa: BLE001
        return


def make_it_a_key_error(records: Iterator[Any]) -> Iterator[Any]:
    try:
        yield from records
    except Exception as error:
        raise KeyError("no such thing") from error


def ask_again(records: Iterator[Any]) -> Iterator[Any]:
    for _ in range(9):
        with suppress(Exception, Killed):
            yield from records


SHARD_MAPS = [take_what_comes, make_it_a_key_error, ask_again]


def lines_job(function: Callable[[Iterator[Any]], Iterator[Any]]) -> Job:
    job = Job("job", Lines(), limits=Limits(tolerated=1000))
    job.map_shard(function, splittable=True)
    return job


@pytest.mark.parametrize("function", SHARD_MAPS)
def test_an_input_that_changes_while_a_shard_is_mapped_stops_the_run(
    function: Callable[[Iterator[Any]], Iterator[Any]],
) -> None:
    inputs = MemoryInputs(bodies := {"a": b"one\n", "b": b"two\n"})

    def change(records: Iterator[Any]) -> Iterator[Any]:
        for output in function(records):
            bodies["b"] = b"changed\n"
            yield output

    with pytest.raises(InputChanged, match="b was changed under the run"):
        shard_over(lines_job(change), inputs).run()


@pytest.mark.parametrize("function", SHARD_MAPS)
def test_a_shard_that_nobody_wants_any_more_ends_as_that(
    function: Callable[[Iterator[Any]], Iterator[Any]],
) -> None:
    shard = shard_over(lines_job(function), MemoryInputs({"a": b"1\n2\n3\n4\n"}), guard=Cancelled())

    with pytest.raises(RunCancelled):
        shard.run()


@pytest.mark.parametrize("function", SHARD_MAPS)
def test_the_end_of_a_worker_in_the_midst_of_reading_is_its_end(
    function: Callable[[Iterator[Any]], Iterator[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = shard_over(lines_job(function), MemoryInputs({"a": b"1\n2\n"}))

    def die(batch: Batch, refusals: object) -> None:
        raise Killed

    monkeypatch.setattr(shard, "_account", die)

    with pytest.raises(Killed):
        shard.run()


def test_a_map_that_closes_its_supply_has_not_read_it() -> None:
    def first_only(records: Any) -> Iterator[Any]:
        yield next(records)
        records.close()

    shard = shard_over(lines_job(first_only), MemoryInputs({"a": b"1\n2\n3\n"}))

    with pytest.raises(MapFailed, match="before it had read all"):
        shard.run()


def test_a_map_that_drops_the_last_record_has_read_all() -> None:
    shard = shard_over(
        lines_job(lambda records: iter([sum(1 for _ in records)])),
        MemoryInputs({"a": b"1\n2\n3\n"}),
    )

    shard.run()

    assert shard.outlet.outputs == [3]  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------
# What a map learns of its record
# ------------------------------------------------------------------------------------------------


def test_a_map_learns_where_its_record_lies() -> None:
    def mapped(line: str, context: Context) -> list[tuple[str, ...]]:
        where = (context.job, context.run_id, context.shard, context.key, str(context.offset))
        return [(line, *where, context.idempotency_key)]

    world = World(a_job(JsonLines(), mapped), {"a": b"1\n22\n", "b": b"3\n"}, shard_bytes=5)

    records = outcome_of(world.job, world.store, world.run().manifest).records()

    assert records == [
        [1, "job", "r1", "0", "a", "0", "job/r1/a@0"],
        [22, "job", "r1", "0", "a", "2", "job/r1/a@2"],
        [3, "job", "r1", "1", "b", "0", "job/r1/b@0"],
    ]


# ------------------------------------------------------------------------------------------------
# Where a shard stops
# ------------------------------------------------------------------------------------------------


class TripAfter:
    """A guard that trips from when it has been asked so many times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def tripped(self) -> bool:
        self.left -= 1
        return self.left < 0


def stopped(form: str, times: int, bodies: dict[str, bytes] | None = None) -> MapShard:
    """A shard whose guard trips when it has been asked so many times."""
    job = Job("job", JsonLines())
    if form == "map":
        job.map(lambda record: [record])
    elif form == "map_batch":
        job.map_batch(size=2)(lambda records: records)
    else:
        job.map_shard(lambda records: records, splittable=True)
    inputs = MemoryInputs(bodies or {"a": b"1\n", "b": b"2\n\n3\n4\n", "c": b"5\n"})
    shard = shard_over(job, inputs, guard=TripAfter(times))
    shard.run()
    return shard


def places_of(slices: tuple[Slice, ...]) -> list[tuple[str, int, int]]:
    return [(piece.key, piece.start, piece.stop) for piece in slices]


@pytest.mark.parametrize("form", ["map", "map_shard"])
def test_a_shard_stops_before_the_next_record_but_never_before_its_first(form: str) -> None:
    for times, outputs, blank, covered, rest in [
        (0, [1], 0, [("a", 0, 2)], [("b", 0, 7), ("c", 0, 2)]),
        (1, [1], 0, [("a", 0, 2)], [("b", 0, 7), ("c", 0, 2)]),
        (2, [1, 2], 1, [("a", 0, 2), ("b", 0, 3)], [("b", 3, 7), ("c", 0, 2)]),
        (4, [1, 2, 3, 4], 1, [("a", 0, 2), ("b", 0, 7)], [("c", 0, 2)]),
        (5, [1, 2, 3, 4, 5], 1, [("a", 0, 2), ("b", 0, 7), ("c", 0, 2)], []),
    ]:
        shard = stopped(form, times)
        assert shard.outlet.outputs == outputs  # type: ignore[attr-defined]
        assert (shard.records_in, shard.blank) == (len(outputs) + blank, blank)
        assert places_of(shard.covered) == covered
        assert places_of(shard.rest) == rest


@pytest.mark.parametrize("times", [0, 1])
def test_a_map_of_lists_stops_between_two_lists(times: int) -> None:
    shard = stopped("map_batch", times)

    assert shard.outlet.outputs == [1, 2]  # type: ignore[attr-defined]
    assert places_of(shard.covered) == [("a", 0, 2), ("b", 0, 3)]
    assert places_of(shard.rest) == [("b", 3, 7), ("c", 0, 2)]


@pytest.mark.parametrize("form", FORMS)
def test_a_shard_of_many_records_that_nothing_stops_is_done_as_a_whole(form: str) -> None:
    shard = stopped(form, 10_000, {"a": b"1234\n" * 1000})

    assert len(shard.outlet.outputs) == 1000  # type: ignore[attr-defined]
    assert (places_of(shard.covered), shard.rest) == ([("a", 0, 5000)], ())


@pytest.mark.parametrize(
    ("size", "lists"),
    [
        (1, ["1", "2", "3", "4", "5"]),
        (2, ["12", "34", "5"]),
        (3, ["123", "45"]),
        (4, ["1234", "5"]),
        (5, ["12345"]),
        (6, ["12345"]),
    ],
)
def test_lists_have_their_size_wherever_objects_begin(size: int, lists: list[str]) -> None:
    job = Job("job", JsonLines())
    job.map_batch(size=size)(lambda records: ["".join(map(str, records))])
    shard = shard_over(
        job, MemoryInputs({"a": b"1\n", "b": b"2\n3\n4\n", "c": b"\n", "d": b"5\n", "e": b"\n"})
    )

    shard.run()

    assert shard.outlet.outputs == lists  # type: ignore[attr-defined]
    assert (shard.records_in, shard.blank) == (7, 2)


# ------------------------------------------------------------------------------------------------
# What a map raises
# ------------------------------------------------------------------------------------------------


def raising(form: str, error: Exception) -> Job:
    """A map of each form that raises at the second record."""

    def look(line: str) -> str:
        if line == "2":
            raise error
        return line

    job = Job("job", Lines(), limits=Limits(tolerated=1000))
    if form == "map":
        job.map(lambda line: [look(line)])
    elif form == "map_batch":
        job.map_batch(size=3)(lambda lines: [look(line) for line in lines])
    else:
        job.map_shard(lambda lines: (look(line) for line in lines))
    return job


@pytest.mark.parametrize("last", [b"", b"3\n"])
@pytest.mark.parametrize("form", FORMS)
def test_an_error_of_the_tree_is_the_attempts_and_no_records(form: str, last: bytes) -> None:
    refused: list[str] = []
    job = raising(form, RetryableError("Try later."))
    shard = shard_over(job, MemoryInputs({"a": b"1\n2\n" + last}), refused=refused)

    with pytest.raises(RetryableError, match=r"Try later\."):
        shard.run()
    assert refused == []


@pytest.mark.parametrize("last", [b"", b"3\n"])
def test_an_error_in_a_map_of_whole_shards_is_its_shards(last: bytes) -> None:
    job = raising("map_shard", ValueError("two"))
    shard = shard_over(job, MemoryInputs({"a": b"1\n2\n" + last}))

    with pytest.raises(MapFailed, match="map_shard raised ValueError: two"):
        shard.run()


def test_an_output_of_a_map_of_whole_shards_that_can_not_cross_is_its_shards() -> None:
    job = Job("job", Lines())
    job.map_shard(lambda lines: (("\ud800" + line, 1) for line in lines))
    job.reduce(lambda key, values: list(values))

    with pytest.raises(FanfoldError, match="map_shard raised"):
        World(job.check(), {"a": b"1\n2\n"}).run()


def test_a_map_that_is_given_less_than_its_shard_does_not_see_an_end() -> None:
    ended: list[bool] = []

    def read_all(records: Iterator[Any]) -> Iterator[Any]:
        yield from records
        ended.append(True)

    shard = shard_over(lines_job(read_all), MemoryInputs({"a": b"1\n2\n3\n4\n"}), guard=Cancelled())

    with pytest.raises(RunCancelled):
        shard.run()
    assert ended == []


class Row(BaseModel):
    """A record with a model."""

    n: int = 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", ["text", b"bytes", {"a": 1}, 7, Row()], ids=type)
def test_one_output_where_an_iterable_is_due_is_an_error_and_not_taken_apart(
    form: str, value: object
) -> None:
    job = Job("job", Lines())
    if form == "map":
        job.map(lambda line: value)
    elif form == "map_batch":
        job.map_batch(size=2)(lambda lines: value)
    else:
        job.map_shard(lambda lines: value)
    shard = shard_over(job, MemoryInputs({"a": b"1\n2\n"}))

    with pytest.raises(OutputInvalid, match=f"not {type(value).__name__}") as caught:
        shard.run()
    assert str(caught.value).startswith(f"{form} `<lambda>` must yield its outputs")


def test_a_map_may_return_nothing_a_list_or_an_iterator() -> None:
    returned = {"1": None, "2": [], "3": ["a", "b"], "4": iter("cd"), "5": ("e",)}
    shard = shard_over(
        a_job(Lines(), lambda line: returned[line]), MemoryInputs({"a": b"1\n2\n3\n4\n5\n"})
    )

    shard.run()

    assert shard.outlet.outputs == list("abcde")  # type: ignore[attr-defined]
    assert (shard.records_in, shard.quarantined) == (5, 0)

"""What the unit tests share: texts with every kind of trouble in them, and small worlds in memory."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import Any

from hypothesis import settings, strategies as st

from coordinator.formats.base import Batch, Reader, Source
from coordinator.formats.lines import Lines
from coordinator.job import Job
from coordinator.keys import RunKeys
from coordinator.limits import Limits
from coordinator.machine.local import Crew, LocalRun, Watch, run
from coordinator.model import Hints, Pinned, RunRecord, Slice
from coordinator.state import runs
from coordinator.steps.publish import Published
from coordinator.store.memory import MemoryInputs, MemoryStore
from coordinator.store.ports import Page, Readable, Store
from coordinator.testing import PROGRAM, InlineCrew
from coordinator.upkeep.verify import Finding, verify

# FANFOLD_EXAMPLES=20 looks twenty times as hard as the ordinary run of the tests.
EFFORT = int(os.environ.get("FANFOLD_EXAMPLES", "1"))


def examples(count: int) -> settings:
    """How many examples a property is shown; FANFOLD_EXAMPLES multiplies them."""
    return settings(max_examples=count * EFFORT, deadline=None)


# ------------------------------------------------------------------------------------------------
# Texts
# ------------------------------------------------------------------------------------------------

# A shard may be cut, and a read may end, between any two bytes of these.
_PIECES = [
    b"\n",
    b"\n",
    b"\r\n",
    b"\r",
    b"\n\n",
    b"a",
    b"word ",
    b"x" * 40,
    "é".encode(),
    "漢字".encode(),
    "😀".encode(),
    b"\xff",
    b"\x00",
    b"\x85",
    "\u2028".encode(),
    b" ",
    b"\xef\xbb\xbf",
]


def texts(*more: bytes) -> st.SearchStrategy[bytes]:
    """Bytes made of line ends, whole and broken characters, blanks and long lines."""
    pieces = st.lists(st.sampled_from([*_PIECES, *more]), max_size=30).map(b"".join)
    return st.one_of(pieces, st.binary(max_size=40))


def cut_places(size: int) -> st.SearchStrategy[list[int]]:
    """Where to cut an object of this size: any places, also none and all."""
    if size < 2:
        return st.just([])
    return st.one_of(
        st.lists(st.integers(1, size - 1), max_size=8).map(lambda found: sorted(set(found))),
        st.integers(1, 7).map(lambda step: list(range(step, size, step))),
    )


def slices_at(pinned: Pinned, places: Sequence[int]) -> list[Slice]:
    """An object cut at these places."""
    edges = [0, *places, pinned.size]
    return [Slice.of(pinned, start, stop) for start, stop in pairwise(edges)]


# ------------------------------------------------------------------------------------------------
# Reading
# ------------------------------------------------------------------------------------------------


class ShortReads(MemoryInputs):
    """Inputs whose streams give at most `most` bytes a read, as a network does."""

    def __init__(self, objects: Mapping[str, bytes], most: int) -> None:
        super().__init__(objects)
        self.most = most

    def open(self, pinned: Pinned, start: int, stop: int) -> Readable:
        return _Short(super().open(pinned, start, stop), self.most)


class _Short:
    def __init__(self, stream: Readable, most: int) -> None:
        self.stream = stream
        self.most = most

    def read(self, size: int = -1, /) -> bytes:
        return self.stream.read(self.most if size < 0 else min(size, self.most))

    def close(self) -> None:
        self.stream.close()


Seen = tuple[int, str, Any]  # offset, kind, and the record or why it was refused


class Unsorted(MemoryInputs):
    """Inputs listed in an order of the test's own, repeats too, a page at a time."""

    def __init__(self, objects: Mapping[str, bytes], pages: Sequence[Sequence[str]]) -> None:
        super().__init__(objects)
        self.listing = pages

    def pages(self, patterns: Sequence[str], cursor: str = "") -> Iterator[Page]:
        first = int(cursor or "0")
        for number in range(first, len(self.listing)):
            last = number + 1 == len(self.listing)
            pins = [self._pin(key) for key in self.listing[number]]
            yield Page(pins, None if last else str(number + 1))


def pin(inputs: MemoryInputs, key: str) -> Pinned:
    """An input as a listing pins it."""
    return next(iter(inputs.pages([key]))).objects[0]


def reader_over(
    source: Source,
    bodies: Mapping[str, bytes],
    *,
    record_bytes: int = 1 << 20,
    short_reads: int = 1 << 20,
    header: tuple[str, ...] | None = None,
) -> Reader:
    """A reader of bodies in memory."""
    return source.reader(ShortReads(bodies, short_reads), record_bytes, header)


def units_of(batch: Batch) -> list[Seen]:
    """Every unit of a batch that was seen: where it begins, what it is, and its record."""
    starts = batch.starts()
    seen: list[Seen] = []
    for number, record in enumerate(batch.records):
        seen.append((starts[batch.unit(number)], "record", record))
    seen += [(starts[unit], "refused", reason) for unit, reason in batch.refused]
    seen += [(starts[unit], "blank", None) for unit in batch.blank]
    assert len({batch.unit(number) for number in range(len(batch.records))}) == len(batch.records)
    return sorted(seen, key=lambda unit: unit[0])


def read_all(reader: Reader, slices: Sequence[Slice]) -> list[Seen]:
    """Everything seen in these slices, in order."""
    return [unit for piece in slices for batch in reader.batches(piece) for unit in units_of(batch)]


# ------------------------------------------------------------------------------------------------
# Jobs
# ------------------------------------------------------------------------------------------------


def a_job(
    source: Source,
    map_function: Callable[..., Any] = lambda record: [record],
    *,
    combine: Callable[[Any, Any], Any] | None = None,
    reduce: Callable[[Any, Any], Any] | None = None,
    limits: Limits | None = None,
    **fields: Any,
) -> Job:
    """A job of a few functions."""
    job = Job("job", source, limits=limits or Limits(tolerated=10_000), **fields)
    job.map(map_function)
    if combine:
        job.combine(combine)
    if reduce:
        job.reduce(reduce)
    return job.check()


@dataclass
class World:
    """A job, its inputs and a store: everything that a run stands on, in memory by default."""

    job: Job
    bodies: dict[str, bytes]
    store: Store = field(default_factory=MemoryStore)
    run_id: str = "r1"
    shard_bytes: int | None = None
    logical_time: float | None = None
    seconds: Iterator[int] = field(default_factory=lambda: count(1_700_000_000))

    def __post_init__(self) -> None:
        self.inputs = MemoryInputs(self.bodies)

    @property
    def keys(self) -> RunKeys:
        """The run's keys, those of its stages under the drafts that are committed."""
        keys = RunKeys(self.job.name, self.run_id)
        run = runs.find(self.store, keys)
        return keys if run is None else runs.keys_of(run)

    def clock(self) -> float:
        return float(next(self.seconds))

    def run(self, crew: Crew | None = None, *, redo: bool = False) -> Published:
        """Execute the run to its end, or take it up again."""
        request = LocalRun(
            job=self.job,
            run_id=self.run_id,
            patterns=("**",),
            store=self.store,
            inputs=self.inputs,
            clock=self.clock,
            code_version=PROGRAM.version,
            redo=redo,
            hints=Hints(shard_bytes=self.shard_bytes, billed=False),
            logical_time=self.logical_time,
        )
        crew = crew or InlineCrew(self.job, self.store, self.inputs, self.clock)
        return run(request, crew, Watch())

    def record(self) -> RunRecord:
        return runs.read(self.store, self.keys)

    def body(self, key: str) -> bytes:
        return self.store.get(key).body

    def overwrite(self, key: str, body: bytes) -> None:
        """Damage what lies there."""
        self.store.replace(key, body, self.store.get(key).tag)

    def findings(self) -> list[Finding]:
        return list(verify(self.store, self.keys))


def words() -> Job:
    """How often each word occurs."""
    return a_job(
        Lines(),
        lambda line: [(word, 1) for word in line.split()],
        combine=lambda one, other: one + other,
        reduce=lambda word, total: {"word": word, "count": total},
        limits=Limits(reduce_bytes=20, tolerated=10_000),
    )


@contextmanager
def memory_within(most_bytes: int) -> Iterator[None]:
    """Assert that what is done inside never holds more memory of Python's."""
    tracemalloc.start()
    try:
        yield
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < most_bytes

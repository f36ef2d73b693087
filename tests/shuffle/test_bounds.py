"""Memory, descriptors and room on the disk: what the shuffle takes of each, whatever it is given."""

from __future__ import annotations

import errno
import io
import os
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from coordinator.errors import OutputUnwritable
from coordinator.formats.lines import Lines
from coordinator.limits import KIB, MIB, Limits
from coordinator.shuffle.gather import FAN_IN, Gather
from coordinator.shuffle.scatter import WAITING_BYTES, Scatter
from coordinator.shuffle.segments import LINE_BYTES
from coordinator.shuffle.table import Combine
from coordinator.steps.parts import Encoded
from coordinator.testing import run_job
from tests.shuffle.exact import DECLARED, Point
from tests.support import a_job


class Peak:
    """The most memory that was taken at once, in bytes, and the most descriptors."""

    memory = 0
    descriptors = 0

    def look(self) -> None:
        self.descriptors = max(self.descriptors, open_descriptors() - self.before)

    def __init__(self) -> None:
        self.before = open_descriptors()


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextmanager
def measured() -> Iterator[Peak]:
    peak = Peak()
    tracemalloc.start()
    try:
        yield peak
        peak.memory = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def segments_of(
    pairs: Iterator[tuple[Any, Any]], *, shards: int, combine: Combine | None = None
) -> list[list[bytes]]:
    """The lines of the segments of some shards that share these pairs."""
    found = []
    pairs_of_each = list(pairs)
    size = -(-len(pairs_of_each) // shards)
    for start in range(0, len(pairs_of_each), size):
        with Scatter(1, combine, 64 * MIB, DECLARED) as scattered:
            scattered.take(pairs_of_each[start : start + size])
            assert scattered.settle() == []
            [segment] = [b"".join(pieces) for pieces in scattered.segments()]
            found.append(segment.splitlines(keepends=True))
    return found


# ------------------------------------------------------------------------------------------------
# Reduce
# ------------------------------------------------------------------------------------------------

BUFFER = 64 * KIB
# A line of each run: as bytes, as JSON and as values.
MERGING = 4 * FAN_IN * LINE_BYTES


@pytest.mark.parametrize(
    "value", [lambda n: n, lambda n: f"text {n}", lambda n: (n, Decimal(n))], ids=["n", "s", "t"]
)
def test_a_hot_key_takes_no_more_memory_or_descriptors_however_many_values_it_has(
    value: Callable[[int], Any],
) -> None:
    count = 30_000
    segments = segments_of((("hot", value(n)) for n in range(count)), shards=3)

    with measured() as peak, Gather(None, BUFFER) as gathered:
        for lines in segments:
            gathered.take(lines)
            peak.look()
        [(key, values)] = ((key, sum(1 for _ in values)) for key, values in gathered.groups())
        peak.look()

    assert (key, values) == ("hot", count)
    assert peak.descriptors <= 3
    assert peak.memory < BUFFER + MERGING


def test_values_stay_in_order_through_any_number_of_runs() -> None:
    count = 3 * FAN_IN
    segments = segments_of(((n % 7, n) for n in range(count)), shards=count)

    with measured() as peak, Gather(None, 1) as gathered:  # a run for every segment
        for lines in segments:
            gathered.take(lines)
        groups = [(key, list(values)) for key, values in gathered.groups()]
        peak.look()

    assert groups == [(key, list(range(key, count, 7))) for key in range(7)]
    assert peak.descriptors <= 3


def test_folding_many_keys_takes_no_more_memory_than_its_limits() -> None:
    def add(one: int, other: int) -> int:
        return one + other

    keys = 30_000
    segments = segments_of(((f"key {n % keys}", 1) for n in range(2 * keys)), shards=4, combine=add)

    with measured() as peak, Gather(add, BUFFER) as gathered:
        for lines in segments:
            gathered.take(lines)
            peak.look()
        total = sum(value for _, value in gathered.groups())

    assert total == 2 * keys
    assert peak.descriptors <= 3
    assert peak.memory < BUFFER + MERGING


def test_large_values_are_merged_a_few_at_a_time() -> None:
    """64 values of 1 MiB at once would be more than the buffer: fewer runs are merged at once."""
    segments = segments_of((("hot", f"{n:1048576}") for n in range(80)), shards=80)

    with measured() as peak, Gather(None, 4 * MIB) as gathered:
        for lines in segments:
            gathered.take(lines)
            peak.look()
        for _, values in gathered.groups():
            assert [int(value) for value in values] == list(range(80))

    assert peak.memory < 4 * 4 * MIB + MERGING
    assert peak.descriptors <= 9


# ------------------------------------------------------------------------------------------------
# Map
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("combine", [None, lambda one, other: one + other])
def test_scattering_takes_one_descriptor_and_no_memory_for_a_partition(
    combine: Combine | None,
) -> None:
    count, buffer_bytes = 60_000, 1 * MIB

    with measured() as peak, Scatter(256, combine, buffer_bytes) as scattered:
        for start in range(0, count, 1000):
            scattered.take((f"key {n}", n) for n in range(start, start + 1000))
            assert scattered.settle() == []
        peak.look()
        written = sum(len(piece) for pieces in scattered.segments() for piece in pieces)

    assert written > 10 * count
    assert peak.descriptors == 1
    assert peak.memory < 5 * buffer_bytes


WIDE: dict[str, Callable[[int], tuple[Any, Any]]] = {
    "texts": lambda n: ("key", f"{n:100000}"),
    "lists": lambda n: ("key", [f"{n:50000}", [f"{n:50000}"]]),
    "integers": lambda n: ("key", (1 << 800_000) + n),
    "bytes": lambda n: ("key", b"x" * 100_000 + bytes(n % 7)),
    "decimals": lambda n: ("key", Decimal("1" * 200_000)),
    "dataclasses": lambda n: ("key", Point(f"{n:100000}")),
    "keys": lambda n: (f"{n:100000}", 1),
    "tuples as keys": lambda n: ((f"{n:100000}", n), 1),
}


@pytest.mark.parametrize("wide", WIDE)
def test_what_256_records_yield_is_not_held_at_once_when_it_is_wide(wide: str) -> None:
    with measured() as peak, Scatter(4, None, 2 * MIB, DECLARED) as scattered:
        for n in range(256):  # 25 MB in all
            scattered.take([WIDE[wide](n)])
        assert scattered.settle() == []

    assert peak.memory < WAITING_BYTES + 4 * 2 * MIB


def test_what_a_shard_holds_is_spilled_when_it_is_too_much() -> None:
    most = 0
    with Scatter(4, None, 10_000) as scattered:
        for _ in range(50):
            scattered.take([("key", "x" * 1000)] * 5)
            scattered.settle()
            most = max(most, scattered._table.weight)

    assert 0 < most <= 10_000


def test_a_table_that_only_replaces_its_values_is_not_spilled() -> None:
    def add(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
        return one[0] + other[0], one[1] + other[1]

    with Scatter(4, add, 10_000) as scattered:
        for n in range(10_000):
            scattered.take([(f"key {n % 10}", (1, 2))])
        scattered.settle()
        assert scattered._spilled == []


def test_integers_that_grow_by_folding_are_weighed() -> None:
    def join(one: int, other: int) -> int:
        return one | 1 << other

    with measured() as peak, Scatter(1, join, 1 * MIB) as scattered:
        for n in range(1000):
            scattered.take([(f"key {n}", 0), (f"key {n}", 1_000_000)])  # 125 kB each
            scattered.settle()

    assert peak.memory < 4 * MIB


def test_a_line_of_a_segment_holds_a_chunk_or_a_single_value() -> None:
    """Or else whoever reads it had to hold a key's values whole."""
    for value, most in [(1, LINE_BYTES), ("x" * 20_000, 4 * 20_000), ("x" * 999_999, MIB)]:
        [lines] = segments_of((("hot", value) for _ in range(50)), shards=1)
        assert max(map(len, lines)) <= most
        assert sum(line.count(b"hot") for line in lines) == len(lines)


# ------------------------------------------------------------------------------------------------
# Outputs of a job without a reduce
# ------------------------------------------------------------------------------------------------


def test_what_256_records_yield_is_written_before_it_is_too_much() -> None:
    written = 0

    def write(body: bytes) -> None:
        nonlocal written
        written += len(body)

    with measured() as peak:
        outlet = Encoded(lambda record: b"x" * record, write)
        for _ in range(256):
            outlet.take([200_000])
        assert outlet.settle() == []

    assert written == 256 * 200_000
    assert peak.memory < 4 * MIB


def test_what_a_key_is_reduced_to_is_written_before_it_is_too_much() -> None:
    def many(key: str, values: Iterator[int]) -> Iterator[str]:
        for n in range(3000):
            yield f"{n:20000}"

    job = a_job(Lines(), lambda line: [("k", 1)], reduce=many)
    writes: list[int] = []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("coordinator.steps.reduce.WRITE_BYTES", 50_000)
        outcome = run_job(job, {"a": b"x\n"})
        writes.append(len(outcome.records()))

    assert writes == [3000]


# ------------------------------------------------------------------------------------------------
# No room
# ------------------------------------------------------------------------------------------------


class Full(io.BytesIO):
    """A temporary file on a disk without room."""

    def write(self, _: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


KEYED = a_job(
    Lines(),
    lambda line: [(f"{line} {n}", n) for n in range(100)],
    reduce=lambda key, values: sum(values),
    limits=Limits(buffer_bytes=1024, tolerated=9),
)


def test_a_full_disk_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())

    with pytest.raises(
        OutputUnwritable,
        match=rf"in {tempfile.gettempdir()} \(No space left on device\)\. Make room .* TMPDIR",
    ):
        run_job(KEYED, {"a": b"x\n"})


def test_a_missing_folder_for_temporaries_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))

    with pytest.raises(OutputUnwritable, match=r"/gone \(No such file or directory\)"):
        run_job(KEYED, {"a": b"x\n"})

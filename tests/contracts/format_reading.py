"""How the contract of formats reads: through our readers, and through independent ones."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, Literal, NamedTuple

from coordinator.formats.base import Batch, Reader, Source
from coordinator.model import Pinned, Slice
from coordinator.store.memory import MemoryInputs
from coordinator.store.ports import Readable
from tests.support import ShortReads, pin

Value = Callable[[Any], Any]
Read = Callable[[bytes], list[Any]]

RECORD_BYTES = 1000
MIB = 1 << 20
PACK: dict[str, Callable[[bytes], bytes]] = {
    "in.gz": lambda body: gzip.compress(body, 1, mtime=0),
    "in.bz2": bz2.compress,
}


# ------------------------------------------------------------------------------------------------
# Ours
# ------------------------------------------------------------------------------------------------


Kind = Literal["record", "refused", "blank"]


class Found(NamedTuple):
    """A unit that was read: its number in its object, its offset, what it is, and its record."""

    number: int
    offset: int
    kind: Kind
    value: Any


@dataclass(frozen=True)
class Body:
    """An object: its bytes, the kind of each unit and where it begins, a header left out.

    `first` is the number of the first unit. `values` are what the independent reader finds in an
    object of the good units alone.
    """

    content: bytes
    kinds: tuple[Kind, ...]
    starts: tuple[int, ...]
    first: int
    values: tuple[Any, ...]

    @property
    def units(self) -> int:
        """The number of units, the header too."""
        return self.first + len(self.kinds)

    def expected(self) -> list[Found]:
        """What there is to be found."""
        values = iter(self.values)
        return [
            Found(number, offset, kind, next(values) if kind == "record" else None)
            for number, (kind, offset) in enumerate(
                zip(self.kinds, self.starts, strict=True), self.first
            )
        ]


class Watched(MemoryInputs):
    """Inputs that know how many bytes of them have been read."""

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        super().__init__(objects)
        self.given = 0

    def open(self, pinned: Pinned, start: int, stop: int) -> Readable:
        return _WatchedStream(super().open(pinned, start, stop), self)


class _WatchedStream:
    def __init__(self, stream: Readable, watched: Watched) -> None:
        self._stream = stream
        self._watched = watched

    def read(self, size: int = -1, /) -> bytes:
        piece = self._stream.read(size)
        self._watched.given += len(piece)
        return piece

    def close(self) -> None:
        self._stream.close()


def opened(
    source: Source,
    body: bytes,
    key: str = "in",
    *,
    short_reads: int = MIB,
    record_bytes: int = RECORD_BYTES,
) -> tuple[Reader, Pinned]:
    """A reader of one object, with the header that its plan would hold."""
    inputs = ShortReads({key: body}, short_reads)
    pinned = pin(inputs, key)
    header = source.reader(inputs, record_bytes).header(pinned)
    return source.reader(inputs, record_bytes, header), pinned


def units_of(batch: Batch, value: Value) -> list[Found]:
    """The units of a batch that are records, refused or blank, in order, each at its place."""
    starts = batch.starts()

    def found(unit: int, kind: Kind, record: Any = None) -> Found:
        return Found(batch.ordinal + unit, starts[unit], kind, record)

    units = [found(batch.unit(n), "record", value(one)) for n, one in enumerate(batch.records)]
    units += [found(unit, "refused") for unit, _ in batch.refused]
    units += [found(unit, "blank") for unit in batch.blank]
    assert len({unit.number for unit in units}) == batch.records_in <= batch.units
    return sorted(units, key=lambda unit: unit.number)


def read(reader: Reader, pieces: Sequence[Slice], value: Value) -> list[Found]:
    """All units of these slices. The batches of a slice follow each other without a gap."""
    found: list[Found] = []
    for piece in pieces:
        batches = list(reader.batches(piece))
        assert all(batch.slice is piece for batch in batches)
        for one, other in pairwise(batches):
            assert (one.end, one.ordinal + one.units) == (other.offset(0), other.ordinal)
        found += chain.from_iterable(units_of(batch, value) for batch in batches)
    return found


def whole(reader: Reader, pinned: Pinned, value: Value) -> list[Found]:
    return read(reader, [Slice.whole(pinned)], value)


def cut_at(reader: Reader, pinned: Pinned, places: Sequence[int]) -> list[Slice]:
    """An object cut at these bytes; at these record numbers, if it can't be cut at bytes."""
    piece = Slice.whole(pinned)
    if not reader.cuts_bytes(pinned.key):
        piece = piece.model_copy(update={"unit": "records", "stop": -1})
    return [
        piece.model_copy(update={"start": start, "stop": stop})
        for start, stop in pairwise([0, *places, piece.stop])
    ]


def placed(found: Sequence[Found], reader: Reader, key: str = "in") -> list[tuple[Any, ...]]:
    """What was found, without the numbers that slices of bytes can't know."""
    return [tuple(unit[1:] if reader.cuts_bytes(key) else unit) for unit in found]


# ------------------------------------------------------------------------------------------------
# Independent readers
# ------------------------------------------------------------------------------------------------


def text_lines(body: bytes) -> list[str]:
    """The lines of a text, without their newlines; only 0x0A is one."""
    return [line.removesuffix("\n") for line in io.StringIO(body.decode(), newline="\n")]


def json_values(body: bytes) -> list[Any]:
    return [json.loads(line) for line in text_lines(body)]


def csv_rows(columns: Sequence[str] | None = None, delimiter: str = ",") -> Read:
    def rows(body: bytes) -> list[Any]:
        text = io.StringIO(body.decode(), newline="")
        return list(csv.DictReader(text, columns, delimiter=delimiter, strict=True))

    return rows


def named_bodies(part: bytes) -> list[Any]:
    """The names and bodies in a part of an Objects sink."""

    def each() -> Iterator[tuple[str, bytes]]:
        stream = io.BytesIO(part)
        while header := stream.readline():
            name, size = json.loads(header)
            yield name, stream.read(size)

    return list(each())

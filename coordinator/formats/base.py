"""What a format is: a declaration, and the reader or the encoder that it stands for.

A record that can't be decoded or validated is refused, with a reason that holds none of its
contents; a batch says where each of its records begins, so that a shard can stop between any two.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import IO, Any, ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as declaration

from coordinator.model import Pinned, Slice
from coordinator.store.ports import Inputs

STRICT = ConfigDict(extra="forbid")

Encode = Callable[[Any], bytes]


# ------------------------------------------------------------------------------------------------
# Declarations
# ------------------------------------------------------------------------------------------------


@declaration(frozen=True, config=STRICT)
class Format:
    """Base of all formats."""

    @property
    def kind(self) -> str:
        """The name that the format is declared by."""
        return type(self).__name__

    def describe(self) -> dict[str, Any]:
        """The format as JSON, for `run.json`; a record model is the user's own and left out."""
        options = {item.name: getattr(self, item.name) for item in fields(self)}
        options.pop("model", None)
        return {"kind": self.kind, **dict(sorted(options.items()))}

    def check(self, where: str) -> None:
        """Refuse options that make no sense together; `where` names the declaration.

        Raises:
            JobInvalid: they do not.
        """


@declaration(frozen=True, config=STRICT)
class Source(Format):
    """A format that records are read from."""

    @property
    def glob(self) -> str:
        """What the names of its objects look like, where a folder or prefix is read."""
        return "*"

    def cuts_bytes(self, key: str) -> bool:
        """Whether an object may be cut into byte ranges; otherwise it is cut at record numbers.

        Raises:
            InputInvalid: it can't be read at all.
        """
        return False

    def has_header(self) -> bool:
        """Whether objects begin with a header, which the plan holds for all of them."""
        return False

    def without_model(self) -> Source:
        """The same source with records that are not validated: reading runs none of the job's
        code."""
        return self

    def reader(
        self, inputs: Inputs, record_bytes: int, header: tuple[str, ...] | None = None
    ) -> Reader:
        """Its reader. `header` is the plan's, for a source that has one."""
        raise TypeError(f"{self.kind} is no source.")


@declaration(frozen=True, config=STRICT)
class Sink(Format):
    """A format that output records are written in.

    What it can't take (another type of record, NaN, a lone surrogate) is `Unencodable`, and the
    record that yields it is quarantined.
    """

    extension: ClassVar[str] = ""
    names_results: ClassVar[bool] = False  # whether outputs are objects with names of their own

    def encoder(self) -> Encode:
        """The function that encodes one output record, line end included.

        Raises (when called):
            Unencodable: the sink can't take the record, or something in it.
        """
        raise TypeError(f"{self.kind} is no sink.")

    def preamble(self) -> bytes:
        """What every result object begins with."""
        return b""

    def decode(self, body: bytes) -> list[Any]:
        """The records of a result, for the tests of a job."""
        raise TypeError(f"A result of a {self.kind} sink has no records.")

    def unpack(self, stream: IO[bytes]) -> Iterator[tuple[str, Iterator[bytes]]]:
        """The names and bodies of a part, in order, where results have names. A body is read
        before the next name is asked for."""
        raise TypeError(f"The outputs of a {self.kind} sink have no names.")


# ------------------------------------------------------------------------------------------------
# Reading
# ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Batch:
    """Consecutive units (lines, rows or objects) of one slice.

    Every unit is a record, refused, blank, or no record at all (a header). `index` holds the unit
    number of each record, None where the two agree. `starts()` gives the offset of every unit, and
    is cheap to ask again; `ordinal` is the number of the first unit in its object, `end` the offset
    after the last.
    """

    slice: Slice
    records: list[Any]
    units: int
    starts: Callable[[], Sequence[int]]
    end: int
    ordinal: int = 0
    index: list[int] | None = None
    refused: list[tuple[int, str]] = field(default_factory=list)
    blank: list[int] = field(default_factory=list)

    @property
    def records_in(self) -> int:
        """Records read: those decoded, refused and blank."""
        return len(self.records) + len(self.refused) + len(self.blank)

    def unit(self, record: int) -> int:
        """The unit number of a record; `units` for the one after the last."""
        if record >= len(self.records):
            return self.units
        return record if self.index is None else self.index[record]

    def offset(self, unit: int) -> int:
        """Where a unit begins, in bytes of the (decompressed) object."""
        return self.end if unit >= self.units else self.starts()[unit]

    def split(self, record: int) -> tuple[Batch, Batch]:
        """The batch before a record, and from it on; blanks before it go with the first."""
        return self.split_at_unit(self.unit(record))

    def split_at_unit(self, unit: int) -> tuple[Batch, Batch]:
        """The units before one, and those from it on."""
        record = unit if self.index is None else bisect_left(self.index, unit)
        starts = self.starts
        head = replace(
            self,
            records=self.records[:record],
            units=unit,
            end=self.offset(unit),
            index=None if self.index is None else self.index[:record],
            refused=[refusal for refusal in self.refused if refusal[0] < unit],
            blank=[number for number in self.blank if number < unit],
        )
        tail = replace(
            self,
            records=self.records[record:],
            units=self.units - unit,
            starts=cache(lambda: starts()[unit:]),
            ordinal=self.ordinal + unit,
            index=None if self.index is None else [number - unit for number in self.index[record:]],
            refused=[(number - unit, reason) for number, reason in self.refused if number >= unit],
            blank=[number - unit for number in self.blank if number >= unit],
        )
        return head, tail


class Reader(ABC):
    """Reads the slices of one source."""

    def __init__(self, source: Source, inputs: Inputs, record_bytes: int) -> None:
        self.source = source
        self.inputs = inputs
        self.record_bytes = record_bytes

    @abstractmethod
    def batches(self, piece: Slice) -> Generator[Batch, None, None]:
        """The records of a slice, in order. Closing it early checks the object all the same.

        Raises:
            InputChanged: the object is not as pinned.
            SourceContradicted: it is not what the source declares.
        """

    def settle(self) -> None:  # noqa: B027  only what a job opens itself can be left open
        """Hold what the job itself has read by now, from the records it was given, against what
        was pinned. Called when records have been mapped, before they count.

        Raises:
            FanfoldError: what reading met first, even where the job's code caught it.
        """

    def header(self, pinned: Pinned) -> tuple[str, ...] | None:
        """The header of an object, where this kind of source has one."""
        return None

    def cuts_bytes(self, key: str) -> bool:
        """Whether an object is cut at bytes; otherwise it is cut at record numbers."""
        return self.source.cuts_bytes(key)


def within(batch: Batch, piece: Slice) -> Batch:
    """The units of a batch whose numbers lie in a slice of record numbers."""
    if piece.stop >= 0 and piece.stop - batch.ordinal < batch.units:
        batch, _ = batch.split_at_unit(max(piece.stop - batch.ordinal, 0))
    if piece.start > batch.ordinal:
        _, batch = batch.split_at_unit(min(piece.start - batch.ordinal, batch.units))
    return batch


def places(batch: Batch, refusals: Iterable[tuple[int, str]]) -> Iterator[tuple[int, int, str]]:
    """Refusals as (offset, number in object, reason), in order."""
    starts = batch.starts()
    for unit, reason in sorted(refusals):
        yield starts[unit], batch.ordinal + unit, reason


def too_long(record_bytes: int) -> str:
    """Why a record is refused that is longer than it may be."""
    return f"longer than record_bytes ({record_bytes})"

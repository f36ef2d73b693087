"""From slices to records: batches of decoded, validated records with their places.

A record that can't be decoded or validated is refused, with a reason that holds none of its
contents; a batch says where each of its records begins, so that a shard can stop between any two.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import sys
import zlib
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from coordinator.errors import SourceContradicted
from coordinator.job import Csv, JsonLines, Lines, Object, Objects, Source
from coordinator.lines import CHUNK_BYTES, NO_STOP, Block, Read, blocks, first_byte_read
from coordinator.model import Pinned, Slice
from coordinator.sharding import can_cut, is_compressed
from coordinator.store import Inputs, Readable

BOM = b"\xef\xbb\xbf"
ROWS_A_BATCH = 2000
NOT_DECOMPRESSIBLE = "can't be decompressed to its end"

# `record_bytes` is our limit; the csv module's own would refuse cells over 128 KiB.
csv.field_size_limit(sys.maxsize)


@dataclass(slots=True)
class Batch:
    """Consecutive units (lines, rows or objects) of one slice.

    Every unit is a record, refused, blank, or no record at all (a header). `index` holds the unit
    number of each record, None where the two agree. `starts()` gives the offset of every unit;
    `ordinal` is the number of the first unit in its object, `end` the offset after the last.
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
            starts=lambda: starts()[unit:],
            ordinal=self.ordinal + unit,
            index=None if self.index is None else [number - unit for number in self.index[record:]],
            refused=[(number - unit, reason) for number, reason in self.refused if number >= unit],
            blank=[number - unit for number in self.blank if number >= unit],
        )
        return head, tail


class Reader(ABC):
    """Reads the slices of one source. `header` is the plan's, for a Csv that has one."""

    def __init__(self, source: Source, inputs: Inputs, record_bytes: int) -> None:
        self.source: Source = source
        self.inputs = inputs
        self.record_bytes = record_bytes

    @abstractmethod
    def batches(self, piece: Slice) -> Generator[Batch, None, None]:
        """The records of a slice, in order. Closing it early checks the object all the same.

        Raises:
            InputChanged: the object is not as pinned.
            SourceContradicted: it is not what the source declares.
        """

    def header(self, pinned: Pinned) -> tuple[str, ...] | None:
        """The header of an object, where this kind of source has one."""
        return None

    def cuts_bytes(self, key: str) -> bool:
        """Whether an object is cut at bytes; otherwise it is cut at record numbers."""
        return can_cut(self.source, key)


def reader_of(
    source: Source, inputs: Inputs, record_bytes: int, header: tuple[str, ...] | None = None
) -> Reader:
    """The reader of a source."""
    if isinstance(source, Objects):
        return ObjectReader(source, inputs, record_bytes)
    if isinstance(source, Lines):
        return LineReader(source, inputs, record_bytes)
    if isinstance(source, JsonLines):
        return JsonReader(source, inputs, record_bytes)
    if source.multiline:
        return RowReader(source, inputs, record_bytes, header)
    return CsvLineReader(source, inputs, record_bytes, header)


class ObjectReader(Reader):
    """Every object is one record."""

    def batches(self, piece: Slice) -> Generator[Batch, None, None]:
        pinned = piece.pinned
        record = Object(pinned.key, pinned.size, lambda: self.inputs.open(pinned, 0, pinned.size))
        yield Batch(piece, [record], 1, lambda: (0,), piece.size)


class TextReader(Reader):
    """Records are lines: shared by everything that can be cut at newlines."""

    def batches(self, piece: Slice) -> Generator[Batch, None, None]:
        ordinal = 0
        with closing(self.blocks(piece)) as found:
            for block in found:
                batch = self._numbered(self._batch(piece, block), ordinal)
                ordinal += batch.units
                if piece.unit == "records":
                    if 0 <= piece.stop <= batch.ordinal:
                        return
                    batch = _within(batch, piece)
                if batch.units:
                    yield batch

    def blocks(self, piece: Slice) -> Generator[Block, None, None]:
        """The blocks of a slice; those of a compressed object have decompressed offsets.

        Closing it early tells, as its end does, whether the object is still as pinned.
        """
        most = self.record_bytes + len(BOM)  # a mark counts for nothing; `decode` is exact
        if is_compressed(piece.key):
            if not self._decompresses(piece):
                yield Block(0, None, -1)
                return
            with closing(self.inputs.open(piece.pinned, 0, piece.size)) as stream:
                read = _decompressor(piece.key, stream)
                yield from blocks(read, 0, NO_STOP, most)
            return
        whole = piece.unit == "records"
        start, stop = (0, NO_STOP) if whole else (piece.start, piece.stop)
        with closing(
            self.inputs.open(piece.pinned, first_byte_read(start), min(stop, piece.size))
        ) as stream:
            yield from blocks(stream.read, start, stop, most)

    def _decompresses(self, piece: Slice) -> bool:
        """Whether a compressed object can be read to its last byte. Known before its first record
        is mapped, because a record once mapped can't be taken back."""
        with closing(self.inputs.open(piece.pinned, 0, piece.size)) as stream:
            read = _decompressor(piece.key, stream)
            try:
                while read(CHUNK_BYTES):
                    pass
            except (EOFError, OSError, ValueError, zlib.error):
                return False
        return True

    def _batch(self, piece: Slice, block: Block) -> Batch:
        end = block.offset + max(block.length, 0)
        if block.data is None:
            reason = (
                NOT_DECOMPRESSIBLE
                if block.length < 0
                else f"longer than record_bytes ({self.record_bytes})"
            )
            return Batch(piece, [], 1, lambda: (block.offset,), end, refused=[(0, reason)])
        data = block.data
        batch = Batch(piece, [], 0, lambda: line_starts(data, block.offset), end)
        self.decode(batch, data, first=block.offset == 0)
        return batch

    @staticmethod
    def _numbered(batch: Batch, ordinal: int) -> Batch:
        batch.ordinal = ordinal
        return batch

    @abstractmethod
    def decode(self, batch: Batch, data: bytes, *, first: bool) -> None:
        """Fill a batch from a block of whole lines; `first` is the object's own first block."""

    def too_long(self, lines: Sequence[bytes] | Sequence[str], data: bytes) -> bool:
        """Whether a line of the block may be longer than a record may be."""
        return len(data) > self.record_bytes and max(map(len, lines)) * 4 + 1 > self.record_bytes


class LineReader(TextReader):
    """Every line, blank or not, is a `str`."""

    def __init__(self, source: Lines, inputs: Inputs, record_bytes: int) -> None:
        super().__init__(source, inputs, record_bytes)
        self.encoding = source.encoding

    def decode(self, batch: Batch, data: bytes, *, first: bool) -> None:
        try:
            lines = decode_lines(data, self.encoding, first=first)
        except UnicodeDecodeError:
            lines = None
        if lines is None or self.too_long(lines, data):
            self._decode_one_by_one(batch, data, first=first)
        else:
            batch.records = lines
            batch.units = len(lines)

    def _decode_one_by_one(self, batch: Batch, data: bytes, *, first: bool) -> None:
        batch.index = []
        for unit, line in enumerate(raw_lines(data, first=first)):
            batch.units = unit + 1
            if len(line) > self.record_bytes:
                batch.refused.append((unit, f"longer than record_bytes ({self.record_bytes})"))
                continue
            try:
                record = line.decode(self.encoding)
            except UnicodeDecodeError as error:
                batch.refused.append((unit, undecodable(error)))
            else:
                batch.records.append(record.removesuffix("\r"))
                batch.index.append(unit)


class JsonReader(TextReader):
    """Every line that is not blank is a JSON value, an instance of the model if there is one."""

    def __init__(self, source: JsonLines, inputs: Inputs, record_bytes: int) -> None:
        super().__init__(source, inputs, record_bytes)
        model = source.model
        self.parse: Callable[[bytes], Any] = (
            model.__pydantic_validator__.validate_json
            if model is not None
            else lambda line: from_json(line, allow_inf_nan=False)
        )

    def decode(self, batch: Batch, data: bytes, *, first: bool) -> None:
        lines = raw_lines(data, first=first)
        batch.units = len(lines)
        parse, records = self.parse, batch.records
        append = records.append
        long = self.too_long(lines, data)
        index: list[int] = []
        for unit, line in enumerate(lines):
            try:
                if long and len(line) > self.record_bytes:
                    raise ValueError(f"longer than record_bytes ({self.record_bytes})")
                append(parse(line))
                index.append(unit)
            except ValueError as error:
                if not line.strip():
                    batch.blank.append(unit)
                else:
                    batch.refused.append((unit, invalid(error)))
        if len(records) != len(lines):
            batch.index = index


class CsvLineReader(TextReader):
    """Every line that is not blank is one row: for a Csv declared free of embedded newlines."""

    def __init__(
        self, source: Csv, inputs: Inputs, record_bytes: int, header: tuple[str, ...] | None
    ) -> None:
        super().__init__(source, inputs, record_bytes)
        self.csv = source
        self.table = Table(source, header)

    def header(self, pinned: Pinned) -> tuple[str, ...] | None:
        return read_header(self, self.csv, pinned)

    def decode(self, batch: Batch, data: bytes, *, first: bool) -> None:
        lines = raw_lines(data, first=first)
        batch.units = len(lines)
        batch.index = []
        skip = 1 if first and self.table.has_header else 0
        if skip:
            self.table.check_header(self._row_or_refusal(batch, lines[0], 0), batch.slice.key)
        rows = self._rows(batch, lines, skip)
        for unit in range(skip, len(lines)):
            row = (
                rows[unit - skip]
                if rows is not None
                else self._row_or_refusal(batch, lines[unit], unit)
            )
            self.table.take(batch, unit, row)

    def _rows(self, batch: Batch, lines: list[bytes], skip: int) -> list[list[str]] | None:
        """All rows at once, or None when a line needs to be looked at by itself."""
        if self.too_long(lines, b"".join(lines)):
            return None
        try:
            text = [line.decode(self.csv.encoding) for line in lines[skip:]]
            rows = list(csv.reader(text, delimiter=self.csv.delimiter, strict=True))
        except (UnicodeDecodeError, csv.Error):
            return None
        return rows if len(rows) == len(text) else None

    def _row(self, batch: Batch, line: bytes, unit: int) -> list[str]:
        text = line.decode(self.csv.encoding)
        try:
            return next(csv.reader([text], delimiter=self.csv.delimiter, strict=True), [])
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise SourceContradicted(
                    f"The row at byte {batch.offset(unit)} of {batch.slice.key} has a newline within "
                    "quotes, but the source says multiline=False: declare Csv(..., multiline=True)."
                ) from error
            raise

    def _row_or_refusal(self, batch: Batch, line: bytes, unit: int) -> list[str] | str:
        if len(line) > self.record_bytes:
            return f"longer than record_bytes ({self.record_bytes})"
        try:
            return self._row(batch, line, unit)
        except UnicodeDecodeError as error:
            return undecodable(error)
        except csv.Error as error:
            return f"not a CSV row: {error}"


class RowReader(TextReader):
    """Rows of a Csv whose cells may hold newlines: read whole, cut by row number only."""

    def __init__(
        self, source: Csv, inputs: Inputs, record_bytes: int, header: tuple[str, ...] | None
    ) -> None:
        super().__init__(source, inputs, record_bytes)
        self.csv = source
        self.table = Table(source, header)

    def header(self, pinned: Pinned) -> tuple[str, ...] | None:
        return read_header(self, self.csv, pinned)

    def decode(self, batch: Batch, data: bytes, *, first: bool) -> None:
        raise NotImplementedError  # rows do not end with blocks: `batches` is this reader's own

    def batches(self, piece: Slice) -> Generator[Batch, None, None]:
        whole = piece.model_copy(update={"unit": "records", "start": 0, "stop": -1})
        with closing(self.blocks(whole)) as found:
            yield from self._row_batches(piece, _Rows(self, found))

    def _row_batches(self, piece: Slice, rows: _Rows) -> Iterator[Batch]:
        ordinal = 0
        awaiting_header = self.table.has_header
        while True:
            starts: list[int] = []
            batch = Batch(piece, [], 0, starts.copy, rows.position, ordinal, index=[])
            while batch.units < ROWS_A_BATCH and (row := rows.next()) is not None:
                starts.append(rows.row_start)
                unit = batch.units
                batch.units += 1
                if awaiting_header and row != NOT_DECOMPRESSIBLE:
                    self.table.check_header(row, piece.key)
                    awaiting_header = False
                else:
                    self.table.take(batch, unit, row)
            batch.end = rows.position
            if not batch.units:
                return
            ordinal += batch.units
            if piece.unit == "records":
                if 0 <= piece.stop <= batch.ordinal:
                    return
                batch = _within(batch, piece)
            if batch.units:
                yield batch


class _Rows:
    """Rows of an object with embedded newlines, and where each begins.

    It is also the iterator of lines that its csv reader pulls from: an iterator that raises can
    be asked again, a generator can't.
    """

    def __init__(self, reader: RowReader, found: Iterator[Block]) -> None:
        self.too_long = f"longer than record_bytes ({reader.record_bytes})"
        self.record_bytes = reader.record_bytes
        self.encoding = reader.csv.encoding
        self.position = 0
        self.row_start = 0
        self._trouble: str | None = None
        self._lines = self._raw_lines(found)
        self._csv = csv.reader(self, delimiter=reader.csv.delimiter, strict=True)

    def next(self) -> list[str] | str | None:
        """The next row; a str says why it is refused; None at the end."""
        self.row_start = self.position
        self._trouble = None
        try:
            row = next(self._csv)
        except StopIteration:
            return None
        except csv.Error as error:
            return self._trouble or f"not a CSV row: {error}"
        if self._trouble is None and not all(map(str.isascii, row)):
            try:
                "".join(row).encode()
            except UnicodeEncodeError:
                return f"not {self.encoding}"
        return self._trouble or row

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line, size, trouble = next(self._lines)
        self.position += size
        if trouble is None and self.position - self.row_start > self.record_bytes:
            trouble = self.too_long
        if trouble is not None:
            self._trouble = trouble
            raise csv.Error(trouble)
        return line.decode(self.encoding, errors="surrogateescape")

    def _raw_lines(self, found: Iterator[Block]) -> Iterator[tuple[bytes, int, str | None]]:
        for block in found:
            if block.data is None:
                yield (
                    b"",
                    max(block.length, 0),
                    self.too_long if block.length >= 0 else NOT_DECOMPRESSIBLE,
                )
                continue
            for number, line in enumerate(io.BytesIO(block.data)):
                bom = block.offset == 0 and number == 0
                yield line.removeprefix(BOM) if bom else line, len(line), None


class Table:
    """The columns of a Csv source, and how a row becomes a record."""

    def __init__(self, source: Csv, header: tuple[str, ...] | None) -> None:
        self.has_header = source.columns is None
        self.columns = source.columns or header
        model = source.model
        self.validate = model.__pydantic_validator__.validate_python if model is not None else None
        self.optional = optional_names(model)

    def check_header(self, row: list[str] | str, key: str) -> None:
        """Hold an object's header against the plan's; the first one read sets it.

        Raises:
            SourceContradicted: they differ, or it can't be read (a str says why).
        """
        if isinstance(row, str):
            raise SourceContradicted(
                f"The header of {key} can't be read ({row}). Correct it, or name the columns: "
                "Csv(columns=(...))."
            )
        found = tuple(row)
        if self.columns is None:
            self.columns = found
        elif found != self.columns:
            raise SourceContradicted(
                f"The header of {key} has the columns {', '.join(found)!r}, others have "
                f"{', '.join(self.columns)!r}. All objects of a Csv source share one header."
            )

    def take(self, batch: Batch, unit: int, row: list[str] | str) -> None:
        """Put a row where it belongs in its batch: record, refused or blank."""
        if isinstance(row, str):
            batch.refused.append((unit, row))
            return
        if not row:
            batch.blank.append(unit)
            return
        columns = cast("tuple[str, ...]", self.columns)
        if len(row) != len(columns):
            batch.refused.append((unit, f"{len(row)} cells, but {len(columns)} columns"))
            return
        record: Any = dict(zip(columns, row, strict=True))
        if self.validate is not None:
            for name in self.optional:
                if record.get(name) == "":
                    del record[name]
            try:
                record = self.validate(record)
            except ValueError as error:
                batch.refused.append((unit, invalid(error)))
                return
        batch.records.append(record)
        cast("list[int]", batch.index).append(unit)


def optional_names(model: type[BaseModel] | None) -> tuple[str, ...]:
    """The column names for which a model has a default."""
    if model is None:
        return ()
    fields = model.model_fields.items()
    return tuple(field.alias or name for name, field in fields if not field.is_required())


def read_header(reader: TextReader, source: Csv, pinned: Pinned) -> tuple[str, ...] | None:
    """The header line of an object; None where the columns are declared, or there is no line to
    read: it is empty, or can't be decompressed.

    Raises:
        SourceContradicted: its first line can't be read as a header.
    """
    if source.columns is not None:
        return None
    with closing(reader.blocks(Slice.whole(pinned))) as found:
        block = next(found, None)
    if block is None or block.length < 0:
        return None
    # The block holds records too; what can't be decoded in them is theirs.
    text = (block.data or b"").removeprefix(BOM).decode(source.encoding, errors="surrogateescape")
    lines = io.StringIO(text, newline="")
    try:
        row = next(csv.reader(lines, delimiter=source.delimiter, strict=True), [])
        "".join(row).encode()
    except (UnicodeEncodeError, csv.Error):
        row = []
    if not row or len(set(row)) != len(row):
        raise SourceContradicted(
            f"{pinned.key} does not begin with a header of distinct column names; "
            "correct it, or name them: Csv(columns=(...))."
        )
    return tuple(row)


def raw_lines(data: bytes, *, first: bool) -> list[bytes]:
    """The lines of a block as bytes, without newline; a BOM at the object's start is removed."""
    lines = (data[len(BOM) :] if first and data.startswith(BOM) else data).split(b"\n")
    if not lines[-1] and data.endswith(b"\n"):
        lines.pop()
    return lines


def decode_lines(data: bytes, encoding: str, *, first: bool) -> list[str]:
    """The lines of a block as text, without line ends; decoded in one go."""
    text = (data[len(BOM) :] if first and data.startswith(BOM) else data).decode(encoding)
    lines = text.split("\n")
    if not lines[-1] and data.endswith(b"\n"):
        lines.pop()
    if "\r" in text:
        lines = [line.removesuffix("\r") for line in lines]
    return lines


def line_starts(data: bytes, base: int) -> list[int]:
    """The offset of every line of a block."""
    starts = [base]
    for line in io.BytesIO(data):
        starts.append(starts[-1] + len(line))
    return starts[:-1]


def undecodable(error: UnicodeDecodeError) -> str:
    """Why bytes are no text, without the bytes."""
    return f"not {error.encoding}: {error.reason} at byte {error.start} of the record"


def invalid(error: ValueError) -> str:
    """Why a record is refused, without its contents."""
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_context=False, include_input=False)
        return "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'record'}: {item['msg']}" for item in found[:5]
        )
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _within(batch: Batch, piece: Slice) -> Batch:
    """The units of a batch whose numbers lie in a slice of record numbers."""
    if piece.stop >= 0 and piece.stop - batch.ordinal < batch.units:
        batch, _ = batch.split_at_unit(max(piece.stop - batch.ordinal, 0))
    if piece.start > batch.ordinal:
        _, batch = batch.split_at_unit(min(piece.start - batch.ordinal, batch.units))
    return batch


def _decompressor(key: str, stream: Readable) -> Read:
    """The read function of a decompressed stream."""
    full = cast("Any", FullReads(stream))
    if key.lower().endswith(".gz"):
        return gzip.GzipFile(fileobj=full, mode="rb").read
    return bz2.BZ2File(full, mode="rb").read


class FullReads:
    """A stream that gives all that is asked for: gzip takes a short read for a broken header."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, fewer only at the end."""
        pieces = []
        while size and (piece := self._stream.read(size)):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)


def places(batch: Batch, refusals: Iterable[tuple[int, str]]) -> Iterator[tuple[int, int, str]]:
    """Refusals as (offset, number in object, reason), in order."""
    starts = batch.starts()
    for unit, reason in sorted(refusals):
        yield starts[unit], batch.ordinal + unit, reason

"""Csv: comma-separated values with a header line, as source and as sink. RFC 4180."""

from __future__ import annotations

import csv
import dataclasses
import io
import sys
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any, ClassVar
from uuid import UUID

from pydantic import BaseModel, Field
from pydantic.dataclasses import dataclass

from coordinator.errors import JobInvalid, SourceContradicted, Unencodable
from coordinator.formats.base import STRICT, Batch, Encode, Sink, too_long, within
from coordinator.formats.csv.rows import Quotes, Rows, RowUnit
from coordinator.formats.csv.table import Table
from coordinator.formats.linewise import (
    BOM,
    NOT_DECOMPRESSIBLE,
    LinewiseReader,
    LinewiseSource,
    check_encoding,
    raw_lines,
    undecodable,
)
from coordinator.formats.ranges import Block
from coordinator.model import Pinned, Slice
from coordinator.store.ports import Inputs

ROWS_A_BATCH = 2000
BATCH_BYTES = 256 * 1024  # a batch is full with this many, however few its rows

# `record_bytes` is our limit; the csv module's own would refuse cells over 128 KiB.
csv.field_size_limit(sys.maxsize)


@dataclass(frozen=True, config=STRICT)
class Csv(LinewiseSource, Sink):
    """Source and sink: comma-separated values with a header line, RFC 4180.

    As a source, records are instances of the model, or dicts of strings without one. An empty
    cell is left out where the model's field has a default. All objects share one header;
    `columns` names the columns of files that have none. A text with `multiline=False` promises
    that no cell holds a newline, and can then be split by bytes; a sink with it refuses one.

    As a sink, the columns are those of `columns` or of the model; a row with a character that
    `encoding` lacks is refused.
    """

    model: type[BaseModel] | None = None
    glob: str = "*"
    columns: tuple[str, ...] | None = None
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    encoding: str = "utf-8"
    multiline: bool = True

    extension: ClassVar[str] = "csv"

    def sink_columns(self) -> tuple[str, ...]:
        """The columns written by a sink.

        Raises:
            JobInvalid: neither columns nor a model were given.
        """
        if self.columns is not None:
            return self.columns
        if self.model is not None:
            return tuple(self.model.model_fields)
        raise JobInvalid("A Csv sink needs its columns: write Csv(columns=('a', 'b')).")

    def check(self, where: str) -> None:
        columns = self.columns
        if columns is not None and not 0 < len(columns) == len(set(columns)):
            raise JobInvalid(
                f"{where} Csv: columns must be one or more distinct names, not {columns!r}."
            )
        if self.delimiter in '"\r\n':
            raise JobInvalid(
                f"{where} Csv: delimiter can't be {self.delimiter!r}; take ',', ';' or '\\t'."
            )
        check_encoding(self.encoding, where)

    def cuts_bytes(self, key: str) -> bool:
        return super().cuts_bytes(key) and not self.multiline

    def has_header(self) -> bool:
        return self.columns is None

    def without_model(self) -> Csv:
        return dataclasses.replace(self, model=None)

    def reader(
        self, inputs: Inputs, record_bytes: int, header: tuple[str, ...] | None = None
    ) -> CsvReader:
        kind = RowReader if self.multiline else CsvLineReader
        return kind(self, inputs, record_bytes, header)

    def encoder(self) -> Encode:
        return _encoder(self)

    def preamble(self) -> bytes:
        columns = self.sink_columns()
        try:
            return _encode_row(columns, self.delimiter, self.encoding)
        except Unencodable as error:
            raise JobInvalid(
                f"The columns {', '.join(columns)!r} of a Csv sink can't be written as "
                f"{self.encoding}: rename them, or take encoding='utf-8'."
            ) from error

    def decode(self, body: bytes) -> list[Any]:
        text = io.StringIO(body.decode(self.encoding), newline="")
        return list(csv.DictReader(text, delimiter=self.delimiter))


class CsvReader(LinewiseReader):
    """What both readers of a Csv have: its header, its table, and quotes to be passed by."""

    def __init__(
        self, source: Csv, inputs: Inputs, record_bytes: int, header: tuple[str, ...] | None
    ) -> None:
        super().__init__(source, inputs, record_bytes)
        self.csv = source
        self.table = Table(source.columns, source.model, header)

    def header(self, pinned: Pinned) -> tuple[str, ...] | None:
        return read_header(self, self.csv, pinned)

    def passing(self, offset: int) -> Quotes:
        return Quotes(self.csv.encoding, self.csv.delimiter, marked=offset == 0)


class CsvLineReader(CsvReader):
    """Every line that is not blank is one row: for a Csv declared free of embedded newlines."""

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
        if self.may_be_too_long(lines, b"".join(lines)):
            return None
        try:
            text = [line.decode(self.csv.encoding) for line in lines[skip:]]
            rows = list(csv.reader(text, delimiter=self.csv.delimiter, strict=True))
        except (UnicodeDecodeError, csv.Error):
            return None
        return rows if len(rows) == len(text) else None

    def _batch(self, piece: Slice, block: Block) -> Batch:
        if block.passed is not None and block.passed.open:
            raise _contradicted(piece.key, block.offset)
        if block.offset == 0 and block.data is None and block.length >= 0 and self.table.has_header:
            self.table.check_header(too_long(self.record_bytes), piece.key)
        return super()._batch(piece, block)

    def _row(self, batch: Batch, line: bytes, unit: int) -> list[str]:
        text = line.decode(self.csv.encoding)
        try:
            return next(csv.reader([text], delimiter=self.csv.delimiter, strict=True), [])
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise _contradicted(batch.slice.key, batch.offset(unit)) from error
            raise

    def _row_or_refusal(self, batch: Batch, line: bytes, unit: int) -> list[str] | str:
        if len(line) > self.record_bytes:
            quotes = self.passing(-1)
            quotes.feed(line)
            if quotes.open:
                raise _contradicted(batch.slice.key, batch.offset(unit))
            return too_long(self.record_bytes)
        try:
            return self._row(batch, line, unit)
        except UnicodeDecodeError as error:
            return undecodable(error)
        except csv.Error as error:
            return f"not a CSV row: {error}"


def _contradicted(key: str, offset: int) -> SourceContradicted:
    return SourceContradicted(
        f"The row at byte {offset} of {key} has a newline within quotes, but the source says "
        "multiline=False: declare Csv(..., multiline=True)."
    )


class RowReader(CsvReader):
    """Rows of a Csv whose cells may hold newlines: read whole, cut by the number of units only.

    A row is a unit. Where one is refused that took in several lines, these and all that follow to
    the object's end are units of their own, refused; see `rows`.
    """

    def decode(self, batch: Batch, data: bytes, *, first: bool) -> None:
        raise NotImplementedError  # rows do not end with blocks: `batches` is this reader's own

    def batches(self, piece: Slice) -> Generator[Batch, None, None]:
        with closing(self.blocks(piece)) as found:
            rows = Rows(found, self.csv.encoding, self.csv.delimiter, self.record_bytes)
            rows.columns = len(self.csv.columns) if self.csv.columns else None
            yield from self._row_batches(piece, rows)

    def _row_batches(self, piece: Slice, rows: Rows) -> Iterator[Batch]:
        units = rows.units()
        end = ordinal = 0
        while True:
            batch = self._next_batch(piece, rows, units, end, ordinal)
            end, ordinal = batch.end, ordinal + batch.units
            if not batch.units:
                return
            if piece.unit == "records":
                if 0 <= piece.stop <= batch.ordinal:
                    return
                batch = within(batch, piece)
            if batch.units:
                yield batch

    def _next_batch(
        self, piece: Slice, rows: Rows, units: Iterator[RowUnit], end: int, ordinal: int
    ) -> Batch:
        """The next units, from the offset `end` on; the first of an object may be its header."""
        table = self.table
        starts: list[int] = []
        batch = Batch(piece, [], 0, lambda: starts, end, ordinal, index=[])
        for unit, (start, stop, row) in enumerate(units):
            starts.append(start)
            if table.has_header and ordinal == unit == 0 and row != NOT_DECOMPRESSIBLE:
                rows.columns = len(table.check_header(row, piece.key))
            else:
                table.take(batch, unit, row)
            batch.units, batch.end = unit + 1, stop
            if batch.units == ROWS_A_BATCH or stop - starts[0] >= BATCH_BYTES:
                break
        return batch


def read_header(reader: LinewiseReader, source: Csv, pinned: Pinned) -> tuple[str, ...] | None:
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
    lines = io.StringIO(text)
    try:
        row = next(csv.reader(lines, delimiter=source.delimiter, strict=True), [])
        "".join(row).encode()
        read = text[: lines.tell()].removesuffix("\n").encode(source.encoding, "surrogateescape")
        if len(read) > reader.record_bytes:
            row = []
    except (UnicodeEncodeError, csv.Error):
        row = []
    if not row or len(set(row)) != len(row):
        raise SourceContradicted(
            f"{pinned.key} does not begin with a header of distinct column names; "
            "correct it, or name them: Csv(columns=(...))."
        )
    return tuple(row)


def _encoder(sink: Csv) -> Encode:
    columns = sink.sink_columns()
    known = frozenset(columns)
    one_line = not sink.multiline

    def encode(record: object) -> bytes:
        if isinstance(record, BaseModel):
            record = record.model_dump(mode="json", by_alias=False)
        if isinstance(record, Mapping):
            if unknown := [name for name in record if name not in known]:
                raise Unencodable(
                    f"A Csv sink has no column {str(unknown[0])[:80]!r}; its columns are "
                    f"{', '.join(columns)}."
                )
            cells = [record.get(name) for name in columns]
        elif isinstance(record, (tuple, list)):
            if len(record) != len(columns):
                raise Unencodable(
                    f"A Csv sink with {len(columns)} columns can't take {len(record)} cells."
                )
            cells = list(record)
        else:
            raise Unencodable(
                f"A Csv sink takes dicts, models or sequences, not {type(record).__name__}."
            )
        if not _CELLS.issuperset(map(type, cells)):
            cells = [_cell(cell) for cell in cells]
        row = _encode_row(cells, sink.delimiter, sink.encoding)
        if one_line and b"\n" in row[:-1]:
            raise Unencodable("a cell of a Csv sink with multiline=False holds a newline")
        return row

    return encode


_CELLS = frozenset({str, int, float, bool, type(None)})


def _cell(cell: object) -> object:
    """A cell as what is written: an enum's value, and else only what has one text.

    Raises:
        Unencodable: it is of another type; of many the text would be an address in memory.
    """
    if isinstance(cell, Enum):
        cell = cell.value
    if cell is None or isinstance(
        cell, (str, int, float, Decimal, Fraction, date, time, timedelta, UUID)
    ):
        return cell
    raise Unencodable(f"A cell of a Csv sink can't hold a {type(cell).__name__}.")


def _encode_row(cells: Iterable[object], delimiter: str, encoding: str) -> bytes:
    text = io.StringIO(newline="")
    try:
        csv.writer(text, delimiter=delimiter, lineterminator="\r\n").writerow(cells)
    except ValueError as error:
        raise Unencodable(f"a cell can't be written: {error}") from error
    # csv quotes only cells that hold a sign of its line end: a carriage return must be quoted too
    row = text.getvalue().removesuffix("\r\n")
    try:
        body = row.encode(encoding)
        # shift_jis and euc_jp write a backslash for ¥
        if encoding == "utf-8" or body.decode(encoding) == row:
            return body + b"\n"
    except UnicodeError:
        pass
    raise Unencodable(f"a cell holds a character that {encoding} lacks")

"""Csv: comma-separated values with a header line, as source and as sink. RFC 4180."""

from __future__ import annotations

import csv
import dataclasses
import io
import sys
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any, ClassVar, cast

from pydantic import BaseModel, Field
from pydantic.dataclasses import dataclass

from coordinator.errors import JobInvalid, OutputInvalid, SourceContradicted
from coordinator.formats.base import STRICT, Batch, Encode, Sink, invalid, too_long, within
from coordinator.formats.linewise import (
    BOM,
    NOT_DECOMPRESSIBLE,
    LinewiseReader,
    LinewiseSource,
    check_encoding,
    raw_lines,
    undecodable,
)
from coordinator.formats.rows import Rows
from coordinator.model import Pinned, Slice
from coordinator.store.ports import Inputs

ROWS_A_BATCH = 2000

# `record_bytes` is our limit; the csv module's own would refuse cells over 128 KiB.
csv.field_size_limit(sys.maxsize)


@dataclass(frozen=True, config=STRICT)
class Csv(LinewiseSource, Sink):
    """Source and sink: comma-separated values with a header line, RFC 4180.

    As a source, records are instances of the model, or dicts of strings without one. An empty
    cell is left out where the model's field has a default. All objects share one header;
    `columns` names the columns of files that have none. A text with `multiline=False` promises
    that no cell holds a newline, and can then be split by bytes.

    As a sink, the columns are those of `columns` or of the model.
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
    ) -> RowReader | CsvLineReader:
        kind = RowReader if self.multiline else CsvLineReader
        return kind(self, inputs, record_bytes, header)

    def encoder(self) -> Encode:
        return _encoder(self)

    def preamble(self) -> bytes:
        return _encode_row(self.sink_columns(), self.delimiter)

    def decode(self, body: bytes) -> list[Any]:
        text = io.StringIO(body.decode(), newline="")
        return list(csv.DictReader(text, delimiter=self.delimiter))


class CsvLineReader(LinewiseReader):
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
        if self.may_be_too_long(lines, b"".join(lines)):
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
            return too_long(self.record_bytes)
        try:
            return self._row(batch, line, unit)
        except UnicodeDecodeError as error:
            return undecodable(error)
        except csv.Error as error:
            return f"not a CSV row: {error}"


class RowReader(LinewiseReader):
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
            yield from self._row_batches(
                piece, Rows(found, self.csv.encoding, self.csv.delimiter, self.record_bytes)
            )

    def _row_batches(self, piece: Slice, rows: Rows) -> Iterator[Batch]:
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
                batch = within(batch, piece)
            if batch.units:
                yield batch


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


def _encoder(sink: Csv) -> Encode:
    columns = sink.sink_columns()
    known = frozenset(columns)

    def encode(record: object) -> bytes:
        if isinstance(record, BaseModel):
            record = record.model_dump(mode="json")
        if isinstance(record, Mapping):
            if unknown := [name for name in record if name not in known]:
                raise OutputInvalid(
                    f"A Csv sink has no column {unknown[0]!r}; its columns are {', '.join(columns)}."
                )
            cells = [record.get(name) for name in columns]
        elif isinstance(record, (tuple, list)):
            if len(record) != len(columns):
                raise OutputInvalid(
                    f"A Csv sink with {len(columns)} columns can't take {len(record)} cells."
                )
            cells = list(record)
        else:
            raise OutputInvalid(
                f"A Csv sink takes dicts, models or sequences, not {type(record).__name__}."
            )
        for cell in cells:
            if isinstance(cell, (Mapping, list, tuple, set, bytes)):
                raise OutputInvalid(f"A cell of a Csv sink can't hold a {type(cell).__name__}.")
        return _encode_row(cells, sink.delimiter)

    return encode


def _encode_row(cells: Iterable[object], delimiter: str) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator="\r\n").writerow(cells)
    # csv quotes only cells that hold a sign of its line end: a carriage return must be quoted too
    return text.getvalue().removesuffix("\r\n").encode() + b"\n"

"""The formats under test: how a body of each is made, and what an independent reader finds in it.

A new format is one more entry of `SOURCES`, of `SINKS` or of both. A text is made of units (lines
or rows); a format whose objects are made otherwise overrides `body`.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import strategies as st
from pydantic import BaseModel

from coordinator.formats.base import Sink, Source
from coordinator.formats.csv import Csv
from coordinator.formats.jsonlines import JsonLines
from coordinator.formats.lines import Lines
from coordinator.formats.linewise import BOM, LinewiseSource
from coordinator.formats.objects import Blob, Object, Objects
from coordinator.formats.text import Text
from tests.contracts.format_bodies import (
    CELL,
    ENDS,
    JSON,
    LINE,
    NUMBER,
    SALES,
    csv_lines,
    filler,
    json_lines,
    sale_of,
    within,
)
from tests.contracts.format_reading import (
    RECORD_BYTES,
    Body,
    Kind,
    Read,
    Value,
    csv_rows,
    json_values,
    named_bodies,
    text_lines,
)

Unit = tuple[Kind, bytes]


class Sale(BaseModel):
    kind: str
    amount: float = 0.0


def plain(record: Any) -> Any:
    """A record of a source as the independent readers of results show it."""
    if isinstance(record, BaseModel):
        return record.model_dump(mode="json")
    return (record.key, record.read()) if isinstance(record, Object) else record


# ------------------------------------------------------------------------------------------------
# Rooms
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Room:
    """What all rooms have: a name, which is all that a failed test shows of one."""

    name: str

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(self.name)


def on_every(rooms: Sequence[Room]) -> pytest.MarkDecorator:
    """Have a test, or a class of tests, run in each of these rooms."""
    return pytest.mark.parametrize("room", rooms, ids=[room.name for room in rooms])


@dataclass(frozen=True)
class SourceRoom(Room):
    """A source, and what is needed to test it.

    `good` makes units that are records, `wide` one of just so many bytes, without a line end; each
    of `bad` is refused, and holds SECRET. `read` is the independent reader, of good records, and
    `value` shows a record of ours as `read` does.
    """

    source: Source
    good: st.SearchStrategy[bytes]
    wide: Callable[[int], bytes]
    read: Read
    value: Value = lambda record: record
    bad: tuple[bytes, ...] = ()
    blank: tuple[bytes, ...] = ()
    head: bytes = b""
    most: int = 12  # units in an object

    @property
    def text(self) -> bool:
        """Whether objects may be compressed, and may begin with a byte order mark: those that are
        cut linewise may."""
        return isinstance(self.source, LinewiseSource) or self.source.cuts_bytes("in")

    def body(self, units: Sequence[Unit], *, mark: bool = False, ended: bool = True) -> Body:
        """An object of these units, with a mark before them or without the last newline."""
        pieces = [self.head] * bool(self.head) + [unit for _, unit in units]
        if mark and pieces:
            pieces[0] = BOM + pieces[0]
        if not ended and pieces and pieces[-1].strip():
            pieces[-1] = pieces[-1].removesuffix(b"\n")
        first = len(pieces) - len(units)
        good = b"".join(unit for kind, unit in units if kind == "record")
        return Body(
            content=b"".join(pieces),
            kinds=tuple(kind for kind, _ in units),
            starts=tuple(accumulate(map(len, pieces), initial=0))[first:-1],
            first=first,
            values=tuple(self.read(self.head + good)),
        )

    def made(self) -> st.SearchStrategy[Body]:
        """Objects of good units, bad ones and blanks."""
        units: st.SearchStrategy[Unit] = self.good.map(lambda unit: ("record", unit))
        others: list[Unit] = [("refused", unit) for unit in self.bad]
        others += [("blank", unit) for unit in self.blank]
        if others:
            units |= st.sampled_from(others)
        listed = st.lists(units, min_size=1 if self.most == 1 else 0, max_size=self.most)
        if not self.text:
            return listed.map(self.body)
        return st.builds(self.body, listed, mark=st.booleans(), ended=st.booleans())

    def many(self, record_bytes: int, records: int) -> Body:
        """An object of many records, or, where it is one record, one as large as all of them. Those
        over RECORD_BYTES are refused, but for a source that holds no record."""
        if self.most == 1:
            return self.body([("record", self.wide(record_bytes * records))])
        unit = self.wide(record_bytes) + b"\n"
        assert len(unit) == record_bytes + 1
        kind: Kind = "refused" if record_bytes > RECORD_BYTES else "record"
        return self.body([(kind, unit)] * records)


@dataclass(frozen=True)
class SinkRoom(Room):
    """A sink, and what is needed to test it.

    `rows` makes lists of output records, and `value` shows one as the independent reader `read`
    finds it. `back` is the source of ours that reads results; `plain` of what it reads is `value`,
    unless `again` says otherwise. Of `wrong` are types that the sink can't take, of `valueless`
    values of types that it can.
    """

    sink: Sink
    rows: st.SearchStrategy[list[Any]]
    read: Read
    back: Source
    wrong: tuple[Any, ...]
    valueless: tuple[Any, ...] = ()
    value: Value = lambda record: record
    again: Value | None = None

    def decoded(self, merged: bytes) -> list[Any]:
        """What the sink itself finds in merged parts."""
        if self.sink.names_results:
            unpacked = self.sink.unpack(io.BytesIO(merged))
            return [(name, b"".join(pieces)) for name, pieces in unpacked]
        return self.sink.decode(merged)

    def results(self, merged: bytes) -> dict[str, bytes]:
        """The result objects that come of merged parts."""
        if self.sink.names_results:
            return dict(self.read(merged))
        return {f"in.{self.sink.extension}": merged}


# ------------------------------------------------------------------------------------------------
# The sources
# ------------------------------------------------------------------------------------------------

TOO_LONG = RECORD_BYTES + 1
BAD_ROWS = (b"secret\n", b"secret,1,2\r\n", b'"secret"x,1\n', b"secret\xff,1\n", b"secret\rs,1\n")
BAD_JSON = (b"secret\n", b'{"secret": \n', b'"secret\xff"\r\n', b'["secret", NaN]\n')
QUOTED = within(b'"', b'"')
SALE = within(b'{"kind":"', b'"}')


def _csv_room(
    name: str,
    source: Csv,
    *cells: st.SearchStrategy[Any],
    bad: tuple[bytes, ...] = (),
    model: bool = False,
) -> SourceRoom:
    """A room of a Csv with two columns, named by a header unless the source names them."""
    mark = source.delimiter.encode()
    names = b"kind,amount\r\n" if model else b"p,q\r\n"
    rows = csv_rows(source.columns, source.delimiter)
    wide = within(b"", mark + b"1")
    return SourceRoom(
        name,
        source,
        good=csv_lines(*cells, delimiter=source.delimiter),
        wide=wide,
        read=(lambda body: list(map(sale_of, rows(body)))) if model else rows,
        value=plain,
        bad=(*(row.replace(b",", mark) for row in (*BAD_ROWS, *bad)), wide(TOO_LONG) + b"\n"),
        blank=(b"\n", b"\r\n"),
        head=b"" if source.columns else names,
    )


SOURCES = (
    SourceRoom(
        "Lines",
        Lines(),
        good=st.builds(lambda line, end: line.encode() + end, LINE, ENDS),
        wide=filler,
        read=lambda body: [line.removesuffix("\r") for line in text_lines(body)],
        bad=(b"secret \xff\n", b"\xe9secret\r\n", filler(TOO_LONG) + b"\n"),
    ),
    SourceRoom(
        "JsonLines",
        JsonLines(),
        good=json_lines(JSON),
        wide=QUOTED,
        # shown as JSON, because 1, 1.0 and true are equal
        read=lambda body: list(map(json.dumps, json_values(body))),
        value=json.dumps,
        bad=(*BAD_JSON, QUOTED(TOO_LONG) + b"\n"),
        blank=(b"\n", b"\r\n", b" \t\n"),
    ),
    SourceRoom(
        "JsonLines with a model",
        JsonLines(Sale),
        good=json_lines(SALES),
        wide=SALE,
        read=lambda body: list(map(sale_of, json_values(body))),
        value=plain,
        bad=(
            *BAD_JSON,
            b'{"kind": "", "amount": "secret"}\n',
            b'{"kind": "secret", "amount": NaN}\n',
            SALE(TOO_LONG) + b"\n",
        ),
        blank=(b"\n", b"\r\n", b" \t\n"),
    ),
    _csv_room("Csv with a header", Csv(), CELL, CELL),
    _csv_room("Csv with columns", Csv(columns=("p", "q")), CELL, CELL),
    _csv_room(
        "Csv with a model", Csv(Sale), CELL, st.just("") | NUMBER, bad=(b"1,secret\n",), model=True
    ),
    _csv_room("Csv of one line a row", Csv(multiline=False), LINE, LINE),
    _csv_room(
        "Csv of one line a row with columns",
        Csv(multiline=False, columns=("p", "q"), delimiter=";"),
        LINE,
        LINE,
    ),
    SourceRoom(
        "Objects",
        Objects(),
        good=st.binary(max_size=40),
        wide=filler,
        read=lambda body: [("in", body)],
        value=plain,
        most=1,
    ),
)

# ------------------------------------------------------------------------------------------------
# The sinks
# ------------------------------------------------------------------------------------------------


def _csv_outputs(cell: st.SearchStrategy[str]) -> st.SearchStrategy[list[Any]]:
    cells = st.none() | st.integers() | cell
    pairs = st.tuples(cells, cells)
    named = st.dictionaries(st.sampled_from("pq"), cells)
    return st.lists(pairs | pairs.map(list) | named, max_size=8)


def _cells(row: Any) -> dict[str, str]:
    cells = row if isinstance(row, dict) else dict(zip("pq", row, strict=True))
    return {name: "" if cells.get(name) is None else str(cells[name]) for name in "pq"}


MODELS = st.lists(st.builds(Sale, kind=CELL, amount=NUMBER), max_size=8)
NAMES = st.lists(st.sampled_from(["a", "é", "c.jpg"]), min_size=1, max_size=4).map("/".join)
BLOBS = st.builds(Blob, NAMES, st.binary(max_size=30) | st.just(b'["a",2]\n'))
CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)
NO_CELLS: tuple[Any, ...] = ([1], {}, b"x", bytearray(b"x"), frozenset({1}), object())
NO_ROWS = ("ab", 7, None, ("a",), {"z": 2}, *(("a", cell) for cell in NO_CELLS))

SINKS = (
    SinkRoom(
        "JsonLines",
        JsonLines(),
        rows=st.lists(JSON, max_size=8),
        read=json_values,
        back=JsonLines(),
        wrong=({1, 2}, b"bytes", object(), {(1, 2): 3}, [{"a": {1}}]),
        valueless=(math.nan, {"a": [math.inf]}, ["\ud800"], {"a": CIRCLE}),
    ),
    SinkRoom(
        "JsonLines of models",
        JsonLines(),
        rows=MODELS,
        read=json_values,
        back=JsonLines(Sale),
        wrong=({1, 2},),
        valueless=(Sale(kind="\ud800"), Sale(kind="", amount=math.nan)),
        value=plain,
    ),
    SinkRoom(
        "Csv",
        Csv(columns=("p", "q")),
        rows=_csv_outputs(CELL),
        read=csv_rows(),
        back=Csv(),
        wrong=NO_ROWS,
        valueless=({"p": "\ud800"},),
        value=_cells,
    ),
    SinkRoom(
        "Csv of one line a row",
        Csv(columns=("p", "q"), delimiter=";", multiline=False),
        rows=_csv_outputs(LINE),
        read=csv_rows(delimiter=";"),
        back=Csv(delimiter=";", multiline=False),
        wrong=NO_ROWS,
        valueless=({"p": "\ud800"}, {"p": "two\nlines"}),
        value=_cells,
    ),
    SinkRoom(
        "Csv of models",
        Csv(Sale),
        rows=MODELS,
        read=csv_rows(),
        back=Csv(Sale),
        wrong=("ab", 7, None),
        valueless=(Sale(kind="\ud800"),),
        value=lambda sale: {"kind": sale.kind, "amount": str(sale.amount)},
        again=plain,
    ),
    SinkRoom(
        "Text",
        Text(),
        # `Lines` takes a carriage return before a newline for a part of it
        rows=st.lists(LINE.map(lambda line: line.rstrip("\r")), max_size=8),
        read=lambda body: list(text_lines(body)),
        back=Lines(),
        wrong=(7, None, b"bytes", ["a"]),
        valueless=("two\nlines", "\ud800"),
    ),
    SinkRoom(
        "Objects",
        Objects(),
        rows=st.lists(BLOBS, max_size=6, unique_by=lambda blob: blob.name),
        read=named_bodies,
        back=Objects(),
        wrong=(b"bytes", ("a", b"x"), Blob("a", "x"), Blob("../a", b""), Blob(7, b"")),  # type: ignore[arg-type]
        value=lambda blob: (blob.name, blob.body),
    ),
)

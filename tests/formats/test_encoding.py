"""From output records to bytes: what can't be written is named, and nothing is bent to fit."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel

from coordinator.errors import Unencodable
from coordinator.formats.base import Sink
from coordinator.formats.csv import Csv
from coordinator.formats.jsonlines import JsonLines
from coordinator.formats.objects import Blob, Objects
from coordinator.formats.text import Text
from tests.support import examples


class Row(BaseModel):
    name: str
    when: date | None = None


@dataclasses.dataclass
class Point:
    x: int
    inner: Any = None


class Colour(Enum):
    RED = "red"


def line(sink: Sink, record: object) -> bytes:
    return sink.encoder()(record)


# ------------------------------------------------------------------------------------------------
# JSON lines and text
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"word": "é", "n": 1}, '{"word":"é","n":1}'),
        ([1, None, True], "[1,null,true]"),
        ("text\n", '"text\\n"'),
        (7, "7"),
        (None, "null"),
        ((1, 2), "[1,2]"),
        (Row(name="a", when=date(2026, 11, 8)), '{"name":"a","when":"2026-11-08"}'),
        ({"row": Row(name="a")}, '{"row":{"name":"a","when":null}}'),
        (Point(1, Point(2)), '{"x":1,"inner":{"x":2,"inner":null}}'),
        ({"c": Colour.RED}, '{"c":"red"}'),
        (datetime(2026, 11, 8, tzinfo=UTC), '"2026-11-08T00:00:00+00:00"'),
        ({"d": Decimal("1.10")}, '{"d":"1.10"}'),
        ([UUID(int=1)], '["00000000-0000-0000-0000-000000000001"]'),
    ],
)
def test_a_record_is_one_line_of_compact_json(record: object, expected: str) -> None:
    assert line(JsonLines(), record) == expected.encode() + b"\n"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(JSON)
@examples(100)
def test_every_json_value_is_read_back_from_its_line(value: Any) -> None:
    try:
        body = line(JsonLines(), value)
    except UnicodeEncodeError:
        return

    assert body.endswith(b"\n")
    assert body.count(b"\n") == 1
    assert json.loads(body) == value


@pytest.mark.parametrize("record", [{1, 2}, object(), b"bytes", {"a": lambda: None}, {(1, 2): 3}])
def test_a_type_that_json_cannot_take_is_named(record: object) -> None:
    with pytest.raises(Unencodable, match="can't be written as JSON"):
        line(JsonLines(), record)


class Anything(BaseModel):
    a: Any


class ByEither(BaseModel):
    a: dict[int | str, Any]


class Held(StrEnum):
    """An enum, as dicts hold it."""

    ONE = "1"


@dataclasses.dataclass
class Plain:
    a: Any


@pytest.mark.parametrize(
    "record",
    [
        Anything(a=math.nan),
        Anything(a=[{"b": -math.inf}]),
        {"m": Anything(a=math.nan)},
        ByEither(a={1: "lost", "1": "kept"}),
        {"m": ByEither(a={1: "lost", "1": "kept"})},
        [ByEither(a={1: [], "1": {}})],
        Plain({1: "one", "1": "other"}),
        {"p": [Plain({"d": {True: 1, "true": 2}})]},
        {1: "one", Held.ONE: "other"},
    ],
)
def test_nothing_of_a_record_is_dropped_or_bent_to_fit(record: object) -> None:
    with pytest.raises(Unencodable):
        JsonLines().encoder()(record)


@given(
    st.dictionaries(
        st.text(), st.text() | st.integers(-(2**80), 2**80) | st.booleans() | st.none(), max_size=5
    )
)
def test_what_has_one_json_is_written_as_python_does(record: dict[str, Any]) -> None:
    told = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    assert line(JsonLines(), record) == f"{told}\n".encode()


@pytest.mark.parametrize(
    "record", [math.nan, {"a": math.inf}, ["\ud800"], {"a": "\ud800"}, {"\ud800": 1}]
)
def test_a_value_without_encoding_is_the_records_own_fault(record: object) -> None:
    with pytest.raises(ValueError, match=r"Out of range float|surrogate"):
        line(JsonLines(), record)


def test_a_text_is_written_as_it_is() -> None:
    assert line(Text(), "é \t ") == "é \t \n".encode()
    assert line(Text(), "") == b"\n"


def test_a_text_sink_takes_text_without_newlines_only() -> None:
    with pytest.raises(Unencodable, match="A Text sink takes str, not int"):
        line(Text(), 7)
    with pytest.raises(ValueError, match="holds a newline"):
        line(Text(), "two\nlines")


# ------------------------------------------------------------------------------------------------
# CSV
# ------------------------------------------------------------------------------------------------

CSV = Csv(columns=("name", "n"))
CELLS = st.lists(
    st.sampled_from(["a", "é", ",", ";", '"', "\n", "\r\n", "\r", " ", "'"]), max_size=6
).map("".join)


@given(st.lists(st.tuples(CELLS, CELLS), max_size=6), st.sampled_from([",", ";", "\t"]))
@examples(150)
def test_any_cells_are_read_back_from_their_rows(
    rows: list[tuple[str, str]], delimiter: str
) -> None:
    sink = Csv(columns=("p", "q"), delimiter=delimiter)

    body = sink.preamble() + b"".join(line(sink, row) for row in rows)

    text = io.StringIO(body.decode(), newline="")
    assert list(csv.reader(text, delimiter=delimiter, strict=True)) == [
        ["p", "q"],
        *map(list, rows),
    ]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"name": "a", "n": 1}, b"a,1\n"),
        ({"n": 1}, b",1\n"),
        (("a", None), b"a,\n"),
        (["a", 1.5], b"a,1.5\n"),
    ],
)
def test_a_row_may_be_a_dict_or_a_sequence(record: object, expected: bytes) -> None:
    assert line(CSV, record) == expected


def test_a_row_may_be_a_model() -> None:
    sink = Csv(Row)

    assert sink.preamble() == b"name,when\n"
    assert line(sink, Row(name="a", when=date(2026, 11, 8))) == b"a,2026-11-08\n"


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"name": "a", "m": 1}, "no column 'm'; its columns are name, n"),
        (("a",), "with 2 columns can't take 1 cells"),
        ("ab", "takes dicts, models or sequences, not str"),
        (7, "not int"),
        (("a", [1]), "can't hold a list"),
        (("a", b"x"), "can't hold a bytes"),
        (("a", {}), "can't hold a dict"),
    ],
)
def test_a_row_that_does_not_fit_is_named(record: object, says: str) -> None:
    with pytest.raises(Unencodable, match=says):
        line(CSV, record)


# ------------------------------------------------------------------------------------------------
# Objects, and names
# ------------------------------------------------------------------------------------------------


def test_a_blob_is_kept_with_its_name_and_size() -> None:
    assert line(Objects(), Blob("a/é.jpg", b"\n\xff")) == '["a/é.jpg",2]\n'.encode() + b"\n\xff"


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (b"bytes", r"takes Blob\(name, body\), not bytes"),
        (Blob("a", "text"), "body of a Blob must be bytes, not str"),  # type: ignore[arg-type]
        (Blob("../a", b""), "can't name a result"),
        (Blob(7, b""), "name of a result must be a str"),  # type: ignore[arg-type]
    ],
)
def test_anything_but_a_blob_is_named(record: object, says: str) -> None:
    with pytest.raises(Unencodable, match=says):
        line(Objects(), record)


def test_results_have_the_extension_of_their_sink_and_only_a_csv_a_header() -> None:
    assert [sink.extension for sink in (JsonLines(), Text(), CSV)] == ["jsonl", "txt", "csv"]
    assert CSV.preamble() == b"name,n\n"
    assert JsonLines().preamble() == Text().preamble() == Objects().preamble() == b""

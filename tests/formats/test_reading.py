"""From slices to records: the same records, in the same order, each once, however a source is cut."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel, field_validator

from coordinator.errors import InputChanged, SourceContradicted
from coordinator.formats.base import Batch, Reader, Source
from coordinator.formats.csv import Csv
from coordinator.formats.jsonlines import JsonLines
from coordinator.formats.lines import Lines
from coordinator.formats.objects import Object, Objects
from coordinator.model import Slice
from coordinator.rules.slices import cut_slice
from coordinator.store.memory import MemoryInputs
from tests.formats.oracles import lines_of, text_units
from tests.support import (
    Seen,
    cut_places,
    examples,
    pin,
    read_all,
    reader_over,
    slices_at,
    texts,
    units_of,
)

RATES = {"a": "1.00", "b": "2.00"}


class Sale(BaseModel):
    rate: str

    @field_validator("rate")
    @classmethod
    def is_known(cls, rate: str) -> str:
        RATES[rate]
        return rate


SHORT_READS = st.sampled_from([1, 3, 7, 50, 1 << 20])


class Event(BaseModel):
    kind: str
    amount: float = 0.0


def whole(reader: Reader, key: str = "in") -> list[Seen]:
    return read_all(reader, [Slice.whole(pin(as_memory(reader), key))])


def cut(reader: Reader, places: Sequence[int], key: str = "in") -> list[Seen]:
    return read_all(reader, slices_at(pin(as_memory(reader), key), places))


def as_memory(reader: Reader) -> MemoryInputs:
    assert isinstance(reader.inputs, MemoryInputs)
    return reader.inputs


def raw_records(body: bytes) -> list[tuple[int, bytes]]:
    """Offset and bytes, without newline and mark, of every line."""
    return [(offset, line.removesuffix(b"\n")) for offset, line in lines_of(body)]


def outcomes(seen: Sequence[Seen]) -> list[Seen]:
    """What was seen, with any reason for a refusal."""
    return [(at, kind, None if kind == "refused" else value) for at, kind, value in seen]


# ------------------------------------------------------------------------------------------------
# Lines
# ------------------------------------------------------------------------------------------------


@given(
    st.data(),
    texts(),
    SHORT_READS,
    st.sampled_from([1, 3, 10, 39, 40, 1 << 20]),
    st.sampled_from(["utf-8", "latin-1", "cp1252", "gbk"]),
)
@examples(400)
def test_lines_are_the_same_for_any_cut_as_read_in_one_go(
    data: st.DataObject, body: bytes, short_reads: int, record_bytes: int, encoding: str
) -> None:
    reader = reader_over(
        Lines(encoding=encoding), {"in": body}, record_bytes=record_bytes, short_reads=short_reads
    )

    found = cut(reader, data.draw(cut_places(len(body))))

    assert outcomes(found) == text_units(body, encoding, record_bytes)


def test_blank_lines_are_records_of_lines() -> None:
    assert [value for _, _, value in whole(reader_over(Lines(), {"in": b"\n\na\n\n"}))] == [
        "",
        "",
        "a",
        "",
    ]


def test_only_a_newline_ends_a_line() -> None:
    body = "a\x0bb\x0cc\x1cd\x85e\u2028f\rg\r\nh".encode()

    assert [value for _, _, value in whole(reader_over(Lines(), {"in": body}))] == [
        "a\x0bb\x0cc\x1cd\x85e\u2028f\rg",
        "h",
    ]


def test_a_byte_order_mark_is_removed_at_the_beginning_of_an_object_only() -> None:
    mark = "\ufeff"
    body = f"{mark}a\n{mark}b\n".encode()

    assert [value for _, _, value in cut(reader_over(Lines(), {"in": body}), [5])] == [
        "a",
        f"{mark}b",
    ]


def test_an_undecodable_line_is_refused_alone_and_its_reason_holds_nothing_of_it() -> None:
    found = whole(reader_over(Lines(), {"in": b"one\nsecret\xff\nthree\n"}))

    assert outcomes(found) == [(0, "record", "one"), (4, "refused", None), (12, "record", "three")]
    assert found[1][2] == "not utf-8: invalid start byte at byte 6 of the record"


def test_an_oversize_line_is_refused_with_its_place() -> None:
    body = b"a\n" + b"x" * 100 + b"\nb\n"

    assert whole(reader_over(Lines(), {"in": body}, record_bytes=50)) == [
        (0, "record", "a"),
        (2, "refused", "longer than record_bytes (50)"),
        (103, "record", "b"),
    ]


@pytest.mark.parametrize("short_reads", [1, 5, 100])
@pytest.mark.parametrize("line", [b"\xef\xbb\xbf" + b"x" * 10, b"x" * 10, b"x" * 9 + b"\r"])
def test_a_line_of_just_the_length_allowed_is_a_record_however_it_is_read(
    line: bytes, short_reads: int
) -> None:
    reader = reader_over(
        Lines(), {"in": line + b"\nend\n"}, record_bytes=10, short_reads=short_reads
    )

    assert [kind for _, kind, _ in whole(reader)] == ["record", "record"]


@pytest.mark.parametrize("short_reads", [1, 5, 100])
@pytest.mark.parametrize("line", ["😀\r".encode(), "😀x".encode(), b"\xef\xbb\xbfxxxxx"])
def test_a_line_a_byte_over_the_length_allowed_is_refused_however_it_is_read(
    line: bytes, short_reads: int
) -> None:
    reader = reader_over(Lines(), {"in": line + b"\n"}, record_bytes=4, short_reads=short_reads)

    assert [kind for _, kind, _ in whole(reader)] == ["refused"]


# ------------------------------------------------------------------------------------------------
# JSON lines
# ------------------------------------------------------------------------------------------------

JSON_PIECES = (
    b'{"kind": "sale", "amount": 2}',
    b'{"kind": "\\u00e9"}',
    b'{"kind": 7}',
    b"null",
    b"[1, 2]",
    b"{",
    b'"text"',
    b"NaN",
)


def expected_json(body: bytes, model: type[BaseModel] | None) -> list[Seen]:
    expected: list[Seen] = []
    for offset, line in raw_records(body):
        if not line.strip():
            expected.append((offset, "blank", None))
            continue
        try:
            value = json.loads(line.decode(), parse_constant=_refuse)
            expected.append((offset, "record", model.model_validate(value) if model else value))
        except ValueError:
            expected.append((offset, "refused", None))
    return expected


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


@given(st.data(), texts(*JSON_PIECES, *JSON_PIECES), SHORT_READS, st.booleans())
@examples(300)
def test_json_lines_are_the_same_for_any_cut_as_read_in_one_go(
    data: st.DataObject, body: bytes, short_reads: int, modelled: bool
) -> None:
    model = Event if modelled else None
    reader = reader_over(JsonLines(model), {"in": body}, short_reads=short_reads)

    found = cut(reader, data.draw(cut_places(len(body))))

    assert found == whole(reader)
    assert outcomes(found) == expected_json(body, model)


def test_a_record_that_the_model_refuses_is_named_by_field_and_not_by_value() -> None:
    body = b'{"kind": "sale"}\n{"amount": "secret"}\n\n{"kind": "visit"}\n'

    found = whole(reader_over(JsonLines(Event), {"in": body}))

    assert [kind for _, kind, _ in found] == ["record", "refused", "blank", "record"]
    assert found[1][2] == (
        "kind: Field required; amount: Input should be a valid number, "
        "unable to parse string as a number"
    )
    assert "secret" not in found[1][2]


@pytest.mark.parametrize(
    ("source", "body"),
    [
        (JsonLines(Sale), b'{"rate": "a"}\n{"rate": "secret"}\n{"rate": "b"}\n'),
        (Csv(Sale), b"rate\na\nsecret\nb\n"),
        (Csv(Sale, multiline=True), b"rate\na\nsecret\nb\n"),
    ],
)
def test_a_record_at_which_a_validator_breaks_is_refused_alone(source: Source, body: bytes) -> None:
    found = whole(reader_over(source, {"in": body}))

    assert [each for _, *each in found] == [
        ["record", Sale(rate="a")],
        ["refused", "its model raised KeyError"],
        ["record", Sale(rate="b")],
    ]


# ------------------------------------------------------------------------------------------------
# CSV
# ------------------------------------------------------------------------------------------------

CSV_PIECES = (b"1,2", b"a,b,c", b'"x, y",z', b'"quoted ""word""",1', b",", b"2,3\n", b"3,4\r\n")


def expected_rows(body: bytes, columns: tuple[str, ...]) -> list[Seen]:
    """The rows of a body without quotes that span lines."""
    expected: list[Seen] = []
    for offset, line in raw_records(body):
        try:
            row = next(csv.reader([line.decode()], strict=True), [])
        except (ValueError, csv.Error):
            expected.append((offset, "refused", None))
            continue
        if not row:
            expected.append((offset, "blank", None))
        elif len(row) != len(columns):
            expected.append((offset, "refused", None))
        else:
            expected.append((offset, "record", dict(zip(columns, row, strict=True))))
    return expected


@given(st.data(), texts(*CSV_PIECES, *CSV_PIECES, b'"'), SHORT_READS, st.booleans())
@examples(300)
def test_rows_are_the_same_for_any_cut_as_read_in_one_go(
    data: st.DataObject, body: bytes, short_reads: int, headed: bool
) -> None:
    header = b"p,q\n" if headed else b""
    source = Csv(multiline=False, columns=None if headed else ("p", "q"))
    reader = reader_over(
        source,
        {"in": header + body},
        short_reads=short_reads,
        header=("p", "q") if headed else None,
    )

    places = data.draw(cut_places(len(header) + len(body)))
    if any(is_open(line) for _, line in raw_records(header + body)):
        with pytest.raises(SourceContradicted):
            cut(reader, places)
        return
    found = cut(reader, places)

    expected = expected_rows(header + body, ("p", "q"))
    assert outcomes(found) == expected[1 if headed else 0 :]


def is_open(line: bytes) -> bool:
    """Whether a row ends within quotes."""
    try:
        list(csv.reader([line.decode()], strict=True))
    except UnicodeDecodeError:
        return False
    except csv.Error as error:
        return "unexpected end of data" in str(error)
    return False


CELLS = st.lists(
    st.sampled_from(["a", "é", "😀", ",", '"', "\n", "\r\n", "\r", " ", ";"]), max_size=8
).map("".join)


@given(
    st.lists(st.tuples(CELLS, CELLS), max_size=12),
    SHORT_READS,
    st.sampled_from([",", ";", "\t"]),
    st.booleans(),
)
@examples(200)
def test_cells_may_hold_anything_when_rows_may_span_lines(
    rows: list[tuple[str, str]], short_reads: int, delimiter: str, quoted: bool
) -> None:
    text = io.StringIO(newline="")
    csv.writer(
        text, delimiter=delimiter, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    ).writerows([("p", "q"), *rows])
    reader = reader_over(
        Csv(delimiter=delimiter), {"in": text.getvalue().encode()}, short_reads=short_reads
    )

    found = whole(reader)

    assert [value for _, kind, value in found if kind == "record"] == [
        {"p": p, "q": q} for p, q in rows
    ]
    assert all(kind == "record" for _, kind, _ in found)


def test_a_newline_within_quotes_contradicts_a_source_declared_free_of_them() -> None:
    reader = reader_over(Csv(multiline=False), {"in": b'p,q\n1,"two\nlines"\n'})

    with pytest.raises(SourceContradicted, match=r"byte 4 of in .*multiline=True"):
        whole(reader)


def test_an_empty_cell_is_left_out_where_the_model_has_a_default() -> None:
    reader = reader_over(Csv(Event), {"in": b"kind,amount\nsale,2\nvisit,\n,1\n"})

    assert whole(reader) == [
        (12, "record", Event(kind="sale", amount=2)),
        (19, "record", Event(kind="visit")),
        (26, "record", Event(kind="", amount=1)),
    ]


@pytest.mark.parametrize("multiline", [True, False])
def test_a_row_with_too_few_or_many_cells_is_refused_with_its_place(multiline: bool) -> None:
    reader = reader_over(Csv(multiline=multiline), {"in": b"p,q\n1,2\n3\n\n4,5,6\n7,8\n"})

    assert whole(reader) == [
        (4, "record", {"p": "1", "q": "2"}),
        (8, "refused", "1 cells, but 2 columns"),
        (10, "blank", None),
        (11, "refused", "3 cells, but 2 columns"),
        (17, "record", {"p": "7", "q": "8"}),
    ]


@pytest.mark.parametrize("multiline", [True, False])
def test_an_object_with_another_header_is_an_error_that_names_both(multiline: bool) -> None:
    reader = reader_over(Csv(multiline=multiline), {"in": b"p,z\n1,2\n"}, header=("p", "q"))

    with pytest.raises(SourceContradicted, match=r"header of in has the columns 'p, z'.*'p, q'"):
        whole(reader)


@pytest.mark.parametrize("multiline", [True, False])
def test_an_object_whose_header_is_not_text_is_an_error_that_names_it(multiline: bool) -> None:
    reader = reader_over(
        Csv(multiline=multiline, columns=None), {"in": b"\xff,q\n1,2\n"}, header=("p", "q")
    )

    with pytest.raises(SourceContradicted, match="in "):
        whole(reader)


@pytest.mark.parametrize("multiline", [True, False])
def test_a_cell_may_be_as_long_as_a_record(multiline: bool) -> None:
    cell = "x" * 200_000
    reader = reader_over(Csv(multiline=multiline), {"in": f"p,q\n1,{cell}\n".encode()})

    assert whole(reader) == [(4, "record", {"p": "1", "q": cell})]


@pytest.mark.parametrize("multiline", [True, False])
def test_a_row_that_is_too_long_is_refused_and_the_next_is_read(multiline: bool) -> None:
    body = b"p,q\n1," + b"x" * 500 + b"\n3,4\n"
    reader = reader_over(Csv(multiline=multiline), {"in": body}, record_bytes=100)

    assert whole(reader) == [
        (4, "refused", "longer than record_bytes (100)"),
        (507, "record", {"p": "3", "q": "4"}),
    ]


@pytest.mark.parametrize("multiline", [True, False])
def test_an_undecodable_row_is_refused_alone(multiline: bool) -> None:
    reader = reader_over(Csv(multiline=multiline), {"in": b"p,q\n1,2\n3,\xff\n5,6\n"})

    assert [kind for _, kind, _ in whole(reader)] == ["record", "refused", "record"]


@pytest.mark.parametrize(
    "body",
    [b"\n1,2\n", b"p,p\n1,2\n", b'"p\n', b"\xff,q\n"],
    ids=["blank", "twice", "open", "bytes"],
)
@pytest.mark.parametrize("multiline", [True, False])
def test_a_header_that_is_none_is_said_when_planning(body: bytes, multiline: bool) -> None:
    reader = reader_over(Csv(multiline=multiline), {"in": body})

    with pytest.raises(SourceContradicted, match="in does not begin with a header"):
        reader.header(pin(as_memory(reader), "in"))


@pytest.mark.parametrize("multiline", [True, False])
def test_a_broken_row_does_not_hide_the_header_before_it(multiline: bool) -> None:
    reader = reader_over(Csv(multiline=multiline), {"in": b'p,q\n1,\xff\n"open'})

    assert reader.header(pin(as_memory(reader), "in")) == ("p", "q")


def test_the_header_of_an_object_is_found_behind_its_byte_order_mark() -> None:
    reader = reader_over(Csv(multiline=False), {"in": '\ufeff"p, 1",q\n1,2\n'.encode()})

    assert reader.header(pin(as_memory(reader), "in")) == ("p, 1", "q")
    assert reader.header(pin(as_memory(reader), "in")) is not None


# ------------------------------------------------------------------------------------------------
# Compressed objects
# ------------------------------------------------------------------------------------------------

PACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress}
SOURCES: list[Source] = [
    Lines(),
    JsonLines(),
    JsonLines(Event),
    Csv(columns=("p", "q")),
    Csv(columns=("p", "q"), multiline=False),
]


@given(texts(*JSON_PIECES, *CSV_PIECES), st.sampled_from([".gz", ".bz2"]), SHORT_READS)
@examples(60)
def test_a_compressed_object_has_the_records_of_what_it_holds(
    body: bytes, extension: str, short_reads: int
) -> None:
    for source in (SOURCES[0], SOURCES[2], SOURCES[3]):
        plain = reader_over(source, {"in": body})
        packed = reader_over(
            source, {"in" + extension: PACK[extension](body)}, short_reads=short_reads
        )

        assert whole(packed, "in" + extension) == whole(plain)


@pytest.mark.parametrize("source", [*SOURCES, Csv(), Csv(multiline=False)], ids=repr)
def test_a_byte_order_mark_alone_is_no_record(source: Source) -> None:
    mark = b"\xef\xbb\xbf"
    for key, body in {"in": mark, "in.gz": gzip.compress(mark)}.items():
        reader = reader_over(source, {key: body}, short_reads=1)
        assert whole(reader, key) == []
        assert reader.header(pin(as_memory(reader), key)) is None
    for places in ([1], [2], [1, 2]):
        assert cut(reader_over(source, {"in": mark}), places) == []
    if not isinstance(source, Csv) or source.columns:
        assert len(whole(reader_over(source, {"in": mark + b"\n"}))) == 1


@pytest.mark.parametrize("extension", [".gz", ".bz2"])
def test_an_archive_of_several_members_is_read_to_its_end(extension: str) -> None:
    pack = PACK[extension]
    reader = reader_over(Lines(), {"in" + extension: pack(b"one\ntw") + pack(b"o\nthree\n")})

    assert [value for _, _, value in whole(reader, "in" + extension)] == ["one", "two", "three"]


@pytest.mark.parametrize("extension", [".gz", ".bz2"])
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: repr(source)[:24])
@pytest.mark.parametrize("damage", ["cut short", "a flipped bit", "no archive at all"])
def test_an_archive_that_is_broken_anywhere_is_one_refused_record(
    source: Source, extension: str, damage: str
) -> None:
    body = PACK[extension](b"".join(b'{"kind": "%d"}\n' % number for number in range(3000)))
    broken = {
        "cut short": body[:-5],
        "a flipped bit": body[:-12] + bytes([body[-12] ^ 4]) + body[-11:],
        "no archive at all": b"plain text\n",
    }[damage]
    reader = reader_over(source, {"in" + extension: broken})

    assert whole(reader, "in" + extension) == [(0, "refused", "can't be decompressed to its end")]


@pytest.mark.parametrize("multiline", [True, False])
def test_a_broken_archive_has_no_header_and_is_one_refused_record(multiline: bool) -> None:
    reader = reader_over(Csv(multiline=multiline), {"in.gz": gzip.compress(b"p,q\n1,2\n")[:-3]})

    assert reader.header(pin(as_memory(reader), "in.gz")) is None
    assert whole(reader, "in.gz") == [(0, "refused", "can't be decompressed to its end")]


# ------------------------------------------------------------------------------------------------
# Slices of record numbers, and cuts between records
# ------------------------------------------------------------------------------------------------


def numbered(key: str, reader: Reader, edges: Sequence[int]) -> list[Slice]:
    pinned = pin(as_memory(reader), key)
    stops = [*edges, -1]
    return [
        Slice.whole(pinned).model_copy(update={"unit": "records", "start": start, "stop": stop})
        for start, stop in zip([0, *edges], stops, strict=True)
    ]


@given(
    texts(*JSON_PIECES, *CSV_PIECES, b'"'),
    st.lists(st.integers(1, 40), max_size=5).map(lambda found: sorted(set(found))),
    st.sampled_from(range(len(SOURCES))),
    st.booleans(),
)
@examples(300)
def test_slices_of_record_numbers_give_the_records_of_the_whole(
    body: bytes, edges: list[int], source: int, packed: bool
) -> None:
    key = "in.gz" if packed else "in"
    content = gzip.compress(body, 1) if packed else body
    reader = reader_over(SOURCES[source], {key: content})
    try:
        expected = whole(reader, key)
    except SourceContradicted:
        return

    assert read_all(reader, numbered(key, reader, edges)) == expected


@given(st.data(), texts(*JSON_PIECES, *CSV_PIECES, b'"'), st.sampled_from(range(len(SOURCES))))
@examples(300)
def test_a_batch_split_anywhere_holds_the_units_of_the_whole(
    data: st.DataObject, body: bytes, source: int
) -> None:
    reader = reader_over(SOURCES[source], {"in": body})
    try:
        batches = list(reader.batches(Slice.whole(pin(as_memory(reader), "in"))))
    except SourceContradicted:
        return
    for batch in batches:
        record = data.draw(st.integers(0, len(batch.records)))
        unit = data.draw(st.integers(0, batch.units))
        for head, tail in (batch.split(record), batch.split_at_unit(unit)):
            assert units_of(head) + units_of(tail) == units_of(batch)
            assert head.end == tail.offset(0)
            assert tail.end == batch.end
            assert head.units + tail.units == batch.units
            assert tail.ordinal == batch.ordinal + head.units
            assert head.records_in + tail.records_in == batch.records_in
        assert len(batch.split(record)[0].records) == record


@given(
    st.data(),
    texts(*JSON_PIECES, *CSV_PIECES, b'"'),
    st.sampled_from(range(len(SOURCES))),
    st.booleans(),
)
@examples(300)
def test_a_slice_cut_before_any_record_reads_as_the_whole(
    data: st.DataObject, body: bytes, source: int, packed: bool
) -> None:
    key = "in.gz" if packed else "in"
    reader = reader_over(SOURCES[source], {key: gzip.compress(body, 1) if packed else body})
    pieces = slices_at(
        pin(as_memory(reader), key), data.draw(cut_places(len(body))) if not packed else []
    )
    if not reader.cuts_bytes(key):
        pieces = [Slice.whole(pin(as_memory(reader), key))]
    try:
        expected = read_all(reader, pieces)
    except SourceContradicted:
        return

    for _ in range(3):  # what was cut off is cut again
        pieces = [found for piece in pieces for found in cut_somewhere(reader, piece, data, key)]

    assert read_all(reader, pieces) == expected


def cut_somewhere(reader: Reader, piece: Slice, data: st.DataObject, key: str) -> list[Slice]:
    batches: list[Batch] = list(reader.batches(piece))
    if not batches:
        return [piece]
    batch = data.draw(st.sampled_from(batches))
    _, tail = batch.split(data.draw(st.integers(0, len(batch.records))))
    head, rest = cut_slice(piece, tail.offset(0), tail.ordinal, bytewise=reader.cuts_bytes(key))
    return [*head, *rest]


# ------------------------------------------------------------------------------------------------
# Objects
# ------------------------------------------------------------------------------------------------


def test_every_object_is_one_record_of_objects_the_empty_too() -> None:
    reader = reader_over(Objects(), {"a/full": b"bytes", "empty": b""}, short_reads=2)

    found = [*whole(reader, "a/full"), *whole(reader, "empty")]

    records = [value for _, _, value in found]
    assert all(isinstance(record, Object) for record in records)
    assert [(record.key, record.name, record.size) for record in records] == [
        ("a/full", "full", 5),
        ("empty", "empty", 0),
    ]
    assert [record.read() for record in records] == [b"bytes", b""]


def test_an_object_that_changed_says_so_when_it_is_read() -> None:
    bodies = {"in": b"before"}
    inputs = MemoryInputs(bodies)
    reader = reader_over(Objects(), bodies)
    piece = Slice.whole(pin(inputs, "in"))
    bodies["in"] = b"after!"
    record = next(reader.batches(piece)).records[0]

    with pytest.raises(InputChanged, match="in was changed under the run"):
        record.read()


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: repr(source)[:24])
def test_a_text_that_changed_while_it_was_read_is_an_error_at_its_end(source: Source) -> None:
    bodies = {"in": b"1,2\n" * 5000}
    reader = reader_over(source, bodies)
    batches = reader.batches(Slice.whole(pin(as_memory(reader), "in")))
    next(batches)
    bodies["in"] = b"3,4\n" * 5000

    with pytest.raises(InputChanged, match="in was changed under the run"):
        list(batches)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: repr(source)[:24])
def test_a_text_that_changed_is_an_error_for_one_who_stops_reading_half_way(source: Source) -> None:
    bodies = {"in": b"1,2\n" * 5000}
    reader = reader_over(source, bodies)
    batches = reader.batches(Slice.whole(pin(as_memory(reader), "in")))
    next(batches)
    bodies["in"] = b"3,4\n" * 5000

    with pytest.raises(InputChanged, match="in was changed under the run"):
        batches.close()

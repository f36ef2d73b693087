"""Csv, declared, read and written: its header, its columns, its rows, and what can't be in them."""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from coordinator.errors import JobInvalid, SourceContradicted, Unencodable
from coordinator.formats.base import Reader
from coordinator.formats.csv import BATCH_BYTES, Csv
from coordinator.formats.csv.format import ROWS_A_BATCH
from coordinator.formats.csv.rows import Quotes
from coordinator.model import Slice
from tests.formats.oracles import ends_within_quotes
from tests.support import Seen, memory_within, pin, read_all, reader_over, units_of

MIB = 1 << 20
PQ = ("p", "q")
BOTH = (True, False)  # rows of several lines, or of one


class Pair(BaseModel):
    p: int
    q: str = "none"


class Aliased(BaseModel):
    p: int = Field(alias="number")
    q: str | None = None


class Timed(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True)

    p: datetime
    q: timedelta = Field(alias="took")


class Colour(Enum):
    RED = "red"
    ODD = (1,)


def over(source: Csv, body: bytes, **options: Any) -> Reader:
    return reader_over(source, {"in": body}, **options)


def whole(reader: Reader, key: str = "in") -> list[Seen]:
    return read_all(reader, [Slice.whole(pin(reader.inputs, key))])  # type: ignore[arg-type]


def read(source: Csv, body: bytes, **options: Any) -> list[Seen]:
    return whole(over(source, body, **options))


def header_of(source: Csv, body: bytes, **options: Any) -> tuple[str, ...] | None:
    reader = over(source, body, **options)
    return reader.header(pin(reader.inputs, "in"))  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------
# Declarations
# ------------------------------------------------------------------------------------------------


def test_columns_that_are_none_or_come_twice_are_refused() -> None:
    for columns in ((), ("a", "a"), ("a", "b", "a")):
        with pytest.raises(JobInvalid, match=r"the source Csv: columns must be .* distinct names"):
            Csv(columns=columns).check("the source")
    for good in (None, ("a",), ("a", "b")):
        Csv(columns=good).check("the source")


def test_a_delimiter_is_one_sign_that_is_no_quote_and_no_line_end() -> None:
    for delimiter in ('"', "\r", "\n"):
        with pytest.raises(JobInvalid, match="the sink Csv: delimiter can't be "):
            Csv(delimiter=delimiter).check("the sink")
    for delimiter in ("", ";;"):
        with pytest.raises(ValidationError):
            Csv(delimiter=delimiter)
    for delimiter in ",;\t|":
        Csv(delimiter=delimiter).check("the sink")


def test_a_sink_has_the_columns_that_it_names_or_those_of_its_model() -> None:
    assert Csv(columns=PQ).preamble() == b"p,q\n"
    assert Csv(Pair, columns=("q", "p")).preamble() == b"q,p\n"
    assert Csv(Aliased, delimiter=";").preamble() == b"p;q\n"
    for make in (Csv().sink_columns, Csv().preamble, Csv().encoder):
        with pytest.raises(JobInvalid, match="A Csv sink needs its columns"):
            make()


# ------------------------------------------------------------------------------------------------
# Headers
# ------------------------------------------------------------------------------------------------


def test_the_header_of_an_object_is_its_first_row() -> None:
    for multiline in BOTH:
        source = Csv(delimiter=";", multiline=multiline)
        assert header_of(source, b"p;q,r\n1;2\n") == ("p", "q,r")
        assert header_of(source, '\ufeff"p";é'.encode()) == ("p", "é")
        assert header_of(source, b"") is None
        assert header_of(Csv(columns=PQ, multiline=multiline), b"x,y\n") is None
    latin = Csv(encoding="latin-1")
    assert header_of(latin, "é,ü\n".encode("latin-1")) == ("é", "ü")
    assert header_of(Csv(), b'"p\n1",q\r\n1,2\n') == ("p\n1", "q")
    assert header_of(Csv(), b'"p\r\n1",q\r\n1,2\n') == ("p\r\n1", "q")


def test_what_is_no_header_is_refused() -> None:
    for body in (b"\n", b"p,q\r1,2\n", b"p,p\n", b'"p" x,q\n', b'"p', b"p,\xff\n"):
        for multiline in BOTH:
            with pytest.raises(SourceContradicted, match="in does not begin with a header of"):
                header_of(Csv(multiline=multiline), body)


def test_a_header_may_be_as_long_as_a_record() -> None:
    line = "pp,qé".encode()
    for multiline in BOTH:
        source = Csv(multiline=multiline)
        for body in (line + b"\n1,2\n", b"\xef\xbb\xbf" + line + b"\n", line):
            assert header_of(source, body, record_bytes=6) == ("pp", "qé")
            rows = [row for _, _, row in read(source, body, record_bytes=6)]
            assert rows == [{"pp": "1", "qé": "2"}] * body.count(b"1,2")
            with pytest.raises(SourceContradicted, match="does not begin with a header"):
                header_of(source, body, record_bytes=5)
            with pytest.raises(SourceContradicted, match=r"of in can't be read \(longer than rec"):
                read(source, body, record_bytes=5)
        long = b"p" * 5000 + b",q\n1,2\n"
        for short_reads in (50, MIB):
            with pytest.raises(SourceContradicted, match=r"of in can't be read \(longer than rec"):
                read(source, long, record_bytes=100, short_reads=short_reads)
            (kind,) = {kind for _, kind, _ in read(Csv(columns=PQ, multiline=multiline), long)}
            assert kind == "record"


def test_the_header_is_no_record_and_is_held_against_the_others() -> None:
    for multiline in BOTH:
        source = Csv(multiline=multiline)
        for body in (b"p,q\n1,2\n", b"\xef\xbb\xbfp,q\n1,2\n", b'"p","q"\r\n1,2\r\n'):
            ((at, kind, row),) = read(source, body, header=PQ)
            assert (at, kind, row) == (body.index(b"1"), "record", {"p": "1", "q": "2"})
        with pytest.raises(SourceContradicted, match="'q, p', others have 'p, q'"):
            read(source, b"q,p\n1,2\n", header=PQ)
        with pytest.raises(SourceContradicted, match=r"of in can't be read \(not a CSV row"):
            read(source, b'"p"x,q\n1,2\n', header=PQ)


def test_objects_that_are_read_one_after_the_other_have_one_header() -> None:
    for multiline in BOTH:
        bodies = {"a": b"p,q\n1,2\n", "b": b"p,q\n3,4\n", "c": b"q,p\n5,6\n"}
        reader = reader_over(Csv(multiline=multiline), bodies)

        assert [row for _, _, row in whole(reader, "a")] == [{"p": "1", "q": "2"}]
        assert [row for _, _, row in whole(reader, "b")] == [{"p": "3", "q": "4"}]
        with pytest.raises(SourceContradicted, match="header of c has the columns 'q, p'"):
            whole(reader, "c")


# ------------------------------------------------------------------------------------------------
# Rows
# ------------------------------------------------------------------------------------------------


def test_rows_are_records_or_refused_or_blank() -> None:
    body = '1,"2, ""x"""\n\n3\n4,5,6\r\n"7"x,8\n9,é\n\r\n10,\xff\n11,12'.encode()
    body = body.replace("\xff".encode(), b"\xff")
    for multiline in BOTH:
        found = read(Csv(columns=PQ, multiline=multiline), body)

        assert [kind for _, kind, _ in found] == [
            *("record", "blank", "refused", "refused", "refused", "record", "blank", "refused"),
            "record",
        ]
        assert [row["q"] for _, kind, row in found if kind == "record"] == ['2, "x"', "é", "12"]
        reasons = [reason for _, kind, reason in found if kind == "refused"]
        assert reasons[:2] == ["1 cells, but 2 columns", "3 cells, but 2 columns"]
        assert reasons[2].startswith("not a CSV row: ',' expected after '\"'")
        assert reasons[3].startswith("not utf-8")
        assert [at for at, _, _ in found] == [
            0,
            *(at + 1 for at, byte in enumerate(body) if byte == 10),
        ]


def test_a_declared_delimiter_and_encoding_are_kept_to() -> None:
    for multiline in BOTH:
        source = Csv(columns=PQ, delimiter=";", encoding="latin-1", multiline=multiline)
        body = 'é,1;"ü;2"\nx;"y"z\n'.encode("latin-1")

        found = read(source, body)

        assert found[0] == (0, "record", {"p": "é,1", "q": "ü;2"})
        assert found[1][1] == "refused"


def test_records_are_instances_of_the_model() -> None:
    for multiline in BOTH:
        source = Csv(Pair, multiline=multiline)
        found = read(source, b"p,q\n1,x\n2,\n,y\nx,z\n")

        assert [row for _, kind, row in found if kind == "record"] == [Pair(p=1, q="x"), Pair(p=2)]
        assert [(at, kind) for at, kind, _ in found[2:]] == [(11, "refused"), (14, "refused")]
        assert found[3][2].startswith("p: Input should be a valid integer")
        assert [row for _, _, row in read(source.without_model(), b"p,q\n1,\n")] == [
            {"p": "1", "q": ""}
        ]


def test_an_empty_cell_is_left_out_by_any_name_of_an_optional_field() -> None:
    ((_, kind, row),) = read(Csv(Aliased), b"number,q\n1,\n")
    assert (kind, row) == ("record", Aliased(number=1))

    ((_, kind, reason),) = read(Csv(Aliased), b"number,q\n,x\n")
    assert (kind, reason.split(":")[0]) == ("refused", "number")


def test_rows_come_in_batches_of_a_bounded_size() -> None:
    short = over(Csv(columns=PQ), b"1,2\n" * (2 * ROWS_A_BATCH + 1))
    long = over(Csv(columns=PQ), b"1," + b"x" * 1000 + b"\n")
    batches = list(short.batches(Slice.whole(pin(short.inputs, "in"))))  # type: ignore[arg-type]

    assert [batch.units for batch in batches] == [ROWS_A_BATCH, ROWS_A_BATCH, 1]
    assert [batch.ordinal for batch in batches] == [0, ROWS_A_BATCH, 2 * ROWS_A_BATCH]
    assert [batch.end for batch in batches] == [8000, 16000, 16004]
    assert [batch.offset(0) for batch in batches] == [0, 8000, 16000]
    long = over(Csv(columns=PQ), (b"1," + b"x" * 1021 + b"\n") * 600)
    batches = list(long.batches(Slice.whole(pin(long.inputs, "in"))))  # type: ignore[arg-type]
    assert [batch.units for batch in batches] == [BATCH_BYTES // 1024, BATCH_BYTES // 1024, 88]


def test_a_slice_of_row_numbers_has_its_rows_and_no_others() -> None:
    body = b'p,q\n1,"a\nb"\n\n2,x\n3\n4,y\n'
    for source, header in ((Csv(), 1), (Csv(columns=PQ), 0)):
        reader = over(source, body[4:] if not header else body, header=PQ if header else None)
        pinned = pin(reader.inputs, "in")  # type: ignore[arg-type]
        everything = whole(reader)
        for start in range(7):
            for stop in (*range(start, 8), -1):
                piece = Slice.whole(pinned).model_copy(
                    update={"unit": "records", "start": start, "stop": stop}
                )
                found = [unit for batch in reader.batches(piece) for unit in units_of(batch)]

                last = 99 if stop < 0 else stop
                assert found == everything[max(start - header, 0) : max(last - header, 0)]


def test_a_newline_in_quotes_contradicts_a_source_that_has_none_wherever_it_is() -> None:
    long = b"x" * 200
    source = Csv(columns=PQ, multiline=False)
    for row in (b'1,"2\n3"\n', b'1,"' + long + b'\n3"\n', b'"', b'"1","' + long):
        for record_bytes in (50, MIB):
            with pytest.raises(
                SourceContradicted, match=r"row at byte 4 of in has a newline .*multiline=True"
            ):
                read(source, b"0,1\n" + row, record_bytes=record_bytes)
    assert [kind for _, kind, _ in read(source, b'1,"' + long + b'"\n2,3\n', record_bytes=50)] == [
        "refused",
        "record",
    ]


def test_a_header_that_ends_within_quotes_contradicts_a_source_that_has_no_such_rows() -> None:
    with pytest.raises(SourceContradicted, match=r"row at byte 0 of in has a newline"):
        read(Csv(multiline=False), b'"p,q\n1,2\n3,4\n')


def test_a_mark_is_no_part_of_an_over_long_row_that_begins_an_object() -> None:
    mark, long = b"\xef\xbb\xbf", b'"' + b"x" * 200
    for short_reads in (30, MIB):
        options = {"record_bytes": 50, "short_reads": short_reads}
        with pytest.raises(SourceContradicted, match=r"row at byte 0 of in has a newline"):
            read(Csv(columns=PQ, multiline=False), mark + long + b'\n3",4\n', **options)
        found = read(Csv(columns=PQ), mark + long + b'\n3",4\n5,6\n', **options)
        assert [kind for _, kind, _ in found] == ["refused"] * 3

        for multiline in BOTH:  # anywhere else it is a sign like others, and the quote none
            body = b"0,1\n" + mark + long + b"\n2,3\n"
            found = read(Csv(columns=PQ, multiline=multiline), body, **options)
            assert [kind for _, kind, _ in found] == ["record", "refused", "record"]


def test_behind_a_row_of_several_lines_that_has_too_many_cells_nothing_is_read() -> None:
    for source, body in ((Csv(columns=PQ), b""), (Csv(), b"p,q\n")):
        found = read(source, body + b'1,"2\n3",4\n5,6\n')

        assert [kind for _, kind, _ in found] == ["refused"] * 3
        assert found[0][2] == "3 cells, but 2 columns"


def test_a_row_may_be_as_long_as_a_record() -> None:
    for multiline in BOTH:
        source = Csv(columns=PQ, multiline=multiline)
        for row, kind in ((b"1,xxxxxxx\n", "record"), (b"1,xxxxxxxx\n", "refused")):
            for more in (b"", b"2,3\n", b"2,3\n" * 9):
                found = read(source, row + more, record_bytes=9)
                assert [kind for _, kind, _ in found] == [kind] + ["record"] * more.count(b"\n")
                if kind == "refused":
                    assert found[0][2] == "longer than record_bytes (9)"


def test_quotes_are_followed_piece_by_piece() -> None:
    for line in ('1,"2', '1,"2"', '1,"2""', '1,"2"",', '"",x', '""",x', '1"2', '"1","2', '"a"b,"'):
        for size in (1, 2, 3, 100):
            for marked in BOTH:
                mark = b"\xef\xbb\xbf" * marked
                quotes = Quotes("utf-8", ",", marked=marked)
                body = line.encode() + b"\n"
                quotes.feed(mark + body[:size])
                for at in range(size, len(body), size):
                    quotes.feed(body[at : at + size])
                assert quotes.open is ends_within_quotes(line + "\n", ","), line


def test_a_mark_within_a_line_is_a_sign_like_others() -> None:
    quotes = Quotes("utf-8", ",", marked=True)
    for piece in (b"\xef\xbb\xbf1,", b'\xef\xbb\xbf"2', b"\n"):
        quotes.feed(piece)

    assert not quotes.open


def test_rows_that_begin_in_one_block_and_end_in_the_next_are_not_held() -> None:
    row = b'1,"' + (b"x" * 999 + b"\n") * 100 + b'"\n'
    reader = over(Csv(columns=PQ), row * 80)
    piece = Slice.whole(pin(reader.inputs, "in"))  # type: ignore[arg-type]

    with memory_within(5 * MIB):
        assert sum(len(batch.records) for batch in reader.batches(piece)) == 80


def test_an_archive_that_is_broken_is_one_row_of_no_bytes() -> None:
    for multiline in BOTH:
        reader = reader_over(Csv(columns=PQ, multiline=multiline), {"in.gz": b"no archive"})
        (batch,) = reader.batches(Slice.whole(pin(reader.inputs, "in.gz")))  # type: ignore[arg-type]
        assert (batch.units, batch.offset(0), batch.end) == (1, 0, 0)


# ------------------------------------------------------------------------------------------------
# Writing
# ------------------------------------------------------------------------------------------------


def test_a_row_is_written_by_its_columns() -> None:
    encode = Csv(columns=PQ).encoder()

    for record, expected in (
        ({"q": 1, "p": "a"}, b"a,1\n"),
        (OrderedDict(p=None), b",\n"),
        ({}, b",\n"),
        ((True, 1.5), b"True,1.5\n"),
        (["a,b", 'say "x"'], b'"a,b","say ""x"""\n'),
        (("two\nlines", "a\rb"), b'"two\nlines","a\rb"\n'),
        ((Colour.RED, Decimal("1.10")), b"red,1.10\n"),
        ((date(2026, 1, 2), time(1)), b"2026-01-02,01:00:00\n"),
        ((datetime(2026, 1, 2, tzinfo=UTC), timedelta(1)), b'2026-01-02 00:00:00+00:00,"1 day, '),
        ((Fraction(1, 2), UUID(int=1)), b"1/2,00000000-0000-0000-0000-000000000001\n"),
        (Pair(p=1, q="é"), "1,é\n".encode()),
        (Aliased(number=1), b"1,\n"),
        (
            Timed(p=datetime(2026, 1, 2, tzinfo=UTC), took=timedelta(hours=1)),
            b"2026-01-02T00:00:00Z,PT1H\n",
        ),
    ):
        assert encode(record).startswith(expected)
    assert Csv(columns=PQ, delimiter=";").encoder()(("a;b", "c,d")) == b'"a;b";c,d\n'
    assert Csv(columns=("p",)).encoder()(("",)) == b'""\n'


def test_what_is_no_row_of_the_sink_is_refused() -> None:
    encode = Csv(columns=PQ).encoder()
    refused: list[tuple[Any, str]] = [
        ({"r": 1, "s": 2}, "A Csv sink has no column 'r'; its columns are p, q."),
        ({"x" * 200: 1}, f"A Csv sink has no column '{'x' * 80}'; its"),
        ((), "A Csv sink with 2 columns can't take 0 cells."),
        (("a", "b", "c"), "A Csv sink with 2 columns can't take 3 cells."),
        ({"a", "b"}, "A Csv sink takes dicts, models or sequences, not set."),
        (("a", object()), "A cell of a Csv sink can't hold a object."),
        (("a", Colour.ODD), "A cell of a Csv sink can't hold a tuple."),
        ((1 << 20_000, 1), "a cell can't be written: Exceeds the limit"),
        (("a", "\ud800"), "a cell holds a character that utf-8 lacks"),
    ]
    for record, says in refused:
        with pytest.raises(Unencodable) as raised:
            encode(record)
        assert str(raised.value).startswith(says)


def test_a_sink_of_single_lines_refuses_newlines() -> None:
    encode = Csv(columns=PQ, multiline=False).encoder()

    assert encode(("a", "b")) == b"a,b\n"
    for row in (("a\nb", "c"), ("a", "b\n"), ("\n", ""), ("a", "b\r\n")):
        with pytest.raises(Unencodable, match="multiline=False holds a newline"):
            encode(row)
        assert Csv(columns=PQ).encoder()(row).endswith(b"\n")


def test_results_are_decoded_by_their_header() -> None:
    sink = Csv(columns=PQ, delimiter=";", encoding="latin-1")
    body = sink.preamble() + sink.encoder()(("é;", "a\r\nb")) + sink.encoder()(("1", ""))

    assert sink.decode(body) == [{"p": "é;", "q": "a\r\nb"}, {"p": "1", "q": ""}]

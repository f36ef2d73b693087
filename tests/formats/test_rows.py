"""Rows whose cells may hold newlines: what one stray quote takes away counts for as much as it is."""

from __future__ import annotations

import csv
import gzip
import io
import tracemalloc
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel

from coordinator.errors import SourceContradicted
from coordinator.formats.base import Reader
from coordinator.formats.csv import BATCH_BYTES, Csv
from coordinator.formats.csv.rows import Quotes
from coordinator.job import Job
from coordinator.limits import Limits
from coordinator.model import Slice
from coordinator.steps.split import walk
from coordinator.testing import run_job
from tests.formats.oracles import ends_within_quotes, row_units
from tests.support import Seen, a_job, cut_places, examples, pin, read_all, reader_over, units_of

COLUMNS = ("p", "q")
MIB = 1 << 20
SHORT_READS = st.sampled_from([1, 3, 7, 50, MIB])
RECORD_BYTES = st.sampled_from([1, 5, 9, 10, 30, MIB])
PIECES = [
    b"\n",
    b"\n",
    b"\r\n",
    b"\r",
    b",",
    b'"',
    b'"',
    b'""',
    b"a",
    b"1,2\n",
    b'3,"4"\n',
    b'"x\ny",z\n',
    b"x" * 20,
    "é".encode(),
    b"\xff",
    b"\xef\xbb\xbf",
]
BODIES = st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join)


def whole(reader: Reader, key: str = "in") -> list[Seen]:
    return read_all(reader, [Slice.whole(pin(reader.inputs, key))])  # type: ignore[arg-type]


def without_reasons(seen: Sequence[Seen]) -> list[Seen]:
    return [(at, kind, None if kind == "refused" else value) for at, kind, value in seen]


def read_rows(body: bytes, *, record_bytes: int = MIB) -> list[Seen]:
    return whole(reader_over(Csv(columns=COLUMNS), {"in": body}, record_bytes=record_bytes))


# ------------------------------------------------------------------------------------------------
# A row that takes in lines
# ------------------------------------------------------------------------------------------------


@given(BODIES, RECORD_BYTES, SHORT_READS, st.booleans(), st.sampled_from([",", ";"]))
@examples(600)
def test_every_line_is_in_a_row_or_refused_as_an_independent_reader_says(
    body: bytes, record_bytes: int, short_reads: int, packed: bool, delimiter: str
) -> None:
    key = "in.gz" if packed else "in"
    reader = reader_over(
        Csv(columns=COLUMNS, delimiter=delimiter),
        {key: gzip.compress(body, 1) if packed else body},
        record_bytes=record_bytes,
        short_reads=short_reads,
    )

    expected = row_units(body, COLUMNS, delimiter=delimiter, record_bytes=record_bytes)
    assert without_reasons(whole(reader, key)) == expected


@given(st.data(), BODIES, RECORD_BYTES)
@examples(300)
def test_slices_of_any_unit_numbers_give_the_units_of_the_whole(
    data: st.DataObject, body: bytes, record_bytes: int
) -> None:
    reader = reader_over(Csv(columns=COLUMNS), {"in": body}, record_bytes=record_bytes)
    expected = whole(reader)
    pinned = pin(reader.inputs, "in")  # type: ignore[arg-type]
    edges = [0, *data.draw(cut_places(len(expected))), -1]
    pieces = [
        Slice.whole(pinned).model_copy(update={"unit": "records", "start": start, "stop": stop})
        for start, stop in pairwise(edges)
    ]

    assert read_all(reader, pieces) == expected
    for batch in reader.batches(Slice.whole(pinned)):
        for unit in range(batch.units + 1):
            head, tail = batch.split_at_unit(unit)
            assert units_of(head) + units_of(tail) == units_of(batch)
            assert head.end == tail.offset(0)


@given(BODIES, RECORD_BYTES)
@examples(200)
def test_a_shard_that_is_cut_into_single_records_reads_as_the_shard(
    body: bytes, record_bytes: int
) -> None:
    source = Csv(columns=COLUMNS)
    reader = reader_over(source, {"in": body}, record_bytes=record_bytes)
    expected = whole(reader)

    walked = walk(a_job(source), reader, [Slice.whole(pin(reader.inputs, "in"))])  # type: ignore[arg-type]

    assert walked.records == sum(kind == "record" for _, kind, _ in expected)
    if walked.children:
        pieces = [piece for child in walked.children for piece in child]
        assert read_all(reader, pieces) == expected


def test_one_stray_quote_refuses_every_line_that_it_takes_in() -> None:
    lines = [b"%d,x\n" % number for number in range(50_000)]
    lines[1] = b'1,"x\n'

    found = read_rows(b"".join(lines))

    assert [kind for _, kind, _ in found] == ["record"] + ["refused"] * 49_999
    assert [at for at, _, _ in found[:4]] == [0, 4, 9, 13]
    assert found[1][2] == "not a CSV row: unexpected end of data"
    assert {reason for _, _, reason in found[2:]} == {"within the row at byte 4, which is refused"}


def test_behind_a_refused_row_of_several_lines_nothing_is_read() -> None:
    assert read_rows(b'1,2\n3,"4\n5"x,6\n7,8\n\n9,"0"\n') == [
        (0, "record", {"p": "1", "q": "2"}),
        (4, "refused", "not a CSV row: ',' expected after '\"'"),
        (9, "refused", "within the row at byte 4, which is refused"),
        *(
            (
                at,
                "refused",
                "behind the row at byte 4: what lies within quotes there can't be known",
            )
            for at in (15, 19, 20)
        ),
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b'1,"2\n3",4\n', "3 cells, but 2 columns"),
        (b'1,"\xff\n"\n', "not utf-8"),
        (b'1,"' + b"x\n" * 50 + b'"\n', "longer than record_bytes (60)"),
    ],
)
def test_why_a_row_of_several_lines_is_refused_does_not_matter(row: bytes, reason: str) -> None:
    found = read_rows(row + b"7,8\n", record_bytes=60)

    assert [kind for _, kind, _ in found] == ["refused"] * (row.count(b"\n") + 1)
    assert found[0][2] == reason
    assert "behind the row at byte 0" in found[-1][2]


@pytest.mark.parametrize(
    "row", [b"1\n", b"1,2,3\n", b'"1"x,2\n', b'"1"x,"2"\n', b"1,\xff\n", b"1,2\r3\n", b'1,2""\n']
)
def test_a_refused_row_of_one_line_is_refused_alone(row: bytes) -> None:
    assert [kind for _, kind, _ in read_rows(row + b'3,"4\n5"\n')][1:] == ["record"]


def test_a_row_that_is_broken_before_it_opens_a_quote_hides_where_it_ends() -> None:
    found = read_rows(b'"1"x,"2\n3,4",5\n6,7\n')

    assert [kind for _, kind, _ in found] == ["refused"] * 3


def test_a_row_of_several_lines_that_the_model_refuses_is_one_record() -> None:
    class Pair(BaseModel):
        p: int
        q: str

    body = b'p,q\nx,"a\nb"\n2,c\n'
    for source, first in ((Csv(Pair), "refused"), (Csv(Pair).without_model(), "record")):
        found = whole(reader_over(source, {"in": body}))
        assert [(at, kind) for at, kind, _ in found] == [(4, first), (12, "record")]


def test_the_tolerance_is_held_against_every_line_that_was_taken_in() -> None:
    body = b"p,q\n" + b"1,2\n" * 10 + b'3,"4\n' + b"5,6\n" * 10
    job = a_job(Csv(), limits=Limits(tolerated=100))

    outcome = run_job(job, {"in": body})

    totals = outcome.manifest.stages["map"]
    assert (totals.records_in, totals.mapped, totals.quarantined) == (21, 10, 11)
    assert [line["record"] for line in outcome.quarantine] == list(range(11, 22))


def test_a_shard_that_is_split_within_what_is_refused_is_proven_complete() -> None:
    job = Job("job", Csv(columns=COLUMNS), limits=Limits(tolerated=100))
    job.map_batch(size=3)(lambda records: [records])

    outcome = run_job(job, {"in": b"1,2\n" * 5 + b'3,"4\n' * 7})

    assert outcome.manifest.stages["map"].mapped == 5
    assert outcome.manifest.quarantined == 7


# ------------------------------------------------------------------------------------------------
# Rows that are too long
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("short_reads", [1, 7, MIB])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("row", [b"1,xxxxxxxx", b'1,"xx\nxxx"', b'1,"xxxxxx"', b"1,xxxxxxx\r"])
def test_a_row_of_just_the_length_allowed_is_a_record(
    row: bytes, mark: bytes, short_reads: int
) -> None:
    assert len(row) == 10
    for end in (b"", b"\n", b"\n3,4\n"):
        reader = reader_over(
            Csv(columns=COLUMNS), {"in": mark + row + end}, record_bytes=10, short_reads=short_reads
        )
        assert {kind for _, kind, _ in whole(reader)} == {"record"}
        reader = reader_over(
            Csv(columns=COLUMNS), {"in": mark + row + end}, record_bytes=9, short_reads=short_reads
        )
        assert whole(reader)[0][1] == "refused"


def test_the_mark_at_the_beginning_of_an_object_is_no_room_for_later_rows() -> None:
    body = b"\xef\xbb\xbf1,xxxxxxxx\n2,xxxxxxxx\n3,xxxxxxxxx\n"

    assert [kind for _, kind, _ in read_rows(body, record_bytes=10)] == [
        "record",
        "record",
        "refused",
    ]


@pytest.mark.parametrize("size", [30, 300, 3_000_000])
@pytest.mark.parametrize("short_reads", [1000, MIB])
def test_an_over_long_row_that_goes_on_in_the_next_line_hides_what_follows(
    size: int, short_reads: int
) -> None:
    long = b"x" * size
    for row, after in (
        (b"1," + long, "record"),
        (b'1,"' + long + b'"', "record"),
        (b'"' + long + b'""' + long + b'",2', "record"),
        (b"1," + long + b'"', "record"),
        (b'1,"' + long, "refused"),
        (b'"' + long + b'"",2', "refused"),
        (b'"' + long + b'","2', "refused"),
    ):
        reader = reader_over(
            Csv(columns=COLUMNS),
            {"in": row + b"\n3,4\n"},
            record_bytes=20,
            short_reads=short_reads,
        )
        assert [kind for _, kind, _ in whole(reader)] == ["refused", after]


@pytest.mark.parametrize("size", [30, 300, 3_000_000])
def test_an_over_long_row_with_a_newline_contradicts_a_source_declared_free_of_them(
    size: int,
) -> None:
    body = b'3,4\n1,"' + b"x" * size + b'\n3,4"\n'
    source = Csv(columns=COLUMNS, multiline=False)
    reader = reader_over(source, {"in": body}, record_bytes=20)

    with pytest.raises(SourceContradicted, match=r"byte 4 of in .*multiline=True"):
        whole(reader)
    closed = reader_over(source, {"in": body.replace(b'\n3,4"', b'"\n3,4')}, record_bytes=20)
    assert [kind for _, kind, _ in whole(closed)] == ["record", "refused", "record"]


@given(
    st.lists(st.sampled_from(['"', '"', ",", ";", "a", "é", "\r", '""', ',"']), max_size=20),
    st.lists(st.integers(1, 4), max_size=20),
    st.sampled_from([",", ";"]),
    st.booleans(),
)
@examples(500)
def test_quotes_are_followed_through_any_pieces(
    signs: list[str], sizes: list[int], delimiter: str, marked: bool
) -> None:
    line = "".join(signs) + "\n"
    body = b"\xef\xbb\xbf" * marked + line.encode()
    quotes = Quotes("utf-8", delimiter, marked=marked)
    at = 0
    for size in [3, *sizes, len(body)]:
        quotes.feed(body[at : at + size])
        at += size

    assert quotes.open == ends_within_quotes(line, delimiter)


# ------------------------------------------------------------------------------------------------
# Bounds
# ------------------------------------------------------------------------------------------------


def peak_bytes(reader: Reader, units: int) -> int:
    tracemalloc.start()
    try:
        seen = 0
        for batch in reader.batches(Slice.whole(pin(reader.inputs, "in"))):  # type: ignore[arg-type]
            seen += batch.records_in
        assert seen == units
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "body",
    [
        b'1,"' + b"\n" * 120_000,
        b'1,"2\n' + b"x\n" * 120_000,
        b'1,"2\n' + b"x" * 5_000_000 + b"\n" + b"y" * 5_000_000,
        b'1,"' + b'""' * 3_000_000,
    ],
    ids=["newlines", "lines", "long lines", "quotes"],
)
def test_what_a_stray_quote_takes_in_is_not_held(body: bytes) -> None:
    reader = reader_over(Csv(columns=COLUMNS), {"in": body}, record_bytes=100_000)

    assert peak_bytes(reader, body.count(b"\n") + (not body.endswith(b"\n"))) < 8 * MIB


def test_rows_that_were_read_are_not_held() -> None:
    row = b'1,"' + b"x" * 400 + b'"\n'
    reader = reader_over(Csv(columns=COLUMNS), {"in": row * 40_000})

    assert peak_bytes(reader, 40_000) < 8 * MIB


def test_a_batch_of_long_rows_holds_few() -> None:
    body = b"".join(b'%d,"%s"\n' % (number, b"x\n" * 50_000) for number in range(20))
    reader = reader_over(Csv(columns=COLUMNS), {"in": body})

    batches = list(reader.batches(Slice.whole(pin(reader.inputs, "in"))))  # type: ignore[arg-type]

    assert sum(batch.units for batch in batches) == 20
    assert all(batch.end - batch.offset(0) < BATCH_BYTES + 110_000 for batch in batches)


def test_cells_of_many_lines_are_read_as_they_were_written() -> None:
    rows = [
        (str(number), "\n".join('a "b", c' for _ in range(number % 7))) for number in range(999)
    ]
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)

    found = read_rows(text.getvalue().encode())

    assert [(row["p"], row["q"]) for _, _, row in found] == rows

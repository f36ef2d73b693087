"""A Csv sink writes in its encoding, and refuses what that lacks."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, strategies as st

from coordinator.errors import JobInvalid
from coordinator.formats.csv import Csv
from coordinator.formats.lines import Lines
from coordinator.formats.linewise import ASCII_TRANSPARENT
from coordinator.limits import Limits
from coordinator.model import Slice
from coordinator.testing import run_job
from tests.support import a_job, examples, pin, read_all, reader_over

ENCODINGS = st.sampled_from(sorted(ASCII_TRANSPARENT))


def survives(text: str, encoding: str) -> bool:
    try:
        return text.encode(encoding).decode(encoding) == text
    except UnicodeError:
        return False


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=4), ENCODINGS)
@examples(200)
def test_rows_are_read_back_in_the_encoding_that_they_are_written_in(
    rows: list[tuple[str, str]], encoding: str
) -> None:
    sink = Csv(columns=("p", "q"), encoding=encoding)
    encode, body = sink.encoder(), sink.preamble()
    written = [row for row in rows if all(survives(cell, encoding) for cell in row)]
    for row in rows:
        if row in written:
            body += encode(row)
        else:
            with pytest.raises(ValueError, match=f"a character that {encoding} lacks"):
                encode(row)

    expected = [dict(zip("pq", row, strict=True)) for row in written]
    text = io.StringIO(body.decode(encoding), newline="")
    assert list(csv.DictReader(text, strict=True)) == sink.decode(body) == expected
    reader = reader_over(Csv(encoding=encoding), {"in": body})
    found = read_all(reader, [Slice.whole(pin(reader.inputs, "in"))])  # type: ignore[arg-type]
    assert [(kind, row) for _, kind, row in found] == [("record", row) for row in expected]


def test_a_sign_that_an_encoding_would_bend_is_refused() -> None:
    for encoding in ("shift_jis", "euc_jp"):
        with pytest.raises(ValueError, match=f"a character that {encoding} lacks"):
            Csv(columns=("price",), encoding=encoding).encoder()(("¥100",))


def test_a_row_with_a_character_that_the_encoding_lacks_goes_to_quarantine() -> None:
    job = a_job(
        Lines(), sink=Csv(columns=("word",), encoding="latin-1"), limits=Limits(tolerated=1)
    )
    job.map_function = lambda word: [(word,)]

    outcome = run_job(job, {"a": "é\n€\nü\n".encode()})

    assert outcome.results == {"job.csv": "word\né\nü\n".encode("latin-1")}
    (refused,) = outcome.quarantine
    assert refused["offset"] == 3
    assert refused["reason"].endswith("a cell holds a character that latin-1 lacks")


def test_columns_that_the_encoding_lacks_are_refused_with_the_job() -> None:
    job = a_job(Lines())
    job.sink = Csv(columns=("preis in €",), encoding="latin-1")

    with pytest.raises(JobInvalid, match=r"'preis in €' .* can't be written as latin-1"):
        job.check()

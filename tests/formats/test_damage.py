"""Damaged objects of every format and compression, held against independent readers.

Every byte is changed in many ways, dropped and doubled, signs are put in everywhere, and the body
is cut off everywhere. Then every line is a record that the independent reader finds too, or
refused, or blank; and a compressed object is read to its last byte or refused whole.
"""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from coordinator.errors import FanfoldError, SourceContradicted
from coordinator.formats.base import Source
from coordinator.formats.csv import Csv
from coordinator.formats.jsonlines import JsonLines
from coordinator.formats.lines import Lines
from coordinator.formats.objects import Objects
from coordinator.model import Slice
from coordinator.testing import run_job
from tests.formats.oracles import (
    BROKEN,
    bunzipped,
    gunzipped,
    json_units,
    line_row_units,
    row_units,
    text_units,
)
from tests.support import Seen, a_job, pin, read_all, reader_over

COLUMNS = ("p", "q")
SIGNS = b'",\n\r\\{\x00\xff '


@dataclass(frozen=True)
class Case:
    """A format, a small body of it, and the independent reader. None of this is a source that is
    not what it declares to be, and so an error that says so."""

    name: str
    source: Source
    body: bytes
    units: Callable[[bytes], list[Seen] | None]


CASES = [
    Case("lines", Lines(), "one\r\ntwö\n\n\nfour 😀\r\nfive".encode(), text_units),
    Case(
        "lines of gbk",
        Lines(encoding="gbk"),
        "one\n漢字 two\n字\n\nx".encode("gbk"),
        lambda body: text_units(body, "gbk"),
    ),
    Case(
        "json",
        JsonLines(),
        '{"a": 1, "é": [true]}\n"x\\n\\u00e9"\r\n\n[2.5, null]\n-70'.encode(),
        json_units,
    ),
    Case(
        "csv",
        Csv(columns=COLUMNS),
        '1,"a\nb"\n"x ""y""",2\r\n\n3,é\n4,"5"'.encode(),
        lambda body: row_units(body, COLUMNS),
    ),
    Case(
        "csv with a header",
        Csv(),
        'p,q\r\n1,"a\n\nb"\n"x, y",2\n3,é\n'.encode(),
        lambda body: row_units(body, COLUMNS, header=True),
    ),
    Case(
        "csv of lines",
        Csv(columns=COLUMNS, multiline=False),
        '1,"a, b"\n"x ""y""",2\r\n\n3,é\n4,5'.encode(),
        lambda body: line_row_units(body, COLUMNS),
    ),
    Case(
        "marked csv of lines with a header",
        Csv(multiline=False),
        '\ufeffp,q\n1,"a, b"\n"x",é\n'.encode(),
        lambda body: line_row_units(body, COLUMNS, header=True),
    ),
]
PACKED: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes | None]]] = {
    "in.gz": (lambda body: gzip.compress(body, mtime=0), gunzipped),
    "in.bz2": (bz2.compress, bunzipped),
}

on_every_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


def changed(body: bytes) -> Iterator[bytes]:
    """The body with any one byte changed: any bit of it flipped, or another sign put there."""
    for at, byte in enumerate(body):
        for other in {*(byte ^ 1 << bit for bit in range(8)), *SIGNS} - {byte}:
            yield body[:at] + bytes([other]) + body[at + 1 :]


def moved(body: bytes) -> Iterator[bytes]:
    """The body with any one byte dropped or doubled, or any one sign put in anywhere."""
    for at in range(len(body)):
        yield body[:at] + body[at + 1 :]
        yield body[: at + 1] + body[at:]
    for at in range(len(body) + 1):
        for sign in SIGNS:
            yield body[:at] + bytes([sign]) + body[at:]


def cut_off(body: bytes) -> Iterator[bytes]:
    """The body cut off anywhere, at its beginning or its end."""
    for at in range(len(body)):
        yield body[:at]
        yield body[at + 1 :]


def found_in(
    source: Source, key: str, body: bytes, short_reads: int = 1 << 20
) -> list[Seen] | None:
    """All units of an object, without the reasons of refusals; None where it contradicts its
    source."""
    header = COLUMNS if source.has_header() else None
    reader = reader_over(source, {key: body}, header=header, short_reads=short_reads)
    try:
        found = read_all(reader, [Slice.whole(pin(reader.inputs, key))])  # type: ignore[arg-type]
    except SourceContradicted:
        return None
    assert all(reason for _, kind, reason in found if kind == "refused")
    return [(at, kind, None if kind == "refused" else value) for at, kind, value in found]


# ------------------------------------------------------------------------------------------------
# Texts
# ------------------------------------------------------------------------------------------------


@on_every_case
@pytest.mark.parametrize("damage", [changed, moved, cut_off])
def test_a_damaged_text_is_read_as_an_independent_reader_reads_it(
    case: Case, damage: Callable[[bytes], Iterator[bytes]]
) -> None:
    for body in damage(case.body):
        assert found_in(case.source, "in", body) == case.units(body), body


@on_every_case
def test_it_does_not_matter_in_which_pieces_a_damaged_text_is_read(case: Case) -> None:
    for number, body in enumerate(changed(case.body)):
        if number % 11 == 0:
            assert found_in(case.source, "in", body, short_reads=3) == case.units(body), body


def test_a_whole_object_may_hold_anything() -> None:
    for body in cut_off(b'\x1f\x8b\x00"\n\xff'):
        ((at, kind, record),) = found_in(Objects(), "in.gz", body) or []
        assert (at, kind, record.read()) == (0, "record", body)


# ------------------------------------------------------------------------------------------------
# Compressed texts
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", PACKED)
@pytest.mark.parametrize("damage", [changed, moved, cut_off])
def test_a_damaged_archive_holds_what_it_held_or_is_refused_whole(
    key: str, damage: Callable[[bytes], Iterator[bytes]]
) -> None:
    pack, unpack = PACKED[key]
    one, other = "one\r\ntwö\n".encode(), b"three\n\nfour"
    packed = pack(one) + pack(other)
    intact = {one + other} | ({one, other} if damage is cut_off else set())
    refused = accepted = 0
    for body in damage(packed):
        found, held = found_in(Lines(), key, body), unpack(body)
        if found == BROKEN:
            # gzip's own reader does not look at the flags that nobody uses
            flags = {body[3], body[len(pack(one)) + 3]} if len(body) == len(packed) else {0}
            assert held is None or any(flag & 0xE0 for flag in flags), body
            refused += 1
        else:
            assert held in intact, body
            assert found == text_units(held), body
            accepted += 1
    assert refused > 2 * accepted


@on_every_case
@pytest.mark.parametrize("key", PACKED)
def test_a_damaged_archive_of_any_format_is_one_refused_record(case: Case, key: str) -> None:
    pack, unpack = PACKED[key]
    packed = pack(case.body)
    flipped = (
        packed[:at] + bytes([byte ^ 1 << at % 8]) + packed[at + 1 :]
        for at, byte in enumerate(packed)
    )
    for body in (*flipped, *(packed[:at] for at in range(len(packed)))):
        found = found_in(case.source, key, body)
        assert found in (BROKEN, case.units(case.body))
        assert found == BROKEN or unpack(body) == case.body


# ------------------------------------------------------------------------------------------------
# Runs
# ------------------------------------------------------------------------------------------------


@on_every_case
def test_a_run_over_a_damaged_object_accounts_for_every_line_of_it(case: Case) -> None:
    whole = b"p,q\n5,6\n" if case.source.has_header() else b"5,6\n"
    damaged = [
        *(case.body[:at] for at in range(0, len(case.body), 5)),
        *(body for number, body in enumerate(changed(case.body)) if number % 7 == 0),
    ]
    for number, body in enumerate(damaged):
        units = case.units(body)
        job = a_job(case.source, lambda record: [[record]])
        bodies = {"0": whole, "1": body, "2": whole}
        shard_bytes = [7, 1000][number % 2]
        if units is None:
            with pytest.raises(FanfoldError, match=" of 1 "):
                run_job(job, bodies, shard_bytes=shard_bytes)
            continue
        outcome = run_job(job, bodies, shard_bytes=shard_bytes)
        around = [value for _, kind, value in case.units(whole) or [] if kind == "record"]
        mapped = [value for _, kind, value in units if kind == "record"]
        assert [value for (value,) in outcome.records()] == [*around, *mapped, *around], body
        places = [(line["key"], line["offset"]) for line in outcome.quarantine]
        aside = [] if around else [("0", 0), ("2", 0)]
        expected = [("1", at) for at, kind, _ in units if kind == "refused"]
        assert places == sorted([*aside, *expected]), body
        totals = outcome.manifest.stages["map"]
        assert totals.records_in == totals.mapped + totals.quarantined + totals.blank
        assert totals.blank == sum(kind == "blank" for _, kind, _ in units), body

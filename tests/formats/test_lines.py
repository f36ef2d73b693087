"""Lines and their batches: where each begins, which number it has, and what of it is refused."""

from __future__ import annotations

import bz2
import gzip
import io
import zlib
from random import Random

import pytest

from coordinator.errors import Unencodable
from coordinator.formats import ranges
from coordinator.formats.base import Batch, Source
from coordinator.formats.compression import GzipMember, NotDecompressible, decompressor
from coordinator.formats.jsonlines import JsonLines
from coordinator.formats.lines import Lines
from coordinator.formats.ranges import CHUNK_BYTES, NO_STOP, Block, blocks, first_byte_read
from coordinator.formats.text import Text
from coordinator.model import Slice
from tests.support import Seen, ShortReads, pin, units_of

MIB = 1 << 20
MARK = b"\xef\xbb\xbf"


def batches_of(
    body: bytes,
    *,
    source: Source | None = None,
    key: str = "in",
    record_bytes: int = 100,
    short_reads: int = MIB,
    records: tuple[int, int] | None = None,
) -> list[Batch]:
    inputs = ShortReads({key: body}, short_reads)
    piece = Slice.whole(pin(inputs, key))
    if records:
        start, stop = records
        piece = piece.model_copy(update={"unit": "records", "start": start, "stop": stop})
    return list((source or Lines()).reader(inputs, record_bytes).batches(piece))


def units_in(batches: list[Batch]) -> list[Seen]:
    return [unit for batch in batches for unit in units_of(batch)]


def test_batches_follow_each_other_in_place_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "BLOCK_BYTES", 8)
    body = MARK + b"1\n22\n\xff\n" + b"x" * 200 + b"\n4\n\n6\r\n" + b"7" * 30 + b"\n8"
    begins = [0, *(at + 1 for at, byte in enumerate(body) if byte == 10)]

    for source in (Lines(), JsonLines()):
        for short_reads in (1, 9, MIB):
            batches = batches_of(body, source=source, short_reads=short_reads)

            assert len(batches) > 3
            assert [unit[0] for unit in units_in(batches)] == begins
            at = number = 0
            for batch in batches:
                assert (batch.offset(0), batch.ordinal) == (at, number)
                at, number = batch.end, number + batch.units
            assert (at, number) == (len(body), len(begins))


def test_a_slice_of_line_numbers_has_these_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "BLOCK_BYTES", 5)
    body = b"0\n1\n\xff\n3\n" + b"x" * 200 + b"\n5\n6\n7"
    everything = units_in(batches_of(body))
    assert len(everything) == 8
    for key, packed in (
        ("in", body),
        ("in.gz", gzip.compress(body)),
        ("in.bz2", bz2.compress(body)),
    ):
        for start in range(9):
            for stop in (*range(start, 10), -1):
                found = units_in(batches_of(packed, key=key, records=(start, stop)))
                assert found == everything[start : None if stop < 0 else stop]


def test_only_what_a_slice_needs_is_given() -> None:
    found = batches_of(b"x\n" * 40_000, records=(0, 3))

    assert [batch.units for batch in found] == [3]


@pytest.mark.parametrize("body", [b"one\r\ntwo\n\nfour", b"one\r\ntwo\n\nfour\n"])
def test_the_last_line_may_or_may_not_be_ended(body: bytes) -> None:
    for mark in (b"", MARK):
        expected = ["one", "two", "", "four"]
        assert [value for _, _, value in units_in(batches_of(mark + body))] == expected
        broken = units_in(batches_of(mark + body + b"\n" * (not body.endswith(b"\n")) + b"\xff\n"))
        assert [value for _, kind, value in broken if kind == "record"] == expected
        assert broken[-1][1:] == (
            "refused",
            "not utf-8: invalid start byte at byte 0 of the record",
        )


def test_a_line_that_is_too_long_is_refused_whatever_is_around_it() -> None:
    lines = [("é" * 50, "record"), ("é" * 50 + "\r", "refused")]
    lines += [("😀" * 25, "record"), ("😀" * 25 + "\r", "refused"), ("😀" * 26, "refused")]
    for line, kind in lines:
        for around in (b"", b"x\n", b"x\n" * 60, b"\xff\n"):
            found = units_in(batches_of(around + line.encode() + b"\n" + around))
            kinds = ["refused" if b"\xff" in around else "record"] * around.count(b"\n")
            assert [seen for _, seen, _ in found] == [*kinds, kind, *kinds]
    assert units_in(batches_of(b"x" * 101)) == [(0, "refused", "longer than record_bytes (100)")]


def test_an_object_that_can_not_be_decompressed_is_one_record_of_no_bytes() -> None:
    (batch,) = batches_of(b"no archive", key="in.gz")

    assert (batch.units, batch.offset(0), batch.end, batch.ordinal) == (1, 0, 0, 0)
    assert batch.refused == [(0, "can't be decompressed to its end")]


# ------------------------------------------------------------------------------------------------
# Ranges
# ------------------------------------------------------------------------------------------------


def found_in(
    body: bytes, start: int, stop: int, *, most: int = MIB, chunk: int = 4, short: int = MIB
) -> list[Block]:
    stream = io.BytesIO(body)
    stream.seek(first_byte_read(start))
    return list(blocks(lambda size: stream.read(min(size, short)), start, stop, most, chunk))


def test_a_range_has_the_records_that_begin_in_it() -> None:
    body = b"a\nbb\n\nccc\ndddddddddd\ne"
    begins = [0, *(at + 1 for at, byte in enumerate(body) if byte == 10)]
    records = dict(zip(begins, body.splitlines(keepends=True), strict=True))
    for start in range(len(body) + 1):
        for stop in range(start, len(body) + 2):
            for chunk in (1, 3, 100):
                found = found_in(body, start, stop, chunk=chunk)
                expected = [records[at] for at in begins if start <= at < stop]
                assert b"".join(block.data or b"" for block in found) == b"".join(expected)
                assert [block.offset for block in found[:1]] == [
                    at for at in begins if start <= at < stop
                ][:1]
                assert all(block.length == len(block.data or b"") for block in found)


def test_a_record_of_just_the_length_allowed_is_held_and_a_longer_one_is_not() -> None:
    for size in (9, 10, 11, 12, 50):
        for chunk in (1, 5, 11, 12, 100):
            found = found_in(b"x" * size + b"\nyy\n", 0, NO_STOP, most=10, chunk=chunk)
            if found[0].data is not None:
                assert size <= 10 or chunk > 1  # its end came with the same read
            else:
                assert size > 10
                assert found == [Block(0, None, size + 1), Block(size + 1, b"yy\n", 3)]
    assert found_in(b"x" * 50, 0, NO_STOP, most=10) == [Block(0, None, 50)]
    assert found_in(b"a\n" + b"x" * 50, 0, 2, most=10) == [Block(0, b"a\n", 2)]


def test_little_is_read_behind_a_range_or_before_it() -> None:
    assert [first_byte_read(start) for start in (0, 1, 2, 100)] == [0, 0, 1, 99]
    asked: list[int] = []
    stream = io.BytesIO(b"x\n" * MIB)

    def read(size: int) -> bytes:
        asked.append(size)
        return stream.read(size)

    assert sum(block.length for block in blocks(read, 0, 100, MIB)) == 100
    assert asked == [100 + ranges.MARGIN_BYTES]
    assert sum(block.length for block in blocks(read, 0, 3 * CHUNK_BYTES, 3)) == 2 * MIB - 16_484
    assert max(asked) == CHUNK_BYTES


# ------------------------------------------------------------------------------------------------
# Archives, and text
# ------------------------------------------------------------------------------------------------


def test_an_archive_gives_as_much_as_is_asked_for() -> None:
    body = bytes(range(256)) * 100 + Random(1).randbytes(30_000) * 2
    for key, packed in (("a.gz", gzip.compress(body)), ("a.BZ2", bz2.compress(body))):
        read = decompressor(key, io.BytesIO(packed + packed))
        assert (read(10), read(5)) == (body[:10], body[10:15])
        rest = b""
        while piece := read(10_000):
            assert len(piece) <= 10_000
            rest += piece
        assert rest == body[15:] + body
        assert read(10) == read(10) == b""


def test_what_is_no_archive_says_why() -> None:
    whole = gzip.compress(b"one\n" * 1000)
    for key, body, says in (
        ("a.gz", whole[:-1], "it breaks off"),
        ("a.gz", b"", "it breaks off"),
        ("a.gz", b"plain text", "incorrect header check"),
        ("a.gz", zlib.compress(b"one\n"), "incorrect header check"),
        ("a.gz", whole + b"\0x", "it breaks off|incorrect header check"),
        ("a.gz", whole[:-5] + b"x" + whole[-4:], "incorrect data check"),
        ("a.bz2", b"plain text", "Invalid data stream"),
        ("a.bz2", bz2.compress(b"one")[:-1], "it breaks off"),
        ("a.bz2", bz2.compress(b"one") + b"\0", "Invalid data stream|it breaks off"),
    ):
        read = decompressor(key, io.BytesIO(body))
        with pytest.raises(NotDecompressible, match=says):
            list(iter(lambda read=read: read(1000), b""))  # type: ignore[misc]


def test_a_member_of_an_archive_tells_what_follows_it() -> None:
    member = GzipMember()

    assert member.needs_input
    assert member.decompress(gzip.compress(b"x" * 1000) + b"more", 9999) == b"x" * 1000
    assert (member.eof, member.unused_data) == (True, b"more")


def test_a_text_sink_is_decoded_line_by_line() -> None:
    assert Text().decode("é\r\n\n\u2028x\n".encode()) == ["é\r", "", "\u2028x"]
    assert Text().decode(b"") == []
    with pytest.raises(Unencodable, match="an output line of a Text sink holds a lone surrogate"):
        Text().encoder()("\ud800")

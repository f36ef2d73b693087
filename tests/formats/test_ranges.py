"""A range owns the records that start in it: the one rule of splitting text."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given, strategies as st

from coordinator.formats.ranges import NO_STOP, Block, blocks, first_byte_read
from tests.support import cut_places, examples, texts

CHUNKS = st.sampled_from([1, 2, 3, 5, 7, 64, 1 << 20])


def read(
    data: bytes, start: int, stop: int, *, chunk: int = 1 << 20, record_bytes: int = 1 << 20
) -> list[Block]:
    stream = io.BytesIO(data)
    stream.seek(first_byte_read(start))
    return list(blocks(stream.read, start, stop, record_bytes, chunk))


def read_cut(
    data: bytes, places: Sequence[int], *, chunk: int = 1 << 20, record_bytes: int = 1 << 20
) -> list[list[Block]]:
    edges = [0, *places, len(data)]
    return [
        read(data, start, stop, chunk=chunk, record_bytes=record_bytes)
        for start, stop in pairwise(edges)
    ]


def records_of(data: bytes) -> list[tuple[int, bytes]]:
    """Offset and bytes of every record, found in the simplest way there is."""
    found, offset = [], 0
    for line in io.BytesIO(data):
        found.append((offset, line))
        offset += len(line)
    return found


def records_in(found: Sequence[Block]) -> list[tuple[int, bytes]]:
    return [
        (block.offset + offset, line)
        for block in found
        if block.data is not None
        for offset, line in records_of(block.data)
    ]


@given(st.data(), texts(), CHUNKS)
@examples(300)
def test_any_cut_of_any_bytes_gives_the_records_of_the_whole_each_once_and_in_order(
    data: st.DataObject, body: bytes, chunk: int
) -> None:
    places = data.draw(cut_places(len(body)))

    found = [block for piece in read_cut(body, places, chunk=chunk) for block in piece]

    assert records_in(found) == records_of(body)
    assert b"".join(block.data or b"" for block in found) == body


@given(st.data(), texts(), CHUNKS)
@examples(150)
def test_every_record_comes_from_the_range_that_its_first_byte_lies_in(
    data: st.DataObject, body: bytes, chunk: int
) -> None:
    places = data.draw(cut_places(len(body)))
    edges = [0, *places, len(body)]

    for number, piece in enumerate(read_cut(body, places, chunk=chunk)):
        for offset, _ in records_in(piece):
            assert edges[number] <= offset < edges[number + 1]


@given(texts(), CHUNKS)
@example(b"", 1)
@example(b"x", 1)
@example(b"\n", 1)
@examples(60)
def test_a_text_cut_at_every_byte_is_read_once(body: bytes, chunk: int) -> None:
    found = [block for piece in read_cut(body, range(1, len(body)), chunk=chunk) for block in piece]

    assert records_in(found) == records_of(body)


@given(st.data(), texts(), CHUNKS, st.integers(1, 50))
@examples(300)
def test_a_record_over_the_limit_is_passed_over_and_every_other_is_whole(
    data: st.DataObject, body: bytes, chunk: int, record_bytes: int
) -> None:
    places = data.draw(cut_places(len(body)))

    found = [
        block
        for piece in read_cut(body, places, chunk=chunk, record_bytes=record_bytes)
        for block in piece
    ]

    records = dict(records_of(body))
    passed_over = {block.offset: block.length for block in found if block.data is None}
    for offset, length in passed_over.items():
        assert len(records[offset]) == length
        assert len(records[offset].removesuffix(b"\n")) > record_bytes
    assert sorted([*records_in(found), *((at, records[at]) for at in passed_over)]) == [
        *records.items()
    ]


def test_a_record_longer_than_many_shards_belongs_to_the_first_of_them() -> None:
    body = b"short\n" + b"x" * 1000 + b"\nlast"

    pieces = read_cut(body, range(100, len(body), 100))

    assert [records_in(piece) for piece in pieces if piece] == [
        [(0, b"short\n"), (6, b"x" * 1000 + b"\n")],
        [(1007, b"last")],
    ]


def test_a_cut_within_a_line_end_leaves_it_to_the_record_before() -> None:
    body = b"one\r\ntwo\r\n"

    assert [records_in(piece) for piece in read_cut(body, [4])] == [
        [(0, b"one\r\n")],
        [(5, b"two\r\n")],
    ]


def test_a_range_that_begins_with_a_record_owns_it() -> None:
    assert records_in(read(b"one\ntwo\n", 4, 8)) == [(4, b"two\n")]


def test_a_range_in_which_no_record_begins_is_empty() -> None:
    assert read(b"one\n" + b"x" * 50, 10, 20) == []


def test_memory_holds_a_chunk_and_a_record_and_not_a_record_that_is_too_long() -> None:
    asked: list[int] = []
    left = 50_000_000

    def endless(size: int) -> bytes:
        nonlocal left
        asked.append(size)
        size = min(size, left)
        left -= size
        return b"x" * size

    found = list(blocks(endless, 0, NO_STOP, 1_000_000, 64_000))

    assert found == [Block(0, None, 50_000_000)]
    assert max(asked) == 64_000


def test_a_range_reads_little_beyond_its_end() -> None:
    line = b"x" * 99 + b"\n"
    stream = io.BytesIO(line * 100_000)

    found = list(blocks(stream.read, 0, 1000, 1 << 20))

    assert [block.length for block in found] == [1000]
    assert stream.tell() < 20_000


@pytest.mark.parametrize("start", [0, 1, 5])
def test_an_empty_range_has_no_records(start: int) -> None:
    assert read(b"one\ntwo\n", start, start) == []


# ------------------------------------------------------------------------------------------------
# Long records
# ------------------------------------------------------------------------------------------------


class Counting(io.BytesIO):
    """Tells how often it was read, and how far."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self.reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        return super().read(size)


@pytest.mark.parametrize("stop", [1, 1000, 1 << 20, NO_STOP])
def test_a_record_far_past_the_end_of_its_range_takes_few_reads_and_little_time(stop: int) -> None:
    body = b"x" * (64 << 20) + b"\nnext\n"
    stream = Counting(body)

    began = time.process_time()
    found = next(blocks(stream.read, 0, stop, record_bytes=len(body)))

    assert time.process_time() - began < 5  # it was more than a minute
    assert found.length == len(body) - 5
    assert stream.reads < 80
    assert stream.tell() <= len(body)


def test_reads_grow_with_the_record_and_not_beyond_it() -> None:
    for size in (100, 20_000, 200_000, 3_000_000):
        stream = Counting(b"x" * size + b"\n" + b"y\n" * 5_000_000)

        assert [block.length for block in blocks(stream.read, 0, 10, 1 << 30)] == [size + 1]
        assert stream.tell() < 2 * size + 40_000


def test_a_long_record_in_pieces_is_searched_once() -> None:
    class Pieces:
        searched = 0

    class Piece(bytes):
        def find(self, *args: object) -> int:
            Pieces.searched += len(self)
            return bytes.find(self, *args)  # type: ignore[arg-type]

        def rfind(self, *args: object) -> int:
            Pieces.searched += len(self)
            return bytes.rfind(self, *args)  # type: ignore[arg-type]

    stream = io.BytesIO(b"x" * 1_000_000 + b"\n")

    found = list(blocks(lambda size: Piece(stream.read(min(size, 1000))), 0, 10, 1 << 30))

    assert [block.length for block in found] == [1_000_001]
    assert Pieces.searched < 4_000_000


def test_a_record_that_is_passed_over_is_looked_at_from_end_to_end() -> None:
    class Looking:
        def __init__(self, offset: int) -> None:
            self.offset = offset
            self.seen = b""

        def feed(self, piece: bytes, /) -> None:
            assert self.seen or len(piece) > 10
            self.seen += piece

        @property
        def open(self) -> bool:
            return False

    body = b"a\n" + b"x" * 50 + b"\nb\n" + b"y" * 30
    for chunk in (1, 3, 7):
        found = list(
            blocks(io.BytesIO(body).read, 0, NO_STOP, 10, chunk_bytes=chunk, passing=Looking)
        )
        looked = [block.passed for block in found if block.data is None]
        assert [(look.offset, look.seen) for look in looked] == [  # type: ignore[union-attr]
            (2, b"x" * 50 + b"\n"),
            (55, b"y" * 30),
        ]

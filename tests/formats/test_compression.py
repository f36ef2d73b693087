"""Compressed objects: read to their last byte, or not at all."""

from __future__ import annotations

import bz2
import gzip
import io
from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from coordinator.errors import InputChanged, StoreUnavailable
from coordinator.formats.base import Reader
from coordinator.formats.compression import (
    READ_BYTES,
    NotDecompressible,
    decompresses,
    decompressor,
)
from coordinator.formats.lines import Lines
from coordinator.model import Pinned, Slice
from coordinator.store.memory import MemoryInputs
from coordinator.store.ports import Readable
from coordinator.testing import run_job
from tests.formats.oracles import bunzipped, gunzipped
from tests.support import Seen, a_job, examples, memory_within, pin, read_all, reader_over

MIB = 1 << 20
PACK: dict[str, Callable[[bytes], bytes]] = {"in.gz": gzip.compress, "in.bz2": bz2.compress}
UNPACK: dict[str, Callable[[bytes], bytes | None]] = {"in.gz": gunzipped, "in.bz2": bunzipped}
REFUSED = [(0, "refused", "can't be decompressed to its end")]

on_each = pytest.mark.parametrize("key", PACK)


def whole(reader: Reader, key: str) -> list[Seen]:
    return read_all(reader, [Slice.whole(pin(reader.inputs, key))])  # type: ignore[arg-type]


def lines_in(body: bytes, key: str, *, short_reads: int = MIB) -> list[Seen]:
    return whole(reader_over(Lines(), {key: body}, short_reads=short_reads), key)


def unpacked(body: bytes, key: str, *, size: int, short_reads: int) -> bytes | None:
    """All that the decompressor gives, in reads of a size; None where it refuses."""

    class Short(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, short_reads))

    read, pieces = decompressor(key, Short(body)), []
    try:
        while piece := read(size):
            assert len(piece) <= size
            pieces.append(piece)
    except NotDecompressible:
        return None
    return b"".join(pieces)


@on_each
@given(data=st.data())
@examples(150)
def test_streams_in_a_row_damaged_or_not_are_read_as_an_independent_reader_reads_them(
    key: str, data: st.DataObject
) -> None:
    held = data.draw(st.lists(st.binary(max_size=30) | st.just(b"ab" * 2000), max_size=4))
    body = bytearray(b"".join(map(PACK[key], held)))
    damage = data.draw(st.sampled_from(["none", "flip", "cut", "add", "padding"]))
    if damage == "flip" and body:
        body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    elif damage == "cut":
        del body[data.draw(st.integers(0, len(body))) :]
    elif damage == "add":
        body += data.draw(st.binary(min_size=1, max_size=20))
    elif damage == "padding":
        body += bytes(data.draw(st.integers(1, 3)))

    found = unpacked(
        bytes(body),
        key,
        size=data.draw(st.sampled_from([1, 7, 1000, MIB])),
        short_reads=data.draw(st.sampled_from([1, 9, MIB])),
    )

    if found is not None or key == "in.bz2":
        assert found == UNPACK[key](bytes(body))
    elif damage in {"none", "padding"}:
        assert not held
    # gzip's own reader takes headers with unknown flags; ours may refuse them


@on_each
@pytest.mark.parametrize("at", [0, 1, 3, 12, 20, -1])
def test_a_flipped_byte_in_a_later_stream_is_no_end(key: str, at: int) -> None:
    first, second = PACK[key](b"one\n" * 1000), bytearray(PACK[key](b"two\n" * 400_000))
    second[at] ^= 0x10

    assert lines_in(first + bytes(second), key) == REFUSED


@on_each
@pytest.mark.parametrize(
    "after", [b"x", b"BZh9", b"\x1f\x8b", b"\0x", b"\n", b"trailing text" * 20_000]
)
def test_bytes_behind_the_last_stream_are_no_end(key: str, after: bytes) -> None:
    assert lines_in(PACK[key](b"one\n") + after, key) == REFUSED


def test_gzip_may_be_padded_with_zeros_and_bzip2_may_not() -> None:
    for padding in (1, 512, 300_000):
        padded = gzip.compress(b"one\n") + bytes(padding)
        assert [value for _, _, value in lines_in(padded, "in.gz")] == ["one"]
        assert [value for _, _, value in lines_in(padded + padded, "in.gz")] == ["one", "one"]
        assert lines_in(bytes(padding), "in.gz") == REFUSED
        assert lines_in(bz2.compress(b"one\n") + bytes(padding), "in.bz2") == REFUSED


@on_each
def test_an_object_of_no_bytes_is_no_compressed_one_but_may_hold_none(key: str) -> None:
    assert lines_in(b"", key) == REFUSED
    assert lines_in(PACK[key](b""), key) == []


@on_each
def test_the_records_of_all_streams_follow_each_other(key: str) -> None:
    body = b"".join(PACK[key](b"%d\n%d" % (number, number)) for number in range(200))

    for short_reads in (7, MIB):
        found = lines_in(body, key, short_reads=short_reads)
        assert len(found) == 201
        assert "".join(value for _, _, value in found) == "".join(f"{n}{n}" for n in range(200))


@on_each
def test_a_bomb_is_read_in_bounded_memory(key: str) -> None:
    zeros = PACK[key](bytes(64 * MIB))
    assert len(zeros) < 100_000

    reader = reader_over(Lines(), {key: zeros}, record_bytes=1000)
    with memory_within(8 * MIB):
        assert [kind for _, kind, _ in whole(reader, key)] == ["refused"]


@on_each
def test_no_more_is_read_than_what_is_asked_for_takes(key: str) -> None:
    body = PACK[key](b"".join(b"%d\n" % (number * number) for number in range(400_000)))
    stream = io.BytesIO(body)
    read = decompressor(key, stream)
    assert len(body) > 6 * READ_BYTES

    for _ in range(20):
        assert len(read(1000)) == 1000
    assert stream.tell() <= 4 * READ_BYTES


@on_each
def test_what_goes_wrong_with_reading_is_not_taken_for_a_broken_archive(key: str) -> None:
    class Failing(MemoryInputs):
        def open(self, pinned: Pinned, start: int, stop: int) -> Readable:
            stream = super().open(pinned, start, stop)
            stream.read = self.fail  # type: ignore[method-assign]
            return stream

        def fail(self, size: int = -1, /) -> bytes:
            raise StoreUnavailable("down")

    inputs = Failing({key: PACK[key](b"one\n")})

    with pytest.raises(StoreUnavailable):
        decompresses(inputs, pin(inputs, key))


@on_each
def test_an_archive_that_broke_since_it_was_pinned_is_a_change(key: str) -> None:
    bodies = {key: PACK[key](b"one\n" * 100_000)}
    inputs = MemoryInputs(bodies)
    pinned = pin(inputs, key)
    stream = inputs.open(pinned, 0, pinned.size)
    inputs.open = lambda *_: stream  # type: ignore[method-assign]
    bodies[key] = bodies[key][:-1]

    with pytest.raises(InputChanged):
        decompresses(inputs, pinned)


def test_nothing_of_an_archive_that_breaks_off_is_in_the_result() -> None:
    outcome = run_job(
        a_job(Lines()),
        {
            "a.bz2": bz2.compress(b"1\n" * 1000) + bz2.compress(b"2\n" * 400_000)[:-9],
            "b.bz2": bz2.compress(b"3\n") + bz2.compress(b"4\n"),
        },
    )

    assert outcome.records() == ["3", "4"]
    assert [(line["key"], line["record"]) for line in outcome.quarantine] == [("a.bz2", 0)]

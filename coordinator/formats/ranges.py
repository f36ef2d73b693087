"""The one rule of splitting text: a range owns the records that start in it.

A slice [start, stop) yields exactly the records whose first byte lies in it, and reads past
`stop` to finish the last one. With start > 0 it begins reading at start - 1 and discards up to
and including the first newline, so that a record beginning exactly at `start` is its own. The
newline is the byte 0x0A. Memory is bounded by one chunk and one record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

CHUNK_BYTES = 1024 * 1024
BLOCK_BYTES = 64 * 1024
MARGIN_BYTES = 16 * 1024
NO_STOP = 1 << 62

Read = Callable[[int], bytes]


class Passing(Protocol):
    """Looks at a record that is passed over, from its first byte to its newline."""

    def feed(self, piece: bytes, /) -> None:
        """Take the next of its bytes; the first piece has more than `record_bytes`."""
        ...

    @property
    def open(self) -> bool:
        """Whether what it began goes on behind its newline."""
        ...


class Block(NamedTuple):
    """Consecutive whole records, line ends included, and the offset of the first.

    `data` is None for a record that is longer than allowed: it was passed over, not held. `passed`
    is what looked at it.
    """

    offset: int
    data: bytes | None
    length: int
    passed: Passing | None = None


def first_byte_read(start: int) -> int:
    """Where the reader of a slice begins."""
    return max(start - 1, 0)


def blocks(
    read: Read,
    start: int,
    stop: int,
    record_bytes: int,
    chunk_bytes: int = CHUNK_BYTES,
    passing: Callable[[int], Passing | None] = lambda offset: None,
) -> Iterator[Block]:
    """Cut a stream, positioned at `first_byte_read(start)`, into blocks of a slice's records.

    `passing` makes what looks at a record that is passed over, from its offset.
    """
    position = first_byte_read(start)
    fresh = b""  # read, and not looked through yet
    if start > 0:
        while True:
            fresh = read(_next_size(position, stop, 0, chunk_bytes))
            if not fresh:
                return
            newline = fresh.find(b"\n")
            if newline >= 0:
                fresh = fresh[newline + 1 :]
                position += newline + 1
                break
            position += len(fresh)
            if position >= stop:
                return
    begun: list[bytes] = []  # the record at `position` as far as it was read, without its end
    length = 0  # of it, in bytes
    while position < stop:
        if begun and (end := fresh.find(b"\n") + 1):
            begun.append(fresh[:end])
            record = b"".join(begun)
            begun, length = [], 0
            yield Block(position, record, len(record))
            position += len(record)
            fresh = fresh[end:]
            continue
        if not begun and (end := _end_of_records(fresh, stop - position)):
            yield from _in_blocks(position, fresh, end)
            position += end
            fresh = fresh[end:]
            continue
        if fresh:
            begun.append(fresh)
            length += len(fresh)
        if length > record_bytes:
            offset, looking = position, passing(position)
            if looking is not None:
                looking.feed(b"".join(begun))
            begun = []
            fresh, position = _pass_over(read, offset + length, chunk_bytes, looking)
            length = 0
            yield Block(offset, None, position - offset, looking)
            continue
        fresh = read(_next_size(position + length, stop, length, chunk_bytes))
        if not fresh:
            if begun:
                yield Block(position, b"".join(begun), length)
            return


def _end_of_records(fresh: bytes, owned: int) -> int:
    """Where the whole records end that begin in the first `owned` bytes; 0 where none is whole."""
    if len(fresh) >= owned and (end := fresh.find(b"\n", owned - 1) + 1):
        return end
    return fresh.rfind(b"\n") + 1


def _in_blocks(position: int, fresh: bytes, end: int) -> Iterator[Block]:
    """The whole records before `end` in blocks of about BLOCK_BYTES: what is decoded from one
    stays in the processor's cache until it is mapped."""
    start = 0
    while start < end:
        near = start + BLOCK_BYTES
        stop = end
        if near < end:
            stop = fresh.rfind(b"\n", start, near) + 1 or fresh.find(b"\n", near) + 1
        yield Block(position + start, fresh[start:stop], stop - start)
        start = stop


def _next_size(position: int, stop: int, length: int, chunk_bytes: int) -> int:
    """Read to a little past the slice's end, or as much again as there is of a record that goes on
    there; never more than a chunk."""
    return min(max(stop - position, 0) + max(length, MARGIN_BYTES), chunk_bytes)


def _pass_over(
    read: Read, position: int, chunk_bytes: int, looking: Passing | None
) -> tuple[bytes, int]:
    """Read on to the end of a record; gives what was read after it, and where that begins."""
    while chunk := read(chunk_bytes):
        end = chunk.find(b"\n") + 1
        if looking is not None:
            looking.feed(chunk[:end] if end else chunk)
        if end:
            return chunk[end:], position + end
        position += len(chunk)
    return b"", position

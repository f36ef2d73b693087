"""The one rule of splitting text: a range owns the records that start in it.

A slice [start, stop) yields exactly the records whose first byte lies in it, and reads past
`stop` to finish the last one. With start > 0 it begins reading at start - 1 and discards up to
and including the first newline, so that a record beginning exactly at `start` is its own. The
newline is the byte 0x0A. Memory is bounded by one chunk and one record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

CHUNK_BYTES = 1024 * 1024
BLOCK_BYTES = 64 * 1024
MARGIN_BYTES = 16 * 1024
NO_STOP = 1 << 62

Read = Callable[[int], bytes]


class Block(NamedTuple):
    """Consecutive whole records, line ends included, and the offset of the first.

    `data` is None for a record that is longer than allowed: it was passed over, not held.
    """

    offset: int
    data: bytes | None
    length: int


def first_byte_read(start: int) -> int:
    """Where the reader of a slice begins."""
    return max(start - 1, 0)


def blocks(
    read: Read, start: int, stop: int, record_bytes: int, chunk_bytes: int = CHUNK_BYTES
) -> Iterator[Block]:
    """Cut a stream, positioned at `first_byte_read(start)`, into blocks of a slice's records."""
    position = first_byte_read(start)
    held = b""
    if start > 0:
        while True:
            chunk = read(_next_size(position, stop, chunk_bytes))
            if not chunk:
                return
            newline = chunk.find(b"\n")
            if newline >= 0:
                held = chunk[newline + 1 :]
                position += newline + 1
                break
            position += len(chunk)
            if position >= stop:
                return
    while position < stop:
        owned = stop - position
        if len(held) >= owned:
            newline = held.find(b"\n", owned - 1)
            if newline >= 0:
                yield from _in_blocks(position, held[: newline + 1])
                return
        whole = held.rfind(b"\n") + 1
        if whole:
            yield from _in_blocks(position, held[:whole])
            position += whole
            held = held[whole:]
        elif len(held) > record_bytes:
            begin = position
            held, position = _pass_over(read, position + len(held), chunk_bytes)
            yield Block(begin, None, position - begin)
        else:
            chunk = read(_next_size(position + len(held), stop, chunk_bytes))
            if not chunk:
                if held:
                    yield Block(position, held, len(held))
                return
            held += chunk


def _in_blocks(position: int, records: bytes) -> Iterator[Block]:
    """Whole records in blocks of about BLOCK_BYTES: what is decoded from one stays in the
    processor's cache until it is mapped."""
    start = 0
    while len(records) - start > BLOCK_BYTES:
        near = start + BLOCK_BYTES
        stop = records.rfind(b"\n", start, near) + 1 or records.find(b"\n", near) + 1
        yield Block(position + start, records[start:stop], stop - start)
        start = stop
    if start < len(records):
        yield Block(position + start, records[start:], len(records) - start)


def _next_size(position: int, stop: int, chunk_bytes: int) -> int:
    """Read to a little past the slice's end, never more than a chunk."""
    return min(max(stop - position, 0) + MARGIN_BYTES, chunk_bytes)


def _pass_over(read: Read, position: int, chunk_bytes: int) -> tuple[bytes, int]:
    """Read on to the end of a record; gives what was read after it, and where that begins."""
    while chunk := read(chunk_bytes):
        newline = chunk.find(b"\n")
        if newline >= 0:
            return chunk[newline + 1 :], position + newline + 1
        position += len(chunk)
    return b"", position

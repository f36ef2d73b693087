"""Streams of bytes, one kind as another."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from coordinator.store.ports import Readable


class FullReads:
    """A stream that gives all that is asked for: gzip takes a short read for a broken header."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, fewer only at the end."""
        pieces = []
        while size and (piece := self._stream.read(size)):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)


class RawStream(io.RawIOBase):
    """A `Readable` as a raw stream, so that the standard library can buffer it."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        body = self._stream.read(len(buffer))
        buffer[: len(body)] = body
        return len(body)


class Pieces:
    """An iterator of pieces as a `Readable`."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""

    def read(self, size: int = -1, /) -> bytes:
        if not self._held:
            self._held = next(self._pieces, b"")
        taken, self._held = self._held[:size], self._held[size:]
        return taken

    def close(self) -> None:
        """The pieces close what they read."""

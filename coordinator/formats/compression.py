"""Compressed objects: which can be read, through what, and whether they can be read to their end.

The readers of the standard library take what they can: `bz2` ends silently at the first bytes that
begin no stream, so that a flipped bit loses all that follows. Here an object is the streams that
it consists of, from its first byte to its last, or it can't be read.
"""

from __future__ import annotations

import bz2
import zlib
from collections.abc import Callable
from contextlib import closing
from typing import Protocol

from coordinator.errors import InputInvalid
from coordinator.formats.ranges import CHUNK_BYTES, Read
from coordinator.model import Pinned
from coordinator.store.ports import Inputs, Readable

COMPRESSED = (".gz", ".bz2")
UNREADABLE = (".zst", ".zstd", ".xz", ".lz4", ".zip", ".7z")
READ_BYTES = 128 * 1024

_GZIP_ONLY = 16 + zlib.MAX_WBITS


class NotDecompressible(ValueError):
    """The bytes are no compressed object, or not all of them are."""


def is_compressed(key: str) -> bool:
    """Whether an object is read through a decompressor, and so can't be cut."""
    return key.lower().endswith(COMPRESSED)


def check_readable(key: str, kind: str) -> None:
    """Refuse an object of a compression that can't be read; `kind` is the source's.

    Raises:
        InputInvalid: it is.
    """
    if key.lower().endswith(UNREADABLE):
        raise InputInvalid(
            f"{key} can't be read as {kind}: decompress it, or compress it with gzip or bzip2."
        )


def decompressor(key: str, stream: Readable) -> Read:
    """The read function of a decompressed stream.

    Raises (when called):
        NotDecompressible: what comes next can't be decompressed, or breaks off.
    """
    if key.lower().endswith(".gz"):
        return Decompressed(stream, GzipMember, padding=b"\0").read
    return Decompressed(stream, bz2.BZ2Decompressor).read


def decompresses(inputs: Inputs, pinned: Pinned) -> bool:
    """Whether a compressed object can be read to its last byte. Known before its first record is
    mapped, because a record once mapped can't be taken back."""
    with closing(inputs.open(pinned, 0, pinned.size)) as stream:
        read = decompressor(pinned.key, stream)
        try:
            while read(CHUNK_BYTES):
                pass
        except NotDecompressible:
            return False
    return True


class Member(Protocol):
    """One of the compressed streams that an object consists of; what `bz2.BZ2Decompressor` is."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class Decompressed:
    """What the compressed streams of an object hold, one after the other.

    After a stream comes another, padding, or the end; an object without any is none. What is held
    is bounded by what is read at once, however much it holds.

    Args:
        begin: makes the decompressor of the next stream.
        padding: the byte that may follow a stream, any number of times.
    """

    def __init__(
        self, stream: Readable, begin: Callable[[], Member], *, padding: bytes = b""
    ) -> None:
        self._stream = stream
        self._begin = begin
        self._padding = padding
        self._member: Member | None = begin()
        self._held = b""

    def read(self, size: int) -> bytes:
        """At most `size` bytes, and b"" only at the end.

        Raises:
            NotDecompressible: what comes next can't be decompressed, or breaks off.
        """
        while (member := self._present()) is not None:
            hungry = member.needs_input
            fed = self._fill() if hungry else b""
            self._held = b""
            try:
                found = member.decompress(fed, size)
            except (OSError, ValueError, zlib.error) as error:
                raise NotDecompressible(str(error)) from error
            if found:
                return found
            if hungry and not fed and not member.eof:
                raise NotDecompressible("it breaks off")
        return b""

    def _present(self) -> Member | None:
        """The stream to read on in; None behind the last."""
        if self._member is not None and self._member.eof:
            self._held = self._member.unused_data
            self._member = None
            while self._member is None and self._fill():
                self._held = self._held.lstrip(self._padding)
                if self._held:
                    self._member = self._begin()
        return self._member

    def _fill(self) -> bytes:
        """What was read and not decompressed, or else what comes next."""
        self._held = self._held or self._stream.read(READ_BYTES)
        return self._held


class GzipMember:
    """A member of a gzip object (RFC 1952), checked by its header, checksum and length."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(_GZIP_ONLY)

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def needs_input(self) -> bool:
        return not self._inflate.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)

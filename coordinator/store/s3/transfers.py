"""Streams over S3's requests: an object read by ranges that are resumed, and one written in parts.

Nothing here knows boto3. The requests come in as functions, and their errors are already ours.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Protocol, Self

from coordinator.errors import FanfoldError, OutputInvalid, StoreUnavailable
from coordinator.model import File

MIB = 1024**2

READ_ALL_BYTES = MIB
WINDOW_BYTES = 64 * MIB
RESUMES = 5
DRAIN_BYTES = 128 * 1024

PART_BYTES = 8 * MIB
PARTS_OF_A_SIZE = 500
PARTS = 10_000


class BodyBroken(Exception):
    """The connection was lost amid a body: what is missing can be asked for again."""


class Body(Protocol):
    """The body of one answer. `read` raises `BodyBroken`, or an error of ours that is final."""

    def read(self, size: int, /) -> bytes: ...

    def close(self) -> None: ...


class Fetched(NamedTuple):
    """An answer to a range request: its body, and the size of the whole object in bytes."""

    body: Body
    size: int


Fetch = Callable[[int, int | None], Fetched | None]


class RangedReader:
    """A `Readable` of the bytes [start, limit) of an object, read by one range after another.

    A body that breaks off is resumed where it broke. The first request is made by `begin`.

    Args:
        address: the object, for errors.
        fetch: requests the bytes [start, stop), None being the end; gives None when the object
            has no byte at `start`. From the second request on it must refuse another version.
        start: where to begin.
        limit: where to end at the latest; None is the object's end.
        first: where the first range ends; None is the limit.
        window: bytes of the second range. Each is twice as long as the one before, up to 64 MiB.
        pause: waits before the resume with this number, counted from 0.
    """

    def __init__(
        self,
        address: str,
        fetch: Fetch,
        start: int,
        limit: int | None,
        *,
        first: int | None,
        window: int,
        pause: Callable[[int], None],
    ) -> None:
        self._address = address
        self._fetch = fetch
        self._at = start
        self._limit = sys.maxsize if limit is None else limit
        self._range_stop = self._limit if first is None else min(first, self._limit)
        self._window = window
        self._pause = pause
        self._body: Body | None = None
        self._broken = 0

    def begin(self) -> Self:
        """Make the first request, and so learn whether the object is there."""
        if self._at < self._limit:
            self._request()
        return self

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(READ_ALL_BYTES), b""))
        while size > 0 and self._at < self._limit:
            try:
                piece = self._piece(size)
            except BodyBroken as error:
                self._drop()
                self._count_break(error)
                continue
            self._at += len(piece)
            self._broken = 0
            if self._at >= self._range_stop:
                self._finish_range()
            return piece
        return b""

    def close(self) -> None:
        """Give the connection back: read out if that takes little, and cut otherwise."""
        if self._body is not None and self._range_stop - self._at <= DRAIN_BYTES:
            with suppress(BodyBroken, FanfoldError):
                while self._body.read(DRAIN_BYTES):
                    pass
        self._drop()

    def _piece(self, size: int) -> bytes:
        if self._body is None:
            self._request()
        if self._body is None:
            return b""
        piece = self._body.read(min(size, self._range_stop - self._at))
        if not piece:
            raise BodyBroken(f"ended {self._range_stop - self._at} bytes early")
        return piece

    def _request(self) -> None:
        """Ask for what is left of the present range."""
        stop = None if self._range_stop == sys.maxsize else self._range_stop
        fetched = self._fetch(self._at, stop)
        if fetched is None:
            self._limit = self._range_stop = self._at
            return
        self._body = fetched.body
        self._limit = min(self._limit, fetched.size)
        self._range_stop = min(self._range_stop, self._limit)

    def _finish_range(self) -> None:
        """Read to the answer's very end, where its checksum is verified; set the next range."""
        if self._body is not None:
            with suppress(BodyBroken):  # every byte has come
                self._body.read(1)
            self._drop()
        self._range_stop = min(self._at + self._window, self._limit)
        self._window = min(self._window * 2, WINDOW_BYTES)

    def _count_break(self, error: BodyBroken) -> None:
        if self._broken == RESUMES:
            raise StoreUnavailable(
                f"Reading {self._address} broke off at byte {self._at}, {RESUMES + 1} times "
                f"({error})."
            ) from error
        self._pause(self._broken)
        self._broken += 1

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None


# ------------------------------------------------------------------------------------------------
# Writing
# ------------------------------------------------------------------------------------------------


class UploadedPart(NamedTuple):
    """What completes an upload: the part's number from 1 on, its etag and its CRC32 in base 64."""

    number: int
    etag: str
    crc32: str


class Upload(Protocol):
    """The requests that write one object; `finish` and `put` make it visible."""

    def put(self, body: bytes, sha256: bytes) -> None: ...

    def begin(self) -> None: ...

    def part(self, number: int, body: bytes) -> UploadedPart: ...

    def finish(self, parts: list[UploadedPart]) -> None: ...

    def abandon(self) -> None: ...


class PartWriter:
    """A `Writer` that sends one request for an object under 8 MiB, and a part whenever it holds
    so much. Parts grow by 8 MiB every 500, so that 10,000 of them hold 820 GiB."""

    def __init__(self, upload: Upload, key: str, address: str) -> None:
        self._upload = upload
        self._key = key
        self._address = address
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._size = 0
        self._digest = hashlib.sha256()
        self._parts: list[UploadedPart] = []
        self._begun = False
        self._writing = True
        self._file: File | None = None

    def write(self, body: bytes, /) -> int:
        if not self._writing:
            raise ValueError(f"The writer of {self._address} is closed.")
        self._pieces.append(body)
        self._buffered += len(body)
        if self._buffered >= self._part_bytes():
            self._guarded(self._send_part)
        return len(body)

    def close(self) -> File:
        if self._file is not None:
            return self._file
        if not self._writing:
            raise ValueError(f"The writer of {self._address} was aborted.")
        self._guarded(self._finish)
        self._writing = False
        self._file = File(key=self._key, size=self._size, sha256=self._digest.hexdigest())
        return self._file

    def abort(self) -> None:
        if not self._writing:
            return
        self._writing = False
        self._pieces.clear()
        if self._begun:
            self._upload.abandon()

    def _part_bytes(self) -> int:
        return PART_BYTES * (1 + len(self._parts) // PARTS_OF_A_SIZE)

    def _take(self) -> bytes:
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._buffered = 0
        self._size += len(body)
        self._digest.update(body)
        return body

    def _send_part(self) -> None:
        if len(self._parts) == PARTS:
            raise OutputInvalid(
                f"{self._address} has grown over {self._size} bytes, more than one object takes. "
                'Write it as several, with merge="parts".'
            )
        if not self._begun:
            self._upload.begin()
            self._begun = True
        self._parts.append(self._upload.part(len(self._parts) + 1, self._take()))

    def _finish(self) -> None:
        if not self._begun:
            body = self._take()
            self._upload.put(body, self._digest.digest())
            return
        if self._buffered:
            self._send_part()
        self._upload.finish(self._parts)

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except BaseException:
            self.abort()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if exc[0] is not None:
            self.abort()

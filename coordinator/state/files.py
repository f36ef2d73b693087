"""Files of ours: written once, recorded with size and digest, and held against that when read."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager

from coordinator.errors import KeyMissing, LedgerBroken
from coordinator.limits import MIB
from coordinator.model import File, Part
from coordinator.store.ports import Readable, Store
from coordinator.store.streams import RawStream

COPY_BYTES = 1 * MIB


def file_at(store: Store, key: str) -> File | None:
    """What lies under a key, read whole; None where nothing does."""
    digest = hashlib.sha256()
    size = 0
    try:
        stream = store.open(key)
    except KeyMissing:
        return None
    with closing(stream):
        while piece := stream.read(COPY_BYTES):
            digest.update(piece)
            size += len(piece)
    return File(key=key, size=size, sha256=digest.hexdigest())


def read_lines(store: Store, file: File) -> Iterator[bytes]:
    """The lines of one of our files, held against its recorded size and digest at the end.

    Raises:
        LedgerBroken: it is missing or not what was recorded.
    """
    digest = hashlib.sha256()
    held = b""
    try:
        stream = store.open(file.key)
    except KeyMissing as error:
        raise LedgerBroken(
            f"{store.url(file.key)} is missing; the run can't go on without it."
        ) from error
    try:
        while chunk := stream.read(COPY_BYTES):
            digest.update(chunk)
            held += chunk
            cut = held.rfind(b"\n") + 1
            yield from held[:cut].split(b"\n")[:-1]
            held = held[cut:]
    finally:
        stream.close()
    if digest.hexdigest() != file.sha256 or held:
        raise LedgerBroken(
            f"{store.url(file.key)} is not what was recorded (its checksum differs). "
            "Restore it, or start a new run id."
        )


def write_lines(store: Store, key: str, lines: Iterable[bytes]) -> File:
    """Write lines as one of our files."""
    with store.writer(key) as writer:
        for line in lines:
            writer.write(line + b"\n")
        return writer.close()


def read_part(store: Store, part: Part) -> Iterator[bytes]:
    """A part in pieces; after the last, its size and checksum are held against its entry.

    Raises:
        LedgerBroken: it is missing, or not what its entry says.
    """
    digest = hashlib.sha256()
    size = 0
    with closing(_open(store, part)) as stream:
        while piece := stream.read(COPY_BYTES):
            digest.update(piece)
            size += len(piece)
            yield piece
    if (size, digest.hexdigest()) != (part.size, part.sha256):
        raise _broken(store, part)


def segment_lines(store: Store, part: Part, partition: int) -> Iterator[bytes]:
    """The lines of one partition's segment of a part, held against its checksum."""
    start, stop = part.segment(partition)
    if start == stop:
        return
    crc = 0
    length = 0
    with closing(_open(store, part, start, stop)) as stream:
        for line in io.BufferedReader(RawStream(stream), COPY_BYTES):
            crc = zlib.crc32(line, crc)
            length += len(line)
            if length <= stop - start:
                yield line
    if (length, crc) != tuple(part.segments[partition]):
        raise _broken(store, part)


@contextmanager
def damage_first(pieces: Iterator[bytes]) -> Iterator[None]:
    """Should the reader of a part fail, hold all of the part against its checksum: where it is
    damaged, that is to blame and nobody's code."""
    try:
        yield
    except Exception:
        for _ in pieces:
            pass
        raise


def _open(store: Store, part: Part, start: int = 0, stop: int | None = None) -> Readable:
    try:
        return store.open(part.key, start, stop)
    except KeyMissing as error:
        raise _broken(store, part) from error


def _broken(store: Store, part: File) -> LedgerBroken:
    return LedgerBroken(
        f"{store.url(part.key)} is missing or is not what its entry says. Set the entry aside with "
        "`fanfold repair`; then take the run up again."
    )

"""Files of ours: written once, recorded with size and digest, and held against that when read."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager

from coordinator.errors import AlreadyExists, KeyMissing, LedgerBroken, OutcomeUnknown
from coordinator.limits import MIB
from coordinator.model import File, Part
from coordinator.store.ports import Readable, Store
from coordinator.store.prefetch import AHEAD_BYTES, Stream, pieces_in_order
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


def read_file(store: Store, file: File) -> Iterator[bytes]:
    """One of our files in pieces; after the last, it is held against its size and digest.

    Raises:
        LedgerBroken: it is missing or not what was recorded.
    """
    digest = hashlib.sha256()
    size = 0
    try:
        stream = store.open(file.key)
    except KeyMissing as error:
        raise LedgerBroken(
            f"{store.url(file.key)} is missing; the run can't go on without it. Start a new run id."
        ) from error
    with closing(stream):
        while size <= file.size and (piece := stream.read(COPY_BYTES)):
            digest.update(piece)
            size += len(piece)
            yield piece
    if (size, digest.hexdigest()) != (file.size, file.sha256):
        raise LedgerBroken(
            f"{store.url(file.key)} is not what was recorded (its checksum differs). "
            "Restore it, or start a new run id."
        )


def files_in_order(store: Store, files: Iterable[File]) -> Stream[File]:
    """Files and their pieces; see `read_file`. Small ones are read ahead."""
    return pieces_in_order(store.lanes, files, lambda file: read_file(store, file), weigh=_size)


def read_lines(store: Store, file: File) -> Iterator[bytes]:
    """The lines of one of our files, each ended by a newline; see `read_file`."""
    held = b""
    for piece in read_file(store, file):
        held += piece
        cut = held.rfind(b"\n") + 1
        yield from held[:cut].split(b"\n")[:-1]
        held = held[cut:]
    if held:
        raise LedgerBroken(f"{store.url(file.key)} ends within a line. Start a new run id.")


def write_once(store: Store, key: str, pieces: Iterable[bytes]) -> File:
    """Write one of our files, put-if-absent; one that is there already must be the same.

    Raises:
        AlreadyExists: another file is there.
        OutcomeUnknown: nothing is known to have been written; try again.
    """
    digest = hashlib.sha256()
    size = 0
    with store.writer(key, exclusive=True) as writer:
        for piece in pieces:
            digest.update(piece)
            size += len(piece)
            writer.write(piece)
        wanted = File(key=key, size=size, sha256=digest.hexdigest())
        try:
            return writer.close()
        except (AlreadyExists, OutcomeUnknown):
            if file_at(store, key) != wanted:
                raise
    return wanted


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
    try:
        yield from read_file(store, part)
    except LedgerBroken as error:
        raise _broken(store, part) from error


def parts_in_order(store: Store, parts: Iterable[Part], lanes: int) -> Stream[Part]:
    """Parts and their pieces; see `read_part`. Small ones are read ahead, in so many lanes."""
    return pieces_in_order(lanes, parts, lambda part: read_part(store, part), weigh=_size)


def segments_in_order(
    store: Store, parts: Iterable[Part], partition: int, *, lanes: int, ahead_bytes: int
) -> Stream[Part]:
    """Parts and the lines of one partition's segment of each; see `segment_lines`. Small segments are
    read ahead, in so many lanes, and `ahead_bytes` of them at most."""
    return pieces_in_order(
        lanes,
        parts,
        lambda part: segment_lines(store, part, partition),
        weigh=lambda part: part.segments[partition][0],
        ahead_bytes=min(ahead_bytes, AHEAD_BYTES),
    )


def segment_lines(store: Store, part: Part, partition: int) -> Iterator[bytes]:
    """The lines of one partition's segment of a part, held against its checksum."""
    start, stop = part.segment(partition)
    if start == stop:
        return
    crc = 0
    length = 0
    with closing(_open(store, part, start, stop)) as stream:
        for line in io.BufferedReader(RawStream(stream), min(COPY_BYTES, stop - start)):
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


def _size(file: File) -> int:
    return file.size


def _broken(store: Store, part: File) -> LedgerBroken:
    return LedgerBroken(
        f"{store.url(part.key)} is missing or is not what its entry says. Set the entry aside with "
        "`fanfold repair`; then take the run up again."
    )

"""Snapshots: what a stage reads. The pinned objects for map, the parts before it for a later stage.

A snapshot of objects is gzipped lines of [key, size, etag, version id], in key order; it is
merged from the sorted chunks of a listing, which look alike.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, cast

from pydantic_core import from_json

from coordinator.errors import LedgerBroken
from coordinator.model import File, Part, Pinned
from coordinator.state.files import read_file, read_lines
from coordinator.store.ports import Store
from coordinator.store.streams import FullReads, Pieces

Row = list[Any]  # [key, size, etag, version id]: one line


class Snapshot(NamedTuple):
    """A snapshot that was written: the file, the digest of its lines, objects and their bytes."""

    file: File
    digest: str
    objects: int
    bytes: int


def read_snapshot(store: Store, snapshot: File) -> Iterator[Pinned]:
    """The pinned objects, in key order.

    Raises:
        LedgerBroken: the snapshot is missing, or not what was recorded.
    """
    for row in read_rows(store, snapshot):
        try:
            key, size, etag, version_id = row
            yield Pinned(key=key, size=size, etag=etag, version_id=version_id)
        except ValueError as error:
            raise _broken(store, snapshot) from error


def snapshot_digest(store: Store, snapshot: File) -> str:
    """SHA-256 of a snapshot's lines, decompressed."""
    digest = hashlib.sha256()
    for line in _read_lines(store, snapshot):
        digest.update(line)
    return digest.hexdigest()


def by_key(row: Row) -> bytes:
    """What rows are sorted by: the UTF-8 bytes of their keys."""
    return cast("str", row[0]).encode()


def write_snapshot(store: Store, key: str, rows: Iterable[Row]) -> Snapshot:
    """Write sorted rows, each key once."""
    sums = [0, 0]

    def unique() -> Iterator[Row]:
        last = None
        for row in rows:
            if row[0] != last:
                last = row[0]
                sums[0] += 1
                sums[1] += row[1]
                yield row

    file, digest = write_rows(store, key, unique())
    return Snapshot(file, digest, sums[0], sums[1])


def write_rows(store: Store, key: str, rows: Iterable[Row]) -> tuple[File, str]:
    """Write rows; gives the file and the digest of its lines."""
    digest = hashlib.sha256()
    waiting = iter(rows)
    with store.writer(key) as writer:
        zipped = gzip.GzipFile(
            fileobj=cast("Any", _Written(writer)), mode="wb", compresslevel=1, mtime=0
        )
        while chunk := list(islice(waiting, 1000)):
            lines = "".join(
                json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in chunk
            ).encode()
            digest.update(lines)
            zipped.write(lines)
        zipped.close()
        return writer.close(), digest.hexdigest()


def read_rows(store: Store, file: File) -> Iterator[Row]:
    """The rows of a snapshot or of a chunk of a listing, held against its digest at the end.

    Raises:
        LedgerBroken: it is missing, or not what was recorded.
    """
    for line in _read_lines(store, file):
        try:
            row = from_json(line)
        except ValueError as error:
            raise _broken(store, file) from error
        if not isinstance(row, list):
            raise _broken(store, file)
        yield row


def _read_lines(store: Store, file: File) -> Iterator[bytes]:
    pieces = read_file(store, file)
    with gzip.GzipFile(fileobj=cast("Any", FullReads(Pieces(pieces))), mode="rb") as zipped:
        try:
            yield from io.BufferedReader(cast("Any", zipped))
        except (OSError, EOFError, zlib.error) as error:
            raise _broken(store, file) from error
    for _ in pieces:  # what may follow the last member; and the file's own digest
        pass


def _broken(store: Store, file: File) -> LedgerBroken:
    return LedgerBroken(
        f"{store.url(file.key)} is not what was recorded; the run can't go on. Start a new run id."
    )


class _Written:
    """The little of a file that GzipFile writes to."""

    def __init__(self, writer: Any) -> None:
        self.write = writer.write

    def flush(self) -> None:
        """Nothing is held back here."""


def read_parts(store: Store, file: File) -> Iterator[Part]:
    """The parts listed in a stage's snapshot."""
    for line in read_lines(store, file):
        yield Part.decode(line, where=store.url(file.key))

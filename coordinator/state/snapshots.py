"""Snapshots: what a stage reads. The pinned objects for map, the parts before it for a later stage.

A snapshot of objects is gzipped lines of [key, size, etag, version id], in key order; it is
merged from the sorted chunks of a listing, which look alike.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from typing import Any, NamedTuple, cast

from pydantic_core import from_json

from coordinator.errors import LedgerBroken
from coordinator.model import File, Part, Pinned
from coordinator.state.files import read_lines
from coordinator.store.ports import Store
from coordinator.store.streams import FullReads

Row = list[Any]  # [key, size, etag, version id]: one line


class Snapshot(NamedTuple):
    """A snapshot that was written: the file, the digest of its lines, objects and their bytes."""

    file: File
    digest: str
    objects: int
    bytes: int


def read_snapshot(store: Store, snapshot: File) -> Iterator[Pinned]:
    """The pinned objects, in key order."""
    for key, size, etag, version_id in read_rows(store, snapshot):
        yield Pinned(key=key, size=size, etag=etag, version_id=version_id)


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
    """The rows of a snapshot or of a chunk of a listing."""
    for line in _read_lines(store, file):
        yield cast("Row", from_json(line))


def _read_lines(store: Store, file: File) -> Iterator[bytes]:
    with (
        closing(store.open(file.key)) as stream,
        gzip.GzipFile(fileobj=cast("Any", FullReads(stream)), mode="rb") as zipped,
    ):
        try:
            yield from io.BufferedReader(cast("Any", zipped))
        except (OSError, EOFError) as error:
            raise LedgerBroken(
                f"{store.url(file.key)} can't be decompressed; the run can't go on."
            ) from error


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

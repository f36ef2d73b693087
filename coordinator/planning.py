"""Plan: list all inputs, pin them, cut them into shards, and commit that with one compare-and-swap.

The listing is sorted in chunks that lie in the store, so that memory does not grow with the
number of objects, and a later invocation can go on where an earlier one ran out of time.
"""

from __future__ import annotations

import gzip
import hashlib
import heapq
import io
import json
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from typing import Any, cast

from pydantic_core import from_json

from coordinator import runs
from coordinator.errors import LedgerBroken, NoInput
from coordinator.job import Csv, Job
from coordinator.keys import RunKeys
from coordinator.model import File, Listing, Pinned, PlanRef, RunRecord, Shard, ShardRef, Stage
from coordinator.sharding import can_cut, count_shards, first_cut, fit, shards
from coordinator.sources import FullReads, reader_of
from coordinator.store import Inputs, Store

CHUNK_OBJECTS = 20_000

Row = list[Any]  # [key, size, etag, version id]: one line of a snapshot


def plan_map(
    store: Store,
    inputs: Inputs,
    job: Job,
    run: RunRecord,
    *,
    attempt: str,
    pages: int | None = None,
) -> RunRecord:
    """List, pin, cut and commit; gives the run with its map planned, or, when `pages` of the
    listing are spent, with the place to go on from.

    Raises:
        NoInput: nothing matches.
        Superseded: another owner has taken over.
    """
    if "map" in run.plans:
        return run
    keys = RunKeys(run.job, run.run_id)
    listing = run.listing or Listing(attempt=attempt)
    chunks: list[File] = list(listing.chunks)
    waiting: list[Row] = []
    cursor: str | None = listing.cursor
    count = listing.objects
    for number, page in enumerate(inputs.pages(run.inputs, listing.cursor), 1):
        waiting.extend([p.key, p.size, p.etag, p.version_id] for p in page.objects)
        count += len(page.objects)
        cursor = page.cursor
        spent = pages is not None and number >= pages and cursor is not None
        if len(waiting) >= CHUNK_OBJECTS or spent:
            key = keys.listing(listing.attempt, len(chunks))
            chunks.append(_write_rows(store, key, sorted(waiting, key=_by_key))[0])
            waiting = []
        if spent:
            return _keep_listing(
                store,
                run,
                Listing(
                    attempt=listing.attempt,
                    chunks=tuple(chunks),
                    cursor=cast("str", cursor),
                    objects=count,
                ),
            )
    waiting.sort(key=_by_key)
    sources = [_read_rows(store, chunk) for chunk in chunks]
    merged = heapq.merge(*sources, waiting, key=_by_key) if sources else iter(waiting)
    snapshot, digest, objects, total = _write_snapshot(store, keys.snapshot(attempt), merged)
    if objects == 0:
        raise NoInput(
            f"No input matches {', '.join(run.inputs)}. Check the paths, and the source's glob."
        )
    plan = _plan_snapshot(store, inputs, job, run, keys.plan(attempt, "map"), snapshot, total)
    ref = plan.model_copy(
        update={
            "attempt": attempt,
            "snapshot": snapshot,
            "snapshot_digest": digest,
            "objects": objects,
            "bytes": total,
        }
    )
    return commit_plan(store, run, "map", ref)


def _keep_listing(store: Store, run: RunRecord, listing: Listing) -> RunRecord:
    return runs.change_own(store, run, lambda found: found.model_copy(update={"listing": listing}))


def commit_plan(store: Store, run: RunRecord, stage: Stage, ref: PlanRef) -> RunRecord:
    """Make a plan the run's own; one that was committed before stands."""

    def add(found: RunRecord) -> RunRecord:
        if stage in found.plans:
            return found
        return found.model_copy(
            update={"plans": {**found.plans, stage: ref}, "state": "running", "listing": None}
        )

    return runs.change_own(store, run, add)


def _plan_snapshot(
    store: Store, inputs: Inputs, job: Job, run: RunRecord, key: str, snapshot: File, total: int
) -> PlanRef:
    """Cut a snapshot into at most `limits.shards` shards."""
    source = job.source
    wanted = first_cut(job.limits, total, run.hints.lanes, run.hints.shard_bytes)

    def count(cut: Any) -> int:
        rows = _read_rows(store, snapshot)
        return count_shards(((row[1], can_cut(source, row[0])) for row in rows), cut)

    cut = fit(wanted, job.limits.shards, count)
    pinned = read_snapshot(store, snapshot)
    numbered = enumerate(shards(pinned, cut, lambda name: can_cut(source, name)))
    ref = write_plan(store, key, (Shard(id=str(n), slices=slices) for n, slices in numbered))
    return ref.model_copy(update={"header": _find_header(store, inputs, job, snapshot)})


def _find_header(store: Store, inputs: Inputs, job: Job, snapshot: File) -> tuple[str, ...] | None:
    """The header that all objects of a Csv source share: that of the first that has one."""
    if not isinstance(job.source, Csv) or job.source.columns is not None:
        return None
    reader = reader_of(job.source, inputs, job.limits.record_bytes)
    with_bytes = (pinned for pinned in read_snapshot(store, snapshot) if pinned.size)
    return next(filter(None, map(reader.header, with_bytes)), None)


# ------------------------------------------------------------------------------------------------
# Plans
# ------------------------------------------------------------------------------------------------


def write_plan(store: Store, key: str, planned: Iterable[Shard]) -> PlanRef:
    """Write a plan: a line a shard, then the index of all lines."""
    index: list[tuple[int, int, str]] = []
    offset = 0
    with store.writer(key) as writer:
        for shard in planned:
            line = shard.encode()
            writer.write(line + b"\n")
            index.append((offset, len(line), hashlib.sha256(line).hexdigest()))
            offset += len(line) + 1
        writer.write(json.dumps(index, separators=(",", ":")).encode() + b"\n")
        file = writer.close()
    return PlanRef(attempt="", plan=file, index_offset=offset, shards=len(index))


def read_index(store: Store, ref: PlanRef) -> list[tuple[int, int, str]]:
    """Offset, length and digest of every shard's line.

    Raises:
        LedgerBroken: the plan is not what was committed.
    """
    body = store.get_range(ref.plan.key, ref.index_offset, ref.plan.size)
    try:
        index = [
            (int(offset), int(length), str(digest)) for offset, length, digest in from_json(body)
        ]
    except (ValueError, TypeError) as error:
        raise LedgerBroken(f"{store.url(ref.plan.key)} has no readable index.") from error
    if len(index) != ref.shards:
        raise LedgerBroken(
            f"{store.url(ref.plan.key)} lists {len(index)} shards, not {ref.shards}."
        )
    return index


def read_shard(store: Store, keys: RunKeys, stage: Stage, ref: ShardRef) -> Shard:
    """A shard's description: its line of the plan, or its place among the children of a split.

    Raises:
        LedgerBroken: it is not what the message says.
    """
    if ref.length:
        line = store.get_range(ref.key, ref.offset, ref.offset + ref.length)
    else:
        line = child_of(store.get(ref.key).body, ref.id).encode()
    if hashlib.sha256(line).hexdigest() != ref.digest:
        raise LedgerBroken(
            f"Shard {ref.id} is described otherwise in {store.url(ref.key)} than in its message."
        )
    shard = Shard.decode(line, where=store.url(ref.key))
    if shard.id != ref.id:
        raise LedgerBroken(f"{store.url(ref.key)} describes shard {shard.id}, not {ref.id}.")
    return shard


def child_of(entry_body: bytes, shard: str) -> Shard:
    """The child `shard` that a split entry cut off."""
    children = from_json(entry_body)["children"]
    return Shard.model_validate({"id": shard, "slices": children[int(shard.rsplit(".", 1)[1])]})


# ------------------------------------------------------------------------------------------------
# Snapshots: gzipped lines of [key, size, etag, version id]
# ------------------------------------------------------------------------------------------------


def read_snapshot(store: Store, snapshot: File) -> Iterator[Pinned]:
    """The pinned objects, in key order."""
    for key, size, etag, version_id in _read_rows(store, snapshot):
        yield Pinned(key=key, size=size, etag=etag, version_id=version_id)


def snapshot_digest(store: Store, snapshot: File) -> str:
    """SHA-256 of a snapshot's lines, decompressed."""
    digest = hashlib.sha256()
    for line in _read_lines(store, snapshot):
        digest.update(line)
    return digest.hexdigest()


def _by_key(row: Row) -> bytes:
    return cast("str", row[0]).encode()


def _write_snapshot(store: Store, key: str, rows: Iterable[Row]) -> tuple[File, str, int, int]:
    """Write sorted rows, each key once; gives the file, digest, number of objects and of bytes."""
    sums = [0, 0]

    def unique() -> Iterator[Row]:
        last = None
        for row in rows:
            if row[0] != last:
                last = row[0]
                sums[0] += 1
                sums[1] += row[1]
                yield row

    file, digest = _write_rows(store, key, unique())
    return file, digest, sums[0], sums[1]


def _write_rows(store: Store, key: str, rows: Iterable[Row]) -> tuple[File, str]:
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


def _read_rows(store: Store, file: File) -> Iterator[Row]:
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

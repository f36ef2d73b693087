"""Plan: list all inputs, pin them, cut them into shards, and commit that with one compare-and-swap.

The listing is sorted in chunks that lie in the store, so that memory does not grow with the
number of objects, and a later invocation can go on where an earlier one ran out of time.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from contextlib import closing
from typing import cast

from coordinator.errors import NoInput, RunMismatch, Superseded
from coordinator.job import Job
from coordinator.keys import RunKeys
from coordinator.limits import MIB
from coordinator.model import COMMITTED, File, Listing, PlanRef, RunRecord, Shard
from coordinator.rules.sharding import Cut, count_shards, first_cut, fit, shards
from coordinator.rules.starts import Started, Uploaded, limits_of, lists_inputs, understand
from coordinator.state import plans, runs, snapshots
from coordinator.state.ledger import Ledger
from coordinator.state.redraft import quarantined_roots, redraft
from coordinator.state.snapshots import Row, Snapshot
from coordinator.store.ports import Inputs, Store

CHUNK_OBJECTS = 20_000


def start(
    store: Store,
    inputs: Inputs,
    job: Job,
    trigger: Started,
    *,
    owner: str,
    redrives: int,
    draft: str,
    code_version: str,
    now: float,
    is_live: Callable[[str], bool],
) -> RunRecord:
    """The run that a trigger asks for: begun, gone on with, or taken over.

    Raises:
        InputInvalid, Superseded, RunBusy, RunMismatch, RunExpired: it can't be.
    """
    asked = understand(
        trigger,
        find=lambda address: _find_uploaded(inputs, address),
        standing=lambda run_id: runs.find(store, RunKeys(job.name, run_id)),
    )
    if asked.redo:
        check_redo(runs.find(store, RunKeys(job.name, asked.run_id)))
    limits = limits_of(job.limits, asked.limits)
    wanted = runs.Claim(
        keys=RunKeys(job.name, asked.run_id),
        owner=owner,
        code_version=code_version,
        declaration=job.with_limits(limits).declaration(),
        inputs=asked.inputs,
        logical_time=asked.logical_time,
        waves=limits.waves,
        limits=asked.limits,
        source_key=asked.source_key,
        redrives=redrives,
    )
    run = runs.claim(store, wanted, now=now, is_live=is_live)
    return redo_quarantined(store, run, draft=draft) if asked.redo else run


def _find_uploaded(inputs: Inputs, address: str) -> Uploaded | None:
    """An uploaded object as it is now, with its contents if it lists inputs."""
    for page in inputs.pages((address,)):
        for pinned in page.objects:
            if pinned.key != address:
                continue
            if not lists_inputs(address):
                return Uploaded(pinned.etag, b"")
            with closing(inputs.open(pinned, 0, pinned.size)) as stream:
                return Uploaded(pinned.etag, b"".join(iter(lambda: stream.read(MIB), b"")))
    return None


def plan(
    store: Store,
    inputs: Inputs,
    job: Job,
    run: RunRecord,
    *,
    draft: str,
    code_version: str,
    clock: Callable[[], float],
    pages: int | None = None,
) -> RunRecord:
    """List, pin, cut and commit; gives the run with its map planned, or, when `pages` of the
    listing are spent, with the place to go on from.

    Chunks of the listing have names of this draft, and are committed only as what follows the
    listing that they continue: of two invocations at once, one has worked for nothing.

    Raises:
        NoInput: nothing matches.
        CodeChanged: the epoch is bound to other code.
        RunCancelled: the run has been cancelled.
        Superseded: another owner has taken over.
    """
    if "map" in run.plans:
        return run
    runs.check_code(run, code_version)
    began = clock()
    keys = RunKeys(run.job, run.run_id)
    listing = run.listing or Listing()
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
            key = keys.listing(draft, len(chunks))
            rows = sorted(waiting, key=snapshots.by_key)
            chunks.append(snapshots.write_rows(store, key, rows)[0])
            waiting = []
        if spent:
            after = Listing(chunks=tuple(chunks), cursor=cast("str", cursor), objects=count)
            return _keep_listing(store, run, after, clock() - began)
    waiting.sort(key=snapshots.by_key)
    sources = [snapshots.read_rows(store, chunk) for chunk in chunks]
    merged = heapq.merge(*sources, waiting, key=snapshots.by_key) if sources else iter(waiting)
    snapshot = snapshots.write_snapshot(store, keys.snapshot(draft), merged)
    if snapshot.objects == 0:
        raise NoInput(
            f"No input matches {', '.join(run.inputs)}. Check the paths, and the source's glob."
        )
    ref = _plan_snapshot(store, inputs, job, run, draft, snapshot)
    return plans.commit(store, run, "map", ref, clock() - began)


def _keep_listing(store: Store, run: RunRecord, after: Listing, seconds: float) -> RunRecord:
    """Commit what was listed, unless somebody else has gone on from the same place."""

    def edit(found: RunRecord) -> RunRecord:
        if found.listing != run.listing or "map" in found.plans:
            return found
        return runs.used(found, seconds).model_copy(update={"listing": after})

    return runs.change_own(store, run, edit)


def check_redo(run: RunRecord | None) -> None:
    """Refuse to do anything again of a run whose publishing is committed. Said before the run is
    claimed: its owner would be fenced off for nothing.

    Raises:
        RunMismatch: it is.
    """
    if run is not None and run.state in COMMITTED:
        raise RunMismatch(
            f"Run {run.run_id} of job {run.job} is {run.state}: what it quarantined stays so. Correct "
            "the input, or the job, and take a new run id."
        )


def redo_quarantined(store: Store, run: RunRecord, *, draft: str) -> RunRecord:
    """Have the shards done again in which records were quarantined, as a new draft of the plan
    that inherits all other entries. Nothing changes where there are none.

    Raises:
        Superseded: the run is published, and its quarantine stands; or another owner has taken over.
    """

    def own(before: RunRecord) -> RunRecord:
        runs.check_owner(before, run.owner)
        return before

    if run.state in COMMITTED:
        raise runs.refusal_in(run)
    if "map" not in run.plans:
        return run
    with Ledger.of_run(store, run, "map") as found:
        again = quarantined_roots(found)
        if not again:
            return run
        try:
            return redraft(store, run, "map", draft=draft, again=again, found=found, begin=own)
        except Superseded:
            now = runs.read_owned(store, runs.keys_of(run), run.owner)
            if now.redrafts == run.redrafts:
                raise
            return now  # another invocation for the same owner has done it


def _plan_snapshot(
    store: Store, inputs: Inputs, job: Job, run: RunRecord, draft: str, snapshot: Snapshot
) -> PlanRef:
    """Cut a snapshot into at most `limits.shards` shards."""
    source = job.source
    wanted = first_cut(job.limits, snapshot.bytes, run.hints.lanes, run.hints.shard_bytes)

    def count(cut: Cut) -> int:
        rows = snapshots.read_rows(store, snapshot.file)
        return count_shards(((row[1], source.cuts_bytes(row[0])) for row in rows), cut)

    cut = fit(wanted, job.limits.shards, count)
    pinned = snapshots.read_snapshot(store, snapshot.file)
    numbered = enumerate(shards(pinned, cut, source.cuts_bytes))
    planned = (Shard(id=str(n), slices=slices) for n, slices in numbered)
    ref = plans.write(store, RunKeys(run.job, run.run_id), "map", draft, planned)
    return ref.model_copy(
        update={
            "header": _find_header(store, inputs, job, snapshot.file),
            "snapshot": snapshot.file,
            "snapshot_digest": snapshot.digest,
            "objects": snapshot.objects,
            "bytes": snapshot.bytes,
        }
    )


def _find_header(store: Store, inputs: Inputs, job: Job, snapshot: File) -> tuple[str, ...] | None:
    """The header that all objects share: that of the first that has one."""
    if not job.source.has_header():
        return None
    reader = job.source.reader(inputs, job.limits.record_bytes)
    with_bytes = (pinned for pinned in snapshots.read_snapshot(store, snapshot) if pinned.size)
    return next(filter(None, map(reader.header, with_bytes)), None)

"""Clean: remove what no reader and no resumption needs, from runs that ended at least a day ago.

Of a published run all but its record goes: what proves it lies in `published/`. Of an unpublished
run only what attempts and drafts left behind that nothing reads any more, because the run can be
taken up again; of one that is too old for that, everything, and the results that it never published.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

from coordinator.keys import (
    PARTS,
    QUARANTINE,
    JobKeys,
    RunKeys,
    folder_in_stage,
    is_listing,
)
from coordinator.model import RunRecord
from coordinator.rules.stages import stages_of
from coordinator.state import runs
from coordinator.state.catalogue import read_manifest, store_folders
from coordinator.state.ledger import Ledger
from coordinator.state.proof import Names, results_in
from coordinator.state.runs import DAY_SECONDS, RUN_DAYS
from coordinator.store.ports import Store

BATCH = 1000


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What was removed, or would be, from one run."""

    run_id: str
    objects: int
    bytes: int


def jobs_in(store: Store) -> Iterator[str]:
    """The jobs that have anything in a store, in order."""
    return store_folders(store, "")


def run_ids(store: Store, job: str) -> Iterator[str]:
    """The runs of a job, in order."""
    return store_folders(store, JobKeys(job).runs)


def ended_at(store: Store, keys: RunKeys) -> float | None:
    """When a run's record last changed, in seconds since the epoch; None without a record."""
    for stat in store.list(keys.run):
        if stat.key == keys.run:
            return stat.modified
    return None


def clean(store: Store, keys: RunKeys, *, now: float, dry: bool) -> Cleaned | None:
    """Clean one run; None where there is nothing to clean, or it has not ended for a day.

    Raises:
        LedgerBroken: its record, or its ledger, can't be read; nothing of it was removed.
    """
    changed = ended_at(store, keys)
    if changed is None or now - changed < DAY_SECONDS:
        return None
    run = runs.read(store, keys)
    if run.state == "publishing":
        return None
    if run.state == "published":
        doomed = _of_published(store, keys)
        if not dry:
            runs.change(store, keys, lambda found: found.model_copy(update={"cleaned": True}))
    elif now - run.created > RUN_DAYS * DAY_SECONDS:
        doomed = _of_expired(store, keys)
    else:
        doomed = iter(list(_left_over(store, run, now)))
    objects = size = 0
    while batch := list(islice(doomed, BATCH)):
        objects += len(batch)
        size += sum(each for _, each in batch)
        if not dry:
            store.delete(key for key, _ in batch)
    return Cleaned(keys.run_id, objects, size) if objects else None


def _of_published(store: Store, keys: RunKeys) -> Iterator[tuple[str, int]]:
    """All of a run but its record, and results that it did not publish."""
    manifest = read_manifest(store, keys)
    for stat in store.list(keys.root):
        if stat.key != keys.run:
            yield stat.key, stat.size
    with closing(Names()) as named:
        for result in results_in(store, manifest.ledgers):
            named.add(result.key, result.key)
        for stat in store.list(keys.results):
            if named.find(stat.key) is None:
                yield stat.key, stat.size


def _of_expired(store: Store, keys: RunKeys) -> Iterator[tuple[str, int]]:
    """All of a run that can't be taken up again, its record last."""
    for prefix in (keys.results, keys.root):
        for stat in store.list(prefix):
            if stat.key != keys.run:
                yield stat.key, stat.size
    yield from ((stat.key, stat.size) for stat in store.list(keys.run) if stat.key == keys.run)


def _left_over(store: Store, run: RunRecord, now: float) -> Iterator[tuple[str, int]]:
    """What of an unpublished run nothing names, and nothing will: it is a day old, and no attempt
    commits after `ATTEMPT_HOURS`."""
    keys = runs.keys_of(run)
    named = {file.key for file in run.listing.chunks} if run.listing else set()
    for stage in run.plans:
        with Ledger.of_run(store, run, stage) as found:
            for shard in found.outcomes:
                named.update(file.key for file in found.entry(shard).receipt.files())
    for stage in stages_of(run.declaration):
        own = keys.stage(stage) if stage in run.plans else ""
        for stat in store.list(keys.stages(stage)):
            in_draft = bool(own) and stat.key.startswith(own)
            spare = not in_draft or folder_in_stage(stat.key) in {PARTS, QUARANTINE}
            if spare and stat.key not in named and _is_old(stat.modified, now):
                yield stat.key, stat.size
    for stat in store.list(keys.plans):
        if is_listing(stat.key) and stat.key not in named and _is_old(stat.modified, now):
            yield stat.key, stat.size
    for stat in store.list(keys.results):
        if stat.key not in named and _is_old(stat.modified, now):
            yield stat.key, stat.size


def _is_old(modified: float, now: float) -> bool:
    return now - modified > DAY_SECONDS

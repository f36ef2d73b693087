"""Clean: remove what no reader and no resumption needs, from runs that ended at least a day ago.

Of a published run the parts, notes, waves and listings go; its manifest, plans, ledgers,
quarantine and results stay, so it can still be proven. Of an unpublished run only what attempts
without an entry left behind goes, because the run can be taken up again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from coordinator.keys import JobKeys, RunKeys, after_job, is_listing, job_of
from coordinator.model import RunRecord
from coordinator.rules.stages import stages
from coordinator.state import runs
from coordinator.state.ledger import Ledger
from coordinator.state.runs import DAY_SECONDS
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
    after = ""
    while (first := next(iter(store.list("", after=after)), None)) is not None:
        name = job_of(first.key)
        yield name
        after = after_job(name)


def run_ids(store: Store, job: str) -> Iterator[str]:
    """The runs of a job, in order."""
    keys = JobKeys(job)
    after = ""
    while (first := next(iter(store.list(keys.runs, after=after)), None)) is not None:
        run_id = keys.run_id_of(first.key)
        yield run_id
        after = keys.after_run(run_id)


def ended_at(store: Store, keys: RunKeys) -> float | None:
    """When a run's record last changed, in seconds since the epoch; None without a record."""
    for stat in store.list(keys.run):
        if stat.key == keys.run:
            return stat.modified
    return None


def clean(store: Store, keys: RunKeys, *, now: float, dry: bool) -> Cleaned | None:
    """Clean one run; None where there is nothing to clean, or it has not ended for a day."""
    changed = ended_at(store, keys)
    if changed is None or now - changed < DAY_SECONDS:
        return None
    run = runs.read(store, keys)
    doomed = (
        _of_published(store, keys)
        if run.state == "published"
        else _left_over(store, keys, run, now)
    )
    objects = size = 0
    if run.state == "published" and not dry:
        runs.change(store, keys, lambda found: found.model_copy(update={"cleaned": True}))
    while batch := list(islice(doomed, BATCH)):
        objects += len(batch)
        size += sum(each for _, each in batch)
        if not dry:
            store.delete(key for key, _ in batch)
    return Cleaned(keys.run_id, objects, size) if objects else None


def _of_published(store: Store, keys: RunKeys) -> Iterator[tuple[str, int]]:
    """Everything of a published run that its proof does without."""
    run = runs.read(store, keys)
    for stage in stages(bool(run.declaration["keyed"])):
        yield from _all(store, keys.parts(stage))
        yield from _all(store, keys.notes(stage))
    yield from _all(store, keys.waves)
    for key, size in _all(store, keys.plans):
        if is_listing(key):
            yield key, size


def _left_over(
    store: Store, keys: RunKeys, run: RunRecord, now: float
) -> Iterator[tuple[str, int]]:
    """The parts and quarantine files of an unpublished run that no entry names, and none will:
    they are a day old, and no attempt commits after half a day."""
    for stage in stages(bool(run.declaration["keyed"])):
        with Ledger(store, keys, stage) as found:
            named = {part.key for _, parts in found.parts() for part in parts}
            for shard in found.outcomes:
                quarantine = found.entry(shard).receipt.quarantine
                if quarantine is not None:
                    named.add(quarantine.key)
        for folder in (keys.parts(stage), keys.quarantines(stage)):
            for stat in store.list(folder):
                if stat.key not in named and now - stat.modified > DAY_SECONDS:
                    yield stat.key, stat.size


def _all(store: Store, prefix: str) -> Iterator[tuple[str, int]]:
    for stat in store.list(prefix):
        yield stat.key, stat.size

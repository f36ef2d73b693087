"""Publish: prove that a run is complete, write its manifest, move the pointer forward."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.errors import AlreadyExists, Changed, KeyMissing, NotProven, OutcomeUnknown
from coordinator.job import Job
from coordinator.keys import RunKeys
from coordinator.model import Cost, Manifest, Pointer, RunRecord
from coordinator.rules.costs import PRICES, run_dollars
from coordinator.state import runs
from coordinator.state.proof import Proof, prove
from coordinator.store.ports import Store

_POINTER_TRIES = 20


@dataclass(frozen=True, slots=True)
class Published:
    """A published run; `pointer_moved` is False where a newer run's result is the latest."""

    run: RunRecord
    manifest: Manifest
    pointer_moved: bool


def publish(store: Store, job: Job, run: RunRecord, *, now: float) -> Published:
    """Prove the run complete and make it what readers see. May be repeated.

    Raises:
        NotProven, DuplicateName, LedgerBroken: nothing was published.
        Superseded: another owner has taken over.
    """
    keys = RunKeys(run.job, run.run_id)
    run = runs.change_own(store, run, lambda found: found)
    proof = prove(store, run)
    manifest = _create_manifest(store, keys, _manifest(job, run, proof, now))
    moved = _move_pointer(store, keys, run)
    run = runs.change_own(store, run, lambda found: found.model_copy(update={"state": "published"}))
    return Published(run, manifest, moved)


def read_manifest(store: Store, keys: RunKeys) -> Manifest:
    """The manifest of a published run.

    Raises:
        KeyMissing: it has none.
    """
    return Manifest.decode(store.get(keys.manifest).body, where=store.url(keys.manifest))


def _manifest(job: Job, run: RunRecord, proof: Proof, now: float) -> Manifest:
    plan = run.plans["map"]
    if plan.snapshot is None:
        raise NotProven(f"Run {run.run_id} has no snapshot.")
    return Manifest(
        job=run.job,
        run_id=run.run_id,
        published=now,
        logical_time=run.logical_time,
        snapshot=plan.snapshot,
        snapshot_digest=plan.snapshot_digest,
        objects=plan.objects,
        bytes=plan.bytes,
        results=tuple(proof.results),
        stages=run.totals,
        plans={stage: ref.plan for stage, ref in run.plans.items()},
        ledgers=run.sealed,
        quarantined=run.totals["map"].quarantined,
        quarantine=tuple(proof.quarantine),
        waves=run.dispatched,
        epochs=run.epoch,
        code_versions=tuple(sorted(proof.code_versions)),
        declaration=run.declaration,
        inputs=run.inputs,
        cost=cost_of(job, run),
    )


def cost_of(job: Job, run: RunRecord) -> Cost:
    """What the run's shards cost; nothing on one's own machine."""
    memory = job.limits.memory_mb
    dollars = run_dollars(run.totals.values(), memory) if run.hints.billed else 0.0
    return Cost(
        worker_seconds=round(sum(total.seconds for total in run.totals.values()), 3),
        memory_mb=memory,
        dollars=round(dollars, 6),
        prices=PRICES if run.hints.billed else "own machine",
    )


def _create_manifest(store: Store, keys: RunKeys, manifest: Manifest) -> Manifest:
    """Write the manifest; one that an earlier Publish of this run wrote stands."""
    try:
        with store.writer(keys.manifest, exclusive=True) as writer:
            writer.write(manifest.encode())
            writer.close()
    except AlreadyExists:
        return read_manifest(store, keys)
    except OutcomeUnknown:
        if not store.exists(keys.manifest):
            raise
        return read_manifest(store, keys)
    return manifest


def _move_pointer(store: Store, keys: RunKeys, run: RunRecord) -> bool:
    """Move the pointer forward, never back; False where a newer run's stands."""
    key = keys.latest(run.source_key)
    pointer = Pointer(
        job=run.job,
        run_id=run.run_id,
        logical_time=run.logical_time,
        manifest=keys.manifest,
        results=keys.results,
    )
    for _ in range(_POINTER_TRIES):
        try:
            got = store.get(key)
        except KeyMissing:
            got = None
        if got is not None:
            standing = Pointer.decode(got.body, where=store.url(key))
            if standing == pointer:
                return True
            if (standing.logical_time, standing.run_id) > (pointer.logical_time, pointer.run_id):
                return False
        try:
            if got is None:
                store.create(key, pointer.encode())
            else:
                store.replace(key, pointer.encode(), got.tag)
        except (AlreadyExists, Changed, OutcomeUnknown):
            continue
        return True
    raise Changed(f"{store.url(key)} kept changing; try again.")

"""Publish: prove that a run is complete, commit to it, write its manifest, move the pointer forward.

There is one commit point: a compare-and-swap of `run.json` after the proof, and before anything is
visible. What comes after it can be repeated, and a cancel comes too late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from coordinator.errors import AlreadyExists, NotProven, OutcomeUnknown, Superseded
from coordinator.job import Job
from coordinator.keys import RunKeys
from coordinator.model import COMMITTED, Cost, Manifest, RunRecord
from coordinator.rules.costs import PRICES, Spent
from coordinator.state import catalogue, proof, runs
from coordinator.state.catalogue import read_manifest
from coordinator.state.files import files_in_order, read_file, write_once
from coordinator.store.ports import Store

LINES_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Published:
    """A published run; `pointer_moved` is False where a newer run's result is the latest."""

    run: RunRecord
    manifest: Manifest
    pointer_moved: bool


def publish(store: Store, job: Job, run: RunRecord, *, clock: Callable[[], float]) -> Published:
    """Prove the run complete and make it what readers see. May be repeated.

    Raises:
        NotProven, DuplicateName, LedgerBroken: nothing was published.
        RunCancelled: the run has been cancelled.
        Superseded: another owner has taken over, or the run was drafted anew.
    """
    keys = RunKeys(run.job, run.run_id)
    if run.state not in COMMITTED:
        began = clock()
        proof.prove_run(store, run)
        run = _commit(store, run, began, clock())
    manifest = _write_manifest(store, keys, _manifest(store, keys, job, run).with_digest())
    moved = catalogue.move_pointer(store, keys, manifest)
    run = runs.change_own(
        store,
        run,
        lambda found: found.model_copy(update={"state": "published"}),
        states=COMMITTED,
    )
    return Published(run, manifest, moved)


def _commit(store: Store, run: RunRecord, began: float, now: float) -> RunRecord:
    """The commit point: the run as it was proven is going to be published, and nothing else. What
    it has cost is fixed here."""

    def edit(found: RunRecord) -> RunRecord:
        if (found.plans, found.sealed) != (run.plans, run.sealed):
            raise Superseded(f"Run {run.run_id} of job {run.job} has been drafted anew.")
        if found.state in COMMITTED:
            return found
        return runs.used(found, now - began).model_copy(
            update={"state": "publishing", "published": now}
        )

    return runs.change_own(store, run, edit, states=("running", *COMMITTED))


def _manifest(store: Store, keys: RunKeys, job: Job, run: RunRecord) -> Manifest:
    """The manifest, and all that it names, which lies beside it."""
    plan = run.plans["map"]
    if plan.snapshot is None or run.published is None:
        raise NotProven(f"Run {run.run_id} has no snapshot.")
    listed = _Listed(store, run)
    results = write_once(store, keys.results_list, listed.results())
    quarantined = run.totals["map"].quarantined
    return Manifest(
        job=run.job,
        run_id=run.run_id,
        published=run.published,
        logical_time=run.logical_time,
        source_key=run.source_key,
        snapshot=write_once(store, keys.published_snapshot, read_file(store, plan.snapshot)),
        snapshot_digest=plan.snapshot_digest,
        objects=plan.objects,
        bytes=plan.bytes,
        results=results,
        result_objects=listed.objects,
        result_bytes=listed.bytes,
        results_prefix=keys.results_below(run.plans["merge"].draft if run.redrafts else None),
        shards={stage: ref.shards for stage, ref in run.plans.items()},
        stages=run.totals,
        ledgers={
            stage: write_once(store, keys.published_ledger(stage), read_file(store, sealed))
            for stage, sealed in run.sealed.items()
        },
        quarantined=quarantined,
        quarantine=(
            write_once(store, keys.quarantined, listed.quarantine()) if quarantined else None
        ),
        waves=run.dispatched,
        epochs=run.epoch,
        programs=proof.programs_in(store, run.sealed),
        declaration=run.declaration,
        inputs=run.inputs,
        cost=cost_of(job, run),
    )


class _Listed:
    """The lists beside the manifest, streamed from the sealed ledgers."""

    def __init__(self, store: Store, run: RunRecord) -> None:
        self.store = store
        self.run = run
        self.objects = 0
        self.bytes = 0

    def results(self) -> Iterator[bytes]:
        """A line for every result object; counts them."""
        lines: list[bytes] = []
        for result in proof.results_in(self.store, self.run.sealed):
            self.objects += 1
            self.bytes += result.size
            lines.append(result.encode() + b"\n")
            if len(lines) >= LINES_AT_ONCE:
                yield b"".join(lines)
                lines.clear()
        yield b"".join(lines)

    def quarantine(self) -> Iterator[bytes]:
        """A line for every refused record."""
        refused = proof.quarantine_in(self.store, self.run.sealed)
        for _, pieces in files_in_order(self.store, refused):
            yield from pieces


def cost_of(job: Job, run: RunRecord) -> Cost:
    """What the run has cost, failed attempts and coordination included; nothing on one's own
    machine."""
    spent = Spent.of_run(run, job.limits.memory_mb, run.totals)
    return Cost(
        worker_seconds=round(spent.worker_seconds + spent.failed_seconds, 3),
        coordinator_seconds=round(spent.coordinator_seconds, 3),
        memory_mb=spent.memory_mb,
        dollars=round(spent.dollars(), 6) if run.hints.billed else 0.0,
        prices=PRICES if run.hints.billed else "own machine",
    )


def _write_manifest(store: Store, keys: RunKeys, manifest: Manifest) -> Manifest:
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

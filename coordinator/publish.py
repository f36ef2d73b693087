"""Publish: prove that a run is complete, write its manifest, move the pointer forward."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from coordinator import coverage, runs
from coordinator.costs import PRICES, shard_dollars, worker_dollars
from coordinator.errors import (
    AlreadyExists,
    Changed,
    DuplicateName,
    KeyMissing,
    NotProven,
    OutcomeUnknown,
)
from coordinator.job import Job
from coordinator.keys import RunKeys
from coordinator.ledger import read_lines
from coordinator.merging import stages
from coordinator.model import (
    Cost,
    Entry,
    File,
    Manifest,
    Pointer,
    RunRecord,
    Slice,
    Stage,
)
from coordinator.planning import read_snapshot
from coordinator.reconcile import Outcome, missing_leaves
from coordinator.store import Store

_POINTER_TRIES = 20


@dataclass(frozen=True, slots=True)
class Published:
    """A published run; `pointer_moved` is False where a newer run's result is the latest."""

    run: RunRecord
    manifest: Manifest
    pointer_moved: bool


@dataclass(slots=True)
class Proof:
    """What is collected while the sealed ledgers are read."""

    results: list[File] = field(default_factory=list)
    quarantine: list[File] = field(default_factory=list)
    code_versions: set[str] = field(default_factory=set)


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


# ------------------------------------------------------------------------------------------------
# The proof
# ------------------------------------------------------------------------------------------------


def prove(store: Store, run: RunRecord) -> Proof:
    """Show from the sealed ledgers that nothing is missing and nothing is doubled.

    Raises:
        NotProven: naming what is not shown.
        LedgerBroken: a ledger or the snapshot is missing or not what was recorded.
        DuplicateName: two results have one name.
    """
    proof = Proof()
    for stage in stages(bool(run.declaration["keyed"])):
        if stage not in run.sealed:
            raise NotProven(f"Stage {stage} of run {run.run_id} is not complete.")
        entries = _sealed_entries(store, run.sealed[stage], proof)
        if stage == "map":
            snapshot = run.plans["map"].snapshot
            if snapshot is None:
                raise NotProven(f"Run {run.run_id} has no snapshot.")
            seen = _Seen(stage, entries)
            coverage.prove(read_snapshot(store, snapshot), seen.covered())
        else:
            seen = _Seen(stage, entries)
            for _ in seen.covered():
                raise NotProven(f"Stage {stage} of run {run.run_id} claims to have read inputs.")
        missing = next(missing_leaves(run.plans[stage].shards, seen.outcomes), None)
        if missing is not None:
            raise NotProven(f"Shard {missing} of stage {stage} of run {run.run_id} has no entry.")
    _check_flow(run)
    _check_names(store, proof.results)
    return proof


class _Seen:
    """The entries of a stage as they pass by."""

    def __init__(self, stage: Stage, entries: Iterable[Entry]) -> None:
        self.stage = stage
        self.entries = entries
        self.outcomes: dict[str, Outcome] = {}

    def covered(self) -> Iterator[Slice]:
        """The slices that the entries account for, in order; checks each entry's sums."""
        for entry in self.entries:
            receipt = entry.receipt
            if receipt.records_in != receipt.mapped + receipt.quarantined + receipt.blank:
                raise NotProven(
                    f"The counts of shard {entry.shard} of stage {self.stage} do not add up."
                )
            self.outcomes[entry.shard] = Outcome(
                len(entry.children), receipt.records_in, receipt.quarantined
            )
            yield from entry.covered


def _sealed_entries(store: Store, sealed: File, proof: Proof) -> Iterator[Entry]:
    for line in read_lines(store, sealed):
        entry = Entry.decode(line, where=store.url(sealed.key))
        receipt = entry.receipt
        proof.results.extend(receipt.results)
        if receipt.quarantine is not None:
            proof.quarantine.append(receipt.quarantine)
        if receipt.code_version:
            proof.code_versions.add(receipt.code_version)
        yield entry


def _check_flow(run: RunRecord) -> None:
    """Every record that one stage gave, the next one took."""
    totals = run.totals
    giver: Stage = "reduce" if run.declaration["keyed"] else "map"
    given, taken = totals[giver].records_out, totals["merge"].records_in
    if given != taken:
        raise NotProven(f"Stage {giver} gave {given} records, but merge took {taken}.")


def _check_names(store: Store, results: Iterable[File]) -> None:
    seen: dict[str, str] = {}
    for result in results:
        identity = store.identity(result.key)
        if identity not in seen:
            seen[identity] = result.key
        else:
            other = seen[identity]
            raise DuplicateName(
                f"Two results have the name {store.url(result.key)}"
                + (f" (the other is {other})" if other != result.key else "")
                + ". A map must give every result a name of its own: take a new run id."
            )
        seen[identity] = result.key


# ------------------------------------------------------------------------------------------------
# The manifest and the pointer
# ------------------------------------------------------------------------------------------------


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
    seconds = sum(total.seconds for total in run.totals.values())
    shards = sum(total.shards for total in run.totals.values())
    memory = job.limits.memory_mb
    dollars = worker_dollars(seconds, memory) + shards * shard_dollars(0.0, memory)
    return Cost(
        worker_seconds=round(seconds, 3),
        memory_mb=memory,
        dollars=round(dollars, 6) if run.hints.billed else 0.0,
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

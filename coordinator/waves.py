"""Reconcile as a step: take the next wave, read what is there, decide, and say what comes next."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from coordinator import runs
from coordinator.costs import expected_shard_dollars, shard_dollars
from coordinator.errors import LedgerBroken, RunStalled
from coordinator.job import Job
from coordinator.keys import RunKeys
from coordinator.ledger import Ledger, failures, write_lines
from coordinator.merging import is_single, merge_shards, reduce_shards, stage_after, stages
from coordinator.model import (
    Message,
    PlanRef,
    Progress,
    RunRecord,
    ShardRef,
    Stage,
    Tenure,
)
from coordinator.planning import child_of, read_index, write_plan
from coordinator.reconcile import STALLED_WAVES, Complete, Facts, advance, decide
from coordinator.sharding import partitions
from coordinator.store import Store


@dataclass(frozen=True, slots=True)
class FanOut:
    """Dispatch these shards of a stage as a wave."""

    run: RunRecord
    stage: Stage
    wave: int
    shards: tuple[ShardRef, ...]
    progress: Progress

    def messages(self) -> list[Message]:
        """The orders of this wave, without tokens."""
        run = self.run
        return [
            Message(
                job=run.job,
                run_id=run.run_id,
                stage=self.stage,
                wave=self.wave,
                epoch=run.epoch,
                shard=ref,
            )
            for ref in self.shards
        ]

    def dispatched(self, store: Store) -> RunRecord:
        """Record that the wave is on its way: the last thing before it is."""
        seen = self.progress.model_copy(update={"dispatched": True})
        return runs.change_own(
            store,
            self.run,
            lambda record: record.model_copy(
                update={"progress": seen, "dispatched": record.dispatched + 1}
            ),
        )


@dataclass(frozen=True, slots=True)
class Finish:
    """Every stage is complete and sealed: publish."""

    run: RunRecord


Next = FanOut | Finish


def reconcile(
    store: Store,
    job: Job,
    run: RunRecord,
    *,
    attempt: str,
    redrives: int = 0,
    failed: bool = False,
) -> Next:
    """Compare what the plan wants with what the ledger has, and say what to do about it.

    Args:
        attempt: random; names the plans that this pass may write.
        redrives: how often the owner has been redriven; each one has one more wave.
        failed: whether this pass follows an error of another step.

    Raises:
        Superseded: another owner has taken over.
        FanfoldError: one of `reconcile.decide`'s; the run ends here until it is taken up again.
    """
    run = _take_wave(store, run, redrives)
    while True:
        stage = current_stage(run)
        if stage is None:
            return Finish(_count_failed_finish(store, run) if failed else run)
        with Ledger(store, RunKeys(run.job, run.run_id), stage) as found:
            ahead = _judge(store, job, run, found)
            if isinstance(ahead, FanOut):
                return ahead
            run = _close_stage(store, job, run, found, attempt)


def _count_failed_finish(store: Store, run: RunRecord) -> RunRecord:
    """Let Publish be tried again a few times, not for ever.

    Raises:
        RunStalled: it has failed too often.
    """
    stalled = run.progress.stalled + 1
    if stalled >= STALLED_WAVES:
        raise RunStalled(
            f"Run {run.run_id} is complete, but publishing it failed {stalled} times. "
            "Its log says why; take the run up again."
        )
    progress = run.progress.model_copy(update={"stalled": stalled})
    return runs.change_own(
        store, run, lambda record: record.model_copy(update={"progress": progress})
    )


def current_stage(run: RunRecord) -> Stage | None:
    """The first stage that is not sealed; None when all are."""
    for stage in stages(bool(run.declaration["keyed"])):
        if stage not in run.sealed:
            return stage
    return None


def _take_wave(store: Store, run: RunRecord, redrives: int) -> RunRecord:
    def next_wave(found: RunRecord) -> RunRecord:
        update: dict[str, object] = {"wave": found.wave + 1}
        if redrives > found.tenure.redrives:
            update["tenure"] = Tenure(after=found.wave, waves=1, redrives=redrives)
            update["progress"] = Progress()
            if found.state == "cancelled":
                update["state"] = "running"
                update["epoch"] = found.epoch + 1
        return found.model_copy(update=update)

    return runs.change_own(store, run, next_wave)


def _judge(store: Store, job: Job, run: RunRecord, found: Ledger) -> FanOut | Complete:
    """Gather the facts of a stage, decide, and record what was seen."""
    stage = found.stage
    notes, note_count, failed_seconds = failures(store, found.keys, stage, found)
    progress = advance(run.progress, stage, len(found.outcomes), note_count)
    plan = run.plans[stage]
    spent, each = _dollars(job, run, found, failed_seconds)
    decision = decide(
        Facts(
            stage=stage,
            roots=plan.shards,
            outcomes=found.outcomes,
            failures=notes,
            tenure=run.tenure,
            progress=progress,
            limits=job.limits,
            cancelled=run.state == "cancelled",
            spent_dollars=spent,
            shard_dollars=each,
        )
    )
    if isinstance(decision, Complete):
        return decision
    refs = tuple(_refs(store, plan, found, decision.shards))
    return FanOut(run, stage, run.wave, refs, progress)


def _refs(store: Store, plan: PlanRef, found: Ledger, shards: Sequence[str]) -> list[ShardRef]:
    """Where each shard is described: in the plan, or in the split entry of its parent."""
    index = read_index(store, plan)
    refs = []
    for shard in shards:
        if shard.isdigit():
            offset, length, digest = index[int(shard)]
            refs.append(
                ShardRef(id=shard, key=plan.plan.key, offset=offset, length=length, digest=digest)
            )
        else:
            parent = shard.rsplit(".", 1)[0]
            line = child_of(found.body(parent), shard).encode()
            key = found.keys.entry(found.stage, parent)
            refs.append(ShardRef(id=shard, key=key, digest=hashlib.sha256(line).hexdigest()))
    return refs


def _dollars(job: Job, run: RunRecord, found: Ledger, failed_seconds: float) -> tuple[float, float]:
    """What the run has cost, and what one more shard is expected to."""
    if not run.hints.billed:
        return 0.0, 0.0
    memory = job.limits.memory_mb
    totals = [found.totals, *(total for stage, total in run.totals.items() if stage != found.stage)]
    seconds = sum(total.seconds for total in totals)
    shards = sum(total.shards for total in totals)
    spent = shard_dollars(0.0, memory) * shards + shard_dollars(seconds + failed_seconds, memory)
    each = expected_shard_dollars(
        found.totals.seconds, found.totals.shards, job.limits.timeout_seconds, memory
    )
    return spent, each


def _close_stage(store: Store, job: Job, run: RunRecord, found: Ledger, attempt: str) -> RunRecord:
    """Seal a complete stage and commit the plan of the next."""
    stage = found.stage
    sealed = found.seal(found.keys.sealed(attempt, stage))
    following = stage_after(stage, keyed=job.keyed)
    plan = _plan_stage(store, job, run, found, following, attempt) if following else None

    def close(record: RunRecord) -> RunRecord:
        if stage in record.sealed:
            return record
        return record.model_copy(
            update={
                "sealed": {**record.sealed, stage: sealed},
                "totals": {**record.totals, stage: found.totals},
                "plans": {**record.plans, following: plan} if plan else record.plans,
                "progress": Progress(),
            }
        )

    return runs.change_own(store, run, close)


def _plan_stage(
    store: Store, job: Job, run: RunRecord, found: Ledger, stage: Stage, attempt: str
) -> PlanRef:
    """The plan of a later stage: a pure function of the entries of the stage before."""
    keys = found.keys
    if stage == "reduce":
        parts = (part.encode() for _, leaf in found.parts() for part in leaf)
        snapshot = write_lines(store, keys.snapshot(attempt, stage).removesuffix(".gz"), parts)
        planned = reduce_shards(partitions(run.plans["map"].bytes, job.limits))
        ref = write_plan(store, keys.plan(attempt, stage), planned)
        return ref.model_copy(update={"attempt": attempt, "snapshot": snapshot})
    if stage == "merge":
        planned = merge_shards(found.parts(), single=is_single(job))
        return write_plan(store, keys.plan(attempt, stage), planned).model_copy(
            update={"attempt": attempt}
        )
    raise LedgerBroken(f"Stage {stage} has no stage before it.")

"""Reconcile: take the next wave, read what is there, decide, and say what comes next."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.errors import FanfoldError, Fate, LedgerBroken, RunStalled
from coordinator.job import Job
from coordinator.keys import RunKeys
from coordinator.model import LastPass, Message, PlanRef, RunRecord, ShardRef, Stage, Tenure
from coordinator.rules.costs import expected_shard_dollars, run_dollars
from coordinator.rules.decide import STALLED_WAVES, Complete, Facts, advance, decide
from coordinator.rules.sharding import partitions
from coordinator.rules.stages import is_single, merge_shards, reduce_shards, stage_after, stages
from coordinator.state import plans, runs
from coordinator.state.files import write_lines
from coordinator.state.ledger import Ledger
from coordinator.state.notes import read_failures
from coordinator.store.ports import Store


@dataclass(frozen=True, slots=True)
class FanOut:
    """Dispatch these shards of a stage as a wave."""

    run: RunRecord
    stage: Stage
    wave: int
    shards: tuple[ShardRef, ...]
    progress: LastPass

    def messages(self) -> list[Message]:
        """The messages of this wave, without tokens."""
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


@dataclass(frozen=True, slots=True)
class Unplanned:
    """The inputs have not been listed yet: plan."""

    run: RunRecord


Next = FanOut | Finish | Unplanned


def reconcile(
    store: Store,
    job: Job,
    run: RunRecord,
    *,
    draft: str,
    redrives: int = 0,
    failure: FanfoldError | None = None,
) -> Next:
    """Compare what the plan wants with what the ledger has, and say what to do about it.

    Args:
        draft: random; names the plans that this pass may write.
        redrives: how often the owner has been redriven; each one has one more wave.
        failure: the error of another step that this pass follows.

    Raises:
        Superseded: another owner has taken over.
        FanfoldError: one of `decide`'s, or a failure that going round again can't mend; the run
            ends here until it is taken up again.
    """
    if failure is not None and redrives <= run.tenure.redrives:
        _check_failure(failure)
    if "map" not in run.plans:
        return Unplanned(run)
    run = _take_wave(store, run, redrives)
    while True:
        stage = current_stage(run)
        if stage is None:
            return Finish(_count_failed_finish(store, run) if failure else run)
        with Ledger(store, RunKeys(run.job, run.run_id), stage) as found:
            ahead = _judge(store, job, run, found)
            if isinstance(ahead, FanOut):
                return ahead
            run = _close_stage(store, job, run, found, draft)


def _check_failure(failure: FanfoldError) -> None:
    """Pass on an error of another step that going round again can't mend. One that is none of the
    tree's may have been a passing one.

    Raises:
        FanfoldError: it is.
    """
    if failure.fate is not Fate.RETRY and type(failure) is not FanfoldError:
        raise failure


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
            update["progress"] = LastPass()
            if found.state == "cancelled":
                update["state"] = "running"
                update["epoch"] = found.epoch + 1
        return found.model_copy(update=update)

    return runs.change_own(store, run, next_wave)


def _judge(store: Store, job: Job, run: RunRecord, found: Ledger) -> FanOut | Complete:
    """Gather the facts of a stage, decide, and record what was seen."""
    stage = found.stage
    failures = read_failures(store, found.keys, stage, found.outcomes)
    progress = advance(run.progress, stage, len(found.outcomes), failures.notes)
    plan = run.plans[stage]
    spent, each = _dollars(job, run, found, failures.seconds)
    decision = decide(
        Facts(
            stage=stage,
            roots=plan.shards,
            outcomes=found.outcomes,
            failures=failures.by_shard,
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
    index = plans.read_index(store, plan)
    refs = []
    for shard in shards:
        if shard.isdigit():
            offset, length, digest = index[int(shard)]
            refs.append(
                ShardRef(id=shard, key=plan.plan.key, offset=offset, length=length, digest=digest)
            )
        else:
            parent = shard.rsplit(".", 1)[0]
            line = plans.child_of(found.body(parent), shard).encode()
            key = found.keys.entry(found.stage, parent)
            refs.append(ShardRef(id=shard, key=key, digest=hashlib.sha256(line).hexdigest()))
    return refs


def _dollars(job: Job, run: RunRecord, found: Ledger, failed_seconds: float) -> tuple[float, float]:
    """What the run has cost, and what one more shard is expected to."""
    if not run.hints.billed:
        return 0.0, 0.0
    limits = job.limits
    known = [found.totals, *(total for stage, total in run.totals.items() if stage != found.stage)]
    spent = run_dollars(known, limits.memory_mb, failed_seconds=failed_seconds)
    each = expected_shard_dollars(found.totals, limits.timeout_seconds, limits.memory_mb)
    return spent, each


def _close_stage(store: Store, job: Job, run: RunRecord, found: Ledger, draft: str) -> RunRecord:
    """Seal a complete stage and commit the plan of the next."""
    stage = found.stage
    sealed = found.seal(found.keys.sealed(draft, stage))
    following = stage_after(stage, keyed=job.keyed)
    plan = _plan_stage(store, job, run, found, following, draft) if following else None

    def close(record: RunRecord) -> RunRecord:
        if stage in record.sealed:
            return record
        return record.model_copy(
            update={
                "sealed": {**record.sealed, stage: sealed},
                "totals": {**record.totals, stage: found.totals},
                "plans": {**record.plans, following: plan} if plan else record.plans,
                "progress": LastPass(),
            }
        )

    return runs.change_own(store, run, close)


def _plan_stage(
    store: Store, job: Job, run: RunRecord, found: Ledger, stage: Stage, draft: str
) -> PlanRef:
    """The plan of a later stage: a pure function of the entries of the stage before."""
    keys = found.keys
    if stage == "reduce":
        listed = (part.encode() for _, leaf in found.parts() for part in leaf)
        snapshot = write_lines(store, keys.parts_list(draft, stage), listed)
        planned = reduce_shards(partitions(run.plans["map"].bytes, job.limits))
        ref = plans.write(store, keys, stage, draft, planned)
        return ref.model_copy(update={"snapshot": snapshot})
    if stage == "merge":
        planned = merge_shards(found.parts(), single=is_single(job))
        return plans.write(store, keys, stage, draft, planned)
    raise LedgerBroken(f"Stage {stage} has no stage before it.")

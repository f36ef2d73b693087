"""Reconcile: take the next wave, read what is there, decide, and say what comes next."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from coordinator.errors import FanfoldError, Fate, RunStalled
from coordinator.job import Job
from coordinator.model import (
    OPEN,
    LastPass,
    Message,
    PlanRef,
    RunRecord,
    ShardRef,
    Stage,
    State,
    Tenure,
    Totals,
    parent_id,
)
from coordinator.rules.costs import Spent, expected_shard_dollars
from coordinator.rules.decide import (
    STALLED_WAVES,
    Complete,
    Facts,
    advance,
    decide,
    departed,
    pause_before,
)
from coordinator.rules.sharding import partitions
from coordinator.rules.stages import is_single, merge_shards, reduce_shards, stage_after, stages_of
from coordinator.state import plans, runs
from coordinator.state.files import write_lines
from coordinator.state.ledger import Ledger
from coordinator.state.notes import read_failures
from coordinator.store.ports import Store

Clock = Callable[[], float]
TAKING_WAVES: tuple[State, ...] = (*OPEN, "publishing")


@dataclass(frozen=True, slots=True)
class FanOut:
    """Dispatch these shards of a stage as a wave, after a pause. `began` is when the pass began, by
    `clock`."""

    run: RunRecord
    stage: Stage
    wave: int
    shards: tuple[ShardRef, ...]
    seen: LastPass
    began: float
    clock: Clock
    pause_seconds: int

    @property
    def draft(self) -> str:
        """The draft of the stage's plan."""
        return self.run.plans[self.stage].draft

    def messages(self) -> list[Message]:
        """The messages of this wave, without tokens."""
        run = self.run
        return [
            Message(
                job=run.job,
                run_id=run.run_id,
                stage=self.stage,
                draft=self.draft,
                wave=self.wave,
                epoch=run.epoch,
                shard=ref,
            )
            for ref in self.shards
        ]

    def dispatched(self, store: Store) -> RunRecord:
        """Record that the wave is on its way: the last thing before it is."""
        now = self.clock()
        seen = departed(self.seen, now + self.pause_seconds)
        return runs.change_own(
            store,
            self.run,
            lambda record: runs.used(record, now - self.began).model_copy(
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
    code_version: str,
    clock: Clock,
    redrives: int = 0,
    failure: FanfoldError | None = None,
    served: Callable[[], bool] = lambda: False,
    jitter: float = 1.0,
) -> Next:
    """Compare what the plan wants with what the ledger has, and say what to do about it.

    Args:
        draft: random; names the plans that this pass may write.
        redrives: how often the owner has been redriven; each one takes the run up again: a new
            epoch with one more wave.
        failure: the error of another step that this pass follows.
        served: asked after a wave of which nothing was heard: whether workers are at messages of
            the job's queue.
        jitter: random, from 0 to 1: spreads pauses.

    Raises:
        Superseded: another owner has taken over.
        RunCancelled: the run has been cancelled.
        CodeChanged: the epoch is bound to other code.
        FanfoldError: one of `decide`'s, or a failure that going round again can't mend; the run
            ends here until it is taken up again.
    """
    began = clock()
    run = _begin(store, run, redrives, failure, code_version, began)
    if run.state == "publishing":
        return Finish(run)
    if "map" not in run.plans:
        return Unplanned(run)
    while True:
        stage = current_stage(run)
        if stage is None:
            return Finish(run)
        with Ledger.of_run(store, run, stage) as found:
            ahead = _judge(store, job, run, found, began, clock, served, jitter)
            if isinstance(ahead, FanOut):
                return ahead
            run = _close_stage(store, job, run, found, ahead.totals, draft, began, clock)


def _begin(
    store: Store,
    run: RunRecord,
    redrives: int,
    failure: FanfoldError | None,
    code_version: str,
    now: float,
) -> RunRecord:
    """Take the next wave for this owner; a redrive takes the run up again first."""

    def edit(found: RunRecord) -> RunRecord:
        if redrives > found.tenure.redrives:
            tenure = Tenure(began=now, after=found.wave, waves=1, redrives=redrives)
            found = runs.taken_up(found, tenure, code_version)
        elif failure is not None:
            _check_failure(failure)
        if found.state not in TAKING_WAVES:
            raise runs.refusal_in(found)
        runs.check_code(found, code_version)
        if "map" not in found.plans:
            return _count_planning(found, failure)
        if current_stage(found) is None and failure is not None:
            found = _count_publishing(found, failure)
        return found.model_copy(update={"wave": found.wave + 1})

    return runs.change_own(store, run, edit, states=(*TAKING_WAVES, "cancelled"))


def _check_failure(failure: FanfoldError) -> None:
    """Pass on an error of another step that going round again can't mend. One that is none of the
    tree's may have been a passing one.

    Raises:
        FanfoldError: it is.
    """
    if failure.fate is not Fate.RETRY and type(failure) is not FanfoldError:
        raise failure


def _count_planning(found: RunRecord, failure: FanfoldError | None) -> RunRecord:
    """Let Plan be tried again a few times while its listing does not grow, not for ever.

    Raises:
        RunStalled: it has failed too often.
    """
    listed = found.listing.objects if found.listing else 0
    unchanged = found.progress.dispatched and found.progress.entries == listed
    stalled = found.progress.stalled + 1 if unchanged else 0
    if stalled >= STALLED_WAVES:
        raise RunStalled(
            f"Planning run {found.run_id} has ended {stalled} times without getting on. "
            f"{failure or 'Its log says why.'} Mend that, and take the run up again."
        )
    seen = LastPass(entries=listed, dispatched=True, stalled=stalled)
    return found.model_copy(update={"progress": seen})


def _count_publishing(found: RunRecord, failure: FanfoldError) -> RunRecord:
    """Let Publish be tried again a few times, not for ever.

    Raises:
        RunStalled: it has failed too often.
    """
    stalled = found.progress.stalled + 1
    if stalled >= STALLED_WAVES:
        raise RunStalled(
            f"Run {found.run_id} is complete, but publishing it failed {stalled} times. "
            f"The last time: {failure} Mend that, and take the run up again."
        )
    seen = found.progress.model_copy(update={"stalled": stalled})
    return found.model_copy(update={"progress": seen})


def current_stage(run: RunRecord) -> Stage | None:
    """The first stage that is not sealed; None when all are."""
    for stage in stages_of(run.declaration):
        if stage not in run.sealed:
            return stage
    return None


@dataclass(frozen=True, slots=True)
class Closed:
    """A stage is complete; `totals` are its entries' and its failures'."""

    totals: Totals


def _judge(
    store: Store,
    job: Job,
    run: RunRecord,
    found: Ledger,
    began: float,
    clock: Clock,
    served: Callable[[], bool],
    jitter: float,
) -> FanOut | Closed:
    """Gather the facts of a stage, decide, and say what was seen."""
    stage, limits = found.stage, job.limits
    failures = read_failures(
        store, found.keys, stage, found.outcomes, float(limits.timeout_seconds)
    )
    totals = found.totals.model_copy(
        update={"failures": failures.attempts, "failed_seconds": round(failures.seconds, 6)}
    )
    seen = advance(run.progress, stage, len(found.outcomes), failures.notes)
    plan = run.plans[stage]
    spent, each = _dollars(job, run, stage, totals)
    facts = Facts(
        stage=stage,
        roots=plan.shards,
        outcomes=found.outcomes,
        failures=failures.by_shard,
        tenure=run.tenure,
        progress=seen,
        limits=limits,
        spent_dollars=spent,
        shard_dollars=each,
        now=began,
        served=seen.stalled > 0 and served(),
    )
    decision = decide(facts)
    if isinstance(decision, Complete):
        return Closed(totals)
    refs = tuple(_refs(store, plan, found, decision.shards))
    pause = pause_before(facts, decision.shards, jitter)
    return FanOut(run, stage, run.wave, refs, seen, began, clock, pause)


def _refs(store: Store, plan: PlanRef, found: Ledger, shards: Sequence[str]) -> list[ShardRef]:
    """Where each shard is described: in the plan, or in the split entry of its parent."""
    index = plans.read_index(store, plan)
    refs = []
    for shard in shards:
        cut = parent_id(shard)
        if cut is None:
            offset, length, digest = index[int(shard)]
            refs.append(
                ShardRef(id=shard, key=plan.plan.key, offset=offset, length=length, digest=digest)
            )
        else:
            parent, _ = cut
            line = plans.child_of(found.body(parent), shard).encode()
            key = found.keys.entry(found.stage, parent)
            refs.append(ShardRef(id=shard, key=key, digest=hashlib.sha256(line).hexdigest()))
    return refs


def _dollars(job: Job, run: RunRecord, stage: Stage, totals: Totals) -> tuple[float, float]:
    """What the run has cost, and what one more shard of the stage is expected to."""
    if not run.hints.billed:
        return 0.0, 0.0
    limits = job.limits
    spent = Spent.of_run(run, limits.memory_mb, {**run.totals, stage: totals})
    each = expected_shard_dollars(totals, limits.timeout_seconds, limits.memory_mb)
    return spent.dollars(), each


def _close_stage(
    store: Store,
    job: Job,
    run: RunRecord,
    found: Ledger,
    totals: Totals,
    draft: str,
    began: float,
    clock: Clock,
) -> RunRecord:
    """Seal a complete stage and commit the plan of the next. The last one ends this pass."""
    stage = found.stage
    sealed = found.seal(found.keys.sealed(draft, stage))
    following = stage_after(stage, keyed=job.keyed)
    plan = _plan_stage(store, job, run, found, following, draft) if following else None

    def close(record: RunRecord) -> RunRecord:
        if stage in record.sealed:
            return record
        if following is None:
            record = runs.used(record, clock() - began)
        return record.model_copy(
            update={
                "sealed": {**record.sealed, stage: sealed},
                "totals": {**record.totals, stage: totals},
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
    planned = merge_shards(found.parts(), single=is_single(job))
    return plans.write(store, keys, stage, draft, planned)

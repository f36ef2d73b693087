"""The decision at the heart of a run: what the plan wants, less what the ledger has.

`decide` is pure: facts in, one decision out. First dispatch, retry, redrive, resumption after a
crash, the children of a split and the next stage are the same decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from coordinator.errors import (
    BudgetExceeded,
    Fate,
    RunStalled,
    ShardsFailed,
    ToleranceExceeded,
    error_named,
)
from coordinator.limits import Limits
from coordinator.model import (
    COMMITTED,
    LastPass,
    Message,
    RunRecord,
    Stage,
    Tenure,
    child_id,
    root_id,
    shard_order,
)
from coordinator.rules.pacing import pause_seconds

STALLED_WAVES = 5
SILENT_SECONDS = 5400.0  # after which a wave of which nothing was heard is the last
NAMED_SHARDS = 5


@dataclass(frozen=True, slots=True)
class EntryFacts:
    """What Reconcile needs to know of an entry."""

    children: int
    records_in: int
    quarantined: int


@dataclass(frozen=True, slots=True)
class Failure:
    """What Reconcile needs to know of a note."""

    wave: int
    fate: Fate
    error: str
    reason: str
    reads: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the decision depends on, for the stage that is not yet complete.

    Args:
        roots: the number of shards in the stage's plan.
        outcomes: the ledger, by shard id.
        failures: the notes, by shard id.
        spent_dollars, shard_dollars: the run's measured cost so far, and what one more shard is
            expected to cost.
        now: the time, as in notes and in `progress`.
        served: whether workers are at messages of the job, which may be another run's.
    """

    stage: Stage
    roots: int
    outcomes: Mapping[str, EntryFacts]
    failures: Mapping[str, Sequence[Failure]]
    tenure: Tenure
    progress: LastPass
    limits: Limits
    spent_dollars: float = 0.0
    shard_dollars: float = 0.0
    now: float = 0.0
    served: bool = False


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Send these missing leaf shards out, in order."""

    shards: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Complete:
    """Every leaf of the stage is done, in this order, root prefix before children."""

    entries: tuple[str, ...]


Decision = Dispatch | Complete


def decide(facts: Facts) -> Decision:
    """What to do next with a stage.

    Raises:
        ToleranceExceeded, ShardsFailed, RunStalled, BudgetExceeded: or the run's
            own error, where a note says that nothing can go on.
    """
    _check_fatal(facts)
    missing = list(missing_leaves(facts.roots, facts.outcomes))
    check_tolerance(
        sum(outcome.quarantined for outcome in facts.outcomes.values()),
        sum(outcome.records_in for outcome in facts.outcomes.values()),
        facts.limits,
        complete=not missing,
    )
    if not missing:
        return Complete(tuple(sorted(facts.outcomes, key=shard_order)))
    due = [shard for shard in missing if _is_due(facts.failures.get(shard, ()), facts.tenure)]
    if not due:
        raise ShardsFailed(_failed_message(missing, facts))
    if _has_stalled(facts):
        waves, silent = facts.progress.stalled, facts.now - facts.progress.since
        raise RunStalled(
            f"{waves} wave{'s' * (waves != 1)} of stage {facts.stage} ended without an entry or a note, "
            f"for shard {missing[0]} as for all others, in {max(silent, 0.0) / 60:.0f} minutes. See "
            "whether workers start at all; then take the run up again."
        )
    return Dispatch(tuple(_affordable(due, facts)))


def missing_leaves(roots: int, outcomes: Mapping[str, EntryFacts]) -> Iterator[str]:
    """The leaf shards without an entry, in shard order, as plan and split entries cut them."""
    waiting = [str(root) for root in range(roots - 1, -1, -1)]
    while waiting:
        shard = waiting.pop()
        outcome = outcomes.get(shard)
        if outcome is None:
            yield shard
        else:
            waiting.extend(child_id(shard, child) for child in range(outcome.children - 1, -1, -1))


def check_tolerance(quarantined: int, records: int, limits: Limits, *, complete: bool) -> None:
    """Stop a run that has quarantined more than its job tolerates.

    A count is judged at any time, a share only once a stage is complete.

    Raises:
        ToleranceExceeded: it has.
    """
    share = isinstance(limits.tolerated, float)
    if (share and not complete) or limits.tolerates(quarantined, records):
        return
    allowed = f"{limits.tolerated:.2%} of {records}" if share else str(limits.tolerated)
    raise ToleranceExceeded(
        f"{quarantined} records were quarantined and the job tolerates {allowed}. The quarantine "
        "files say where and why; correct the input under a new run id, or raise `tolerated` and "
        "take the run up again."
    )


def advance(progress: LastPass, stage: Stage, entries: int, notes: int) -> LastPass:
    """What this Reconcile sees, and how many waves in a row have changed nothing."""
    unchanged = (progress.stage, progress.entries, progress.notes) == (stage, entries, notes)
    stalled = progress.stalled + 1 if progress.dispatched and unchanged else 0
    since = progress.since if stalled else 0.0
    return LastPass(
        stage=stage, entries=entries, notes=notes, stalled=stalled, sent=progress.sent, since=since
    )


def departed(seen: LastPass, at: float) -> LastPass:
    """What was seen, with a wave that is sent out at a time."""
    since = seen.since if seen.stalled else at
    return seen.model_copy(update={"dispatched": True, "sent": at, "since": since})


def pause_before(facts: Facts, shards: Iterable[str], jitter: float) -> int:
    """How many seconds a wave of these shards waits. One that has failed in this tenure, in more
    waves the longer, has all of them wait; so does a wave before it of which nothing was heard.
    Shards that have not failed, the children of a split and the next stage's among them, go at once.
    """
    progress = facts.progress
    pauses = [pause_seconds(progress.stalled, facts.now - progress.sent, jitter)]
    for shard in shards:
        current = _of_tenure(facts.failures.get(shard, ()), facts.tenure)
        if current:
            waves = len({failure.wave for failure in current})
            passed = facts.now - max(failure.at for failure in current)
            pauses.append(pause_seconds(waves, passed, jitter))
    return max(pauses)


def _has_stalled(facts: Facts) -> bool:
    """Whether waves have changed nothing for too long: many of them, or for hours while no worker
    is at any message. While some are, ours may wait behind those of others."""
    progress = facts.progress
    silent = facts.now - progress.since >= SILENT_SECONDS
    return progress.stalled >= STALLED_WAVES or (
        progress.stalled > 0 and silent and not facts.served
    )


def _of_tenure(failures: Iterable[Failure], tenure: Tenure) -> list[Failure]:
    """The failures in the waves of the present owner."""
    return [failure for failure in failures if failure.wave > tenure.after]


def _is_due(failures: Iterable[Failure], tenure: Tenure) -> bool:
    """Whether a missing shard has a try left: only waves with a note in them are used up."""
    current = _of_tenure(failures, tenure)
    hopeless = any(failure.fate is not Fate.RETRY for failure in current)
    waves_used = len({failure.wave for failure in current})
    return not hopeless and waves_used < tenure.waves


def _check_fatal(facts: Facts) -> None:
    """Raise the error of a note that is fatal to the run."""
    for shard in sorted(facts.failures, key=shard_order):
        for failure in facts.failures[shard]:
            if failure.fate is Fate.RUN and failure.wave > facts.tenure.after:
                raise error_named(failure.error)(f"{failure.reason} (Shard {shard}.)")


def _failed_message(missing: Sequence[str], facts: Facts) -> str:
    """One or two sentences: how many failed, the first few by name, and the first reason."""
    failed = [shard for shard in missing if facts.failures.get(shard)]
    named = ", ".join(failed[:NAMED_SHARDS]) + (", ..." if len(failed) > NAMED_SHARDS else "")
    last = max(facts.failures[failed[0]], key=lambda failure: failure.wave)
    done = facts.roots - len({root_id(shard) for shard in missing})
    reads = f", which reads {last.reads}" if last.reads else ""
    reason = last.reason if last.reason.endswith((".", "!", "?")) else f"{last.reason}."
    mend = "" if last.fate is Fate.RETRY else "Mend the job or the input; "
    return (
        f"{len(failed)} of {facts.roots} {facts.stage} shards failed (shard {named}; {done} are done). "
        f"Shard {failed[0]}{reads}: {last.error}: {reason} "
        f"{mend}{'the' if mend else 'The'} same run id tries just these again."
    )


def _affordable(due: Sequence[str], facts: Facts) -> Sequence[str]:
    """As many of the due shards as the remaining budget covers.

    Raises:
        BudgetExceeded: it covers none.
    """
    budget = facts.limits.budget_dollars
    if budget is None or facts.shard_dollars <= 0:
        return due
    remaining = budget - facts.spent_dollars
    if remaining >= facts.shard_dollars * len(due):
        return due
    count = int(remaining / facts.shard_dollars)
    if count < 1:
        raise BudgetExceeded(
            f"{facts.spent_dollars:.4f} of {budget:.4f} dollars are spent, and the next shard may cost "
            f"{facts.shard_dollars:.6f}. Raise `budget_dollars` and take the run up again."
        )
    return due[:count]


def unwanted(run: RunRecord, message: Message) -> str | None:
    """Why nobody wants a message's shard any more; None while it is wanted."""
    if message.epoch < run.epoch:
        return f"Epoch {message.epoch} of run {run.run_id} has ended; its epoch is {run.epoch}."
    if run.state == "cancelled":
        return f"Run {run.run_id} is cancelled."
    if run.state in COMMITTED:
        return f"Run {run.run_id} is {run.state}."
    plan = run.plans.get(message.stage)
    if plan is None or plan.draft != message.draft:
        return f"Stage {message.stage} of run {run.run_id} has been drafted anew."
    return None

"""`run.json`: claiming a run, owning it, and changing it by compare-and-swap.

Whoever holds the epoch owns the run. A duplicate trigger finds a living owner and stops; where
the owner has ended, a new one takes over with the next epoch, and the old one is fenced off. An
epoch is bound to one version of the job's code. Whoever changes the record respects the state
that it finds: a cancelled run is neither planned nor published until it is taken up again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from coordinator.errors import (
    AlreadyExists,
    Changed,
    CodeChanged,
    KeyMissing,
    OutcomeUnknown,
    RunBusy,
    RunCancelled,
    RunExpired,
    RunMismatch,
    Superseded,
)
from coordinator.keys import RunKeys
from coordinator.model import COMMITTED, OPEN, Hints, LastPass, RunRecord, State, Tenure
from coordinator.store.ports import Store

RUN_DAYS = 30
DAY_SECONDS = 86_400.0
_CAS_TRIES = 20
NO_HINTS = Hints()


@dataclass(frozen=True, slots=True)
class Claim:
    """Who wants which run, and what it would be pinned to if it is new.

    `waves` is what a new run's first tenure has; every later one has one more wave. The epoch that
    the claim begins is bound to `code_version`. `redrives` is how often the owner has been redriven:
    each time it takes the run up again.
    """

    keys: RunKeys
    owner: str
    code_version: str
    declaration: dict[str, Any]
    inputs: tuple[str, ...]
    logical_time: float
    waves: int
    hints: Hints = NO_HINTS
    limits: Mapping[str, Any] = field(default_factory=dict)
    source_key: str | None = None
    redrives: int = 0


def keys_of(run: RunRecord) -> RunKeys:
    """The keys of a run, those of its stages under the drafts that are committed."""
    drafts = tuple((stage, plan.draft) for stage, plan in run.plans.items())
    return RunKeys(run.job, run.run_id, drafts)


def read(store: Store, keys: RunKeys) -> RunRecord:
    """The run's record.

    Raises:
        KeyMissing: there is no such run.
    """
    return RunRecord.decode(store.get(keys.run).body, where=store.url(keys.run))


def claim(store: Store, wanted: Claim, *, now: float, is_live: Callable[[str], bool]) -> RunRecord:
    """Begin a run, go on with one's own, or take over one whose owner has ended.

    A published run is given as it is: there is nothing left to own.

    Raises:
        RunBusy: its owner is alive.
        RunMismatch: the run id is another job's, declaration's or input list's.
        RunExpired: it is too old to be taken up, or its record is gone and what it published stays.
        OutcomeUnknown: nothing was claimed; try again.
    """
    keys = wanted.keys
    fresh = RunRecord(
        job=keys.job,
        run_id=keys.run_id,
        created=now,
        logical_time=wanted.logical_time,
        owner=wanted.owner,
        code_version=wanted.code_version,
        declaration=wanted.declaration,
        inputs=wanted.inputs,
        source_key=wanted.source_key,
        hints=wanted.hints,
        limits=dict(wanted.limits),
        tenure=Tenure(began=now, after=0, waves=wanted.waves, redrives=wanted.redrives),
    )
    check_unspent(store, keys)
    try:
        store.create(keys.run, fresh.encode())
    except AlreadyExists:
        pass
    except OutcomeUnknown:
        if not exists(store, keys):
            raise
    else:
        return fresh

    def take_over(found: RunRecord) -> RunRecord:
        check_same(found, wanted, store)
        again = found.owner == wanted.owner
        if found.state == "published" or (again and wanted.redrives <= found.tenure.redrives):
            return found
        if not again and is_live(found.owner):
            raise RunBusy(
                f"Run {keys.run_id} of job {keys.job} is being executed by {found.owner}. "
                "Wait for it to end, or stop it first."
            )
        check_age(found, now)
        tenure = Tenure(began=now, after=found.wave, waves=1, redrives=wanted.redrives)
        ours = taken_up(found, tenure, wanted.code_version)
        return ours.model_copy(update={"owner": wanted.owner, "limits": dict(wanted.limits)})

    return change(store, keys, take_over)


def taken_up(found: RunRecord, tenure: Tenure, code_version: str) -> RunRecord:
    """An unpublished run in a new epoch, bound to this version of the job's code."""
    state: State = "running" if "map" in found.plans else "planning"
    return found.model_copy(
        update={
            "epoch": found.epoch + 1,
            "code_version": code_version,
            "state": found.state if found.state == "publishing" else state,
            "tenure": tenure,
            "progress": LastPass(),
        }
    )


def check_code(found: RunRecord, code_version: str) -> None:
    """Refuse to go on with other code than the epoch is bound to.

    Raises:
        CodeChanged: it is other code.
    """
    if found.code_version != code_version:
        raise CodeChanged(
            f"Run {found.run_id} of job {found.job} goes on with code {found.code_version} in epoch "
            f"{found.epoch}, and this is {code_version}: the job was changed while it ran. Taking the "
            "run up again goes on with the new code; what is done stays, and the manifest says which "
            "shards came from which."
        )


def check_same(found: RunRecord, wanted: Claim, store: Store) -> None:
    """Refuse to take up a run that was pinned to something else.

    Raises:
        RunMismatch: it was.
    """
    where = f"Run {wanted.keys.run_id} in {store.url(wanted.keys.root)}"
    if found.declaration != wanted.declaration:
        differing = sorted(
            name
            for name in {*found.declaration, *wanted.declaration}
            if found.declaration.get(name) != wanted.declaration.get(name)
        )
        raise RunMismatch(
            f"{where} was begun with another declaration (differing: {', '.join(differing)}). "
            "Take a new run id, or restore the job as it was."
        )
    if found.inputs != wanted.inputs:
        raise RunMismatch(
            f"{where} was begun over other inputs ({', '.join(found.inputs[:3])}). "
            "Take a new run id, or give the same inputs."
        )
    if wanted.hints.shard_bytes not in (None, found.hints.shard_bytes):
        raise RunMismatch(
            f"{where} was begun with another shard size. Take a new run id, or leave it out."
        )


def check_unspent(store: Store, keys: RunKeys) -> None:
    """Refuse a run id whose record has expired and whose result, or a part of its proof, stands.

    Raises:
        RunExpired: it is such a one.
    """
    if next(iter(store.list(keys.proof)), None) is not None and not exists(store, keys):
        raise RunExpired(
            f"Run {keys.run_id} of job {keys.job} has left {store.url(keys.proof)}, and its record has "
            "expired. Start a new run id."
        )


def check_age(found: RunRecord, now: float) -> None:
    """Refuse a run so old that its parts may be expiring.

    Raises:
        RunExpired: it is.
    """
    if now - found.created > (RUN_DAYS - 1) * DAY_SECONDS:
        raise RunExpired(
            f"Run {found.run_id} of job {found.job} began more than {RUN_DAYS - 1} days ago and its "
            "parts may be gone. Start a new run id."
        )


def change(store: Store, keys: RunKeys, edit: Callable[[RunRecord], RunRecord]) -> RunRecord:
    """Change `run.json` by compare-and-swap; `edit` is asked again when someone else was faster.

    Raises:
        KeyMissing: there is no such run.
        Changed: others were faster every time.
    """
    for _ in range(_CAS_TRIES):
        got = store.get(keys.run)
        before = RunRecord.decode(got.body, where=store.url(keys.run))
        after = edit(before)
        if after == before:
            return before
        try:
            store.replace(keys.run, after.encode(), got.tag)
        except Changed:
            continue
        except OutcomeUnknown:
            if store.get(keys.run).body != after.encode():
                continue
        return after
    raise Changed(f"{store.url(keys.run)} kept changing; try again.")


def used(found: RunRecord, seconds: float) -> RunRecord:
    """A run's record after one more pass of the coordinator that took so long."""
    return found.model_copy(
        update={
            "passes": found.passes + 1,
            "coordinator_seconds": round(found.coordinator_seconds + max(seconds, 0.0), 6),
        }
    )


def change_own(
    store: Store,
    run: RunRecord,
    edit: Callable[[RunRecord], RunRecord],
    *,
    states: tuple[State, ...] = OPEN,
) -> RunRecord:
    """`change`, for the run's owner only, and only in these states. An owner that is given the run
    anew keeps its name.

    Raises:
        RunCancelled: the run has been cancelled.
        Superseded: another owner has taken over, or the run is in none of these states.
    """

    def guarded(found: RunRecord) -> RunRecord:
        check_owner(found, run.owner)
        if found.state not in states:
            raise refusal_in(found)
        return edit(found)

    return change(store, keys_of(run), guarded)


def check_owner(found: RunRecord, owner: str) -> None:
    """Refuse to go on with a run of another owner.

    Raises:
        Superseded: it is another's.
    """
    if found.owner != owner:
        raise Superseded(
            f"Run {found.run_id} of job {found.job} now belongs to {found.owner} "
            f"(epoch {found.epoch}); this one ends."
        )


def refusal_in(found: RunRecord) -> RunCancelled | Superseded:
    """Why a run is not gone on with in its state."""
    if found.state == "cancelled":
        return RunCancelled(
            f"Run {found.run_id} of job {found.job} was cancelled. The same run id takes it up again."
        )
    return Superseded(f"Run {found.run_id} of job {found.job} is {found.state} already.")


def find(store: Store, keys: RunKeys) -> RunRecord | None:
    """The run's record, if there is such a run."""
    try:
        return read(store, keys)
    except KeyMissing:
        return None


def exists(store: Store, keys: RunKeys) -> bool:
    """Whether there is such a run."""
    try:
        store.get(keys.run)
    except KeyMissing:
        return False
    return True


def read_owned(store: Store, keys: RunKeys, owner: str) -> RunRecord:
    """The run's record, for its owner only.

    Raises:
        Superseded: it belongs to another by now.
    """
    run = read(store, keys)
    check_owner(run, owner)
    return run


def cancel(store: Store, keys: RunKeys) -> RunRecord:
    """Mark a run as cancelled: workers stop, messages of its epoch are dropped, the ledger stays.
    Taking it up again begins a new epoch. A run whose publishing is committed is given as it is:
    it is too late.

    Raises:
        KeyMissing: there is no such run.
    """

    def mark(found: RunRecord) -> RunRecord:
        if found.state in COMMITTED:
            return found
        return found.model_copy(update={"state": "cancelled"})

    return change(store, keys, mark)

"""Pass after pass of Reconcile: what goes out, what is counted, and when a run ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from coordinator.errors import (
    BudgetExceeded,
    CodeChanged,
    FanfoldError,
    Fate,
    InputInvalid,
    RunCancelled,
    RunStalled,
    StoreUnavailable,
    Superseded,
)
from coordinator.job import Job
from coordinator.keys import RunKeys
from coordinator.limits import Limits
from coordinator.model import (
    Entry,
    Hints,
    LastPass,
    Listing,
    Note,
    Receipt,
    RunRecord,
    Tenure,
    Totals,
)
from coordinator.rules.costs import expected_shard_dollars
from coordinator.state import ledger, plans, runs
from coordinator.state.files import read_lines
from coordinator.state.notes import write_note
from coordinator.steps.plan import plan
from coordinator.steps.reconcile import (
    FanOut,
    Finish,
    Next,
    Unplanned,
    current_stage,
    reconcile,
)
from coordinator.store.memory import MemoryInputs, MemoryStore
from coordinator.testing import InlineCrew
from tests.support import words

BODIES = {"a": b"to be or\nnot to be\n", "b": b"that is\nthe question"}


@dataclass
class Going:
    """A run over two objects, taken from pass to pass; every look at the clock is a second."""

    job: Job = field(default_factory=words)
    billed: bool = False
    shard_bytes: int = 20
    seconds: Iterator[int] = field(default_factory=lambda: iter(range(100, 10_000)))

    def __post_init__(self) -> None:
        self.store = MemoryStore()
        self.inputs = MemoryInputs(BODIES)
        self.keys = RunKeys(self.job.name, "r1")
        claim = runs.Claim(
            keys=self.keys,
            owner="owner",
            code_version="test",
            declaration=self.job.declaration(),
            inputs=("**",),
            logical_time=0.0,
            waves=2,
            hints=Hints(shard_bytes=self.shard_bytes, billed=self.billed),
        )
        runs.claim(self.store, claim, now=0.0, is_live=lambda owner: False)

    def clock(self) -> float:
        return float(next(self.seconds))

    @property
    def run(self) -> RunRecord:
        return runs.read(self.store, self.keys)

    def set(self, **fields: Any) -> None:
        runs.change(self.store, self.keys, lambda found: found.model_copy(update=fields))

    def pass_(self, *, code: str = "test", **given: Any) -> Next:
        return reconcile(
            self.store,
            self.job,
            self.run,
            **{"draft": "later", "code_version": code, "clock": self.clock, **given},
        )

    def wave(self) -> FanOut:
        ahead = self.pass_()
        assert isinstance(ahead, FanOut)
        return ahead

    def planned(self) -> Going:
        plan(
            self.store,
            self.inputs,
            self.job,
            self.run,
            draft="first",
            code_version="test",
            clock=lambda: 0.0,
        )
        return self

    def work(self, ahead: FanOut) -> None:
        run = ahead.dispatched(self.store)
        crew = InlineCrew(self.job, self.store, self.inputs, self.clock)
        crew.work(run, ahead.messages(), lambda verdict: None)

    def finished(self) -> Going:
        self.planned()
        while not isinstance(ahead := self.pass_(), Finish):
            assert isinstance(ahead, FanOut)
            self.work(ahead)
        return self


def note(wave: int, **fields: Any) -> Note:
    given = {"shard": "0", "stage": "map", "attempt": "a", "receives": 1, "at": 1.0}
    told = {"error": "AttemptFailed", "reason": "R.", "fate": Fate.RETRY, "wave": wave}
    return Note.model_validate({**given, **told, **fields})


# ------------------------------------------------------------------------------------------------
# Waves
# ------------------------------------------------------------------------------------------------


def test_a_run_goes_from_stage_to_stage_and_only_what_is_missing_goes_out() -> None:
    going = Going()
    assert isinstance(going.pass_(), Unplanned)
    going.planned()

    first = going.wave()
    assert (first.stage, first.wave, first.draft) == ("map", 1, "first")
    assert [ref.id for ref in first.shards] == ["0", "1"]
    sent = first.messages()
    assert [(found.stage, found.wave, found.epoch, found.draft) for found in sent] == [
        ("map", 1, 1, "first")
    ] * 2
    assert [(found.job, found.run_id, found.shard) for found in sent] == [
        ("job", "r1", ref) for ref in first.shards
    ]

    InlineCrew(going.job, going.store, going.inputs, going.clock).work(
        first.dispatched(going.store), sent[:1], lambda verdict: None
    )
    second = going.wave()
    assert (second.wave, [ref.id for ref in second.shards]) == (2, ["1"])

    going.work(second)
    third = going.wave()
    assert (third.stage, third.wave, third.draft) == ("reduce", 3, "later")
    assert (going.run.progress, set(going.run.sealed)) == (LastPass(), {"map"})
    going.work(third)
    fourth = going.wave()
    assert (fourth.stage, fourth.wave) == ("merge", 4)
    going.work(fourth)
    last = going.pass_()
    assert isinstance(last, Finish)
    assert set(last.run.sealed) == set(last.run.totals) == {"map", "reduce", "merge"}
    assert last.run.totals["map"].records_in == 4


def test_a_wave_that_is_on_its_way_is_counted_with_the_seconds_of_its_pass() -> None:
    going = Going().planned()
    before = going.run

    ahead = going.wave()
    run = ahead.dispatched(going.store)

    assert run == going.run
    assert (run.dispatched, run.passes) == (before.dispatched + 1, before.passes + 1)
    assert run.coordinator_seconds == before.coordinator_seconds + 1.0
    assert run.progress == LastPass(stage="map", dispatched=True, sent=101.0, since=101.0)


def test_a_child_is_found_in_the_entry_that_cut_it_off() -> None:
    going = Going().planned()
    first = going.wave()
    keys = runs.keys_of(going.run)
    shard = plans.read_shard(going.store, first.shards[1])
    split = Entry(
        shard="1",
        stage="map",
        outcome="split",
        digest=first.shards[1].digest,
        receipt=Receipt(attempt="a"),
        children=(shard.slices, shard.slices),
    )
    ledger.commit(going.store, keys, split)

    refs = going.wave().shards

    assert [ref.id for ref in refs] == ["0", "1.0", "1.1"]
    for ref in refs[1:]:
        found = plans.read_shard(going.store, ref)
        assert (found.id, found.slices) == (ref.id, shard.slices)


def test_waves_that_change_nothing_end_the_run() -> None:
    going = Going().planned()
    for _ in range(5):
        going.wave().dispatched(going.store)

    with pytest.raises(RunStalled, match="5 waves of stage map ended without an entry or a note"):
        going.pass_()


def test_attempts_that_failed_are_kept_with_the_stage_that_they_were_of() -> None:
    going = Going().planned()
    ahead = going.wave()
    keys = runs.keys_of(going.run)
    write_note(going.store, keys, note(1, failures=2, unfinished=2, seconds=1.23456789))
    going.work(ahead)
    going.pass_()

    totals = going.run.totals["map"]

    # of the two that ended with nothing, one may be the attempt that stands
    assert totals.failures == 3
    assert totals.failed_seconds == 1.234568 + going.job.limits.timeout_seconds


# ------------------------------------------------------------------------------------------------
# Money
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shards", "sent"), [(1.5, 1), (2.5, 2)])
def test_no_more_goes_out_than_the_budget_covers(shards: float, sent: int) -> None:
    usual = words()
    each = expected_shard_dollars(Totals(), usual.limits.timeout_seconds, usual.limits.memory_mb)
    limits = {**usual.limits.model_dump(), "budget_dollars": shards * each}
    going = Going(job=words_with(Limits(**limits)), billed=True).planned()

    assert len(going.wave().shards) == sent

    going.set(coordinator_seconds=1e9)
    with pytest.raises(BudgetExceeded):
        going.pass_()


def test_what_other_stages_have_cost_counts() -> None:
    limits = {**words().limits.model_dump(), "budget_dollars": 1.0}
    going = Going(job=words_with(Limits(**limits)), billed=True).planned()
    assert len(going.wave().shards) == 2

    going.set(totals={"reduce": Totals(shards=1, seconds=1e6)})

    with pytest.raises(BudgetExceeded):
        going.pass_()


def test_what_is_not_billed_costs_nothing() -> None:
    limits = {**words().limits.model_dump(), "budget_dollars": 1e-9}
    going = Going(job=words_with(Limits(**limits)), billed=False).planned()

    assert len(going.wave().shards) == 2


def words_with(limits: Limits) -> Job:
    job = words()
    job.limits = limits
    return job


# ------------------------------------------------------------------------------------------------
# Who may go on
# ------------------------------------------------------------------------------------------------


def test_only_the_owner_takes_a_wave_and_only_of_a_run_that_is_open() -> None:
    going = Going().planned()
    run = going.run
    going.set(owner="other")
    with pytest.raises(Superseded):
        reconcile(going.store, going.job, run, draft="x", code_version="test", clock=going.clock)
    going.set(owner="owner", state="cancelled")
    with pytest.raises(RunCancelled):
        going.pass_()
    going.set(state="published")
    with pytest.raises(Superseded, match="is published already"):
        going.pass_()
    assert going.run.wave == 0


def test_a_run_that_is_being_published_is_published() -> None:
    going = Going().planned()
    going.set(state="publishing")

    assert isinstance(going.pass_(), Finish)


def test_an_epoch_goes_on_with_its_own_code() -> None:
    going = Going().planned()

    with pytest.raises(CodeChanged):
        going.pass_(code="other")
    assert going.run.wave == 0


@pytest.mark.parametrize("state", ["running", "cancelled"])
def test_a_redrive_takes_the_run_up_again_with_one_more_wave_once(state: str) -> None:
    going = Going().planned()
    going.set(wave=6, state=state)

    ahead = going.pass_(redrives=1, code="new", failure=InputInvalid("Old news."))

    assert isinstance(ahead, FanOut)
    assert (ahead.wave, ahead.run.epoch, ahead.run.state) == (7, 2, "running")
    assert ahead.run.tenure == Tenure(began=100.0, after=6, waves=1, redrives=1)
    assert ahead.run.code_version == "new"

    again = going.pass_(redrives=1, code="new")
    assert isinstance(again, FanOut)
    assert (again.wave, again.run.epoch) == (8, 2)


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(StoreUnavailable("Away."), id="of the fate RETRY"),
        pytest.param(FanfoldError("Lambda.Unknown"), id="none of the tree's"),
    ],
)
def test_what_may_have_been_passing_goes_round_again(failure: FanfoldError) -> None:
    assert isinstance(Going().planned().pass_(failure=failure), FanOut)


def test_what_going_round_cannot_mend_ends_the_run() -> None:
    going = Going().planned()

    with pytest.raises(InputInvalid, match="No such thing"):
        going.pass_(failure=InputInvalid("No such thing."))
    assert going.run.wave == 0


# ------------------------------------------------------------------------------------------------
# Not for ever
# ------------------------------------------------------------------------------------------------


def test_planning_that_does_not_get_on_ends_the_run_after_five_times() -> None:
    going = Going()
    for _ in range(5):
        assert isinstance(going.pass_(), Unplanned)

    with pytest.raises(RunStalled, match=r"ended 5 times without getting on\. Away\. Mend that"):
        going.pass_(failure=StoreUnavailable("Away."))
    with pytest.raises(RunStalled, match=r"ended 5 times .* Its log says why\. Mend that"):
        going.pass_()


def test_planning_that_gets_on_is_not_counted() -> None:
    going = Going()
    for listed in range(12):
        assert isinstance(going.pass_(), Unplanned)
        going.set(listing=Listing(objects=listed + 1))

    assert going.run.progress.stalled == 0


def test_the_first_object_that_is_listed_is_getting_on() -> None:
    going = Going()
    for _ in range(3):
        going.pass_()
    before = going.run.progress
    going.set(listing=Listing(objects=1))
    going.pass_()

    assert before == LastPass(entries=0, dispatched=True, stalled=2)
    assert going.run.progress == LastPass(entries=1, dispatched=True, stalled=0)


def test_publishing_that_fails_again_and_again_ends_the_run() -> None:
    going = Going().finished()
    for _ in range(3):
        assert isinstance(going.pass_(), Finish)
    for _ in range(4):
        assert isinstance(going.pass_(failure=StoreUnavailable("Away.")), Finish)

    with pytest.raises(RunStalled, match="is complete, but publishing it failed 5 times"):
        going.pass_(failure=StoreUnavailable("Away."))


# ------------------------------------------------------------------------------------------------
# Stages
# ------------------------------------------------------------------------------------------------


def test_the_stage_that_is_next_is_the_first_that_is_not_sealed() -> None:
    going = Going().finished()
    run = going.run

    assert current_stage(run) is None
    for missing in ("map", "reduce", "merge"):
        sealed = {stage: file for stage, file in run.sealed.items() if stage != missing}
        assert current_stage(run.model_copy(update={"sealed": sealed})) == missing
    assert current_stage(run.model_copy(update={"sealed": {}})) == "map"


def test_the_pass_that_seals_the_last_stage_is_counted_with_its_seconds() -> None:
    going = Going().planned()
    for _ in range(3):
        going.work(going.wave())
    before = going.run

    assert isinstance(going.pass_(), Finish)

    after = going.run
    assert after.passes == before.passes + 1
    assert after.coordinator_seconds == before.coordinator_seconds + 1.0


def test_a_stage_that_another_pass_has_closed_meanwhile_stays_as_it_was_closed() -> None:
    class Overtaken(MemoryStore):
        """Just before the ledger of a stage is sealed, another pass of the owner is faster."""

        def __init__(self, held: MemoryStore) -> None:
            super().__init__()
            self._objects, self._tags = held._objects, held._tags
            self.faster: list[Next] = []

        def perform(self, operation: str, key: str, action: Callable[[], Any]) -> Any:
            if operation == "put" and key.endswith("ledger.jsonl") and not self.faster:
                self.faster.append(going.pass_(draft="faster"))
            return action()

    going = Going().planned()
    going.work(going.wave())
    slow = Overtaken(going.store)

    ahead = reconcile(
        slow, going.job, going.run, draft="slow", code_version="test", clock=going.clock
    )

    [faster] = slow.faster
    assert isinstance(ahead, FanOut)
    assert isinstance(faster, FanOut)
    assert (ahead.draft, ahead.shards) == (faster.draft, faster.shards)
    assert ahead.draft == "faster"
    assert ahead.run.sealed == going.run.sealed == faster.run.sealed


def test_the_reduce_stage_reads_all_parts_of_the_map_stage() -> None:
    going = Going().finished()
    keys = runs.keys_of(going.run)
    snapshot = going.run.plans["reduce"].snapshot
    assert snapshot is not None

    with ledger.Ledger(going.store, keys, "map") as found:
        listed = [part.encode() for _, parts in found.parts() for part in parts]
    assert len(listed) == 2
    assert list(read_lines(going.store, snapshot)) == listed
    assert going.run.plans["reduce"].shards == 2
    assert going.run.plans["merge"].shards == 1

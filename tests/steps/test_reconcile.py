"""A pass of the coordinator: what a run may spend, how often it is tried again, and when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

from coordinator.errors import (
    BudgetExceeded,
    CodeChanged,
    FanfoldError,
    Fate,
    InputChanged,
    MapFailed,
    NotProven,
    RunStalled,
    StoreUnavailable,
)
from coordinator.formats.lines import Lines
from coordinator.job import Job
from coordinator.limits import Limits
from coordinator.loading.program import Program
from coordinator.model import Hints, LastPass, Listing, Message, Note, RunRecord
from coordinator.rules.costs import (
    OVERHEAD_A_PASS,
    OVERHEAD_A_SHARD,
    lambda_dollars,
)
from coordinator.rules.decide import SILENT_SECONDS, STALLED_WAVES
from coordinator.rules.transport import COORDINATOR_MEMORY_MB
from coordinator.state import runs
from coordinator.state.notes import write_note
from coordinator.steps.attempts import attend
from coordinator.steps.plan import plan as plan_map
from coordinator.steps.reconcile import FanOut, Finish, Next, Unplanned, reconcile
from coordinator.steps.workplace import UNHURRIED, Workplace
from tests.support import World, a_job

SHARD_SECONDS = 100.0
SHARDS = 3


@dataclass
class Coordinated:
    """A run on AWS, pass by pass. Time stands still unless the test lets it go on."""

    job: Job
    now: float = 1000.0
    drafts: count[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self.world = World(self.job, {f"in/{n}": b"a line\n" for n in range(SHARDS)})
        self.run = runs.claim(
            self.world.store,
            runs.Claim(
                keys=self.world.keys,
                owner="owner",
                code_version="test",
                declaration=self.job.declaration(),
                inputs=("**",),
                logical_time=0.0,
                waves=self.job.limits.waves,
                hints=Hints(shard_bytes=7),
            ),
            now=self.now,
            is_live=lambda owner: False,
        )

    def clock(self) -> float:
        return self.now

    def plan(self) -> None:
        self.run = plan_map(
            self.world.store,
            self.world.inputs,
            self.job,
            self.run,
            draft=f"d{next(self.drafts)}",
            code_version="test",
            clock=self.clock,
        )

    def reconcile(
        self,
        failure: FanfoldError | None = None,
        *,
        redrives: int = 0,
        code_version: str = "test",
        **given: Any,
    ) -> Next:
        ahead = reconcile(
            self.world.store,
            self.job,
            self.run,
            draft=f"d{next(self.drafts)}",
            code_version=code_version,
            clock=self.clock,
            redrives=redrives,
            failure=failure,
            **given,
        )
        self.run = ahead.run
        return ahead

    def send(self, *, redrives: int = 0) -> list[Message]:
        """Dispatch the next wave; nobody works on it yet."""
        ahead = self.reconcile(redrives=redrives)
        assert isinstance(ahead, FanOut)
        self.run = ahead.dispatched(self.world.store)
        return ahead.messages()

    def work(self, messages: Sequence[Message]) -> None:
        """Each shard takes so long: the clock goes on whenever it is asked."""
        seconds = count(self.now, SHARD_SECONDS)
        world, program = self.world, Program("test")
        place = Workplace(
            world.store, self.run, lambda: next(seconds), world.inputs, self.job, program
        )
        for message in messages:
            attend(
                place,
                message,
                attempt=f"of-{message.shard.id}",
                receives=1,
                guard=UNHURRIED,
                jitter=lambda: 0.0,
            )

    def limit(self, **limits: float) -> None:
        self.job.limits = self.job.limits.model_copy(update=limits)

    def change(self, **fields: Any) -> None:
        """Change the run's record as somebody else would."""
        store, keys = self.world.store, self.world.keys
        runs.change(store, keys, lambda found: found.model_copy(update=fields))

    def record(self) -> RunRecord:
        return self.world.record()


def planned(**limits: float) -> Coordinated:
    fields = {"memory_mb": 1024, "timeout_seconds": 200, **limits}
    run = Coordinated(a_job(Lines(), limits=Limits.model_validate(fields)))
    assert isinstance(run.reconcile(), Unplanned)
    run.plan()
    return run


def mapped(**limits: float) -> Coordinated:
    """A run whose map is done."""
    run = planned(**limits)
    run.work(run.send())
    return run


def complete() -> Coordinated:
    """A run that has nothing left to do but to publish."""
    run = mapped()
    run.work(run.send())
    assert isinstance(run.reconcile(), Finish)
    return run


def shard_dollars(seconds: float) -> float:
    return lambda_dollars(seconds, 1024) + OVERHEAD_A_SHARD


WORST = shard_dollars(200.0)


# ------------------------------------------------------------------------------------------------
# Money
# ------------------------------------------------------------------------------------------------


def test_until_a_shard_is_done_a_budget_reckons_with_the_worst() -> None:
    assert len(planned(budget_dollars=2.5 * WORST).send()) == 2


def test_a_budget_covers_all_stages_together() -> None:
    run = mapped()
    spent = SHARDS * shard_dollars(SHARD_SECONDS) + run.record().passes * OVERHEAD_A_PASS

    run.limit(budget_dollars=spent + 0.99 * WORST)
    with pytest.raises(BudgetExceeded, match="dollars are spent"):
        run.reconcile()

    run.limit(budget_dollars=spent + 1.01 * WORST)
    assert len(run.send()) == 1


def test_a_budget_pays_for_the_coordinator_too() -> None:
    run = planned(budget_dollars=2.5 * WORST)
    ahead = run.reconcile()
    assert isinstance(ahead, FanOut)
    assert len(ahead.shards) == 2
    run.now += 600.0
    run.run = ahead.dispatched(run.world.store)

    spent = lambda_dollars(600.0, COORDINATOR_MEMORY_MB) + run.record().passes * OVERHEAD_A_PASS
    run.limit(budget_dollars=spent + 0.99 * WORST)
    with pytest.raises(BudgetExceeded):
        run.reconcile()
    run.limit(budget_dollars=spent + 1.01 * WORST)
    assert len(run.send()) == 1


# ------------------------------------------------------------------------------------------------
# Again and again
# ------------------------------------------------------------------------------------------------

DOWN = StoreUnavailable("The store is down.")


def send_until_stalled(run: Coordinated, *, redrives: int = 0) -> int:
    """How many waves go out of which nothing is ever heard."""
    for wave in range(20):
        try:
            run.send(redrives=redrives)
        except RunStalled:
            return wave
    raise AssertionError("it goes on for ever")


def test_waves_of_which_nothing_is_heard_come_to_an_end() -> None:
    assert send_until_stalled(planned()) == STALLED_WAVES


def test_a_stalled_run_that_is_redriven_has_its_waves_anew() -> None:
    run = planned()
    send_until_stalled(run)

    assert send_until_stalled(run, redrives=1) == STALLED_WAVES


def test_a_stalled_run_with_a_new_owner_has_its_waves_anew() -> None:
    run = planned()
    send_until_stalled(run)
    store, keys = run.world.store, run.world.keys
    before = run.record()
    claim = runs.Claim(
        keys=keys,
        owner="another",
        code_version="test",
        declaration=before.declaration,
        inputs=before.inputs,
        logical_time=0.0,
        waves=2,
    )

    run.run = runs.claim(store, claim, now=run.now, is_live=lambda owner: False)

    assert send_until_stalled(run) == STALLED_WAVES


def test_a_silent_wave_is_the_last_when_it_took_hours_and_no_worker_is_at_any_message() -> None:
    run, asked = planned(), []

    def served() -> bool:
        asked.append(run.now)
        return len(asked) == 1

    run.reconcile(served=served)
    run.send()
    assert asked == []  # something was heard, or nothing was sent

    run.now += SILENT_SECONDS - 1
    run.send()
    run.now += 1
    assert isinstance(run.reconcile(served=served), FanOut)
    with pytest.raises(RunStalled, match="in 90 minutes"):
        run.reconcile(served=served)


def down(run: Coordinated, wave: int, shard: str = "1") -> None:
    """A shard has failed in a wave, just now, of something that may pass."""
    note = Note(
        shard=shard,
        stage="map",
        wave=wave,
        attempt="a",
        receives=5,
        error="StoreUnavailable",
        reason="It is down.",
        fate=Fate.RETRY,
        at=run.now,
    )
    write_note(run.world.store, runs.keys_of(run.run), note)


def pauses(run: Coordinated, **given: Any) -> int:
    """How long the next wave waits, which is sent out."""
    ahead = run.reconcile(**given)
    assert isinstance(ahead, FanOut)
    run.run = ahead.dispatched(run.world.store)
    return ahead.pause_seconds


def test_a_wave_after_failures_waits_and_the_next_one_longer() -> None:
    run = planned(waves=3)
    assert pauses(run) == 0
    down(run, run.run.wave)
    assert pauses(run) == 60
    assert run.record().progress.sent == run.now + 60
    run.now += 60
    down(run, run.run.wave)
    assert pauses(run, jitter=0.0) == 120
    run.now += 120
    assert pauses(run) == 120  # nothing was heard of it; since the failure two minutes have passed


def test_a_redrive_goes_on_without_a_pause() -> None:
    run = planned(waves=3)
    pauses(run)
    down(run, run.run.wave)

    assert pauses(run, redrives=1) == 0


def test_a_stage_after_failures_begins_without_a_pause() -> None:
    run = planned()
    messages = run.send()
    down(run, run.run.wave)
    run.work(messages)

    assert pauses(run) == 0
    assert run.run.plans.keys() == {"map", "merge"}


@pytest.mark.parametrize("state", ["running", "publishing"])
def test_a_publish_that_fails_again_and_again_ends_the_run_until_it_is_redriven(state: str) -> None:
    run = complete()
    run.change(state=state)

    for _ in range(STALLED_WAVES - 1):
        assert isinstance(run.reconcile(DOWN), Finish)
    with pytest.raises(RunStalled, match=f"publishing it failed {STALLED_WAVES} times"):
        run.reconcile(DOWN)

    for _ in range(STALLED_WAVES - 1):
        assert isinstance(run.reconcile(DOWN, redrives=1), Finish)
    with pytest.raises(RunStalled):
        run.reconcile(DOWN, redrives=1)


def test_waves_that_stalled_are_not_held_against_publishing() -> None:
    run = mapped()
    for _ in range(STALLED_WAVES - 1):
        run.send()
    run.work(run.send())
    assert isinstance(run.reconcile(), Finish)

    assert isinstance(run.reconcile(DOWN), Finish)


def test_a_plan_that_fails_again_and_again_ends_the_run() -> None:
    run = Coordinated(a_job(Lines()))

    for _ in range(STALLED_WAVES):
        assert isinstance(run.reconcile(DOWN), Unplanned)
    with pytest.raises(RunStalled, match=r"without getting on\. The store is down\."):
        run.reconcile(DOWN)


def test_a_listing_that_grows_is_no_plan_that_fails() -> None:
    run = Coordinated(a_job(Lines()))

    for objects in range(2 * STALLED_WAVES):
        run.change(listing=Listing(chunks=(), cursor="x", objects=objects))
        assert isinstance(run.reconcile(DOWN), Unplanned)
    assert run.record().progress == LastPass(entries=objects, dispatched=True, stalled=0)


# ------------------------------------------------------------------------------------------------
# Errors of other steps
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [InputChanged("a was changed."), NotProven("A byte is missing."), MapFailed("It raised.")],
    ids=lambda failure: failure.name,
)
def test_an_error_that_going_round_can_not_mend_ends_the_run(failure: FanfoldError) -> None:
    run = planned()
    before = run.record()

    with pytest.raises(type(failure), match=str(failure)):
        run.reconcile(failure)
    assert run.record() == before


@pytest.mark.parametrize("failure", [DOWN, FanfoldError("Runtime.ExitError: signal: killed")])
def test_an_error_that_may_pass_leads_round_again(failure: FanfoldError) -> None:
    assert isinstance(planned().reconcile(failure), FanOut)


def test_a_redrive_takes_the_run_up_once_whatever_the_error_was() -> None:
    run = planned()
    before = run.record()

    assert isinstance(run.reconcile(InputChanged("a was changed."), redrives=1), FanOut)
    after = run.record()
    assert (after.epoch, after.tenure.after) == (before.epoch + 1, before.wave)
    assert (after.tenure.waves, after.tenure.redrives) == (1, 1)

    assert isinstance(run.reconcile(redrives=1), FanOut)
    assert run.record().epoch == after.epoch


def test_an_epoch_goes_on_with_its_own_code_and_a_redrive_with_what_there_is() -> None:
    run = planned()

    with pytest.raises(CodeChanged):
        run.reconcile(code_version="other")
    assert isinstance(run.reconcile(code_version="other", redrives=1), FanOut)
    assert run.record().code_version == "other"

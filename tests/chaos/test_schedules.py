"""Random schedules of several faults, by Hypothesis; a failing one is shrunk, and can be repeated.

A rule is something that happens to a run: time passes, a fault is armed, someone stops, starts,
redrives, cancels, repairs, cleans or redoes it, its inputs move, its job is deployed anew. After every rule nothing wrong may have been seen; at the end faults cease,
the run is taken up again, and everything has to be whole.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.chaos.faults import BESIDE, LATE, MOVED, kinds_beside, kinds_for
from tests.chaos.playing import Scenario, take_up
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.simulator.cloud import Cloud
from tests.chaos.simulator.effects import Effect, Kind
from tests.chaos.simulator.watch import Watch
from tests.chaos.simulator.world import Process, World

pytestmark = pytest.mark.chaos

EXAMPLES = 1000 if os.environ.get("FANFOLD_CHAOS") == "all" else 80
PLAYED = [it for it in SCENARIOS if it.fails_as is None]
# A record at which workers die again and again is poison: that is the rule, and no schedule may
# make an innocent record seem so. So often a shard's attempts may die, or run beside each other.
MOST_MISHAPS = 2
KINDS = [kind for kind in Kind if kind is not Kind.DENIED]
MISHAPS = frozenset(
    {
        Kind.CRASH_BEFORE,
        Kind.CRASH_AFTER,
        Kind.DELAYED,
        Kind.TWICE,
        Kind.TAKEN_OVER_LATE,
        Kind.OVERTAKEN,
        Kind.IN_TURNS,
        *LATE,
    }
)


class Armed:
    """Faults for effects to come; one that does not apply to its effect waits for the next."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.waiting: dict[int, Kind] = {}
        self.struck: list[str] = []
        self.mishaps: Counter[str] = Counter()
        self.world: World | None = None

    def at(self, effect: Effect) -> Kind | None:
        if effect.actor == "person":
            return None
        for number, kind in sorted(self.waiting.items()):
            fitting = (*kinds_for(effect), *kinds_beside(self.scenario, effect))
            due = number <= effect.number and kind in fitting
            if due and (not self._is_mishap(effect, kind) or self.allows(self._shard(effect))):
                del self.waiting[number]
                self.struck.append(f"{kind} at {effect}")
                return kind
        return None

    def allows(self, shard: str | None) -> bool:
        """Whether one more mishap may befall a shard; it is counted."""
        if shard is None:
            return True
        self.mishaps[shard] += 1
        return self.mishaps[shard] <= MOST_MISHAPS

    def _shard(self, effect: Effect) -> str | None:
        process = self.world.current if self.world else None
        if process is not None:
            return shard_of(process)
        return effect.target if effect.operation in {"receive", "delete"} else None

    def _is_mishap(self, effect: Effect, kind: Kind) -> bool:
        """A note that is not kept is one too: it looks as if its attempt had died."""
        return kind in MISHAPS or "/notes/" in effect.target


def shard_of(process: Process) -> str | None:
    """The shard that a worker is at."""
    return process.letter.shard if process.letter is not None else None


class Schedules(RuleBasedStateMachine):
    """One world, and everything that may happen to it."""

    cloud: Cloud
    watch: Watch
    armed: Armed

    @initialize(
        scenario=st.sampled_from(PLAYED),
        faults=st.dictionaries(st.integers(1, 250), st.sampled_from(KINDS), max_size=5),
    )
    def begin(self, scenario: Scenario, faults: dict[int, Kind]) -> None:
        self.scenario = scenario
        self.armed = Armed(scenario)
        self.armed.waiting.update(faults)
        self.cloud, self.watch = scenario.begin(self.armed)
        self.cloud.__enter__()
        self.armed.world = self.cloud.world
        for asked in scenario.runs:
            self.cloud.start(asked.request)
            self.cloud.world.run(effects=3)

    @rule(effects=st.integers(1, 60))
    def go_on(self, effects: int) -> None:
        self.cloud.world.run(effects=effects)

    @rule(effects=st.integers(1, 60), kind=st.sampled_from(KINDS))
    def disturb(self, effects: int, kind: Kind) -> None:
        self.armed.waiting[len(self.cloud.world.trace) + effects] = kind
        self.cloud.world.run(effects=effects)

    @rule(effects=st.integers(1, 99), kind=st.sampled_from(KINDS))
    def arm(self, effects: int, kind: Kind) -> None:
        self.armed.waiting[len(self.cloud.world.trace) + effects] = kind

    @precondition(lambda self: self.cloud.world.processes)
    @rule(which=st.integers(0, 9))
    def crash(self, which: int) -> None:
        process = self._alive(which)
        if self.armed.allows(shard_of(process)):
            self.cloud.world.kill(process)

    @precondition(lambda self: self.cloud.world.processes)
    @rule(which=st.integers(0, 9), seconds=st.sampled_from([0.3, 1.0, 50.0, 370.0]))
    def hold(self, which: int, seconds: float) -> None:
        process = self._alive(which)
        if self.armed.allows(shard_of(process)):
            self.cloud.world.hold(process, seconds)

    def _alive(self, which: int) -> Process:
        alive = self.cloud.world.processes
        return alive[which % len(alive)]

    @rule(which=st.integers(0, 9))
    def stop(self, which: int) -> None:
        self.cloud.executions[which % len(self.cloud.executions)].stop()

    @precondition(lambda self: len(self.cloud.executions) < 6)
    @rule(which=st.integers(0, 1))
    def start_once_more(self, which: int) -> None:
        asked = self.scenario.runs[which % len(self.scenario.runs)]
        self.cloud.start(asked.request)

    @rule(which=st.integers(0, 9))
    def redrive(self, which: int) -> None:
        execution = self.cloud.executions[which % len(self.cloud.executions)]
        if execution.status in {"FAILED", "ABORTED"} and execution.began:
            execution.redrive()

    @rule(which=st.integers(0, 1))
    def cancel(self, which: int) -> None:
        asked = self.scenario.runs[which % len(self.scenario.runs)]
        self.cloud.people.cancel(asked.request.run_id)

    @precondition(lambda self: self.scenario.meddled)
    @rule(kind=st.sampled_from(BESIDE))
    def meddle(self, kind: Kind) -> None:
        if kind not in MOVED or self.scenario.expect is not None:
            self.cloud.people.deeds[kind]()

    @rule(which=st.integers(0, 9))
    def deliver_once_more(self, which: int) -> None:
        letters = self.cloud.queue.letters
        if letters and self.armed.allows(letters[which % len(letters)].shard):
            self.cloud.queue.duplicate(letters[which % len(letters)])

    @invariant()
    def nothing_wrong_was_seen(self) -> None:
        if hasattr(self, "watch"):
            assert not self.watch.wrong, "\n".join([*self.watch.wrong, *self.armed.struck])

    def teardown(self) -> None:
        if not hasattr(self, "cloud"):
            return
        try:
            self.cloud.world.run()
            self.armed.waiting.clear()
            take_up(self.cloud, self.watch)
            self.watch.check_end()
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *self.armed.struck])) from error
        finally:
            self.cloud.__exit__()


TestSchedules = Schedules.TestCase
TestSchedules.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=25,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("name", ["refused", "redone"])
def test_an_entry_that_arrives_in_a_cancelled_run_after_cleaning_can_be_repaired(name: str) -> None:
    schedule = Schedules()
    schedule.begin(next(it for it in PLAYED if it.name == name), {})
    schedule.disturb(30, Kind.LATE_CLEANED)
    schedule.cancel(0)
    schedule.teardown()
    assert schedule.cloud.people.damaged, "the entry named parts that were cleaned away"


def test_an_answer_that_arrives_after_a_redone_run_was_cleaned_is_none_too_early() -> None:
    schedule = Schedules()
    schedule.begin(next(it for it in PLAYED if it.name == "redone"), {})
    schedule.disturb(31, Kind.LATE_CLEANED)
    schedule.cancel(0)
    schedule.deliver_once_more(0)
    schedule.hold(1, 1.0)
    schedule.teardown()
    assert any("answer success" in it for it in schedule.armed.struck)

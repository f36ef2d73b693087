"""Random schedules of several faults, by Hypothesis; a failing one is shrunk, and can be repeated.

A rule is something that happens to a run: time passes, a fault is armed, someone stops, starts,
redrives or cancels. After every rule nothing wrong may have been seen; at the end faults cease,
the run is taken up again, and everything has to be whole.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.chaos.faults import kinds_for
from tests.chaos.scenarios import SCENARIOS, Scenario, take_up
from tests.chaos.simulator.cloud import Cloud
from tests.chaos.simulator.watch import Watch
from tests.chaos.simulator.world import Effect, Kind

pytestmark = pytest.mark.chaos

EXAMPLES = 1000 if os.environ.get("FANFOLD_CHAOS") == "all" else 80
# Three dead workers in a row make a record poison: that is what the rule is for, and no fault here
# may do it by chance. The jobs whose shards hold one record at times are left to single faults.
PLAYED = [it for it in SCENARIOS if it.name in {"words", "events", "newer first", "older first"}]


class Armed:
    """Faults for effects to come; one that does not apply to its effect waits for the next."""

    def __init__(self) -> None:
        self.waiting: dict[int, Kind] = {}
        self.struck: list[str] = []

    def at(self, effect: Effect) -> Kind | None:
        for number, kind in sorted(self.waiting.items()):
            if number <= effect.number and effect.actor != "person" and kind in kinds_for(effect):
                del self.waiting[number]
                self.struck.append(f"{kind} at {effect}")
                return kind
        return None


class Schedules(RuleBasedStateMachine):
    """One world, and everything that may happen to it."""

    cloud: Cloud
    watch: Watch
    armed: Armed

    @initialize(scenario=st.sampled_from(PLAYED))
    def begin(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.armed = Armed()
        self.cloud = Cloud(
            str(scenario.job),
            scenario.objects,
            self.armed,
            stops_after=scenario.stops_after,
            most_inline=scenario.most_inline,
        )
        self.cloud.__enter__()
        self.watch = Watch(self.cloud, {it.request.run_id: it.expected for it in scenario.runs})
        for asked in scenario.runs:
            self.cloud.start(asked.request)
            self.cloud.world.run(effects=3)

    @rule(effects=st.integers(1, 60))
    def go_on(self, effects: int) -> None:
        self.cloud.world.run(effects=effects)

    @rule(effects=st.integers(1, 80), kind=st.sampled_from(Kind))
    def arm(self, effects: int, kind: Kind) -> None:
        self.armed.waiting[len(self.cloud.world.trace) + effects] = kind

    @precondition(lambda self: self.cloud.world.processes)
    @rule(which=st.integers(0, 9))
    def crash(self, which: int) -> None:
        alive = self.cloud.world.processes
        self.cloud.world.kill(alive[which % len(alive)])

    @precondition(lambda self: self.cloud.world.processes)
    @rule(which=st.integers(0, 9), seconds=st.sampled_from([0.3, 1.0, 50.0, 370.0]))
    def hold(self, which: int, seconds: float) -> None:
        alive = self.cloud.world.processes
        self.cloud.world.hold(alive[which % len(alive)], seconds)

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
        self.cloud.cancel(asked.request.run_id)

    @rule(which=st.integers(0, 9))
    def deliver_once_more(self, which: int) -> None:
        letters = self.cloud.queue.letters
        if letters:
            self.cloud.queue.duplicate(letters[which % len(letters)])

    @invariant()
    def nothing_wrong_was_seen(self) -> None:
        if hasattr(self, "watch"):
            assert not self.watch.wrong, "\n".join([*self.watch.wrong, *self.armed.struck])

    def teardown(self) -> None:
        if not hasattr(self, "cloud"):
            return
        try:
            self.armed.waiting.clear()
            self.cloud.world.run()
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

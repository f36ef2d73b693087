"""Which faults apply to which effects, and one run with one of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from tests.chaos.playing import Ended, Scenario
from tests.chaos.scenarios import EXAMPLES_SPLIT, SCENARIOS
from tests.chaos.simulator.effects import Effect, Kind, OneFault
from tests.chaos.simulator.store import WRITES

COORDINATORS = frozenset({"plan", "reconcile", "publish"})
WORKERS = frozenset({"work", "bury"})
FUNCTIONS = COORDINATORS | WORKERS
CONDITIONAL = frozenset({"create", "replace"})
TAKEN_OVER = (Kind.TAKEN_OVER, Kind.TAKEN_OVER_LATE)
LATE = (Kind.LATE, Kind.LATE_TAKEN_OVER, Kind.LATE_CLEANED)
OPERATED = (
    Kind.REPAIRED,
    Kind.LOOKED_AFTER,
    Kind.REDONE,
    Kind.REDONE_AFTERWARDS,
    Kind.LEFT_FOR_A_DAY,
)
MOVED = (Kind.INPUT_CREATED, Kind.INPUT_OVERWRITTEN, Kind.INPUT_DELETED)
LEFT = (Kind.LEFT_FOR_A_MONTH, Kind.EXPIRED)
BY_A_PERSON = (
    *TAKEN_OVER,
    *LEFT,
    *MOVED,
    Kind.CANCELLED,
    Kind.REPAIRED,
    Kind.REDONE_AFTERWARDS,
    Kind.LEFT_FOR_A_DAY,
    Kind.DEPLOYED,
    Kind.LATE_TAKEN_OVER,
)
BESIDE = (*OPERATED, *LEFT, *MOVED, Kind.DEPLOYED, Kind.CLOCK_JUMPED)
UNANSWERED = (Kind.DELAYED, Kind.LOST)

ALL = os.environ.get("FANFOLD_CHAOS") == "all"
EVERY = 80

IN_A_FUNCTION = (
    Kind.ERROR_BEFORE,
    Kind.CRASH_BEFORE,
    Kind.CRASH_AFTER,
    Kind.THROTTLED,
    Kind.DELAYED,
    Kind.OVERTAKEN,
    Kind.IN_TURNS,
    Kind.CANCELLED,
    *TAKEN_OVER,
)
OF_A_SERVICE = {
    "invoke": (
        Kind.ERROR_BEFORE,
        Kind.ERROR_AFTER,
        Kind.THROTTLED,
        Kind.DELAYED,
        *TAKEN_OVER,
    ),
    "send": (
        Kind.ERROR_BEFORE,
        Kind.ERROR_AFTER,
        Kind.THROTTLED,
        Kind.DELAYED,
        Kind.TWICE,
        Kind.OUT_OF_ORDER,
        Kind.LOST,
        *TAKEN_OVER,
    ),
    "read items": (Kind.ERROR_BEFORE, Kind.TAKEN_OVER),
    "receive": (
        Kind.ERROR_BEFORE,
        Kind.ERROR_AFTER,
        Kind.THROTTLED,
        Kind.DELAYED,
        Kind.TWICE,
        Kind.OUT_OF_ORDER,
        *TAKEN_OVER,
    ),
    "delete": (Kind.ERROR_BEFORE, Kind.DELAYED, Kind.TWICE, Kind.TAKEN_OVER),
}


def kinds_for(effect: Effect) -> tuple[Kind, ...]:
    """The faults that make a difference at an effect.

    A service neither crashes nor has a deadline of its own; a read that fails after it took place
    is a read that failed; only a message can be delivered twice.
    """
    if effect.actor not in COORDINATORS | WORKERS:
        return OF_A_SERVICE[effect.operation]
    kinds = list(IN_A_FUNCTION)
    if effect.operation in WRITES:
        kinds += [Kind.ERROR_AFTER, Kind.UNKNOWN, *LATE]
    elif effect.operation == "answer":
        kinds += [Kind.ERROR_AFTER, *LATE]
    if effect.operation in CONDITIONAL:
        kinds.append(Kind.OWN_REFUSAL)
    if effect.actor in WORKERS:
        kinds.append(Kind.TWICE)
    return tuple(kinds)


def kinds_beside(scenario: Scenario, effect: Effect) -> tuple[Kind, ...]:
    """What may happen beside any effect of anybody, in the scenarios that are meddled with."""
    if not scenario.meddled:
        return ()
    kinds = [*OPERATED, *LEFT, Kind.DEPLOYED]
    if scenario.expect is not None:
        kinds += MOVED
    if effect.actor in FUNCTIONS:
        kinds.append(Kind.CLOCK_JUMPED)
    else:
        kinds.append(Kind.CANCELLED)
    return tuple(kinds)


@dataclass(frozen=True, slots=True)
class Case:
    """One run with one fault."""

    scenario: Scenario
    effect: Effect
    kind: Kind

    def __str__(self) -> str:
        return f"{self.scenario.name}: {self.kind} at {self.effect}"

    @property
    def sort(self) -> tuple[str, ...]:
        """What the case is like, whatever the scenario: one of every sort is always run."""
        if self.kind in BESIDE:
            return (self.kind, self.effect.actor, self.effect.operation)
        target = "/".join(self.effect.target.split("/")[-2:])
        target = re.sub(r"[0-9a-f]{16}|\d+(\.\d+)*", "#", target)
        return (self.kind, self.effect.actor, self.effect.operation, target)

    def play(self) -> Ended:
        """Run it.

        Raises:
            AssertionError: the run did not end, or not as it has to.
        """
        script = OneFault(self.effect.number, self.kind)
        try:
            ended = self.scenario.play(script)
            assert script.struck == self.effect, f"{script.struck} instead"
            if self.kind not in UNANSWERED:
                assert not ended.timed_out, f"nobody answered {ended.timed_out}"
            alone = self.kind not in BY_A_PERSON and self.scenario.fails_as is None
            if alone and not self.scenario.has_budget:
                usual = self.scenario
                assert ended.take_ups <= usual.take_ups, "a person had to take the run up again"
                assert ended.epochs <= usual.epochs, "another execution took over from a living one"
        except AssertionError as error:
            raise AssertionError(f"{self}\n{error}") from error
        return ended


@cache
def undisturbed(scenario_name: str) -> tuple[Effect, ...]:
    """The effects of a scenario in which nothing goes wrong."""
    return tuple(scenario_named(scenario_name).play().cloud.world.trace)


def scenario_named(name: str) -> Scenario:
    return next(it for it in (*SCENARIOS, *EXAMPLES_SPLIT) if it.name == name)


def all_cases(scenario: Scenario) -> Iterator[Case]:
    """Every fault that applies, at every effect of a named scenario."""
    return _cases(scenario, undisturbed(scenario.name))


def all_cases_of(scenario: Scenario) -> Iterator[Case]:
    """The same for a scenario of a test's own."""
    return _cases(scenario, scenario.play().cloud.world.trace)


def _cases(scenario: Scenario, effects: Sequence[Effect]) -> Iterator[Case]:
    for effect in effects:
        for kind in (*kinds_for(effect), *kinds_beside(scenario, effect)):
            yield Case(scenario, effect, kind)


@cache
def bounded_cases() -> tuple[Case, ...]:
    """One case of every sort, and others evenly over all scenarios."""
    first: dict[tuple[str, ...], Case] = {}
    rest: list[Case] = []
    for scenario in SCENARIOS:
        for case in all_cases(scenario):
            if case.sort in first:
                rest.append(case)
            else:
                first[case.sort] = case
    return (*first.values(), *rest[::EVERY])


def cases_of(scenario: Scenario) -> Sequence[Case]:
    """The cases of a scenario that are run: with FANFOLD_CHAOS=all, all of them."""
    if ALL:
        return list(all_cases(scenario))
    return [case for case in bounded_cases() if case.scenario is scenario]

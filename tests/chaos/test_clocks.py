"""Clocks that are wrong: every container has its own, up to ten minutes off, and they jump."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.chaos.faults import ALL, Case, all_cases_of
from tests.chaos.playing import Scenario
from tests.chaos.scenarios import COPIES, NEWER_FIRST, RECORDS, SLOW, SPLITS, WORDS
from tests.chaos.simulator.effects import Kind

pytestmark = pytest.mark.chaos

Skew = Callable[[int], float]
MOST_SECONDS = 600.0
SKEWS: dict[str, Skew] = {
    "ahead": lambda container: MOST_SECONDS,
    "behind": lambda container: -MOST_SECONDS,
    "in turns": lambda container: MOST_SECONDS if container % 2 else -MOST_SECONDS,
    "spread": lambda container: (container * 211) % 1201 - MOST_SECONDS,
}
PLAYED = (WORDS, SPLITS, RECORDS, COPIES, SLOW, NEWER_FIRST)
DISTURBED = (Kind.CRASH_AFTER, Kind.DELAYED, Kind.OVERTAKEN, Kind.TAKEN_OVER, Kind.CLOCK_JUMPED)
EVERY = 1 if ALL else 97


def skewed(scenario: Scenario, skew: Skew) -> Scenario:
    return replace(scenario, settings={**scenario.settings, "skew": skew})


@pytest.mark.parametrize("name", SKEWS)
@pytest.mark.parametrize("scenario", PLAYED, ids=lambda it: it.name)
def test_wrong_clocks_change_nothing(scenario: Scenario, name: str) -> None:
    ended = skewed(scenario, SKEWS[name]).play()
    assert ended.take_ups == 0


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scenario", [WORDS, COPIES], ids=lambda it: it.name)
def test_a_fault_among_wrong_clocks_changes_nothing(scenario: Scenario) -> None:
    wrong = skewed(scenario, SKEWS["spread"])
    cases: list[Case] = [case for case in all_cases_of(wrong) if case.kind in DISTURBED]
    failed = []
    for case in cases[::EVERY]:
        try:
            case.play()
        except AssertionError as error:
            failed.append(str(error))
    assert not failed, f"{len(failed)} failed:\n" + "\n\n".join(failed[:5])

"""Every single fault at every effect: the run ends, and its result is the same to the byte.

A scenario is played undisturbed first, which gives its effects; then once for each fault that
applies to each of them. `make test` plays one case of every sort and a share of the others,
`make chaos` (FANFOLD_CHAOS=all) plays all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from tests.chaos.faults import (
    ALL,
    all_cases,
    cases_of,
    kinds_beside,
    kinds_for,
    scenario_named,
    undisturbed,
)
from tests.chaos.scenarios import EXAMPLES, EXAMPLES_SPLIT, SCENARIOS
from tests.chaos.simulator.effects import Kind

pytestmark = pytest.mark.chaos

CHUNKS = 8
PLAYED = [it.name for it in SCENARIOS] + [
    it.name for it in EXAMPLES_SPLIT if ALL and it not in SCENARIOS
]


@pytest.mark.parametrize("name", PLAYED)
def test_an_undisturbed_run_gives_what_plain_code_gives(name: str) -> None:
    ended = scenario_named(name).play()
    assert ended.take_ups == scenario_named(name).take_ups


@pytest.mark.parametrize("name", PLAYED)
def test_a_schedule_can_be_repeated(name: str) -> None:
    assert tuple(scenario_named(name).play().cloud.world.trace) == undisturbed(name)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("name", PLAYED)
def test_a_single_fault_changes_nothing(name: str, chunk: int) -> None:
    failed = []
    for case in cases_of(scenario_named(name))[chunk::CHUNKS]:
        try:
            case.play()
        except AssertionError as error:
            failed.append(str(error))
    assert not failed, f"{len(failed)} failed:\n" + "\n\n".join(failed[:5])


@pytest.mark.parametrize(
    ("name", "actor"), [("redriven", "reconcile"), ("redone", "plan"), ("redone", "reconcile")]
)
def test_what_takes_a_run_up_again_is_done_once(name: str, actor: str) -> None:
    cases = [
        case
        for case in all_cases(scenario_named(name))
        if (case.effect.actor, case.effect.operation) == (actor, "replace")
        and case.kind in {Kind.CRASH_AFTER, Kind.OWN_REFUSAL}
    ]
    assert cases
    for case in cases:
        case.play()


def test_enough_is_played(record_property: Callable[[str, object], None]) -> None:
    """What issue and docs promise of the suite."""
    cases = [case for name in PLAYED for case in cases_of(scenario_named(name))]
    record_property("played", summary())
    assert len(cases) >= (45_000 if ALL else 2_500)
    assert {case.kind for case in cases} == set(Kind) - {Kind.DENIED}


def test_every_kind_of_fault_meets_every_effect_it_applies_to() -> None:
    met = {(case.effect.number, case.kind) for case in all_cases(SCENARIOS[0])}
    effects = undisturbed(SCENARIOS[0].name)
    assert [effect.number for effect in effects] == list(range(1, len(effects) + 1))
    beside = {(it.number, kind) for it in effects for kind in kinds_beside(SCENARIOS[0], it)}
    assert met == {(it.number, kind) for it in effects for kind in kinds_for(it)} | beside


def test_every_job_of_ours_is_played_with_splits() -> None:
    ours = {path.stem for path in EXAMPLES.glob("*.py")}
    assert ours == {scenario.job.stem for scenario in EXAMPLES_SPLIT}


def summary() -> str:
    """How much is played, for a report."""
    lines = []
    for name in PLAYED:
        cases = cases_of(scenario_named(name))
        lines.append(f"{name}: {len(undisturbed(name))} effects, {len(cases)} runs")
    kinds = Counter(case.kind for name in PLAYED for case in cases_of(scenario_named(name)))
    lines += [f"{kind}: {count}" for kind, count in kinds.most_common()]
    return "\n".join(lines)

"""Faults that stay: the execution ends all the same, by a name, soon, and with nothing published;
once the fault is gone, the same run id publishes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from coordinator.errors import FanfoldError, error_named
from tests.chaos.faults import ALL, FUNCTIONS, scenario_named, undisturbed
from tests.chaos.playing import take_up, verify_all
from tests.chaos.simulator.effects import Effect, Kind
from tests.chaos.simulator.store import WRITES
from tests.chaos.simulator.world import EPOCH

pytestmark = pytest.mark.chaos

PLAYED = ("words", "splits", "events", "copies")
# Of a state without a Catch: Reconcile, whose own end is the execution's.
OF_LAMBDA = frozenset(
    {"Runtime.ExitError", "Sandbox.Timedout", "Lambda.SdkClientException", "States.Timeout"}
)

MOST_INVOCATIONS = 250
MOST_WAVES = 40
MOST_SECONDS = 5 * 3600.0  # an hour a wave, where nobody can answer
MOST_EVENTS = 25_000
# Bury is given a dead letter every two minutes until the queue forgets it, which takes fourteen
# days: here, an hour.
DEAD_KEPT_SECONDS = 3600.0
MOST_BURIALS = int(DEAD_KEPT_SECONDS) // 120 + 1
READS = frozenset(
    {"get", "get_range", "open", "read", "list", "exists", "list inputs", "open input"}
)


@dataclass
class Lasting:
    """A fault at every effect of a sort, until it is gone."""

    applies: Callable[[Effect], bool]
    kind: Kind
    gone: bool = False
    struck: list[Effect] = field(default_factory=list)

    def at(self, effect: Effect) -> Kind | None:
        if self.gone or effect.actor == "person" or not self.applies(effect):
            return None
        self.struck.append(effect)
        return self.kind


@dataclass(frozen=True, slots=True)
class Fault:
    """What is always in the way, and of which effects."""

    name: str
    scenario: str
    kind: Kind
    applies: Callable[[Effect], bool]


def sort_of(target: str) -> str:
    """A key without what differs from run to run: where it lies, and what it is."""
    plain = re.sub(r"[0-9a-f]{16}|\d+(\.\d+)*", "#", target)
    return re.sub(r"^[\w-]+/(runs|published|results)/r#/", r"\1/", plain)


def of_a_function(function: str, operation: str | None) -> Callable[[Effect], bool]:
    return lambda effect: effect.actor == function and operation in {None, effect.operation}


def of_a_key(operation: str, sort: str) -> Callable[[Effect], bool]:
    def applies(effect: Effect) -> bool:
        ours = effect.actor in FUNCTIONS and effect.operation == operation
        return ours and sort_of(effect.target) == sort

    return applies


def faults_in(scenario: str) -> Iterator[Fault]:
    """Every function dies at its first effect, or at its first write; every kind of operation on
    every kind of key fails or is denied; nothing is sent, received or answered."""
    effects = undisturbed(scenario)
    for function in sorted(FUNCTIONS):
        for operation in (None, "get", "create", "put", "replace", "answer"):
            applies = of_a_function(function, operation)
            for kind in (Kind.CRASH_BEFORE, Kind.CRASH_AFTER):
                if any(map(applies, effects)):
                    yield Fault(f"{function} {kind} {operation}", scenario, kind, applies)
    sorts = {(it.operation, sort_of(it.target)) for it in effects if it.actor in FUNCTIONS}
    for operation, sort in sorted(sorts):
        if operation not in WRITES | READS:
            continue
        for kind in (Kind.ERROR_BEFORE, Kind.DENIED):
            applies = of_a_key(operation, sort)
            yield Fault(f"{operation} {sort} {kind}", scenario, kind, applies)
    for operation, kinds in {
        "send": (Kind.ERROR_BEFORE, Kind.LOST),
        "answer": (Kind.ERROR_BEFORE, Kind.DENIED),
        "invoke": (Kind.ERROR_BEFORE, Kind.ERROR_AFTER, Kind.DELAYED),
        "read items": (Kind.ERROR_BEFORE,),
        "receive": (Kind.THROTTLED,),
        "delete": (Kind.ERROR_BEFORE,),
    }.items():
        for kind in kinds:
            if any(it.operation == operation for it in effects):
                yield Fault(
                    f"{operation} {kind}",
                    scenario,
                    kind,
                    lambda it, op=operation: it.operation == op,  # type: ignore[misc]
                )


def play(fault: Fault) -> str:
    """Play it; says how it ended.

    Raises:
        AssertionError: not as it has to.
    """
    scenario = scenario_named(fault.scenario)
    script = Lasting(fault.applies, fault.kind)
    cloud, watch = scenario.begin(script)
    cloud.dead.kept_seconds = DEAD_KEPT_SECONDS
    with cloud:
        (asked,) = scenario.runs
        cloud.start(asked.request)
        cloud.world.run()
        assert script.struck, "the fault met nothing"
        (execution,) = cloud.executions
        run = cloud.record(asked.request.run_id) or {}
        seconds = execution.ended - EPOCH
        told = (
            f"{execution.status} {execution.error}, {len(cloud.invocations)} invocations, "
            f"{run.get('wave', 0)} waves, {seconds:.0f} seconds, {execution.events} events"
        )
        assert execution.status in {"FAILED", "SUCCEEDED"}, told
        published = cloud.is_published(asked.request.run_id)
        assert published == (execution.status == "SUCCEEDED"), told
        if execution.error is not None:
            name = execution.error[0]
            known = name in OF_LAMBDA or error_named(name).__name__ == name
            assert known, told
            assert issubclass(error_named(name), FanfoldError), told
        burials = Counter(
            it.event["Records"][0]["messageId"] for it in cloud.invocations if it.function == "bury"
        )
        assert max(burials.values(), default=0) <= MOST_BURIALS, told
        assert len(cloud.invocations) - burials.total() <= MOST_INVOCATIONS, told
        assert run.get("wave", 0) <= MOST_WAVES, told
        assert seconds <= MOST_SECONDS, told
        assert execution.events < MOST_EVENTS, told
        script.gone = True
        take_up(cloud, watch)
        watch.check_end()
        verify_all(cloud)
    return told


def played(scenario: str) -> list[Fault]:
    found = list(faults_in(scenario))
    return found if ALL else found[::EVERY]


EVERY = 6


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", PLAYED)
def test_a_fault_that_stays_ends_the_execution_by_a_name_and_soon(name: str) -> None:
    failed = []
    for fault in played(name):
        try:
            play(fault)
        except AssertionError as error:
            failed.append(f"{fault.name}: {error}")
    assert not failed, f"{len(failed)} failed:\n" + "\n\n".join(failed[:9])

"""Scenarios, how they are played, and what a person does when a run has ended unpublished."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from coordinator.keys import RunKeys
from coordinator.loading import LoadedJob
from coordinator.upkeep.verify import verify
from tests.chaos.simulator.cloud import Cloud
from tests.chaos.simulator.containers import Request, another_version
from tests.chaos.simulator.effects import DeniedOnce, Effect, Script, Undisturbed
from tests.chaos.simulator.watch import Expected, Watch

MOST_TAKE_UPS = 6
RAISED_DOLLARS = 1.0

Objects = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Asked:
    """One run of a scenario, when it is started, and what has to come of it."""

    request: Request
    expected: Expected
    after_seconds: float = 0.0


def lines_turned(body: bytes) -> bytes:
    """Other contents of the same kind: the last line comes first, and the first one twice."""
    lines = [line.rstrip(b"\n") + b"\n" for line in body.splitlines()]
    return b"".join([*lines[-1:], *lines[:-1], *lines[:1]])


@dataclass(frozen=True, slots=True)
class Scenario:
    """A job over some objects. `stops_after` says after how many records a guard trips.

    `expect` gives what has to come of other objects than these, which `rewrite` makes; without it
    the inputs can't move. `next_version` is what the job is deployed anew as. One that is `meddled`
    with is played with everything that may happen beside an effect. One that is `denied_once` fails
    there, and is redriven; with `redo` it is stopped when its merge is planned, and asked to redo
    what was quarantined.
    """

    name: str
    job: Path
    objects: Objects
    runs: tuple[Asked, ...]
    stops_after: Callable[[int], int | None] = lambda guard: None
    most_inline: int = 40
    needs: str | None = None
    fails_as: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    expect: Callable[[Objects], Expected] | None = None
    rewrite: Callable[[bytes], bytes] = lines_turned
    next_version: Callable[[LoadedJob], LoadedJob] = another_version
    meddled: bool = False
    denied_once: Callable[[Effect], bool] | None = None
    redo: bool = False

    @property
    def has_budget(self) -> bool:
        """Whether a fault may use up what its runs may cost, so that a person has to raise it."""
        return any("budget_dollars" in asked.request.limits for asked in self.runs)

    @property
    def take_ups(self) -> int:
        """How often its runs have to be taken up if nothing else goes wrong."""
        return int(self.denied_once is not None or self.has_budget)

    @property
    def epochs(self) -> int:
        """How many owners its runs have, one after the other, if nothing else goes wrong."""
        return 1 + self.take_ups + self.redo

    def begin(self, script: Script | None = None) -> tuple[Cloud, Watch]:
        """A cloud in which nothing has happened yet, and who watches it."""
        if self.denied_once is not None:
            script = DeniedOnce(self.denied_once, script or Undisturbed())
        cloud = Cloud(
            str(self.job),
            self.objects,
            script,
            stops_after=self.stops_after,
            most_inline=self.most_inline,
            **self.settings,
        )
        watch = Watch(cloud, {it.request.run_id: it.expected for it in self.runs})
        cloud.next_version = self.next_version
        cloud.people.rewrite = self.rewrite
        cloud.people.on_moved = watch.on_moved
        watch.retell = self.expect
        cloud.redrives = self.denied_once is not None
        if self.redo:
            watch.on_merge = cloud.people.redo_afterwards
        return cloud, watch

    def play(self, script: Script | None = None) -> Ended:
        """Run it to its end, taking it up again as a person would; then check what is left."""
        cloud, watch = self.begin(script)
        with cloud:
            for asked in self.runs:
                cloud.world.after(asked.after_seconds, partial(cloud.start, asked.request))
            cloud.world.run()
            take_ups = take_up(cloud, watch, self.fails_as)
            watch.check_end()
            verify_all(cloud)
            if self.fails_as is not None:
                last = cloud.executions[-1]
                assert last.error is not None, (last.status, last.output)
                assert last.error[0] == self.fails_as, last.error
            return Ended(cloud, take_ups, dict(watch.given_up))


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that is over, how often it had to be taken up, and which runs had to be given up."""

    cloud: Cloud
    take_ups: int
    given_up: Mapping[str, str]

    @property
    def timed_out(self) -> list[str]:
        """The tokens that only the safety net ended."""
        tokens = [token for it in self.cloud.executions for token in it.tokens]
        return [token.name for token in tokens if token.outcome == "timed out"]

    @property
    def epochs(self) -> int:
        """How many owners the run that had most of them had, one after the other."""
        records = map(self.cloud.record, self.cloud.requests)
        return max(int(record.get("epoch", 1)) for record in records if record)


def verify_all(cloud: Cloud) -> None:
    """`fanfold verify` finds nothing wrong with what is published.

    Raises:
        AssertionError: it does.
    """
    if cloud.people.damaged:
        return
    for run_id in filter(cloud.is_published, cloud.requests):
        found = list(verify(cloud.store, RunKeys(cloud.loaded.job.name, run_id)))
        assert not found, found


def take_up(cloud: Cloud, watch: Watch, fails_as: str | None = None) -> int:
    """Redrive, or start anew, what has ended without being published; how often it took. What can't
    be taken up any more, by its name, is begun under a new run id."""
    for take_ups in range(MOST_TAKE_UPS):
        unfinished = [
            run_id
            for run_id in cloud.requests
            if not cloud.is_published(run_id)
            and run_id not in watch.given_up
            and (watch.expected[run_id].results is not None or not _failed_as(cloud, fails_as))
        ]
        if not unfinished:
            return take_ups
        cloud.finish_deploying()
        for run_id in unfinished:
            last = cloud.executions_of(run_id)[-1]
            request = cloud.requests[run_id]
            if last.error is not None and last.error[0] == "LedgerBroken" and cloud.people.damaged:
                cloud.people.repair_again()
                cloud.world.run()
            if last.error is not None and last.error[0] == "BudgetExceeded":
                limits = {**request.limits, "budget_dollars": RAISED_DOLLARS}
                cloud.start(replace(request, limits=limits))
            elif last.error is not None and last.error[0] in cloud.people.excuses:
                _begin_anew(cloud, watch, request, last.error[0])
            elif (
                last.status == "FAILED"
                and (len(cloud.world.trace) % 2 or cloud.redrives)
                and last.input == request.as_input()
            ):
                last.redrive()
            elif last.status != "RUNNING":
                cloud.start(request)
        cloud.world.run()
    return MOST_TAKE_UPS


def _begin_anew(cloud: Cloud, watch: Watch, request: Request, error: str) -> None:
    run_id = f"{request.run_id}-anew"
    watch.given_up[request.run_id] = error
    expected = watch.expected[request.run_id]
    moved = watch.retell is not None and watch.bodies
    watch.expected[run_id] = watch.retell(cloud.objects) if watch.retell and moved else expected
    cloud.start(replace(request, run_id=run_id))


def _failed_as(cloud: Cloud, error: str | None) -> bool:
    """Whether a run that can't succeed has failed as it has to."""
    found = cloud.executions[-1].error
    return found is not None and found[0] == error

"""Runs that get no answers, that wait behind others, and that fail of what recovers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest

from tests.chaos.expectations import collected, copied
from tests.chaos.faults import scenario_named
from tests.chaos.playing import Scenario, take_up, verify_all
from tests.chaos.simulator.cloud import Cloud
from tests.chaos.simulator.effects import Effect, Kind, Script
from tests.chaos.simulator.machine import Execution
from tests.chaos.simulator.queue import Letter
from tests.chaos.simulator.world import EPOCH

pytestmark = pytest.mark.chaos

MINUTE, HOUR = 60.0, 3600.0


@dataclass
class Down:
    """No input can be read until a time; says when it was tried."""

    until: float

    def __post_init__(self) -> None:
        self.tried: list[float] = []
        self.cloud: Cloud | None = None

    def at(self, effect: Effect) -> Kind | None:
        if self.cloud is None or (effect.actor, effect.operation) != ("work", "open input"):
            return None
        self.tried.append(self.cloud.world.now - EPOCH)
        return Kind.ERROR_BEFORE if self.tried[-1] < self.until else None


@dataclass(frozen=True)
class Played:
    """A run under way: its cloud and its first execution."""

    cloud: Cloud
    execution: Execution

    @property
    def hours(self) -> float:
        """How long the execution took."""
        return (self.execution.ended - EPOCH) / HOUR

    @property
    def error(self) -> str | None:
        return self.execution.error and self.execution.error[0]

    def sent(self) -> list[int]:
        """How many messages were sent in each wave."""
        waves = [token.message["wave"] for token in self.execution.tokens]
        return [waves.count(wave) for wave in sorted(set(waves))]

    def waves(self) -> list[float]:
        """When each wave was sent."""
        first: dict[int, float] = {}
        for token in self.execution.tokens:
            first.setdefault(token.message["wave"], token.sent_at - EPOCH)
        return [first[wave] for wave in sorted(first)]


@contextmanager
def played(
    scenario: Scenario, *, workers: int = 3, script: Script | None = None
) -> Iterator[Played]:
    """Start the run with so many workers. Afterwards there are some, and it is taken up until it is
    published, and checked."""
    cloud, watch = scenario.begin(script)
    if isinstance(script, Down):
        script.cloud = cloud
    with cloud:
        cloud.queue.lanes = workers
        (asked,) = scenario.runs
        yield Played(cloud, cloud.start(asked.request))
        cloud.queue.lanes = 3
        take_up(cloud, watch)
        watch.check_end()
        verify_all(cloud)


def with_limits(scenario: Scenario, **limits: object) -> Scenario:
    (asked,) = scenario.runs
    request = replace(asked.request, limits={**asked.request.limits, **limits})
    return replace(scenario, runs=(replace(asked, request=request),))


@pytest.mark.parametrize("name", ["words", "splits", "events", "copies"])
def test_a_run_whose_workers_do_not_start_is_given_up_after_two_hours(name: str) -> None:
    with played(scenario_named(name), workers=0) as run:
        run.cloud.world.run()

        assert run.error == "RunStalled"
        assert 1.5 <= run.hours <= 2.2
        assert len(run.waves()) == 2


def test_a_large_wave_is_given_up_with_the_children_that_are_open_first() -> None:
    """And not with the last of them, which would be as many hours later as there are more."""
    scenario = scenario_named("copies")
    blobs = {f"s3://in/{number:02}.txt": b"blob" for number in range(30)}
    (asked,) = scenario.runs
    many = replace(
        scenario, objects=blobs, runs=(replace(asked, expected=copied(blobs)),), most_inline=1
    )

    with played(with_limits(many, shard_items=1, concurrency=2), workers=0) as run:
        run.cloud.world.run()

        assert run.error == "RunStalled"
        assert run.hours <= 2.2
        assert run.sent() == [11]  # six are open, and each but the last makes room for another


def test_a_run_whose_messages_wait_behind_others_is_not_given_up() -> None:
    with played(scenario_named("words"), workers=0) as run:
        queue, world = run.cloud.queue, run.cloud.world
        other = Letter("{}", world.now + 12 * HOUR, "work-other", receives=1, sent_at=world.now)
        queue.letters.append(other)

        def serve() -> None:
            queue.letters.remove(other)
            queue.lanes = 3
            queue.poll()

        world.after(3.5 * HOUR, serve)
        world.run()

        assert run.execution.status == "SUCCEEDED"
        assert run.hours >= 3.5


def test_a_run_with_fewer_workers_than_it_asked_for_takes_its_time_and_no_more() -> None:
    """Messages wait for longer than their children do. What one wave has sent is done all the same,
    and the next one asks for the rest."""
    scenario = scenario_named("slow")
    objects = {f"s3://in/{number:03}.txt": b"a 1\nb 2\n" for number in range(200)}
    (asked,) = scenario.runs
    slow = replace(
        scenario,
        objects=objects,
        runs=(replace(asked, expected=collected(objects, 1)),),
        most_inline=1,
    )

    with played(with_limits(slow, shard_items=1, partitions=1), workers=1) as run:
        run.cloud.world.run()

        assert run.execution.status == "SUCCEEDED"
        assert "timed out" in {token.outcome for token in run.execution.tokens}
        assert run.hours <= 1.05 * 200 * 26.0 / HOUR


def test_a_run_fails_of_what_is_down_for_good_after_growing_pauses() -> None:
    down = Down(until=100 * HOUR)
    with played(with_limits(scenario_named("words"), waves=4), script=down) as run:
        run.cloud.world.run()

        assert run.error == "ShardsFailed"
        assert run.hours <= 1.0
        between = [later - sooner for sooner, later in pairwise(run.waves())]
        assert between == sorted(between)
        assert [30 <= between[0] <= 2 * MINUTE, len(between)] == [True, 3]
        assert 7.5 * MINUTE <= between[2] <= 17 * MINUTE
        down.until = 0.0


def test_a_run_outlasts_what_is_down_for_a_quarter_of_an_hour() -> None:
    down = Down(until=15 * MINUTE)
    with played(with_limits(scenario_named("words"), waves=5), script=down) as run:
        run.cloud.world.run()

        assert run.execution.status == "SUCCEEDED"
        assert run.hours <= 0.6


def test_an_execution_that_hangs_is_ended_and_the_same_run_id_goes_on() -> None:
    with played(scenario_named("words"), workers=0) as run:

        def hang() -> None:
            for token in run.execution.tokens:
                assert token.timer is not None
                token.timer.off = True

        run.cloud.world.after(10 * MINUTE, hang)
        run.cloud.world.run()

        assert run.execution.status == "TIMED_OUT"
        assert run.hours == 29 * 24

"""A run on one machine, from what is asked to what is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from coordinator.errors import InputInvalid, InputUnreadable, NoInput, ToleranceExceeded
from coordinator.formats.lines import Lines
from coordinator.job import Job
from coordinator.limits import Limits
from coordinator.machine.local import Crew, LocalRun, Watch, run
from coordinator.model import RunRecord, Stage
from coordinator.state import runs
from coordinator.steps.attempts import Verdict
from coordinator.steps.publish import Published
from coordinator.store.memory import MemoryInputs, MemoryStore
from coordinator.testing import PROGRAM, InlineCrew
from tests.support import World, a_job, words

NOON = 1_700_000_000.0


class Telling(Watch):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def claimed(self, run: RunRecord) -> None:
        self.told.append(("claimed", run.run_id))

    def planning(self) -> None:
        self.told.append("planning")

    def wave(self, run: RunRecord, stage: Stage, wave: int, shards: int) -> None:
        self.told.append((stage, wave, shards))

    def heard(self, verdict: Verdict) -> None:
        self.told.append(verdict.verdict)

    def publishing(self) -> None:
        self.told.append("publishing")


def asked(world: World, **more: Any) -> LocalRun:
    """A run as the least that can be said of it."""
    return LocalRun(
        job=world.job,
        run_id="r1",
        patterns=("**",),
        store=world.store,
        inputs=world.inputs,
        clock=lambda: NOON,
        code_version=PROGRAM.version,
        **more,
    )


def publish(world: World, watch: Watch | None = None, **more: Any) -> Published:
    crew = InlineCrew(world.job, world.store, world.inputs, lambda: NOON)
    return run(asked(world, **more), crew, watch or Telling())


@pytest.fixture
def world() -> World:
    """Three inputs of a shard each, and a reduce."""
    job = words()
    job.limits = Limits(shard_items=1, waves=3)
    return World(job, {"a": b"to be\n", "b": b"or not\n", "c": b"to be\n"})


def test_a_run_tells_how_far_it_is(world: World) -> None:
    watch = Telling()

    publish(world, watch)

    assert watch.told == [
        *(("claimed", "r1"), "planning"),
        *(("map", 1, 3), "answered", "answered", "answered"),
        *(("reduce", 2, 1), "answered"),
        *(("merge", 3, 1), "answered"),
        "publishing",
    ]


def test_a_run_that_was_published_is_neither_planned_nor_worked_on_again(world: World) -> None:
    first, watch = publish(world), Telling()

    again = publish(world, watch)

    assert watch.told == []
    assert again.manifest == first.manifest
    assert (first.pointer_moved, again.pointer_moved) == (True, True)


def test_a_run_on_ones_own_machine_costs_nothing(world: World) -> None:
    assert publish(world).manifest.cost.dollars == 0


def test_a_run_stands_for_the_time_at_which_it_began_unless_it_is_given(world: World) -> None:
    assert publish(world).manifest.logical_time == NOON

    other = World(world.job, world.bodies)
    assert publish(other, logical_time=3.0).manifest.logical_time == 3.0


def test_a_run_keeps_the_limits_that_were_changed_for_it(world: World) -> None:
    publish(world, limits={"attempts": 2})

    assert world.record().limits == {"attempts": 2}
    assert world.record().tenure.waves == 3


def test_an_owner_that_is_found_has_ended(world: World) -> None:
    """Whoever has the run's lock is alone."""

    class Interrupted(Crew):
        def work(self, *of: Any) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(asked(world), Interrupted(), Telling())
    before = world.record()

    publish(world)

    assert world.record().epoch == before.epoch + 1
    assert world.record().owner != before.owner


def test_nothing_is_begun_over_no_input(world: World) -> None:
    empty = World(world.job, {})

    with pytest.raises(NoInput, match=r"No input matches \*\* \(the job reads names like \*"):
        publish(empty)

    assert runs.find(empty.store, empty.keys) is None


def test_nothing_is_begun_over_an_input_whose_name_the_source_does_not_take() -> None:
    world = World(a_job(Lines()), {"a.zip": b"PK"})

    with pytest.raises(InputInvalid, match=r"a\.zip"):
        publish(world)

    assert runs.find(world.store, world.keys) is None


def test_a_run_that_is_begun_may_be_taken_up_when_its_inputs_are_gone() -> None:
    """All that it reads has been read; what is left needs none of it."""
    fails = True

    def reduce(word: str, values: Iterator[int]) -> str:
        if fails:
            raise InputUnreadable("Not yet.")
        return word

    job = Job("job", Lines(), limits=Limits(attempts=1))
    job.map(lambda line: [(line, 1)])
    job.reduce(reduce)
    world = World(job, {"a": b"x\n"})
    with pytest.raises(InputUnreadable):
        publish(world)
    fails = False
    world.inputs = MemoryInputs({})

    assert publish(world).manifest.stages["map"].records_in == 1


# What ends a wave early ---------------------------------------------------------------------------


def refuse(line: str) -> list[str]:
    if line.startswith("bad"):
        raise ValueError("bad")
    return [line]


def test_a_wave_ends_at_the_shard_with_which_more_is_refused_than_is_tolerated() -> None:
    job = a_job(Lines(), refuse, limits=Limits(shard_items=1, tolerated=1))
    world = World(job, {"a": b"bad\n", "b": b"good\n", "c": b"bad\n", "d": b"good\n"})
    watch = Telling()

    with pytest.raises(ToleranceExceeded, match="2 records were quarantined"):
        publish(world, watch)

    assert watch.told[2:] == [("map", 1, 4), "answered", "answered", "answered"]


def test_what_a_map_refused_is_not_counted_again_in_the_stages_after_it() -> None:
    job = a_job(Lines(), refuse, limits=Limits(shard_items=1, tolerated=1))
    world = World(job, {"a": b"bad\n", "b": b"good\n"}, store=MemoryStore())

    assert publish(world).manifest.quarantined == 1


def test_an_error_that_is_fatal_to_the_run_is_heard_and_ends_its_wave() -> None:
    def fail(line: str) -> list[str]:
        raise InputUnreadable("The rates can't be read.")

    job = a_job(Lines(), fail, limits=Limits(shard_items=1))
    world, watch = World(job, {"a": b"1\n", "b": b"2\n"}), Telling()

    with pytest.raises(InputUnreadable, match="The rates can't be read"):
        publish(world, watch)

    assert watch.told[2:] == [("map", 1, 2), "failed"]

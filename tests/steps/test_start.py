"""Start: the run that a trigger asks for, as it is claimed."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.errors import RunBusy, RunMismatch, Superseded
from coordinator.formats.lines import Lines
from coordinator.ids import execution_run_id
from coordinator.limits import Limits
from coordinator.model import RunRecord
from coordinator.rules.starts import Started
from coordinator.state import runs
from coordinator.steps.plan import start
from coordinator.store.memory import MemoryInputs
from tests.support import World, a_job, pin

LIMITS = Limits(waves=3, tolerated=5)
STARTED = 50.0
LIST = "s3://lake/day.inputs.json"


def a_world() -> World:
    bodies = {
        LIST: b'{"inputs": ["s3://lake/one", "s3://lake/two"]}',
        "s3://lake/day": b"x\n",
        "s3://lake/day.txt": b"y\n",
    }
    world = World(a_job(Lines(), limits=LIMITS), bodies)
    world.inputs = MemoryInputs(bodies, page_size=1)
    return world


def started(world: World, event: object, **asked: Any) -> RunRecord:
    trigger = Started(event, "by-hand", STARTED, ("s3://lake/",), world.job.limits)
    given = {"owner": "owner", "redrives": 2, "draft": "draft", "code_version": "test", "now": 70.0}
    return start(
        world.store,
        world.inputs,
        world.job,
        trigger,
        **{**given, "is_live": lambda owner: False, **asked},
    )


def uploaded(world: World, address: str) -> dict[str, Any]:
    """What S3 says of an object that has just been uploaded."""
    bucket, key = address.removeprefix("s3://").split("/", 1)
    item = {"key": key, "etag": pin(world.inputs, address).etag}
    return {
        "detail-type": "Object Created",
        "time": "2026-11-21T05:00:00Z",
        "detail": {"bucket": {"name": bucket}, "object": item},
    }


def test_a_run_is_claimed_as_it_was_asked_for() -> None:
    world = a_world()

    run = started(world, {"limits": {"waves": 7}, "inputs": ["s3://lake/x"]})

    assert run.run_id == execution_run_id("by-hand")
    assert run == runs.read(world.store, runs.keys_of(run))
    assert (run.owner, run.code_version) == ("owner", "test")
    assert (run.created, run.logical_time, run.source_key) == (70.0, STARTED, None)
    assert run.inputs == ("s3://lake/x",)
    assert run.limits == {"waves": 7}
    assert (run.tenure.waves, run.tenure.redrives) == (7, 2)
    expected = world.job.with_limits(LIMITS.model_copy(update={"waves": 7}))
    assert run.declaration == expected.declaration()


def test_the_limits_that_shape_a_plan_are_those_that_were_asked_for() -> None:
    world = a_world()

    run = started(world, {"run_id": "r1", "limits": {"shard_bytes": 77}})

    limits = LIMITS.model_copy(update={"shard_bytes": 77})
    assert run.declaration == world.job.with_limits(limits).declaration()
    assert run.declaration != world.job.declaration()


def test_a_run_is_taken_over_from_an_owner_that_has_ended_and_from_no_other() -> None:
    world = a_world()
    first = started(world, {"run_id": "r1"})

    with pytest.raises(RunBusy, match="is being executed by owner"):
        started(world, {"run_id": "r1"}, owner="second", is_live=lambda owner: owner == "owner")
    second = started(world, {"run_id": "r1"}, owner="second", code_version="new")

    assert (second.owner, second.code_version) == ("second", "new")
    assert (second.created, second.epoch) == (first.created, first.epoch + 1)


def test_an_upload_starts_a_run_over_the_object() -> None:
    world = a_world()

    run = started(world, uploaded(world, "s3://lake/day.txt"))

    assert run.inputs == ("s3://lake/day.txt",)
    assert run.source_key == "s3://lake/day.txt"


def test_an_uploaded_list_starts_a_run_over_what_it_lists() -> None:
    world = a_world()

    run = started(world, uploaded(world, LIST))

    assert run.inputs == ("s3://lake/one", "s3://lake/two")
    assert run.source_key == LIST


def test_what_is_listed_beside_an_upload_is_not_taken_for_it() -> None:
    """An address may be a prefix of others, and is listed among them."""

    class Beside(MemoryInputs):
        def _matcher(self, pattern: str) -> Any:
            return lambda key: True

    world = a_world()
    event = uploaded(world, "s3://lake/day.txt")
    world.inputs = Beside(world.bodies, page_size=9)

    run = started(world, event)

    assert run.source_key == "s3://lake/day.txt"


def test_an_upload_that_is_gone_starts_nothing() -> None:
    world = a_world()
    event = uploaded(world, "s3://lake/day")
    del world.bodies["s3://lake/day"]  # the prefix now finds its neighbours alone

    with pytest.raises(Superseded, match="has been replaced or deleted"):
        started(world, event)
    assert [*world.store.list("")] == []


# ------------------------------------------------------------------------------------------------
# Doing again what was quarantined
# ------------------------------------------------------------------------------------------------


def with_quarantine() -> World:
    """A run that has ended because too many records were refused, in one shard of two."""

    def strict(line: str) -> list[str]:
        if line == "odd":
            raise ValueError("odd")
        return [line]

    job = a_job(Lines(), strict, limits=Limits(tolerated=0.01))
    world = World(job, {"a": b"even\n", "b": b"odd\n"}, shard_bytes=4)
    with pytest.raises(Exception, match="1 records were quarantined"):
        world.run()
    return world


def test_a_redo_drafts_the_map_anew_and_a_start_without_one_does_not() -> None:
    world = with_quarantine()
    before = world.record()

    plain = started(world, {"run_id": "r1"})
    again = started(world, {"run_id": "r1", "redo": "quarantined"})

    assert (plain.redrafts, plain.plans) == (0, before.plans)
    assert (again.redrafts, again.plans["map"].draft) == (1, "draft")
    assert again == world.record()


def test_a_redo_of_a_run_in_which_nothing_was_refused_changes_nothing() -> None:
    world = a_world()
    planning = started(world, {"run_id": "r1"})

    assert started(world, {"run_id": "r1", "redo": "quarantined"}) == planning


def test_a_redo_of_a_published_run_is_refused_before_it_is_claimed() -> None:
    world = World(a_job(Lines()), {"a": b"x\n"})
    world.run()
    before = world.record()

    with pytest.raises(RunMismatch, match="is published: what it quarantined stays so"):
        started(world, {"run_id": "r1", "redo": "quarantined"}, owner="second")
    assert world.record() == before

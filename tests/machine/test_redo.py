"""Shards with refused records, done again on one machine."""

from __future__ import annotations

import pytest

from coordinator.errors import RunMismatch, ToleranceExceeded
from coordinator.formats.lines import Lines
from coordinator.limits import Limits
from tests.machine.test_local import Telling, publish
from tests.support import World, a_job


def test_what_was_refused_is_done_again_and_nothing_else() -> None:
    mapped: list[str] = []
    mended = False

    def few(line: str) -> list[str]:
        mapped.append(line)
        if line == "bad" and not mended:
            raise ValueError("bad")
        return [line]

    job = a_job(Lines(), few, limits=Limits(shard_items=1, tolerated=0.01))
    world = World(job, {"a": b"good\n", "b": b"bad\n", "c": b"fine\n"})
    with pytest.raises(ToleranceExceeded):
        publish(world)
    mended = True
    mapped.clear()
    watch = Telling()

    published = publish(world, watch, redo=True)

    assert mapped == ["bad"]
    assert published.manifest.quarantined == 0
    assert watch.told[0] == ("claimed", "r1")


def test_nothing_of_a_published_run_is_done_again_and_its_owner_stays() -> None:
    world = World(a_job(Lines()), {"a": b"good\n"})
    publish(world)
    before = world.record()

    with pytest.raises(RunMismatch, match="what it quarantined stays so"):
        publish(world, redo=True)

    assert world.record() == before


def test_a_run_that_is_not_there_is_begun() -> None:
    world = World(a_job(Lines()), {"a": b"good\n"})

    assert publish(world, redo=True).manifest.stages["map"].records_in == 1


def test_a_share_is_judged_when_all_records_are_known() -> None:
    def few(line: str) -> list[str]:
        if line == "bad":
            raise ValueError("bad")
        return [line]

    job = a_job(Lines(), few, limits=Limits(shard_items=1, tolerated=0.5))
    world = World(job, {"a": b"bad\n", "b": b"good\n"})

    assert publish(world).manifest.quarantined == 1

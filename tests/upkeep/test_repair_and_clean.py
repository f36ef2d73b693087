"""Repair and clean: what is set aside is done again, and what is removed is missed by no one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from coordinator.errors import FanfoldError, LedgerBroken, RunMismatch
from coordinator.formats.lines import Lines
from coordinator.formats.objects import Blob, Objects
from coordinator.limits import Limits
from coordinator.machine.local import Hear
from coordinator.model import Message, RunRecord
from coordinator.state import runs
from coordinator.store.memory import MemoryStore
from coordinator.testing import InlineCrew
from coordinator.upkeep import clean as cleaning
from coordinator.upkeep.repair import repair
from tests.support import World, a_job, words

BODIES = {"a": b"to be or\nnot \xff\nto be\n", "b": b"that is\nthe question", "c": b"x\n" * 5}
DAY = 86_400.0


class Stopped(Exception):
    """The run ends here."""


@dataclass
class StopBefore:
    """A crew that works on `shards` shards of a stage, and then the run ends."""

    world: World
    stage: str
    shards: int = 0

    def work(self, run: RunRecord, messages: Sequence[Message], hear: Hear) -> None:
        crew = InlineCrew(self.world.job, self.world.store, self.world.inputs, self.world.clock)
        if messages[0].stage == self.stage:
            crew.work(run, messages[: self.shards], hear)
            raise Stopped
        crew.work(run, messages, hear)


def a_world() -> World:
    job = words()
    job.limits = Limits(tolerated=5, reduce_bytes=20)
    return World(job, dict(BODIES), shard_bytes=8)


def stopped(stage: str, shards: int = 0) -> World:
    world = a_world()
    with pytest.raises(Stopped):
        world.run(StopBefore(world, stage, shards))
    return world


def expected() -> bytes:
    world = a_world()
    world.run()
    return world.body("job/results/r1/job.jsonl")


def fix(world: World) -> list[tuple[str, str]]:
    return [(entry.stage, entry.shard) for entry in repair(world.store, world.keys, owner="repair")]


def cut_short(body: bytes) -> bytes:
    return body[:-1]


def one_bit(body: bytes) -> bytes:
    return body[:5] + bytes([body[5] ^ 1]) + body[6:]


def nothing(body: bytes) -> bytes:
    return b""


ENTRIES = ["/map/ledger/1.json", "/reduce/ledger/0.json"]
FILES = ["/map/parts/1-", "/map/quarantine/", "/reduce/parts/0-"]


@pytest.mark.parametrize(
    ("part", "damage"),
    [
        *((part, damage) for part in ENTRIES for damage in (cut_short, one_bit, nothing)),
        *((part, damage) for part in FILES for damage in (cut_short, one_bit, nothing, None)),
    ],
)
def test_a_repaired_run_ends_as_an_undamaged_one(
    part: str, damage: Callable[[bytes], bytes] | None
) -> None:
    world = stopped("merge")
    key = next(stat.key for stat in world.store.list("") if part in stat.key)
    if damage is None:
        world.store.delete([key])
    else:
        world.overwrite(key, damage(world.body(key)))

    removed = fix(world)
    world.run()

    assert removed
    assert world.body("job/results/r1/job.jsonl") == expected()
    assert world.findings() == []


@pytest.mark.parametrize("part", ["/map/parts/1-", "/map/parts/3-"])
def test_a_damaged_part_stops_the_run_until_it_is_repaired(part: str) -> None:
    world = stopped("reduce")
    key = next(stat.key for stat in world.store.list("") if part in stat.key)
    world.overwrite(key, world.body(key).replace(b'"', b"'"))

    with pytest.raises(LedgerBroken, match=f"{key} is missing or is not what its entry says"):
        world.run()
    assert fix(world)[0][0] == "map"
    world.run()

    assert world.body("job/results/r1/job.jsonl") == expected()


@pytest.mark.parametrize("damage", [cut_short, one_bit, nothing, lambda body: b"\n" + body])
def test_a_damaged_part_of_objects_is_to_blame_and_not_the_job(
    damage: Callable[[bytes], bytes],
) -> None:
    job = a_job(Lines(), lambda line: [Blob(f"{line}.txt", line.encode())], sink=Objects())
    world = World(job, {"a": b"one\ntwo\n"})
    with pytest.raises(Stopped):
        world.run(StopBefore(world, "merge"))
    key = next(stat.key for stat in world.store.list("") if "/map/parts/" in stat.key)
    world.overwrite(key, damage(world.body(key)))

    with pytest.raises(LedgerBroken, match=f"{key} is missing or is not what its entry says"):
        world.run()
    assert fix(world) == [("map", "0")]
    world.run()

    assert world.body("job/results/r1/one.txt") == b"one"
    assert world.findings() == []


@pytest.mark.parametrize("stage", ["map", "reduce", "merge"])
def test_nothing_is_set_aside_where_nothing_is_broken(stage: str) -> None:
    world = stopped(stage, shards=1)
    before = {stat.key: stat.tag for stat in world.store.list("")}

    assert fix(world) == []
    assert before == {stat.key: stat.tag for stat in world.store.list("")}


def test_what_is_set_aside_is_kept() -> None:
    world = stopped("reduce")
    key = world.keys.entry("map", "0")
    world.overwrite(key, b"broken")

    assert fix(world) == [("map", "0")]

    [kept] = [stat.key for stat in world.store.list("") if "/broken/" in stat.key]
    assert world.body(kept) == b"broken"
    assert not world.store.exists(key)


def test_whoever_still_works_on_a_repaired_run_is_fenced_off() -> None:
    world = stopped("reduce")
    before = world.record()
    world.overwrite(world.keys.entry("map", "0"), b"broken")

    fix(world)

    assert world.record().epoch == before.epoch + 1
    with pytest.raises(FanfoldError):
        runs.change_own(world.store, before, lambda found: found.model_copy(update={"wave": 9}))


def test_a_published_run_is_not_repaired() -> None:
    world = a_world()
    world.run()

    with pytest.raises(RunMismatch, match="is published, and its results stand"):
        fix(world)


def test_a_run_with_a_manifest_is_not_repaired_even_if_it_was_stopped_while_publishing() -> None:
    """Its manifest is what readers go by, whatever `run.json` says."""
    world = a_world()
    world.run()
    runs.change(
        world.store, world.keys, lambda found: found.model_copy(update={"state": "running"})
    )
    key = next(stat.key for stat in world.store.list("") if "/map/parts/1-" in stat.key)
    world.overwrite(key, b"broken")

    with pytest.raises(RunMismatch, match="is published"):
        fix(world)


# ------------------------------------------------------------------------------------------------
# Clean
# ------------------------------------------------------------------------------------------------


def clean(world: World, *, dry: bool = False, days: float = 2) -> set[str]:
    """What was removed."""
    before = {stat.key for stat in world.store.list("")}
    cleaning.clean(world.store, world.keys, now=world.clock() + days * DAY, dry=dry)
    return before - {stat.key for stat in world.store.list("")}


def timed_world() -> World:
    world = a_world()
    world.store = MemoryStore(clock=lambda: 1_700_000_000.0)
    return world


def test_a_cleaned_run_is_still_proven_and_its_results_stay() -> None:
    world = timed_world()
    world.run()
    result = world.body("job/results/r1/job.jsonl")

    removed = clean(world)

    assert {key.split("/")[4] for key in removed} == {"parts"}
    assert world.findings() == []
    assert world.body("job/results/r1/job.jsonl") == result
    assert world.run().manifest.run_id == "r1"


@pytest.mark.parametrize("stage", ["map", "reduce", "merge"])
def test_an_unpublished_run_is_taken_up_after_it_was_cleaned(stage: str) -> None:
    world = timed_world()
    with pytest.raises(Stopped):
        world.run(StopBefore(world, stage, 1))
    stray = world.keys.part("map", "0", "stray", "pairs")
    world.store.create(stray, b"left behind")

    assert clean(world) == {stray}
    world.run()

    assert world.body("job/results/r1/job.jsonl") == expected()


def test_a_run_that_changed_today_is_left_alone() -> None:
    world = timed_world()
    world.run()

    assert clean(world, days=0.5) == set()
    assert clean(world, dry=True) == set()

"""Repair and clean: what is set aside is done again, and what is removed is missed by no one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from coordinator.errors import Changed, FanfoldError, LedgerBroken, RunMismatch
from coordinator.formats.lines import Lines
from coordinator.formats.objects import Blob, Objects
from coordinator.ids import new_draft
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
    return result(a_world())


def result(world: World) -> bytes:
    """What a run gives; a stage that was drafted anew has a folder of its own for its results."""
    manifest = world.run().manifest
    return world.body(f"{manifest.results_prefix}job.jsonl")


def find(world: World, pattern: str) -> str:
    return next(stat.key for stat in world.store.list("") if re.search(pattern, stat.key))


def fix(world: World) -> list[tuple[str, str]]:
    return [
        (entry.stage, entry.shard)
        for entry in repair(world.store, world.keys, owner="repair", draft=new_draft())
    ]


def cut_short(body: bytes) -> bytes:
    return body[:-1]


def one_bit(body: bytes) -> bytes:
    return body[:5] + bytes([body[5] ^ 1]) + body[6:]


def nothing(body: bytes) -> bytes:
    return b""


ENTRIES = ["/map/.*/ledger/1.json", "/reduce/.*/ledger/0.json"]
FILES = ["/map/.*/parts/1-", "/map/.*/quarantine/", "/reduce/.*/parts/0-"]


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
    key = find(world, part)
    if damage is None:
        world.store.delete([key])
    else:
        world.overwrite(key, damage(world.body(key)))

    removed = fix(world)

    assert removed
    assert result(world) == expected()
    assert world.findings() == []


@pytest.mark.parametrize("part", ["/map/.*/parts/1-", "/map/.*/parts/3-"])
def test_a_damaged_part_stops_the_run_until_it_is_repaired(part: str) -> None:
    world = stopped("reduce")
    key = find(world, part)
    world.overwrite(key, world.body(key).replace(b'"', b"'"))

    with pytest.raises(LedgerBroken, match=f"{key} is missing or is not what its entry says"):
        world.run()
    assert fix(world)[0][0] == "map"

    assert result(world) == expected()


@pytest.mark.parametrize("damage", [cut_short, one_bit, nothing, lambda body: b"\n" + body])
def test_a_damaged_part_of_objects_is_to_blame_and_not_the_job(
    damage: Callable[[bytes], bytes],
) -> None:
    job = a_job(Lines(), lambda line: [Blob(f"{line}.txt", line.encode())], sink=Objects())
    world = World(job, {"a": b"one\ntwo\n"})
    with pytest.raises(Stopped):
        world.run(StopBefore(world, "merge"))
    key = find(world, "/map/.*/parts/")
    world.overwrite(key, damage(world.body(key)))

    with pytest.raises(LedgerBroken, match=f"{key} is missing or is not what its entry says"):
        world.run()
    assert fix(world) == [("map", "0")]
    manifest = world.run().manifest

    assert world.body(f"{manifest.results_prefix}one.txt") == b"one"
    assert world.findings() == []


def test_the_results_of_a_merge_that_was_repaired_lie_in_one_folder() -> None:
    job = a_job(Lines(), lambda line: [Blob(f"{line}.txt", line.encode())], sink=Objects())
    world = World(job, {"a": b"one\n", "b": b"two\n", "c": b"six\n"}, shard_bytes=4)
    with pytest.raises(Stopped):
        world.run(StopBefore(world, "merge", 2))
    world.overwrite(find(world, "/merge/.*/ledger/0"), b"broken")

    fix(world)
    folder = world.run().manifest.results_prefix

    found = {stat.key for stat in world.store.list(folder)}
    assert found == {f"{folder}{name}.txt" for name in ("one", "two", "six")}
    assert world.findings() == []


class RefusedOnce(MemoryStore):
    """The first compare-and-swap takes place, and its answer is that another was faster."""

    refused = False

    def replace(self, key: str, body: bytes, tag: str) -> str:
        found = super().replace(key, body, tag)
        if not self.refused:
            self.refused = True
            raise Changed(f"{key} is another version.")
        return found


def test_a_repair_that_is_refused_for_its_own_first_try_is_done() -> None:
    world = stopped("reduce")
    world.overwrite(world.keys.entry("map", "0"), b"broken")
    again = RefusedOnce()
    for stat in world.store.list(""):
        again.create(stat.key, world.store.get(stat.key).body)

    assert [it.shard for it in repair(again, world.keys, owner="repair", draft=new_draft())] == [
        "0"
    ]
    run = runs.read(again, world.keys)
    assert (run.owner, run.redrafts) == ("repair", 1)


@pytest.mark.parametrize("stage", ["map", "reduce", "merge"])
def test_nothing_is_set_aside_where_nothing_is_broken(stage: str) -> None:
    world = stopped(stage, shards=1)
    before = {stat.key: stat.tag for stat in world.store.list("")}

    assert fix(world) == []
    assert before == {stat.key: stat.tag for stat in world.store.list("")}


def test_what_is_set_aside_is_kept_and_not_read_any_more() -> None:
    world = stopped("reduce")
    key = world.keys.entry("map", "0")
    world.overwrite(key, b"broken")

    assert fix(world) == [("map", "0")]

    assert world.body(key) == b"broken"
    assert world.keys.entry("map", "0") != key


@pytest.mark.parametrize("name", [".DS_Store", "0 copy.json", "notes.txt", "00.json", "1.json.bak"])
def test_a_file_that_is_no_entry_is_passed_over(name: str) -> None:
    world = stopped("reduce")
    world.store.create(world.keys.ledger("map") + name, b"stray")

    assert fix(world) == []
    assert result(world) == expected()


def edited(world: World, which: str, /, **fields: Any) -> None:
    key = world.keys.entry("map", which)
    entry = json.loads(world.body(key))
    world.overwrite(key, json.dumps({**entry, **fields}).encode())


@pytest.mark.parametrize(
    "mischief",
    [
        lambda world: edited(world, "1", shard="2"),
        lambda world: edited(world, "1", covered=[]),
        lambda world: edited(world, "1", receipt={"attempt": "a", "records_in": 7}),
        lambda world: edited(world, "1", outcome="split"),
        lambda world: world.store.create(
            world.keys.entry("map", "77"), world.body(world.keys.entry("map", "1"))
        ),
        lambda world: world.store.create(
            world.keys.entry("map", "1.0"),
            world.body(world.keys.entry("map", "1")).replace(b'"shard":"1"', b'"shard":"1.0"'),
        ),
    ],
)
def test_an_entry_that_is_not_its_shards_is_done_again(mischief: Callable[[World], Any]) -> None:
    world = stopped("reduce")
    mischief(world)

    assert fix(world)
    assert result(world) == expected()
    assert world.findings() == []


def test_whoever_wakes_up_late_commits_where_nothing_reads() -> None:
    world = stopped("reduce")
    late = world.keys
    body = world.body(late.entry("map", "0"))
    world.overwrite(late.entry("map", "0"), b"broken")
    fix(world)

    world.overwrite(late.entry("map", "0"), body)
    world.store.create(late.entry("map", "999"), body)

    assert result(world) == expected()
    assert world.findings() == []


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


def test_a_run_that_is_committed_to_be_published_is_not_repaired() -> None:
    world = a_world()
    world.run()
    runs.change(
        world.store, world.keys, lambda found: found.model_copy(update={"state": "publishing"})
    )
    key = find(world, "/map/.*/parts/1-")
    world.overwrite(key, b"broken")

    with pytest.raises(RunMismatch, match="is publishing, and its results stand"):
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
    before = world.body("job/results/r1/job.jsonl")

    removed = clean(world)

    assert any("/parts/" in key for key in removed)
    assert {stat.key for stat in world.store.list("job/runs/")} == {"job/runs/r1/run.json"}
    assert world.findings() == []
    assert world.body("job/results/r1/job.jsonl") == before
    assert world.run().manifest.run_id == "r1"


@pytest.mark.parametrize("stage", ["map", "reduce", "merge"])
def test_an_unpublished_run_is_taken_up_after_it_was_cleaned(stage: str) -> None:
    world = timed_world()
    with pytest.raises(Stopped):
        world.run(StopBefore(world, stage, 1))
    stray = world.keys.part("map", "0", "stray", "pairs")
    world.store.create(stray, b"left behind")

    assert clean(world) == {stray}
    assert result(world) == expected()


def test_of_a_run_that_is_too_old_nothing_is_left_behind() -> None:
    world = timed_world()
    with pytest.raises(Stopped):
        world.run(StopBefore(world, "merge", 1))

    assert clean(world, days=29) == set()
    clean(world, days=31)

    assert list(world.store.list("")) == []


def test_a_run_that_changed_today_is_left_alone() -> None:
    world = timed_world()
    world.run()

    assert clean(world, days=0.5) == set()
    assert clean(world, dry=True) == set()

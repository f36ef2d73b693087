"""Runs over a store that is read several at a time: the same in every byte, and as robust."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from coordinator.errors import Fate, StoreUnavailable
from coordinator.formats.lines import Lines
from coordinator.formats.objects import Blob, Objects
from coordinator.job import Job
from coordinator.limits import Limits
from coordinator.state import ledger
from coordinator.steps.attempts import Again, Answered
from coordinator.store.memory import MemoryStore
from tests.steps.test_attempts import begun, following, try_once
from tests.support import World, a_job, words

BODIES = {f"{number:02}": b"to be or\nnot to be\n\xff" + b"that " * number for number in range(20)}


class Laned(MemoryStore):
    """A store of several lanes; `away` is a key that can't be read for now."""

    lanes = 4
    away: str | None = None

    def perform(self, operation: str, key: str, action: Callable[[], Any]) -> Any:
        if key == self.away:
            raise StoreUnavailable(f"{key} can't be read just now.")
        return super().perform(operation, key, action)


def keyed() -> Job:
    return words()


def joined() -> Job:
    return a_job(Lines())


def by_root() -> Job:
    return a_job(Lines(), merge="parts")


def named() -> Job:
    return a_job(Objects(), lambda found: [Blob(found.name, found.read())], sink=Objects())


@pytest.mark.parametrize("job", [keyed, joined, by_root, named])
def test_a_run_is_the_same_in_every_byte(job: Callable[[], Job]) -> None:
    def all_of(store: MemoryStore) -> dict[str, bytes]:
        world = World(job(), dict(BODIES), store=store, shard_bytes=30)
        world.run()
        assert world.findings() == []
        kept = (world.keys.results, world.keys.proof)
        return {s.key: world.body(s.key) for s in store.list("") if s.key.startswith(kept)}

    alone, ahead = all_of(MemoryStore()), all_of(Laned())

    assert alone.keys() == ahead.keys()
    for key, body in alone.items():
        if not key.endswith(("manifest.json", "ledger.jsonl")):  # attempts have random names
            assert ahead[key] == body


@pytest.mark.parametrize("job", [keyed, joined])
def test_an_attempt_at_which_a_lane_fails_is_tried_again(job: Callable[[], Job]) -> None:
    store = Laned()
    declared = job()
    declared.limits = Limits(shard_items=1, tolerated=100)
    world = World(declared, dict(BODIES), store=store)
    place, [message, *_] = following(*begun(world))
    parts = [stat.key for stat in store.list(world.keys.parts("map"))]
    store.away = parts[11]

    verdict = try_once(place, message, "a")

    assert isinstance(verdict, Again)
    assert (verdict.note.error, verdict.note.fate) == ("StoreUnavailable", Fate.RETRY)
    assert ledger.find(store, world.keys, message.stage, message.shard.id) is None
    assert not [it for it in threading.enumerate() if it.name.startswith("read-ahead")]

    store.away = None

    assert isinstance(try_once(place, message, "b"), Answered)


@pytest.mark.parametrize(
    ("shards", "concurrency", "lanes"),
    [(1, 100, 4), (40, 100, 4), (60, 100, 2), (1000, 100, 1), (1000, 40, 4)],
)
def test_a_worker_leaves_lanes_to_those_beside_it(
    shards: int, concurrency: int, lanes: int
) -> None:
    declared = keyed()
    declared.limits = Limits(concurrency=concurrency, tolerated=100)
    world = World(declared, dict(BODIES), store=Laned())
    place, _ = following(*begun(world))
    plan = place.run.plans["reduce"].model_copy(update={"shards": shards})
    run = place.run.model_copy(update={"plans": {**place.run.plans, "reduce": plan}})

    assert replace(place, run=run).lanes("reduce") == lanes

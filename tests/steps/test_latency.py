"""A store where every request takes 30 ms: no step of a run of 10,000 shards takes a minute there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from coordinator.errors import Fate
from coordinator.formats.lines import Lines
from coordinator.limits import Limits
from coordinator.model import Entry, File, Note, Part, Receipt, Shard
from coordinator.state import ledger, notes, plans
from coordinator.steps.merge import merge_shard
from coordinator.steps.publish import publish
from coordinator.steps.reconcile import FanOut, Finish, reconcile
from coordinator.steps.reduce import reduce_shard
from coordinator.steps.workplace import Workplace
from coordinator.upkeep.examine import examine
from coordinator.upkeep.verify import verify
from tests.latency import LANES, REQUEST_SECONDS, Far
from tests.steps.test_attempts import begun, following
from tests.support import World, a_job, words

SHARDS = 10_000
MOST_SECONDS = 60
LINE, REFUSED = b'"x"\n', b'{"refused": 1}\n'


def written(store: Far, key: str, body: bytes) -> File:
    store.create(key, body)
    return File(key=key, size=len(body), sha256=hashlib.sha256(body).hexdigest())


def mapped(store: Far, place: Workplace) -> None:
    """Every shard of the map failed once, and then mapped one record of two and refused the other."""
    keys, plan = place.keys, place.run.plans["map"]
    lines = store.get_range(plan.plan.key, 0, plan.index_offset).splitlines()
    for line in lines:
        shard = Shard.decode(line, where="the plan")
        part = written(store, keys.part("map", shard.id, "a", "jsonl"), LINE)
        note = Note(
            shard=shard.id,
            stage="map",
            wave=1,
            attempt="b",
            receives=1,
            error="MapFailed",
            reason="",
            fate=Fate.RETRY,
            at=0.0,
        )
        notes.write_note(store, keys, note)
        receipt = Receipt(
            attempt="a",
            records_in=2,
            records_out=1,
            mapped=1,
            quarantined=1,
            code_version="test",
            parts=(Part(**part.model_dump(), records=1),),
            quarantine=written(store, keys.quarantine("map", shard.id, "a"), REFUSED),
        )
        entry = Entry(
            shard=shard.id,
            stage="map",
            outcome="done",
            digest="d",
            receipt=receipt,
            covered=shard.slices,
        )
        store.create(keys.entry("map", shard.id), entry.encode())


def pass_over(place: Workplace) -> Any:
    return reconcile(
        place.store, place.job, place.run, draft="next", code_version="test", clock=lambda: 0.0
    )


def test_no_step_of_a_run_of_ten_thousand_shards_takes_a_minute() -> None:
    """Nor does a command, but for the processor's part in it."""
    limits = Limits(shard_items=1, tolerated=SHARDS)
    store = Far()
    world = World(
        a_job(Lines(), limits=limits),
        {f"{number:05}": b"x\n" for number in range(SHARDS)},
        store=store,
    )
    took: dict[str, float] = {}

    def step(name: str, act: Callable[[], Any]) -> Any:
        took[name], found = store.seconds(act)
        return found

    with store.far_away():
        place, messages = step("plan and the first pass", lambda: begun(world))
        assert len(messages) == SHARDS
        mapped(store, place)
        ahead = step("reconcile after map", lambda: pass_over(place))
        assert isinstance(ahead, FanOut)
        assert ahead.stage == "merge"
        place = replace(place, run=ahead.run)
        shard = plans.read_shard(store, ahead.shards[0])
        done = step("merge", lambda: merge_shard(place, shard, "m"))
        entry = Entry(
            shard="0",
            stage="merge",
            outcome="done",
            digest="d",
            receipt=done.receipt,
        )
        ledger.commit(store, place.keys, entry)
        ahead = step("reconcile after merge", lambda: pass_over(place))
        assert isinstance(ahead, Finish)
        run = ahead.run
        published = step("publish", lambda: publish(store, world.job, run, clock=lambda: 1.0))
        store.processor_seconds = 0.0
        assert step("examine", lambda: examine(store, run, "map")).broken == []
        requests = store.requests
        assert step("verify", lambda: list(verify(store, world.keys))) == []
        requests = store.requests - requests

    manifest = published.manifest
    assert manifest.stages["map"].failures == SHARDS
    assert world.body(manifest.quarantine.key) == REFUSED * SHARDS
    [result] = done.receipt.results
    assert world.body(result.key) == LINE * SHARDS
    assert 3 * SHARDS < requests < 3.01 * SHARDS  # an entry, a part and a quarantine each
    assert {name: seconds for name, seconds in took.items() if seconds > MOST_SECONDS} == {}


def test_475_segments_are_gathered_in_a_second_or_two() -> None:
    took = {}
    for lanes in (1, LANES):
        store = Far(lanes)
        job = words()
        job.limits = Limits(shard_items=1)
        world = World(
            job,
            {f"{number:03}": b"to be or not to be\n" for number in range(475)},
            store=store,
        )
        with store.far_away():
            place, [message] = following(*begun(world))
            shard = plans.read_shard(store, message.shard)
            took[lanes], done = store.seconds(lambda: reduce_shard(place, shard, "r"))  # noqa: B023
        [part] = done.receipt.parts
        assert world.body(part.key) == (
            b'{"word":"be","count":950}\n{"word":"not","count":475}\n'
            b'{"word":"or","count":475}\n{"word":"to","count":950}\n'
        )

    assert took[1] > 475 * REQUEST_SECONDS
    assert took[LANES] < 2

"""Publish: prove, write the manifest once, move the pointer forward and never back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.errors import (
    DuplicateName,
    FanfoldError,
    LedgerBroken,
    NotProven,
    OutcomeUnknown,
    StoreUnavailable,
    Superseded,
)
from coordinator.formats.objects import Blob, Objects
from coordinator.job import Job
from coordinator.keys import RunKeys
from coordinator.model import Entry, Pointer, RunRecord, Stage
from coordinator.state import proof, runs
from coordinator.state.catalogue import read_manifest
from coordinator.state.files import write_lines
from coordinator.steps.publish import publish
from coordinator.steps.reconcile import Finish, reconcile
from coordinator.store.file.store import FileStore
from coordinator.store.memory import MemoryStore
from coordinator.store.ports import Store
from tests.support import World, a_job, words

BODIES = {"a": b"to be or\nnot to be\n", "b": b"that is\nthe question"}


def complete(world: World) -> RunRecord:
    """Take a run up to where it would be published."""
    world.run()
    shown = [stat.key for stat in world.store.list(world.keys.proof)]
    world.store.delete([*shown, world.keys.latest()])
    fields = {"state": "running", "published": None}
    return runs.change(world.store, world.keys, lambda found: found.model_copy(update=fields))


def a_world(**fields: Any) -> World:
    return World(words(), dict(BODIES), shard_bytes=5, **fields)


def pointer(world: World) -> Pointer:
    key = world.keys.latest()
    return Pointer.decode(world.body(key), where=key)


# ------------------------------------------------------------------------------------------------
# The manifest
# ------------------------------------------------------------------------------------------------


def test_a_manifest_tells_what_was_read_what_came_out_and_by_which_code() -> None:
    world = a_world()
    manifest = world.run().manifest

    assert (manifest.objects, manifest.bytes) == (2, sum(map(len, BODIES.values())))
    assert manifest.stages["map"].records_in == 4
    assert manifest.stages["merge"].records_out == 8
    assert manifest.result_objects == 1
    assert b"job/results/r1/job.jsonl" in world.body(manifest.results.key)
    assert set(manifest.ledgers) == set(manifest.shards) == {"map", "reduce", "merge"}
    assert [program.code_version for program in manifest.programs] == ["test"]
    assert manifest.programs[0].shards == {"map": "0-7", "reduce": "0-1", "merge": "0"}
    assert (manifest.quarantined, manifest.quarantine) == (0, None)
    assert manifest.cost.dollars == 0


def test_publishing_again_changes_nothing() -> None:
    world = a_world()
    run = complete(world)
    first = publish(world.store, world.job, run, clock=lambda: 1.0)
    files = {stat.key: stat.tag for stat in world.store.list("") if "run.json" not in stat.key}

    second = publish(world.store, world.job, run, clock=lambda: 2.0)

    assert second.manifest == first.manifest
    assert files == {
        stat.key: stat.tag for stat in world.store.list("") if "run.json" not in stat.key
    }
    assert read_manifest(world.store, world.keys) == first.manifest


class Answers(MemoryStore):
    """A store that gives another answer when the manifest is written, once."""

    def __init__(self, error: Exception | None = None, *, written: bool = False) -> None:
        super().__init__()
        self.error = error
        self.written = written

    def perform(self, operation: str, key: str, action: Callable[[], Any]) -> Any:
        if key.endswith("/manifest.json") and operation == "create" and self.error is not None:
            error, self.error = self.error, None
            if self.written:
                action()
            raise error
        return action()


def test_a_manifest_whose_answer_was_lost_is_published_as_it_was_written() -> None:
    world = a_world(store=Answers())
    run = complete(world)
    assert isinstance(world.store, Answers)
    world.store.error, world.store.written = OutcomeUnknown("The answer was lost."), True

    published = publish(world.store, world.job, run, clock=lambda: 1.0)

    assert published.manifest == read_manifest(world.store, world.keys)
    assert published.run.state == "published"
    assert pointer(world).run_id == "r1"


@pytest.mark.parametrize("error", [OutcomeUnknown("Lost."), StoreUnavailable("The store is down.")])
def test_a_manifest_that_was_not_written_is_written_by_the_next(error: Exception) -> None:
    world = a_world(store=Answers())
    run = complete(world)
    assert isinstance(world.store, Answers)
    world.store.error = error

    with pytest.raises(type(error), match=str(error)):
        publish(world.store, world.job, run, clock=lambda: 1.0)
    assert not world.store.exists(world.keys.latest())
    assert world.record().state == "publishing"

    published = publish(world.store, world.job, world.record(), clock=lambda: 2.0)
    assert published.manifest == read_manifest(world.store, world.keys)
    assert published.manifest.published == 1.0


def test_a_manifest_that_others_wrote_stands() -> None:
    world = a_world()
    run = complete(world)
    first = publish(world.store, world.job, run, clock=lambda: 1.0).manifest
    others = first.model_copy(update={"waves": 77, "digest": ""}).with_digest()
    world.overwrite(world.keys.manifest, others.encode())

    published = publish(world.store, world.job, run, clock=lambda: 2.0)

    assert published.manifest == others == read_manifest(world.store, world.keys)


@pytest.mark.parametrize("lost", ["published", "snapshot"])
def test_a_run_that_is_committed_without_all_that_it_shows_is_not_proven(lost: str) -> None:
    world = a_world()
    run = complete(world)
    plan = run.plans["map"].model_copy(update={"snapshot": None})
    fields: dict[str, Any] = {"state": "publishing"}
    if lost == "snapshot":
        fields |= {"published": 1.0, "plans": {**run.plans, "map": plan}}
    run = runs.change(world.store, world.keys, lambda found: found.model_copy(update=fields))

    with pytest.raises(NotProven, match="Run r1 has no snapshot"):
        publish(world.store, world.job, run, clock=lambda: 1.0)
    assert not world.store.exists(world.keys.manifest)


def test_every_pass_of_the_coordinator_is_in_the_price() -> None:
    world = a_world()

    run = world.run().run

    assert run.dispatched == 3
    assert run.passes == 1 + (run.dispatched + 1) + 1  # Plan, every Reconcile, Publish


def test_a_run_that_was_taken_over_publishes_nothing() -> None:
    world = a_world()
    run = complete(world)
    runs.change(world.store, world.keys, lambda found: found.model_copy(update={"owner": "other"}))

    with pytest.raises(Superseded):
        publish(world.store, world.job, run, clock=lambda: 1.0)
    assert not world.store.exists(world.keys.manifest)
    assert not world.store.exists(world.keys.latest())


def another_draft(run: RunRecord) -> dict[str, Any]:
    return {
        "plans": {
            stage: plan.model_copy(update={"draft": "another"}) for stage, plan in run.plans.items()
        }
    }


def another_ledger(run: RunRecord) -> dict[str, Any]:
    sealed = run.sealed["map"].model_copy(update={"sha256": "0" * 64})
    return {"sealed": {**run.sealed, "map": sealed}}


@pytest.mark.parametrize("change", [another_draft, another_ledger])
def test_what_was_proven_is_what_is_published(
    change: Callable[[RunRecord], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is drafted anew while it is proven."""
    world = a_world()
    run = complete(world)

    def prove(store: Store, proven: RunRecord) -> None:
        runs.change(store, world.keys, lambda found: found.model_copy(update=change(found)))

    monkeypatch.setattr(proof, "prove_run", prove)

    with pytest.raises(Superseded, match="drafted anew"):
        publish(world.store, world.job, run, clock=lambda: 1.0)
    assert [*world.store.list("job/published/")] == []
    assert not world.store.exists(world.keys.latest())


# ------------------------------------------------------------------------------------------------
# The pointer
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "latest"),
    [
        ([("r1", 1.0), ("r2", 2.0)], "r2"),
        ([("r2", 2.0), ("r1", 1.0)], "r2"),
        ([("r1", 5.0), ("r2", 5.0)], "r2"),
        ([("r2", 5.0), ("r1", 5.0)], "r2"),
        ([("r2", 2.0), ("r3", 3.0), ("r1", 1.0)], "r3"),
    ],
)
def test_the_pointer_moves_forward_in_logical_time_whoever_ends_last(
    times: list[tuple[str, float]], latest: str
) -> None:
    store = MemoryStore()
    worlds = [a_world(store=store, run_id=run_id, logical_time=time) for run_id, time in times]
    moved = {world.run_id: world.run().pointer_moved for world in worlds}

    assert all(store.exists(world.keys.manifest) for world in worlds)
    found = pointer(worlds[0])
    assert found.run_id == latest
    assert found.manifest == RunKeys("job", latest).manifest
    assert moved[latest]
    assert moved[times[-1][0]] is (times[-1][0] == latest)


def test_a_pointer_is_not_held_back_by_one_that_moves_at_the_same_time() -> None:
    class Rival(MemoryStore):
        """While the pointer is replaced, a rival of an older run is faster, once."""

        rivals = 1

        def perform(self, operation: str, key: str, action: Callable[[], Any]) -> Any:
            if operation == "replace" and key.endswith("latest.json") and self.rivals:
                self.rivals -= 1
                got = self.get(key)
                old = Pointer.decode(got.body, where=key)
                newer = old.model_copy(update={"logical_time": old.logical_time + 0.5})
                self.replace(key, newer.encode(), got.tag)
            return action()

    store = Rival()
    a_world(store=store, run_id="r1", logical_time=1.0).run()
    world = a_world(store=store, run_id="r2", logical_time=2.0)

    assert world.run().pointer_moved
    assert pointer(world).run_id == "r2"


# ------------------------------------------------------------------------------------------------
# The proof
# ------------------------------------------------------------------------------------------------


def forge(world: World, run: RunRecord, stage: Stage, edit: Callable[[Entry], Any]) -> Any:
    """Seal a ledger with other entries than those of the run; `edit` gives those for each."""
    entries = []
    for line in world.body(run.sealed[stage].key).split(b"\n")[:-1]:
        entries += edit(Entry.decode(line, where="sealed"))
    sealed = write_lines(world.store, f"forged-{stage}", (entry.encode() for entry in entries))
    return run.model_copy(update={"sealed": {**run.sealed, stage: sealed}})


def with_receipt(entry: Entry, **fields: Any) -> Entry:
    return entry.model_copy(update={"receipt": entry.receipt.model_copy(update=fields)})


FORGERIES: dict[str, tuple[Stage, Callable[[Entry], list[Entry]], type[FanfoldError], str]] = {
    "a map entry is missing": (
        "map",
        lambda e: [] if e.shard == "1" else [e],
        NotProven,
        "a: bytes 5 to 10 were lost",
    ),
    "a map entry is there twice": (
        "map",
        lambda e: [e, e] if e.shard == "1" else [e],
        NotProven,
        "Shard 1 of stage map has two entries",
    ),
    "the last map entry is missing": (
        "map",
        lambda e: [] if e.shard == "7" else [e],
        NotProven,
        "b is not covered from 16 of 20 on",
    ),
    "counts that do not add up": (
        "map",
        lambda e: [with_receipt(e, records_in=e.receipt.records_in + 1)],
        NotProven,
        "The counts of shard 0 of stage map do not add up",
    ),
    "a reduce entry is missing": (
        "reduce",
        lambda e: [] if e.shard == "1" else [e],
        NotProven,
        "Shard 1 of stage reduce has no entry",
    ),
    "the merge entry is missing": ("merge", lambda e: [], NotProven, "Shard 0 of stage merge"),
    "a child of a split is missing": (
        "reduce",
        lambda e: (
            [e.model_copy(update={"outcome": "split", "children": ((), ())})]
            if e.shard == "1"
            else [e]
        ),
        NotProven,
        "Shard 1.0 of stage reduce",
    ),
    "reduce took less of a partition than map gave it": (
        "reduce",
        lambda e: [with_receipt(e, bytes_in=e.receipt.bytes_in + (1 if e.shard == "1" else -1))],
        NotProven,
        "bytes to partition 0, but reduce took",
    ),
    "a result is there twice": (
        "merge",
        lambda e: [with_receipt(e, results=e.receipt.results * 2)],
        DuplicateName,
        "Two results have the name memory:job/results/r1/job.jsonl",
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_what_is_not_proven_is_not_published(forgery: str) -> None:
    stage, edit, error, says = FORGERIES[forgery]
    world = a_world()
    run = forge(world, complete(world), stage, edit)
    runs.change(world.store, world.keys, lambda found: run)

    with pytest.raises(error, match=says):
        publish(world.store, world.job, run, clock=lambda: 1.0)
    assert not world.store.exists(world.keys.manifest)
    assert not world.store.exists(world.keys.latest())
    assert world.record().state == "running"


def test_a_stage_that_took_other_records_than_were_given_is_not_proven() -> None:
    world = a_world()
    run = complete(world)
    reduce = run.totals["reduce"].model_copy(update={"records_out": 9})
    run = runs.change(
        world.store,
        world.keys,
        lambda found: found.model_copy(update={"totals": {**run.totals, "reduce": reduce}}),
    )

    with pytest.raises(
        NotProven, match="The totals of stage reduce are not what its entries add up to"
    ):
        publish(world.store, world.job, run, clock=lambda: 1.0)


def test_a_stage_that_is_not_sealed_is_not_proven() -> None:
    world = a_world()
    run = complete(world)
    sealed = {stage: file for stage, file in run.sealed.items() if stage != "merge"}
    run = runs.change(
        world.store, world.keys, lambda found: found.model_copy(update={"sealed": sealed})
    )

    with pytest.raises(NotProven, match="Stage merge is not complete"):
        publish(world.store, world.job, run, clock=lambda: 1.0)


def test_a_sealed_ledger_that_was_changed_is_named() -> None:
    world = a_world()
    run = complete(world)
    key = run.sealed["map"].key
    world.overwrite(key, world.body(key).replace(b'"seconds":1', b'"seconds":2'))

    with pytest.raises(LedgerBroken, match=r"map\.ledger\.jsonl is not what was recorded"):
        publish(world.store, world.job, run, clock=lambda: 1.0)


# ------------------------------------------------------------------------------------------------
# Names of results
# ------------------------------------------------------------------------------------------------


def naming(name: Callable[[str], str]) -> Job:
    return a_job(Objects(), lambda found: [Blob(name(found.key), b"the same")], sink=Objects())


@pytest.mark.parametrize("shard_bytes", [1, 100])
def test_two_results_of_one_name_are_an_error_even_if_they_are_equal(shard_bytes: int) -> None:
    world = World(naming(lambda key: "one"), {"a": b"1", "b": b"2"}, shard_bytes=shard_bytes)

    with pytest.raises(DuplicateName, match="Two results have the name memory:job/results/r1/one"):
        world.run()
    assert not world.store.exists(world.keys.manifest)


@pytest.mark.parametrize(
    ("one", "other"), [("A.jpg", "a.jpg"), ("é", "e\u0301"), ("straße", "STRASSE")]
)
def test_names_that_a_disk_may_take_for_one_are_an_error(
    one: str, other: str, tmp_path: Path
) -> None:
    names = {"1": one, "2": other}
    world = World(naming(lambda key: names[key]), {"1": b"", "2": b""}, store=FileStore(tmp_path))

    with pytest.raises(DuplicateName, match="the other is"):
        world.run()
    assert not world.store.exists(world.keys.manifest)


def test_the_flow_stops_before_publishing_when_nothing_is_missing() -> None:
    world = a_world()
    run = complete(world)

    assert isinstance(
        reconcile(world.store, world.job, run, draft="a", code_version="test", clock=lambda: 0.0),
        Finish,
    )

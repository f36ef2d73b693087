"""What a manifest says of a run: its cost, and the lists that lie beside it."""

from __future__ import annotations

import json

import pytest

from coordinator.errors import RunCancelled, Superseded
from coordinator.formats.jsonlines import JsonLines
from coordinator.model import Cost, File, Hints, RunRecord, Stage, Totals
from coordinator.rules.costs import PRICES, Spent
from coordinator.state import runs
from coordinator.state.files import read_lines
from coordinator.steps import publish as publishing
from coordinator.steps.publish import cost_of, publish
from tests.steps.test_publish import complete, naming
from tests.support import World, a_job, words

TOTALS: dict[Stage, Totals] = {
    "map": Totals(shards=3, seconds=4.00249, failures=2, failed_seconds=3.5),
    "merge": Totals(shards=1, seconds=0.25),
}


def a_run(*, billed: bool) -> RunRecord:
    return RunRecord(
        job="job",
        run_id="r1",
        created=0.0,
        logical_time=0.0,
        owner="o",
        passes=5,
        coordinator_seconds=6.12345,
        declaration={},
        inputs=(),
        totals=TOTALS,
        hints=Hints(billed=billed),
    )


def test_the_cost_of_a_run_counts_all_of_its_stages_failures_and_passes() -> None:
    job = words()
    memory = job.limits.memory_mb
    spent = Spent.of(TOTALS.values(), passes=5, coordinator_seconds=6.12345, memory_mb=memory)

    assert cost_of(job, a_run(billed=True)) == Cost(
        worker_seconds=7.752,
        coordinator_seconds=6.123,
        memory_mb=memory,
        dollars=round(spent.dollars(), 6),
        prices=PRICES,
    )
    assert cost_of(job, a_run(billed=True)).dollars > 0.0005


def test_on_ones_own_machine_a_run_costs_nothing() -> None:
    cost = cost_of(words(), a_run(billed=False))

    assert (cost.dollars, cost.prices, cost.worker_seconds) == (0.0, "own machine", 7.752)


@pytest.mark.parametrize("at_once", [1, 2, 3, 1000])
def test_every_result_is_in_the_list_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(publishing, "LINES_AT_ONCE", at_once)
    world = World(
        naming(lambda name: name), {name: name.encode() * 3 for name in ("a", "b", "cc", "d", "e")}
    )

    manifest = world.run().manifest

    listed = [File.model_validate_json(line) for line in read_lines(world.store, manifest.results)]
    assert [found.key.rsplit("/", 1)[1] for found in listed] == ["a", "b", "cc", "d", "e"]
    assert (manifest.result_objects, manifest.result_bytes) == (5, 5 * len(b"the same"))


def test_every_refused_record_is_in_the_list() -> None:
    job = a_job(JsonLines(), lambda record: [record["n"]])
    world = World(job, {"a": b'{"n":1}\n{\n{"n":2}\n', "b": b"[\n"}, shard_bytes=9)

    manifest = world.run().manifest

    assert manifest.quarantined == 2
    assert manifest.quarantine is not None
    listed = [json.loads(line) for line in read_lines(world.store, manifest.quarantine)]
    assert [(line["key"], line["offset"]) for line in listed] == [("a", 8), ("b", 0)]


# ------------------------------------------------------------------------------------------------
# The commit point
# ------------------------------------------------------------------------------------------------


def test_a_run_is_published_at_the_time_at_which_it_was_committed() -> None:
    world = World(words(), {"a": b"to be\n"})
    run = complete(world)
    runs.change(
        world.store,
        world.keys,
        lambda found: found.model_copy(update={"state": "publishing", "published": 7.0}),
    )

    published = publish(world.store, world.job, run, clock=lambda: 9.0)

    assert (published.manifest.published, published.run.published) == (7.0, 7.0)
    assert published.run.state == "published"
    assert published.pointer_moved


def test_the_pass_that_publishes_is_counted_with_its_seconds() -> None:
    world = World(words(), {"a": b"to be\n"})
    run = complete(world)
    times = iter([10.0, 12.5])

    published = publish(world.store, world.job, run, clock=times.__next__)

    assert published.manifest.published == published.run.published == 12.5
    assert published.run.passes == run.passes + 1
    assert published.run.coordinator_seconds == run.coordinator_seconds + 2.5


def test_a_manifest_names_the_object_that_started_its_run_and_its_place_in_time() -> None:
    world = World(words(), {"a": b"to be\n"}, logical_time=77.0)
    complete(world)
    run = runs.change(
        world.store,
        world.keys,
        lambda found: found.model_copy(update={"source_key": "s3://lake/a"}),
    )

    manifest = publish(world.store, world.job, run, clock=lambda: 9.0).manifest

    assert (manifest.source_key, manifest.logical_time) == ("s3://lake/a", 77.0)


def test_what_was_cancelled_or_drafted_anew_is_not_published() -> None:
    world = World(words(), {"a": b"to be\n"})
    run = complete(world)
    runs.change(world.store, world.keys, lambda found: found.model_copy(update={"sealed": {}}))
    with pytest.raises(Superseded, match="has been drafted anew"):
        publish(world.store, world.job, run, clock=lambda: 9.0)

    runs.cancel(world.store, world.keys)
    with pytest.raises(RunCancelled):
        publish(world.store, world.job, run, clock=lambda: 9.0)
    assert not world.store.exists(world.keys.manifest)

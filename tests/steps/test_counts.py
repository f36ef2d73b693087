"""What receipts count, stage by stage, and what the parts of a map are called."""

from __future__ import annotations

import bz2
from typing import Any

import pytest

from coordinator.formats.jsonlines import JsonLines
from coordinator.formats.lines import Lines
from coordinator.job import Job
from coordinator.limits import Limits
from coordinator.model import Stage
from tests.support import World, a_job

BODIES = {"a": b'{"n": 1}\n\nno JSON\n{"n": 2}\n', "b": b'{"n": 3}\n'}
COUNTS = ("records_in", "mapped", "quarantined", "blank", "records_out", "bytes_in", "bytes_out")


def counts(world: World) -> dict[Stage, tuple[int, ...]]:
    """What each stage of a published run has counted."""
    totals = world.run().manifest.stages
    return {stage: tuple(getattr(found, n) for n in COUNTS) for stage, found in totals.items()}


def part_bytes(world: World, stage: Stage) -> int:
    return sum(stat.size for stat in world.store.list(world.keys.parts(stage)))


def extensions(world: World, stage: Stage) -> set[str]:
    return {stat.key.rsplit(".", 1)[1] for stat in world.store.list(world.keys.parts(stage))}


def twice(record: dict[str, Any]) -> list[int]:
    """Two outputs, one of a record of 2, none of a record of 3."""
    return [record["n"]] * {1: 2, 2: 1, 3: 0}[record["n"]]


def test_a_map_counts_records_by_what_became_of_them_and_bytes_in_and_out() -> None:
    world = World(a_job(JsonLines(), twice), BODIES)

    found = counts(world)

    read = sum(map(len, BODIES.values()))
    assert found["map"] == (5, 3, 1, 1, 3, read, len(b"1\n1\n2\n"))
    assert found["merge"] == (3, 3, 0, 0, 3, len(b"1\n1\n2\n"), len(b"1\n1\n2\n"))
    assert extensions(world, "map") == {"jsonl"}
    assert [stat.size for stat in world.store.list(world.keys.parts("map"))] == [6]


def test_each_stage_of_a_job_with_a_reduce_counts_what_the_one_before_gave_it() -> None:
    job = a_job(
        JsonLines(),
        lambda record: [("even" if n % 2 == 0 else "odd", n) for n in twice(record)],
        reduce=lambda key, values: {key: list(values)},
        limits=Limits(tolerated=9),
    )
    world = World(job, BODIES, shard_bytes=20)

    found = counts(world)

    read, pairs = sum(map(len, BODIES.values())), part_bytes(world, "map")
    results = len(b'{"even":[2]}\n{"odd":[1,1]}\n')
    assert found["map"] == (5, 3, 1, 1, 3, read, pairs)
    assert found["reduce"] == (2, 2, 0, 0, 2, pairs, results)
    assert found["merge"] == (2, 2, 0, 0, 2, results, results)
    assert extensions(world, "map") == {"pairs"}
    assert extensions(world, "reduce") == {"jsonl"}


def test_the_code_that_did_a_shard_is_in_its_receipt_in_every_stage() -> None:
    job = a_job(
        Lines(), lambda line: [(line, 1)], reduce=lambda key, values: {"n": sum(list(values))}
    )

    manifest = World(job, {"a": b"x\n"}).run().manifest

    assert [(found.code_version, found.shards) for found in manifest.programs] == [
        ("test", {"map": "0", "reduce": "0", "merge": "0"})
    ]


def test_a_map_that_gives_nothing_writes_no_part() -> None:
    world = World(a_job(Lines(), lambda line: []), {"a": b"x\ny\n"})

    assert counts(world)["map"] == (2, 2, 0, 0, 0, 4, 0)
    assert [*world.store.list(world.keys.parts("map"))] == []


@pytest.mark.parametrize(
    ("name", "body", "numbered"),
    [("a", b"x\ny\n1\n", False), ("a.bz2", bz2.compress(b"x\ny\n1\n"), True)],
)
def test_a_refused_record_has_its_number_where_an_object_is_cut_by_numbers(
    name: str, body: bytes, numbered: bool
) -> None:
    job = Job("job", Lines(), limits=Limits(tolerated=2))
    job.map(lambda line: [int(line)])
    world = World(job, {name: body})

    manifest = world.run().manifest

    assert manifest.quarantine is not None
    lines = world.body(manifest.quarantine.key).splitlines()
    expected = [{"key": name, "offset": 0}, {"key": name, "offset": 2}]
    if numbered:
        expected = [{**line, "record": number} for number, line in enumerate(expected)]
    found = [JsonLines().decode(line + b"\n")[0] for line in lines]
    assert [{k: v for k, v in line.items() if k != "reason"} for line in found] == expected

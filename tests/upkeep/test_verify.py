"""Verify finds every damage to a published run, and names the place."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable

import pytest

from coordinator.errors import LedgerBroken
from coordinator.formats.lines import Lines
from coordinator.limits import Limits
from coordinator.model import RunRecord
from coordinator.upkeep.verify import verify
from tests.support import World, a_job, words

BODIES = {"a": b"to be or\nnot to be\n", "b": b"that is\nthe \xffquestion", "c": b"x\n" * 9}


def published() -> World:
    job = words()
    job.limits = Limits(tolerated=5, reduce_bytes=20)
    world = World(job, dict(BODIES), shard_bytes=5)
    assert world.run().manifest.quarantined == 1
    return world


def keys_of(world: World, *, part: str) -> list[str]:
    found = [stat.key for stat in world.store.list("") if part in stat.key]
    assert found
    return found


def test_an_undamaged_run_is_proven() -> None:
    assert published().findings() == []


def test_a_run_of_empty_inputs_is_proven() -> None:
    world = World(words(), {"a": b"", "b": b""})
    world.run()

    assert world.findings() == []


def test_a_run_without_a_reduce_is_proven() -> None:
    world = World(a_job(Lines(), merge="parts"), dict(BODIES), shard_bytes=5)
    world.run()

    assert world.findings() == []


# What a verified run consists of. Everything else can be cleaned away.
PROVEN_FILES = [
    "/map/ledger/",
    "/reduce/ledger/",
    "/merge/ledger/",
    "/map/parts/",
    "/reduce/parts/",
    "/map/quarantine/",
    "map.plan.jsonl",
    "reduce.plan.jsonl",
    "merge.plan.jsonl",
    "map.snapshot.jsonl.gz",
    "map.ledger.jsonl",
    "reduce.ledger.jsonl",
    "merge.ledger.jsonl",
    "job/results/r1/",
]


def cut_short(body: bytes) -> bytes:
    return body[:-1]


def one_bit(body: bytes) -> bytes:
    place = len(body) // 2
    return body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]


def one_more(body: bytes) -> bytes:
    return body + b"\n"


@pytest.mark.parametrize("part", PROVEN_FILES)
def test_a_file_that_is_gone_is_named(part: str) -> None:
    world = published()
    key = keys_of(world, part=part)[0]
    world.store.delete([key])

    assert_named(world, key)


@pytest.mark.parametrize("part", PROVEN_FILES)
@pytest.mark.parametrize("damage", [cut_short, one_bit, one_more])
def test_a_file_with_a_single_byte_changed_is_named(
    part: str, damage: Callable[[bytes], bytes]
) -> None:
    world = published()
    key = keys_of(world, part=part)[0]
    world.overwrite(key, damage(world.body(key)))

    assert_named(world, key)


def assert_named(world: World, key: str) -> None:
    findings = world.findings()
    assert findings
    said = [f"{finding.where}: {finding.problem}" for finding in findings]
    assert any(key in line for line in said), said


def test_an_entry_too_many_is_found() -> None:
    world = published()
    key = keys_of(world, part="/map/ledger/0.json")[0]
    body = world.body(key).replace(b'"shard":"0"', b'"shard":"99"')
    world.store.create(key.replace("/0.json", "/99.json"), body)

    [finding] = world.findings()
    assert finding.where == "memory:job/runs/r1/map/ledger/"


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("results", lambda found: found[:-1]),
        ("quarantine", lambda found: []),
        ("quarantined", lambda found: found - 1),
        ("objects", lambda found: found + 1),
        ("bytes", lambda found: found - 1),
        ("snapshot_digest", lambda found: found[::-1]),
        ("inputs", lambda found: ["other"]),
        ("declaration", lambda found: {**found, "merge": "parts"}),
        ("stages", lambda found: {**found, "map": {**found["map"], "records_in": 1}}),
        ("ledgers", lambda found: {**found, "map": found["reduce"]}),
        ("plans", lambda found: {**found, "map": found["reduce"]}),
    ],
)
def test_a_manifest_that_says_something_else_is_found(
    field: str, change: Callable[[object], object]
) -> None:
    world = published()
    manifest = json.loads(world.body(world.keys.manifest))
    manifest[field] = change(manifest[field])
    world.overwrite(world.keys.manifest, json.dumps(manifest).encode())

    assert world.findings()


def test_a_snapshot_written_anew_with_another_object_is_found() -> None:
    world = published()
    key = keys_of(world, part="map.snapshot.jsonl.gz")[0]
    lines = gzip.decompress(world.body(key)).splitlines(keepends=True)
    world.overwrite(key, gzip.compress(b"".join(lines[:-1])))

    assert any(key in finding.where for finding in world.findings())
    assert any(
        "was not pinned" in finding.problem or "were not pinned" in finding.problem
        for finding in world.findings()
    )


@pytest.mark.parametrize("damage", [cut_short, lambda body: b"{}", lambda body: b""])
@pytest.mark.parametrize("name", ["run.json", "manifest.json"])
def test_a_record_that_cannot_be_read_is_an_error_that_names_it(
    name: str, damage: Callable[[bytes], bytes]
) -> None:
    world = published()
    key = f"{world.keys.root}{name}"
    world.overwrite(key, damage(world.body(key)))

    with pytest.raises(LedgerBroken, match=name):
        world.findings()


def test_a_run_that_is_not_published_cannot_be_proven() -> None:
    world = published()
    world.store.delete([world.keys.manifest])

    with pytest.raises(LedgerBroken, match="no published run"):
        list(verify(world.store, world.keys))


def test_what_may_be_cleaned_away_is_not_missed() -> None:
    world = published()
    run: RunRecord = world.record().model_copy(update={"cleaned": True})
    world.overwrite(world.keys.run, run.encode())
    world.store.delete(keys_of(world, part="/parts/"))

    assert world.findings() == []

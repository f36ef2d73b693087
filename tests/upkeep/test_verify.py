"""Verify finds every damage to a published run, and names the place."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from coordinator.errors import LedgerBroken
from coordinator.formats.lines import Lines
from coordinator.keys import RunKeys
from coordinator.limits import Limits
from coordinator.model import Manifest, RunRecord
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
    found = [stat.key for stat in world.store.list("") if re.search(part, stat.key)]
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
    "/map/.*/ledger/",
    "/reduce/.*/ledger/",
    "/merge/.*/ledger/",
    "/map/.*/parts/",
    "/reduce/.*/parts/",
    "map.plan.jsonl",
    "reduce.plan.jsonl",
    "merge.plan.jsonl",
    "reduce.snapshot.jsonl",
    "plans/.*map.snapshot.jsonl.gz",
    "plans/.*map.ledger.jsonl",
    "published/r1/snapshot.jsonl.gz",
    "published/r1/results.jsonl",
    "published/r1/quarantine.jsonl",
    "published/r1/map.ledger.jsonl",
    "published/r1/reduce.ledger.jsonl",
    "published/r1/merge.ledger.jsonl",
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
    key = keys_of(world, part="/map/.*/ledger/0.json")[0]
    body = world.body(key).replace(b'"shard":"0"', b'"shard":"99"')
    world.store.create(key.replace("/0.json", "/99.json"), body)

    [finding] = world.findings()
    assert finding.where.endswith("/ledger/99.json")
    assert finding.problem == "the entry was not published"


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("results", lambda found: {**found, "key": "job/latest.json"}),
        ("result_objects", lambda found: found + 1),
        ("result_bytes", lambda found: found - 1),
        ("results_prefix", lambda found: "job/results/r2/"),
        ("quarantine", lambda found: None),
        ("quarantined", lambda found: found - 1),
        ("objects", lambda found: found + 1),
        ("bytes", lambda found: found - 1),
        ("snapshot_digest", lambda found: found[::-1]),
        ("inputs", lambda found: ["other"]),
        ("declaration", lambda found: {**found, "merge": "parts"}),
        ("stages", lambda found: {**found, "map": {**found["map"], "records_in": 1}}),
        ("ledgers", lambda found: {**found, "map": found["reduce"]}),
        ("shards", lambda found: {**found, "map": 3}),
        ("programs", lambda found: [{**found[0], "code_version": "other"}]),
        ("programs", lambda found: [{**found[0], "shards": {"map": "0"}}]),
        ("logical_time", lambda found: found - 1),
        ("published", lambda found: found + 1),
        ("source_key", lambda found: "s3://in/a"),
        ("waves", lambda found: found + 1),
        ("epochs", lambda found: found + 1),
        ("job", lambda found: "other"),
        ("run_id", lambda found: "other"),
        ("cost", lambda found: {**found, "worker_seconds": 0.5}),
    ],
)
def test_a_manifest_that_says_something_else_is_found(
    field: str, change: Callable[[object], object]
) -> None:
    world = published()
    manifest = json.loads(world.body(world.keys.manifest))
    manifest[field] = change(manifest.get(field))
    changed = Manifest.model_validate(manifest).with_digest()
    world.overwrite(world.keys.manifest, changed.encode())

    assert world.findings()


@pytest.mark.parametrize("field", Manifest.model_fields)
def test_a_manifest_with_one_digit_changed_is_refused_though_the_run_has_expired(
    field: str,
) -> None:
    world = published()
    world.store.delete([stat.key for stat in world.store.list(world.keys.root)])
    assert not world.findings()
    body = world.body(world.keys.manifest)
    held = json.loads(body).get(field)
    if held is None:
        world.overwrite(world.keys.manifest, body[:-1] + f',"{field}":2}}'.encode())
    else:
        told = f'"{field}":'.encode() + json.dumps(held, separators=(",", ":")).encode()
        assert told in body
        place = next(n for n in range(len(told) - 1, 0, -1) if chr(told[n]).isalnum())
        other = b"2" if told[place : place + 1] != b"2" else b"3"
        world.overwrite(
            world.keys.manifest, body.replace(told, told[:place] + other + told[place + 1 :])
        )

    with pytest.raises(LedgerBroken, match=r"manifest\.json is not"):
        world.findings()


def test_a_snapshot_written_anew_with_another_object_is_found() -> None:
    world = published()
    key = keys_of(world, part="published/r1/snapshot.jsonl.gz")[0]
    lines = gzip.decompress(world.body(key)).splitlines(keepends=True)
    world.overwrite(key, gzip.compress(b"".join(lines[:-1])))

    assert_named(world, key)


def test_a_snapshot_damaged_anywhere_is_a_finding_and_no_traceback() -> None:
    world = published()
    [key] = keys_of(world, part="published/r1/snapshot.jsonl.gz")
    body = world.body(key)
    for place in range(0, len(body), 3):
        world.overwrite(key, body[:place] + bytes([body[place] ^ 16]) + body[place + 1 :])
        assert_named(world, key)


@pytest.mark.parametrize("damage", [cut_short, lambda body: b"{}", lambda body: b""])
def test_a_manifest_that_cannot_be_read_is_an_error_that_names_it(
    damage: Callable[[bytes], bytes],
) -> None:
    world = published()
    key = world.keys.manifest
    world.overwrite(key, damage(world.body(key)))

    with pytest.raises(LedgerBroken, match=r"manifest\.json"):
        world.findings()


@pytest.mark.parametrize("damage", [cut_short, lambda body: b"{}", lambda body: b""])
def test_a_record_that_cannot_be_read_is_found(damage: Callable[[bytes], bytes]) -> None:
    world = published()
    key = world.keys.run
    world.overwrite(key, damage(world.body(key)))

    findings = list(verify(world.store, RunKeys("job", "r1")))
    assert any("run.json" in finding.problem for finding in findings)


def test_a_run_that_is_not_published_cannot_be_proven() -> None:
    world = published()
    world.store.delete([world.keys.manifest])

    with pytest.raises(LedgerBroken, match="is not published"):
        list(verify(world.store, world.keys))


@pytest.mark.parametrize("body", [b"", b"{", b"{}", None])
def test_a_pointer_that_is_gone_or_torn_is_found(body: bytes | None) -> None:
    world = published()
    if body is None:
        world.store.delete([world.keys.latest()])
    else:
        world.overwrite(world.keys.latest(), body)

    assert_named(world, "job/latest.json")


@pytest.mark.parametrize("field", [{"run_id": "zne"}, {"logical_time": 9e9}])
def test_a_pointer_at_a_newer_run_that_there_is_not_is_found_and_mended_by_the_next(
    field: dict[str, Any],
) -> None:
    world = published()
    key = world.keys.latest()
    world.overwrite(key, json.dumps({**json.loads(world.body(key)), **field}).encode())

    assert any("what the manifest of run" in finding.problem for finding in world.findings())
    world.run_id, world.logical_time = "r2", 5e9
    assert world.run().pointer_moved


def test_a_declaration_that_is_none_is_a_finding() -> None:
    world = published()
    key = world.keys.manifest
    manifest = json.loads(world.body(key).replace(b'"keyed"', b'"keyes"'))
    world.overwrite(key, Manifest.model_validate(manifest).with_digest().encode())

    assert any("does not say whether it is keyed" in it.problem for it in world.findings())


def test_a_result_that_no_manifest_names_is_found() -> None:
    world = published()
    world.store.create("job/results/r1/another.jsonl", b"")

    assert_named(world, "job/results/r1/another.jsonl")


def test_a_published_run_copied_to_another_run_id_is_found() -> None:
    world = published()
    for stat in [stat for stat in world.store.list("job/") if "/r1/" in stat.key]:
        world.store.create(stat.key.replace("/r1/", "/r2/"), world.body(stat.key))

    assert list(verify(world.store, RunKeys("job", "r2")))


def test_what_proves_a_result_outlives_its_run() -> None:
    world = published()
    world.store.delete([stat.key for stat in world.store.list("job/runs/")])

    assert list(verify(world.store, RunKeys("job", "r1"))) == []


def test_what_may_be_cleaned_away_is_not_missed() -> None:
    world = published()
    run: RunRecord = world.record().model_copy(update={"cleaned": True})
    world.overwrite(world.keys.run, run.encode())
    world.store.delete(keys_of(world, part="/parts/"))

    assert world.findings() == []

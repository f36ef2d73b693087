"""What is published, and the pointer to the newest of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import TypeVar

import pytest

from coordinator.errors import Changed, LedgerBroken
from coordinator.keys import JobKeys
from coordinator.model import Cost, File, Manifest
from coordinator.state.catalogue import (
    manifests,
    move_pointer,
    pointer_to,
    points_at,
    read_manifest,
    read_pointer,
    store_folders,
)
from coordinator.store.memory import MemoryStore

T = TypeVar("T")
JOB = JobKeys("job")
FILE = File(key="f", size=1, sha256="s")


def a_manifest(run_id: str, logical_time: float = 1.0, **fields: object) -> Manifest:
    given = {
        "job": "job",
        "run_id": run_id,
        "published": 9.0,
        "logical_time": logical_time,
        "snapshot": FILE,
        "snapshot_digest": "d",
        "objects": 1,
        "bytes": 1,
        "results": FILE,
        "result_objects": 1,
        "result_bytes": 1,
        "results_prefix": f"job/results/{run_id}/",
        "shards": {},
        "stages": {},
        "ledgers": {},
        "quarantined": 0,
        "waves": 1,
        "epochs": 1,
        "programs": (),
        "declaration": {},
        "inputs": (),
        "cost": Cost(
            worker_seconds=0, coordinator_seconds=0, memory_mb=1, dollars=0, prices="none"
        ),
    }
    return Manifest.model_validate({**given, **fields}).with_digest()


def published(store: MemoryStore, *found: Manifest) -> MemoryStore:
    for manifest in found:
        store.create(JOB.run(manifest.run_id).manifest, manifest.encode())
    return store


def test_runs_that_are_not_yet_published_do_not_hide_those_behind_them() -> None:
    first, third = a_manifest("r1"), a_manifest("r3")
    store = published(MemoryStore(), first, third)
    store.create(JOB.run("r2").proof + "map.jsonl", b"")

    assert list(manifests(store, "job")) == [first, third]


def test_a_manifest_is_what_was_published_to_the_byte() -> None:
    body = a_manifest("r1").encode()
    digest = body.rpartition(b',"digest":"')[2]
    again = json.loads(body)
    altered = (
        body.replace(b'"waves":1', b'"waves":2'),
        body.replace(b'"objects":1', b'"objects":7,"objects":1'),
        body.replace(b'"objects":1', b'"objects":1.0'),
        body.replace(b'"run_id":"r1"', b'"run_id":"\\u00721"'),
        body.replace(digest, digest.upper()),
        body.removesuffix(b',"digest":"' + digest) + b"}",
        body + b"\n",
        json.dumps(again, indent=1).encode(),
        json.dumps(dict(reversed(again.items())), separators=(",", ":")).encode(),
    )

    assert read_manifest(published(MemoryStore(), a_manifest("r1")), JOB.run("r1")).objects == 1
    assert hashlib.sha256(body[: -len(digest) - 11]).hexdigest() == again["digest"]
    for each in altered:
        assert each != body
        store = MemoryStore()
        store.create(JOB.run("r1").manifest, each)
        with pytest.raises(LedgerBroken, match=r"manifest\.json is not what was published"):
            read_manifest(store, JOB.run("r1"))


def test_what_is_not_as_it_was_published_holds_up_no_other_run() -> None:
    broken = a_manifest("broken", logical_time=5.0)
    for pointer in (pointer_to(JOB.run("broken"), broken).encode(), b"torn", None):
        first, last = a_manifest("first", logical_time=1.0), a_manifest("last", logical_time=2.0)
        store = published(MemoryStore(), first, last)
        body = broken.encode().replace(b'"waves":1', b'"waves":9')
        store.create(JOB.run("broken").manifest, body)
        if pointer is not None:
            store.create(JOB.latest(), pointer)

        assert move_pointer(store, JOB.run("last"), last)
        assert not move_pointer(store, JOB.run("first"), first)

        assert read_pointer(store, "job") == pointer_to(JOB.run("last"), last)


def test_a_folder_is_named_once_whatever_lies_in_it() -> None:
    store = MemoryStore()
    for key in ("p/a/1", "p/a/2", "p/a/b/3", "p/a-b/1", "p/c/x/y", "q/d/1"):
        store.create(key, b"")

    assert list(store_folders(store, "p/")) == ["a-b", "a", "c"]


def test_the_pointer_stands_on_the_run_that_it_names_and_on_no_other() -> None:
    store = MemoryStore()
    assert not points_at(store, a_manifest("r1"))

    assert move_pointer(store, JOB.run("r1"), a_manifest("r1"))

    assert points_at(store, a_manifest("r1"))
    assert not points_at(store, a_manifest("r2"))
    assert not points_at(store, a_manifest("r1", source_key="s3://in/a"))


def test_a_run_whose_pointer_stands_is_told_so_again() -> None:
    store = published(MemoryStore(), a_manifest("r0"), a_manifest("r1"))

    assert move_pointer(store, JOB.run("r1"), a_manifest("r1"))
    assert move_pointer(store, JOB.run("r1"), a_manifest("r1"))
    assert not move_pointer(store, JOB.run("r0"), a_manifest("r0"))


def test_a_run_with_new_results_moves_its_own_pointer_to_them() -> None:
    store = MemoryStore()
    move_pointer(store, JOB.run("r1"), a_manifest("r1"))

    assert move_pointer(store, JOB.run("r1"), a_manifest("r1", results_prefix="job/results/r1/d/"))

    found = read_pointer(store, "job")
    assert found is not None
    assert found.results == "job/results/r1/d/"


class Contested(MemoryStore):
    """A store in which somebody else is faster at every replacement."""

    def perform(self, operation: str, key: str, action: Callable[[], T]) -> T:
        if operation == "replace":
            raise Changed("Somebody was faster.")
        return action()


def test_a_pointer_that_keeps_changing_is_given_up() -> None:
    store = Contested()
    move_pointer(store, JOB.run("r1"), a_manifest("r1"))

    with pytest.raises(Changed, match="kept changing"):
        move_pointer(store, JOB.run("r2"), a_manifest("r2"))
    assert points_at(store, a_manifest("r1"))


@pytest.mark.parametrize(
    ("others", "latest", "is_own"),
    [
        pytest.param([], "r2", True, id="no other"),
        pytest.param([a_manifest("r1", 1.0)], "r2", True, id="an older one"),
        pytest.param([a_manifest("r3", 3.0)], "r3", False, id="a newer one"),
        pytest.param(
            [a_manifest("r3", 3.0, source_key="s3://in/a")], "r2", True, id="of another object"
        ),
        pytest.param(
            [a_manifest("r1", 3.0), a_manifest("r4", 2.0)], "r1", False, id="by logical time"
        ),
    ],
)
def test_a_pointer_that_cannot_be_read_is_written_anew_to_the_newest(
    others: list[Manifest], latest: str, is_own: bool
) -> None:
    store = published(MemoryStore(), *others)
    store.create(JOB.latest(), b"{")
    with pytest.raises(LedgerBroken):
        read_pointer(store, "job")

    assert move_pointer(store, JOB.run("r2"), a_manifest("r2", 2.0)) is is_own

    assert read_pointer(store, "job") == pointer_to(
        JOB.run(latest), next(m for m in [*others, a_manifest("r2", 2.0)] if m.run_id == latest)
    )

"""A store that does not answer is not taken for one in which nothing lies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from coordinator.errors import StoreUnavailable
from coordinator.keys import JobKeys, RunKeys
from coordinator.model import Entry, File, Part, PlanRef, Receipt, ShardRef, Slice
from coordinator.state import catalogue, files, ledger, notes, plans, runs, snapshots
from coordinator.store.memory import MemoryStore
from coordinator.store.ports import Store
from tests.state.test_catalogue import a_manifest
from tests.state.test_runs import WANTED

T = TypeVar("T")
KEYS = RunKeys("job", "r1", (("map", "d"),))
FILE = File(key="f", size=4, sha256="s")
PART = Part(key="f", size=4, sha256="s", records=1, segments=((4, 0),))
ENTRY = Entry(
    shard="0",
    stage="map",
    outcome="done",
    digest="d",
    receipt=Receipt(attempt="a"),
    covered=(Slice(key="in", size=1, etag="e", stop=1),),
)


class Unavailable(MemoryStore):
    """A store that no operation reaches any more, once it is away."""

    away = False

    def perform(self, operation: str, key: str, action: Callable[[], T]) -> T:
        if self.away:
            raise StoreUnavailable("The store does not answer.")
        return action()

    def open(self, key: str, start: int = 0, stop: int | None = None) -> Any:
        if self.away:
            raise StoreUnavailable("The store does not answer.")
        return super().open(key, start, stop)


def line_of(length: int) -> ShardRef:
    return ShardRef(id="0.1", key="f", length=length, digest="d")


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda store: runs.find(store, KEYS), id="find a run"),
        pytest.param(lambda store: runs.exists(store, KEYS), id="whether there is a run"),
        pytest.param(
            lambda store: runs.claim(store, WANTED, now=1.0, is_live=lambda _: False), id="claim"
        ),
        pytest.param(lambda store: catalogue.read_pointer(store, "job"), id="read the pointer"),
        pytest.param(
            lambda store: catalogue.move_pointer(store, KEYS, a_manifest("r1")), id="move it"
        ),
        pytest.param(lambda store: files.file_at(store, "f"), id="what lies there"),
        pytest.param(lambda store: list(files.read_file(store, FILE)), id="a file"),
        pytest.param(lambda store: files.write_once(store, "f", [b"x"]), id="write once"),
        pytest.param(lambda store: list(files.read_part(store, PART)), id="a part"),
        pytest.param(lambda store: list(files.segment_lines(store, PART, 0)), id="a segment"),
        pytest.param(lambda store: ledger.find(store, KEYS, "map", "0"), id="an entry"),
        pytest.param(lambda store: ledger.commit(store, KEYS, ENTRY), id="commit"),
        pytest.param(lambda store: ledger.Ledger(store, KEYS, "map"), id="a ledger"),
        pytest.param(lambda store: notes.find_note(store, KEYS, "map", "0", 1), id="a note"),
        pytest.param(
            lambda store: plans.read_index(
                store, PlanRef(draft="d", plan=FILE, index_offset=0, shards=1)
            ),
            id="an index",
        ),
        pytest.param(lambda store: plans.read_shard(store, line_of(4)), id="a line of a plan"),
        pytest.param(lambda store: plans.read_shard(store, line_of(0)), id="a child of a split"),
        pytest.param(lambda store: list(snapshots.read_snapshot(store, FILE)), id="a snapshot"),
    ],
)
def test_what_is_not_known_is_not_taken_for_nothing(ask: Callable[[Store], Any]) -> None:
    store = Unavailable()
    store.away = True

    with pytest.raises(StoreUnavailable):
        ask(store)


def test_one_manifest_that_cannot_be_read_now_does_not_leave_a_run_out() -> None:
    class Hiding(Unavailable):
        def perform(self, operation: str, key: str, action: Callable[[], T]) -> T:
            self.away = key == JobKeys("job").run("r1").manifest and operation == "get"
            return super().perform(operation, key, action)

    store = Hiding()
    store.create(JobKeys("job").run("r1").manifest, a_manifest("r1").encode())

    with pytest.raises(StoreUnavailable):
        list(catalogue.manifests(store, "job"))


def test_a_pointer_that_cannot_be_read_now_is_not_taken_for_one_that_keeps_changing() -> None:
    class Hiding(Unavailable):
        def perform(self, operation: str, key: str, action: Callable[[], T]) -> T:
            self.away = key == JobKeys("job").latest() and operation == "get"
            return super().perform(operation, key, action)

    store = Hiding()
    store.create(JobKeys("job").latest(), b"{}")

    with pytest.raises(StoreUnavailable):
        catalogue.move_pointer(store, KEYS, a_manifest("r1"))


@pytest.mark.parametrize("begun", [False, True])
def test_a_pointer_that_cannot_be_written_now_is_not_tried_in_a_loop(begun: bool) -> None:
    tries: list[str] = []

    class Refusing(Unavailable):
        def perform(self, operation: str, key: str, action: Callable[[], T]) -> T:
            if operation in {"create", "replace"} and self.refuses:
                tries.append(operation)
                raise StoreUnavailable("The store does not answer.")
            return action()

        refuses = False

    store = Refusing()
    if begun:
        catalogue.move_pointer(store, KEYS, a_manifest("r1"))
    store.refuses = True

    with pytest.raises(StoreUnavailable):
        catalogue.move_pointer(store, KEYS, a_manifest("r2", 2.0))
    assert len(tries) == 1

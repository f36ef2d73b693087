"""Ten thousand shards, and a listing longer than one invocation: nothing grows past its limit.

The handlers run on the store's twin in memory, which keeps the same contract as the bucket: ten
thousand entries are too many requests for a mocked S3.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from coordinator.errors import AttemptFailed
from coordinator.keys import RunKeys
from coordinator.model import Entry, Message, Note, Receipt, ShardRef
from coordinator.state import ledger, runs
from coordinator.state.snapshots import read_snapshot
from coordinator.steps import attempts
from coordinator.steps.workplace import RunPlace
from coordinator.store.memory import MemoryInputs, MemoryStore
from functions import plan, wiring
from functions.settings import loaded_job
from tests.cloud.account import Account, forget_everything, handlers
from tests.cloud.harness import PAYLOAD_LIMIT_BYTES, LambdaContext, size_bytes
from tests.cloud.test_faults import lines

SHARDS = 10_000
LONG_REASON = "naïve " * 60  # longer than a note's reason gets, and of letters of two bytes
CAUSE_BYTES = 32 * 1024
BUCKET = "fanfold-test"
KEYS = RunKeys("words", "r1")


class Machine:
    """The states between Plan and Publish, with every payload measured on its way."""

    def __init__(self) -> None:
        self.handlers = handlers()
        self.largest = 0
        self.execution = {
            "Id": "arn:aws:states:us-east-1:123456789012:execution:fanfold-words:r1",
            "Input": {"run_id": "r1", "limits": {"shard_bytes": 2}},
            "Name": "r1",
            "RoleArn": "arn:aws:iam::123456789012:role/fanfold-words-states",
            "StartTime": "2026-11-21T05:00:01.482Z",
            "RedriveCount": 0,
        }

    def send(self, function: str, **payload: Any) -> Any:
        """Invoke a function as its state does; gives the state data that follows."""
        event = {"execution": self.execution, **payload}
        context = LambdaContext(function, "00000000-0000-0000-0000-000000000000", 1e12)
        answer = self.handlers[function](event, context)
        self.largest = max(self.largest, size_bytes(event), size_bytes(answer))
        return answer


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def machine(
    store: MemoryStore, write_job: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Machine]:
    monkeypatch.setenv("FANFOLD_BUCKET", BUCKET)
    monkeypatch.setenv("FANFOLD_JOB_MODULE", str(write_job()))
    monkeypatch.setenv("FANFOLD_TIMEOUT_SECONDS", "300")
    monkeypatch.setenv("POWERTOOLS_METRICS_DISABLED", "true")
    inputs = {f"s3://{BUCKET}/words/inputs/big.txt": b"a\n" * SHARDS}
    forget_everything()
    monkeypatch.setattr(wiring, "store", lambda: store)
    monkeypatch.setattr(wiring, "inputs", lambda glob: MemoryInputs(inputs))
    yield Machine()
    monkeypatch.undo()
    forget_everything()


def planned(machine: Machine) -> Any:
    state = machine.send("plan", state_machine="arn", run=None)
    assert state["next"] == "reconcile"
    return state


def items(store: MemoryStore, state: Any) -> list[ShardRef]:
    """The wave as the Map's ItemReader finds it."""
    return [ShardRef(**item) for item in json.loads(store.get(state["items"]["key"]).body)]


def message(state: Any, shard: ShardRef, wave: int) -> Message:
    return Message(
        job="words", run_id="r1", stage="map", draft=state["draft"], wave=wave, epoch=1, shard=shard
    )


def finish(store: MemoryStore, shard: ShardRef) -> None:
    """An entry, as a worker leaves it."""
    receipt = Receipt(attempt="5f0c6e1d2b7a4938", records_in=1, records_out=1, mapped=1)
    entry = Entry(shard=shard.id, stage="map", outcome="done", digest=shard.digest, receipt=receipt)
    ledger.commit(store, runs.keys_of(runs.read(store, KEYS)), entry)


def test_no_payload_grows_with_ten_thousand_shards(machine: Machine, store: MemoryStore) -> None:
    state = machine.send("reconcile", state=planned(machine))
    assert (state["next"], state["shards"]) == ("map", [])
    wave = items(store, state)
    assert len(wave) == SHARDS
    assert max(size_bytes(shard.model_dump()) for shard in wave) < 400
    child = {
        **message(state, wave[-1], 1).model_dump(),
        "token": "t" * 1024,
        "timeout_seconds": 86_400,
    }
    machine.largest = max(machine.largest, size_bytes(child))

    for shard in wave:
        finish(store, shard)
    state = machine.send("reconcile", state=state)
    assert (state["next"], state["stage"], len(state["shards"])) == ("inline", "merge", 1)
    assert machine.largest < PAYLOAD_LIMIT_BYTES / 16


def test_no_payload_grows_with_ten_thousand_failed_children(
    machine: Machine, store: MemoryStore
) -> None:
    state = machine.send("reconcile", state=planned(machine))
    place = RunPlace(store, runs.read(store, KEYS), lambda: 0.0)
    for wave in (1, 2):
        sent = items(store, state)
        assert len(sent) == SHARDS
        for shard in sent:
            error = AttemptFailed(LONG_REASON)
            note: Note = attempts.note_of(
                error, message(state, shard, wave), attempt="", receives=5, at=0.0, began=0.0
            )
            attempts.keep_note(place, message(state, shard, wave), note)
        if wave == 1:
            state = machine.send("reconcile", state=state)
            assert (state["next"], state["wave"]) == ("map", 2)
    with pytest.raises(Exception, match="10000 of 10000 map shards failed") as failed:
        machine.send("reconcile", state=state)
    assert type(failed.value).__name__ == "ShardsFailed"
    assert len(str(failed.value).encode()) < CAUSE_BYTES / 16
    assert machine.largest < PAYLOAD_LIMIT_BYTES / 16


@pytest.mark.parametrize("pages", [1, 2, 100])
def test_a_listing_over_several_invocations_gives_the_same_plan(
    make_cloud: Any, write_job: Any, pages: int
) -> None:
    cloud = make_cloud(write_job())
    cloud.give(lines(7))
    with pytest.MonkeyPatch.context() as small:
        small.setattr(plan, "PAGES_AN_INVOCATION", pages)
        wiring.inputs(loaded_job().job.source.glob)._page_size = 2
        assert cloud.run({"run_id": "r1"}).succeeded

    assert cloud.records.count("plan") == max(-(-4 // pages), 1)
    record = runs.read(wiring.store(), cloud.keys("r1"))
    snapshot = record.plans["map"].snapshot
    assert snapshot is not None
    keys = [pinned.key for pinned in read_snapshot(wiring.store(), snapshot)]
    assert keys == [f"s3://{cloud.bucket}/words/inputs/{name}" for name in sorted(lines(7))]
    assert record.listing is None
    assert record.plans["map"].plan.sha256 == plan_in_one_go(cloud)


def test_a_continued_listing_that_dies_goes_on_where_it_was(
    make_cloud: Any, write_job: Any
) -> None:
    cloud = make_cloud(write_job())
    cloud.give(lines(7))
    with pytest.MonkeyPatch.context() as small:
        small.setattr(plan, "PAGES_AN_INVOCATION", 1)
        wiring.inputs(loaded_job().job.source.glob)._page_size = 2
        cloud.faults.crash("plan", nth={2, 4}, after=True)
        assert cloud.run({"run_id": "r1"}).succeeded
    cloud.faults.clear()
    found = cloud.record("r1")["plans"]["map"]["plan"]["sha256"]
    assert found == plan_in_one_go(cloud)


def plan_in_one_go(cloud: Account) -> str:
    """The digest of the plan of another run over the same inputs, listed by one invocation."""
    wiring.inputs.cache_clear()
    cloud.records.reset()
    assert cloud.run({"run_id": "whole"}).succeeded
    assert cloud.records.count("plan") == 1
    digest: str = cloud.record("whole")["plans"]["map"]["plan"]["sha256"]
    return digest

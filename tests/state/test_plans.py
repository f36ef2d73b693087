"""Plans and snapshots: written once, read by their index, and held against what was recorded."""

from __future__ import annotations

import gzip
import hashlib
from typing import Any

import pytest

from coordinator.errors import LedgerBroken, Superseded
from coordinator.keys import RunKeys
from coordinator.model import (
    Entry,
    File,
    Part,
    Pinned,
    PlanRef,
    Receipt,
    RunRecord,
    Shard,
    ShardRef,
    Slice,
)
from coordinator.state import plans, runs
from coordinator.state.files import write_lines
from coordinator.state.snapshots import (
    by_key,
    read_parts,
    read_rows,
    read_snapshot,
    snapshot_digest,
    write_rows,
    write_snapshot,
)
from coordinator.store.memory import MemoryStore
from tests.state.test_runs import WANTED

KEYS = RunKeys("job", "r1")
SLICE = Slice(key="in", size=9, etag="e", start=0, stop=4)
SHARDS = [
    Shard(id="0", slices=(SLICE,)),
    Shard(id="1", slices=(SLICE.model_copy(update={"start": 4, "stop": 9}),)),
    Shard(id="2"),
]


def a_plan(store: MemoryStore) -> PlanRef:
    return plans.write(store, KEYS, "map", "d", SHARDS)


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def test_every_shard_of_a_plan_is_found_by_its_index() -> None:
    store = MemoryStore()
    ref = a_plan(store)
    index = plans.read_index(store, ref)

    assert (ref.draft, ref.shards, len(index)) == ("d", 3, 3)
    for number, (offset, length, digest) in enumerate(index):
        found = ShardRef(
            id=str(number), key=ref.plan.key, offset=offset, length=length, digest=digest
        )
        assert plans.read_shard(store, found) == SHARDS[number]
    body = store.get(ref.plan.key).body
    assert body[: ref.index_offset] == b"".join(shard.encode() + b"\n" for shard in SHARDS)
    assert (ref.plan.size, ref.plan.sha256) == (len(body), sha256(body))


@pytest.mark.parametrize("body", [None, b"", b"{}", b"[1]", b'[["a",1,"d"]]', b"[[1,2]]"])
def test_an_index_that_cannot_be_read_is_named(body: bytes | None) -> None:
    store = MemoryStore()
    file = File(key="plan", size=len(body or b""), sha256="s")
    if body is not None:
        store.create("plan", body)

    with pytest.raises(LedgerBroken, match=r"plan .*(no readable index|lists 0 shards, not 1)"):
        plans.read_index(store, PlanRef(draft="d", plan=file, index_offset=0, shards=1))


CHILDREN = Entry(
    shard="1",
    stage="map",
    outcome="split",
    digest="d",
    receipt=Receipt(attempt="a"),
    children=((SLICE,), (SLICE, SLICE)),
)


def test_a_child_is_described_by_the_entry_that_cut_it_off() -> None:
    store = MemoryStore()
    store.create("entry", CHILDREN.encode())
    wanted = Shard(id="1.1", slices=(SLICE, SLICE))

    ref = ShardRef(id="1.1", key="entry", digest=sha256(wanted.encode()))

    assert plans.read_shard(store, ref) == wanted
    assert plans.child_of(CHILDREN.encode(), "1.0") == Shard(id="1.0", slices=(SLICE,))


@pytest.mark.parametrize(
    ("body", "shard"),
    [
        (CHILDREN.encode(), "1.2"),
        (CHILDREN.encode(), "1"),
        (b"{}", "1.0"),
        (b"{", "1.0"),
        (b"[]", "1.0"),
    ],
)
def test_a_child_that_no_entry_describes_is_named(body: bytes, shard: str) -> None:
    with pytest.raises(LedgerBroken, match=f"The split entry that cut shard {shard} can't be read"):
        plans.child_of(body, shard)


@pytest.mark.parametrize("length", [0, 4])
def test_a_plan_that_is_missing_is_named(length: int) -> None:
    ref = ShardRef(id="1.1", key="gone", length=length, digest="d")

    with pytest.raises(LedgerBroken, match=r"gone, which describes shard 1\.1, is missing"):
        plans.read_shard(MemoryStore(), ref)


# ------------------------------------------------------------------------------------------------
# Committing
# ------------------------------------------------------------------------------------------------


def begun(store: MemoryStore) -> RunRecord:
    return runs.claim(store, WANTED, now=1.0, is_live=lambda owner: False)


def test_the_plan_that_is_committed_first_stands_and_counts_one_pass() -> None:
    store = MemoryStore()
    run = begun(store)
    ref = a_plan(store)

    first = plans.commit(store, run, "map", ref, 2.5)
    again = plans.commit(store, run, "map", ref.model_copy(update={"draft": "other"}), 4.0)

    assert again == first == runs.read(store, KEYS)
    assert (first.plans, first.state, first.listing) == ({"map": ref}, "running", None)
    assert (first.passes, first.coordinator_seconds) == (1, 2.5)

    later = plans.commit(store, run, "merge", ref)
    assert set(later.plans) == {"map", "merge"}
    assert (later.passes, later.coordinator_seconds) == (2, 2.5)


def test_a_plan_of_a_run_that_was_taken_over_is_not_committed() -> None:
    store = MemoryStore()
    run = begun(store)
    runs.change(store, KEYS, lambda found: found.model_copy(update={"owner": "other"}))

    with pytest.raises(Superseded):
        plans.commit(store, run, "map", a_plan(store))
    assert runs.read(store, KEYS).plans == {}


# ------------------------------------------------------------------------------------------------
# Snapshots
# ------------------------------------------------------------------------------------------------

ROWS: list[list[Any]] = [["a", 1, "ea", None], ["a", 1, "ea", None], ["é", 20, "eb", "v"]]


def test_a_snapshot_names_every_object_once() -> None:
    store = MemoryStore()

    found = write_snapshot(store, "k", ROWS)

    assert (found.objects, found.bytes) == (2, 21)
    assert list(read_snapshot(store, found.file)) == [
        Pinned(key="a", size=1, etag="ea"),
        Pinned(key="é", size=20, etag="eb", version_id="v"),
    ]
    lines = '["a",1,"ea",null]\n["é",20,"eb","v"]\n'.encode()
    assert gzip.decompress(store.get("k").body) == lines
    assert found.digest == snapshot_digest(store, found.file) == sha256(lines)


def test_the_same_rows_give_the_same_bytes() -> None:
    store = MemoryStore()
    rows = [[f"k{number:05d}", number, "e", None] for number in range(2500)]

    first, digest = write_rows(store, "one", rows)
    second, again = write_rows(store, "two", iter(rows))

    assert (first.sha256, digest) == (second.sha256, again)
    assert store.get("one").body[4:8] == bytes(4)  # no time of writing
    assert list(read_rows(store, first)) == rows


def test_rows_are_sorted_by_the_bytes_of_their_keys() -> None:
    rows = [["\U0001f600", 1, "e", None], ["\uff5e", 1, "e", None], ["b", 1, "e", None]]

    assert [row[0] for row in sorted(rows, key=by_key)] == ["b", "\uff5e", "\U0001f600"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"not gzip", id="no archive"),
        pytest.param(gzip.compress(b"{"), id="no JSON"),
        pytest.param(gzip.compress(b'{"a":1}\n'), id="no row"),
        pytest.param(gzip.compress(b'["a",1]\n'), id="too few columns"),
        pytest.param(gzip.compress(b'["a",-1,"e",null]\n'), id="a size below 0"),
        pytest.param(gzip.compress(b'["a",1,"e",null]\n')[:-4], id="cut short"),
        pytest.param(gzip.compress(b'["a",1,"e",null]\n') + b"more", id="more behind it"),
    ],
)
def test_a_snapshot_that_is_not_one_is_named(body: bytes) -> None:
    store = MemoryStore()
    store.create("k", body)

    with pytest.raises(LedgerBroken, match="memory:k is not what was recorded"):
        list(read_snapshot(store, File(key="k", size=len(body), sha256=sha256(body))))


def test_a_snapshot_that_was_replaced_is_named() -> None:
    store = MemoryStore()
    file = write_snapshot(store, "k", ROWS).file
    write_snapshot(store, "k", ROWS[:1])

    with pytest.raises(LedgerBroken, match="memory:k is not what was recorded"):
        list(read_snapshot(store, file))


def test_parts_come_in_the_order_in_which_they_were_listed() -> None:
    store = MemoryStore()
    parts = [Part(key=name, size=1, sha256="s", records=1) for name in ("b", "a")]

    file = write_lines(store, "k", [part.encode() for part in parts])

    assert list(read_parts(store, file)) == parts
    with pytest.raises(LedgerBroken, match="memory:bad is not a readable Part"):
        list(read_parts(store, write_lines(store, "bad", [b"{}"])))

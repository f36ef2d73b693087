"""The documents: written and read back alike, and anything else refused by name."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from coordinator.errors import Fate, LedgerBroken
from coordinator.model import (
    Entry,
    File,
    Note,
    Part,
    Pinned,
    Receipt,
    RunRecord,
    Shard,
    Slice,
    shard_order,
)
from tests.support import examples

PINNED = Pinned(key="in/a b.csv", size=10, etag="e", version_id="v")
ENTRY = Entry(
    shard="3.1",
    stage="map",
    outcome="split",
    digest="d",
    receipt=Receipt(
        attempt="a",
        records_in=2,
        mapped=2,
        seconds=0.5,
        parts=(Part(key="p", size=1, sha256="s", records=1, segments=((1, 2), (0, 0))),),
        quarantine=File(key="q", size=1, sha256="s"),
    ),
    covered=(Slice.of(PINNED, 0, 4),),
    children=((Slice.of(PINNED, 4, 7),), (Slice.of(PINNED, 7, 10),)),
)


def test_an_entry_is_read_as_it_was_written() -> None:
    assert Entry.decode(ENTRY.encode(), where="there") == ENTRY


@given(st.text(max_size=20), st.integers(0, 1 << 60), st.none() | st.text(max_size=5))
@examples(50)
def test_any_name_of_an_input_is_read_as_it_was_written(
    key: str, size: int, version: str | None
) -> None:
    try:
        key.encode()
        (version or "").encode()
    except UnicodeEncodeError:
        return
    shard = Shard(
        id="0", slices=(Slice.whole(Pinned(key=key, size=size, etag="e", version_id=version)),)
    )

    assert Shard.decode(shard.encode(), where="there") == shard


def test_what_is_at_its_default_is_not_written() -> None:
    assert Shard(id="7").encode() == b'{"id":"7"}'


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b"\xff", ENTRY.encode()[:-1], ENTRY.encode()[:-1] + b',"new":1}'],
)
def test_anything_else_is_a_broken_ledger_that_names_the_place(body: bytes) -> None:
    with pytest.raises(LedgerBroken, match=r"out/0\.json is not a readable Entry"):
        Entry.decode(body, where="out/0.json")


@pytest.mark.parametrize("shard", ["", "a", "1.", ".1", "1..2", "-1", "1\n", "1/2"])
def test_a_shard_id_is_numbers_with_dots(shard: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        Shard(id=shard)


def test_shards_are_ordered_by_number_and_a_prefix_comes_first() -> None:
    ids = ["10", "2", "2.10", "2.9", "2.9.0", "1"]

    assert sorted(ids, key=shard_order) == ["1", "2", "2.9", "2.9.0", "2.10", "10"]


def test_documents_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        PINNED.size = 3  # type: ignore[misc]


def test_a_slice_knows_the_object_it_is_a_range_of() -> None:
    assert Slice.of(PINNED, 2, 3).pinned == PINNED
    assert Slice.whole(PINNED).stop == 10


def test_a_note_keeps_its_fate() -> None:
    note = Note(
        shard="0",
        stage="map",
        wave=1,
        attempt="a",
        receives=1,
        error="MapFailed",
        reason="why",
        fate=Fate.SHARD,
        at=1.0,
    )

    assert Note.decode(note.encode(), where="there").fate is Fate.SHARD


def test_a_record_of_a_newer_version_is_refused() -> None:
    record = RunRecord(
        job="j", run_id="r", created=0, logical_time=0, owner="o", declaration={}, inputs=()
    )
    newer = record.encode()[:-1] + b',"version":2}'

    with pytest.raises(LedgerBroken, match="not a readable RunRecord"):
        RunRecord.decode(newer, where="run.json")

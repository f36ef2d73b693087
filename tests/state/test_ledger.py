"""The ledger: one entry a shard, in shard order, and what they add up to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coordinator.errors import AttemptFailed, LedgerBroken, StoreUnavailable
from coordinator.keys import RunKeys
from coordinator.model import Entry, Part, Receipt, Slice, Totals
from coordinator.rules.decide import EntryFacts
from coordinator.state.files import read_lines, write_lines
from coordinator.state.ledger import Ledger, Sums, commit, find, seconds_of
from coordinator.store.memory import MemoryStore
from tests.state.test_runs import Faulty, lost_answer, lost_request

KEYS = RunKeys("job", "r1", (("map", "d"),))
SLICE = Slice(key="in", size=1, etag="e", stop=1)


def entry(shard: str, *, children: int = 0, **counts: Any) -> Entry:
    return Entry(
        shard=shard,
        stage="map",
        outcome="split" if children else "done",
        digest="d",
        receipt=Receipt(attempt=f"of-{shard}", **counts),
        covered=(SLICE,),
        children=((SLICE,),) * children,
    )


def part(name: str) -> Part:
    return Part(key=name, size=1, sha256="s", records=1)


def test_the_first_entry_of_a_shard_stands() -> None:
    store = MemoryStore()
    first = entry("3", records_in=1)

    assert find(store, KEYS, "map", "3") is None
    assert commit(store, KEYS, first) == first
    assert commit(store, KEYS, entry("3", records_in=2)) == first
    assert find(store, KEYS, "map", "3") == first


def test_a_commit_whose_answer_was_lost_is_read_back() -> None:
    store = Faulty()
    store.planned = [("create", lost_answer)]
    assert commit(store, KEYS, entry("0")) == entry("0")

    store.planned = [("create", lost_request)]
    with pytest.raises(AttemptFailed, match="shard 1 could not be written; it is tried again"):
        commit(store, KEYS, entry("1"))


def test_a_commit_that_the_store_refused_for_now_says_so() -> None:
    def unavailable(action: Callable[[], Any]) -> Any:
        raise StoreUnavailable("Nothing was written.")

    store = Faulty()
    store.planned = [("create", unavailable)]
    with pytest.raises(StoreUnavailable):
        commit(store, KEYS, entry("0"))


def test_a_ledger_without_entries_adds_up_to_nothing() -> None:
    assert Sums().totals() == Totals()


def test_a_ledger_is_what_its_entries_say_in_shard_order() -> None:
    store = MemoryStore()
    entries = {
        "10": entry("10", records_in=4, quarantined=1, seconds=0.5, parts=(part("p10"),)),
        "2": entry("2", children=2, records_in=3, seconds=0.25, peak_memory_bytes=7),
        "2.1": entry("2.1", bytes_in=5, parts=(part("p21"), part("p21b"))),
        "2.0": entry("2.0", records_out=6, peak_memory_bytes=3),
    }
    for found in entries.values():
        commit(store, KEYS, found)
    store.create(KEYS.ledger("map") + "notes.txt", b"not ours")

    with Ledger(store, KEYS, "map") as ledger:
        assert ledger.in_order() == ["2", "2.0", "2.1", "10"]
        assert {shard: ledger.entry(shard) for shard in entries} == entries
        assert ledger.outcomes["2"] == EntryFacts(children=2, records_in=3, quarantined=0)
        assert ledger.outcomes["10"] == EntryFacts(children=0, records_in=4, quarantined=1)
        assert ledger.outcomes["2.0"] == EntryFacts(children=0, records_in=0, quarantined=0)
        assert ledger.totals == Totals(
            shards=4,
            splits=1,
            records_in=7,
            records_out=6,
            quarantined=1,
            bytes_in=5,
            seconds=0.75,
            peak_memory_bytes=7,
        )
        assert list(ledger.parts()) == [
            ("2", ()),
            ("2.0", ()),
            ("2.1", (part("p21"), part("p21b"))),
            ("10", (part("p10"),)),
        ]
        sealed = ledger.seal("sealed")
    assert list(read_lines(store, sealed)) == [
        entries[shard].encode() for shard in ("2", "2.0", "2.1", "10")
    ]


def test_inherited_entries_stand_beside_those_of_the_draft() -> None:
    store = MemoryStore()
    commit(store, KEYS, entry("1", records_in=2))
    inherits = write_lines(store, "inherited", [entry("0", records_in=1).encode()])

    with Ledger(store, KEYS, "map", inherits=inherits) as ledger:
        assert ledger.in_order() == ["0", "1"]
        assert ledger.totals.records_in == 3

    commit(store, KEYS, entry("0"))
    with pytest.raises(LedgerBroken, match=r"0\.json is not a readable entry"):
        Ledger(store, KEYS, "map", inherits=inherits)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"{}",
        entry("1").encode(),
        entry("0").encode().replace(b'"map"', b'"merge"'),
        entry("0").encode().replace(b'"receipt":{', b'"receipt":null,"x":{'),
        entry("0").encode().replace(b'"outcome":"done",', b""),
        entry("0", records_in=5).encode().replace(b":5", b':"5"'),
    ],
)
def test_an_entry_that_cannot_be_read_is_named(body: bytes) -> None:
    store = MemoryStore()
    store.create(KEYS.entry("map", "0"), body)

    with pytest.raises(LedgerBroken, match=r"0\.json is not a readable entry.*fanfold repair"):
        Ledger(store, KEYS, "map")


def test_seconds_add_up_to_the_same_in_any_order() -> None:
    seconds = [0.1, 0.2, 0.3, 1e6, 1e-6, 0.7]
    forward, backward = Sums(), Sums()
    for number in seconds:
        forward.add({"seconds": number}, split=False)
    for number in reversed(seconds):
        backward.add({"seconds": number}, split=True)

    assert forward.totals().seconds == backward.totals().seconds == 1_000_001.300001
    assert (forward.totals().splits, backward.totals().splits) == (0, 6)


def test_the_failures_of_others_are_kept() -> None:
    sums = Sums()
    sums.add({"records_in": 2}, split=False)

    assert sums.totals(Totals(failures=3, failed_seconds=4.5, records_in=99)) == Totals(
        shards=1, records_in=2, failures=3, failed_seconds=4.5
    )


def test_the_seconds_of_entries_are_read_as_they_are_listed() -> None:
    store = MemoryStore()
    commit(store, KEYS, entry("0", seconds=1.5))
    commit(store, KEYS, entry("1"))

    assert seconds_of(store, store.list(KEYS.ledger("map"))) == [1.5, 0.0]

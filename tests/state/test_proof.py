"""The proof's helpers: which shards are whose, and names that many results share."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from coordinator.errors import DuplicateName, NotProven
from coordinator.model import (
    Entry,
    File,
    Pinned,
    PlanRef,
    ProgramWork,
    Receipt,
    RunRecord,
    Slice,
    Stage,
    Totals,
)
from coordinator.state.files import write_lines
from coordinator.state.proof import (
    Names,
    check_names,
    in_ranges,
    programs_in,
    prove,
    prove_run,
    quarantine_in,
    results_in,
)
from coordinator.store.memory import MemoryStore

PINNED = Pinned(key="in", size=10, etag="e")


def file(key: str) -> File:
    return File(key=key, size=1, sha256="s")


def entry(shard: str, stage: Stage = "map", **counts: Any) -> Entry:
    return Entry(
        shard=shard,
        stage=stage,
        outcome="done",
        digest="d",
        receipt=Receipt(attempt="a", **counts),
        covered=(Slice.whole(PINNED),) if stage == "map" else (),
    )


def ledger(store: MemoryStore, stage: Stage, *entries: Entry) -> File:
    return write_lines(store, f"{stage}.jsonl", [found.encode() for found in entries])


@pytest.mark.parametrize(
    ("shards", "text"),
    [
        ([], ""),
        (["0"], "0"),
        (["0", "1"], "0-1"),
        (["2", "0", "1"], "0-2"),
        (["9", "10", "11"], "9-11"),
        (["0", "2", "3", "5"], "0,2-3,5"),
        (["20.0", "18", "19", "20.1"], "18-19,20.0,20.1"),
        (["1", "1.0", "1.0.3", "2"], "1-2,1.0,1.0.3"),
        (["0.10", "0.9"], "0.9,0.10"),
    ],
)
def test_shards_are_told_as_ids_and_ranges_of_ids(shards: list[str], text: str) -> None:
    assert in_ranges(shards) == text


def test_a_program_is_told_with_the_shards_of_every_stage_that_are_its_work() -> None:
    store = MemoryStore()
    ledgers: dict[Stage, File] = {
        "map": ledger(
            store,
            "map",
            entry("0", code_version="b"),
            entry("1", code_version="a"),
            entry("2", code_version="b"),
        ),
        "merge": ledger(store, "merge", entry("0", "merge", code_version="b")),
    }

    assert programs_in(store, ledgers) == (
        ProgramWork(code_version="a", shards={"map": "1"}),
        ProgramWork(code_version="b", shards={"map": "0,2", "merge": "0"}),
    )


def test_results_and_quarantine_are_named_in_order() -> None:
    store = MemoryStore()
    ledgers: dict[Stage, File] = {
        "map": ledger(
            store,
            "map",
            entry("0", quarantine=file("q0")),
            entry("1"),
            entry("2", quarantine=file("q2")),
        ),
        "merge": ledger(
            store,
            "merge",
            entry("0", "merge", results=(file("b"), file("a"))),
            entry("1", "merge", results=(file("c"),)),
        ),
    }

    assert [found.key for found in results_in(store, ledgers)] == ["b", "a", "c"]
    assert [found.key for found in quarantine_in(store, ledgers)] == ["q0", "q2"]


class OneCase(MemoryStore):
    """A store in which names that differ in case are one."""

    def identity(self, key: str) -> str:
        return key.lower()


def test_two_results_of_one_name_are_both_told() -> None:
    check_names(OneCase(), map(file, ["a", "b", "c"]))

    with pytest.raises(DuplicateName, match=r"the name memory:A \(the other is a\)\. A map must"):
        check_names(OneCase(), map(file, ["a", "b", "A"]))
    with pytest.raises(DuplicateName, match=r"the name memory:a\. A map must"):
        check_names(OneCase(), map(file, ["a", "b", "a"]))


def test_a_name_is_found_with_the_key_it_was_added_with() -> None:
    with closing(Names()) as names:
        assert names.add("n", "first")
        assert not names.add("n", "second")
        assert (names.find("n"), names.find("other")) == ("first", None)


# ------------------------------------------------------------------------------------------------
# The proof
# ------------------------------------------------------------------------------------------------


def proven(store: MemoryStore, maps: list[Entry], merges: list[Entry], **changed: Any) -> None:
    given: dict[str, Any] = {
        "ledgers": {"map": ledger(store, "map", *maps), "merge": ledger(store, "merge", *merges)},
        "stages": ("map", "merge"),
        "roots": {"map": 1, "merge": 1},
        "totals": {
            "map": Totals(shards=1, records_in=3, mapped=3, records_out=2),
            "merge": Totals(shards=1, records_in=2, mapped=2, records_out=2),
        },
        "objects": [PINNED],
    }
    prove(store, **(given | changed))


MAP = entry("0", records_in=3, mapped=3, records_out=2)
MERGE = entry("0", "merge", records_in=2, mapped=2, records_out=2)


def test_a_run_whose_numbers_agree_is_proven() -> None:
    proven(MemoryStore(), [MAP], [MERGE])


@pytest.mark.parametrize(
    ("maps", "merges", "changed", "says"),
    [
        pytest.param([], [MERGE], {}, "in is not covered", id="no entry"),
        pytest.param([], [MERGE], {"objects": []}, "Shard 0 of stage map has no entry", id="empty"),
        pytest.param([MAP, MAP], [MERGE], {}, "Shard 0 of stage map has two", id="two entries"),
        pytest.param([MERGE], [MERGE], {}, "Shard 0 of stage map has two", id="of another stage"),
        pytest.param(
            [MAP], [MERGE.model_copy(update={"covered": MAP.covered})], {}, "claims", id="reads"
        ),
        pytest.param([MAP], [MERGE], {"roots": {"map": 2, "merge": 1}}, "Shard 1 of", id="roots"),
        pytest.param(
            [MAP],
            [MERGE, entry("1", "merge")],
            {},
            "Stage merge has 2 entries, but 1 shards",
            id="an entry too many",
        ),
        pytest.param(
            [MAP],
            [entry("0", "merge", records_in=3, mapped=3, records_out=2)],
            {
                "totals": {
                    "map": Totals(shards=1, records_in=3, mapped=3, records_out=2),
                    "merge": Totals(shards=1, records_in=3, mapped=3, records_out=2),
                }
            },
            "Stage map gave 2 records, but merge took 3",
            id="took more than was given",
        ),
        pytest.param(
            [entry("0", records_in=4, mapped=3, records_out=2)],
            [MERGE],
            {},
            "The counts of shard 0 of stage map do not add up",
            id="a record is nowhere",
        ),
        pytest.param(
            [MAP.model_copy(update={"outcome": "split"})],
            [MERGE],
            {},
            "The entry of shard 0 of map is no outcome",
            id="a split without children",
        ),
        pytest.param(
            [MAP],
            [MERGE],
            {"totals": {"map": Totals(shards=1, records_in=3, mapped=3, records_out=2)}},
            "Stage merge is not complete",
            id="open",
        ),
        pytest.param(
            [MAP],
            [MERGE],
            {"totals": {"map": Totals(shards=1), "merge": Totals()}},
            "The totals of stage map are not",
            id="other totals",
        ),
    ],
)
def test_what_does_not_agree_is_named(
    maps: list[Entry], merges: list[Entry], changed: dict[str, Any], says: str
) -> None:
    with pytest.raises(NotProven, match=says):
        proven(MemoryStore(), maps, merges, **changed)


def test_refused_and_blank_records_count_as_seen() -> None:
    maps = [entry("0", records_in=6, mapped=3, quarantined=2, blank=1, records_out=2)]
    totals = {
        "map": Totals(shards=1, records_in=6, mapped=3, quarantined=2, blank=1, records_out=2),
        "merge": Totals(shards=1, records_in=2, mapped=2, records_out=2),
    }

    proven(MemoryStore(), maps, [MERGE], totals=totals)


def test_a_run_without_a_snapshot_is_not_proven() -> None:
    plan = PlanRef(draft="d", plan=file("p"), index_offset=0, shards=1)
    run = RunRecord(
        job="job",
        run_id="r1",
        created=0.0,
        logical_time=0.0,
        owner="o",
        declaration={"keyed": False},
        inputs=(),
        plans={"map": plan},
    )

    with pytest.raises(NotProven, match="Run r1 has no snapshot"):
        prove_run(MemoryStore(), run)

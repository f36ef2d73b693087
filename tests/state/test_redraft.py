"""Drafting a stage anew: what is inherited, what is done again, and when it is too late."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.errors import RunCancelled, Superseded
from coordinator.keys import RunKeys
from coordinator.model import Entry, PlanRef, RunRecord, Stage, State, Totals
from coordinator.state import runs
from coordinator.state.files import read_lines
from coordinator.state.ledger import Ledger, commit
from coordinator.state.redraft import quarantined_roots, redraft
from coordinator.store.memory import MemoryStore
from tests.state.test_ledger import entry
from tests.state.test_proof import file
from tests.state.test_runs import WANTED

KEYS = RunKeys("job", "r1", (("map", "d"),))
STAGES: tuple[Stage, ...] = ("map", "reduce", "merge")


def begun(store: MemoryStore, *entries: Entry) -> RunRecord:
    for found in entries:
        commit(store, KEYS, found)
    runs.claim(store, WANTED, now=1.0, is_live=lambda owner: False)
    plan = PlanRef(draft="d", plan=file("p"), index_offset=5, shards=3)
    changed = {
        "declaration": {"keyed": True},
        "state": "running",
        "plans": dict.fromkeys(STAGES, plan),
        "sealed": {stage: file(stage) for stage in STAGES},
        "totals": {stage: Totals(shards=1) for stage in STAGES},
        "redrafts": 1,
    }
    return runs.change(store, KEYS, lambda found: found.model_copy(update=changed))


def drafted(store: MemoryStore, run: RunRecord, stage: Stage, **fields: Any) -> RunRecord:
    def begin(found: RunRecord) -> RunRecord:
        return found.model_copy(update={"owner": "mender"})

    with Ledger(store, KEYS, "map") as found:
        given: dict[str, Any] = {"draft": "new", "again": {"1"}, "found": found, "begin": begin}
        return redraft(store, run, stage, **(given | fields))


def test_roots_are_inherited_with_all_that_was_cut_from_them_or_not_at_all() -> None:
    store = MemoryStore()
    kept = [entry("0", children=1), entry("0.0"), entry("10")]
    run = begun(store, *kept, entry("1", children=2), entry("1.0"), entry("1.1"))

    after = drafted(store, run, "map")

    plan = after.plans["map"]
    assert plan.inherits is not None
    assert list(read_lines(store, plan.inherits)) == [found.encode() for found in kept]
    assert plan.inherits.key == KEYS.inherited("new", "map")
    assert (plan.draft, plan.index_offset) == ("new", 5)
    assert (after.owner, after.redrafts) == ("mender", 2)
    assert after == runs.read(store, KEYS)


@pytest.mark.parametrize("number", range(3))
def test_the_stages_after_it_are_planned_again_and_those_before_it_stay(number: int) -> None:
    store = MemoryStore()
    run = begun(store)

    after = drafted(store, run, STAGES[number])

    assert tuple(after.plans) == STAGES[: number + 1]
    assert tuple(after.sealed) == tuple(after.totals) == STAGES[:number]
    assert all(after.plans[stage].draft == "d" for stage in STAGES[:number])


@pytest.mark.parametrize("state", ["publishing", "published"])
def test_what_is_being_published_is_not_drafted_anew(state: State) -> None:
    store = MemoryStore()
    run = begun(store)
    standing = runs.change(store, KEYS, lambda found: found.model_copy(update={"state": state}))

    with pytest.raises(Superseded, match=f"is {state} already"):
        drafted(store, run, "map")
    assert runs.read(store, KEYS) == standing


def test_plans_that_somebody_else_has_changed_are_left_alone() -> None:
    store = MemoryStore()
    run = begun(store)
    standing = runs.change(
        store, KEYS, lambda found: found.model_copy(update={"plans": {}, "state": "cancelled"})
    )

    with pytest.raises(RunCancelled):
        drafted(store, run, "map")
    assert runs.read(store, KEYS) == standing


def test_the_roots_in_which_records_were_refused_are_named() -> None:
    store = MemoryStore()
    begun(store, entry("0"), entry("1", children=1), entry("1.0", quarantined=2), entry("2"))

    with Ledger(store, KEYS, "map") as found:
        assert quarantined_roots(found) == {"1"}

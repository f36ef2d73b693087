"""What is written down of a run, and who may change it in which state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from coordinator.errors import CodeChanged, RunCancelled, RunMismatch, StoreUnavailable, Superseded
from coordinator.model import Hints, Tenure
from coordinator.state import runs
from coordinator.store.memory import MemoryStore
from tests.state.test_runs import DAY, KEYS, WANTED, Faulty, claim, update


def test_a_new_run_holds_all_that_it_was_asked_for_with() -> None:
    store = MemoryStore()
    wanted = replace(
        WANTED, source_key="s3://in/a", limits={"attempts": 7}, redrives=3, hints=Hints(lanes=2)
    )

    run = claim(store, wanted)

    assert (run.code_version, run.source_key, run.limits) == ("one", "s3://in/a", {"attempts": 7})
    assert run.hints == Hints(lanes=2)
    assert run.tenure == Tenure(began=100.0, after=0, waves=2, redrives=3)


def test_a_redrive_is_a_new_tenure_of_the_same_owner_once() -> None:
    store = MemoryStore()
    runs.change_own(store, claim(store), update(wave=4))
    again = replace(WANTED, redrives=1, limits={"attempts": 9}, code_version="two")

    redriven = claim(store, again, live=True)

    assert (redriven.epoch, redriven.tenure) == (
        2,
        Tenure(began=100.0, after=4, waves=1, redrives=1),
    )
    assert (redriven.limits, redriven.code_version) == ({"attempts": 9}, "two")
    assert claim(store, again, live=True) == redriven


def test_an_epoch_goes_on_with_the_code_that_it_is_bound_to_only() -> None:
    run = claim(MemoryStore())

    runs.check_code(run, "one")
    with pytest.raises(CodeChanged, match="goes on with code one in epoch 1, and this is two"):
        runs.check_code(run, "two")


def test_three_of_the_inputs_are_named_where_others_were_asked_for() -> None:
    store = MemoryStore()
    claim(store, replace(WANTED, inputs=("a", "b", "c", "d")))

    with pytest.raises(RunMismatch, match=r"over other inputs \(a, b, c\)\."):
        claim(store, replace(WANTED, owner="second"))


def test_a_run_can_be_taken_up_for_exactly_so_long() -> None:
    store = MemoryStore()
    claim(store, now=1000.0)

    run = claim(store, replace(WANTED, owner="second"), now=1000.0 + 29 * DAY)

    assert run.owner == "second"


def test_passes_and_their_seconds_add_up() -> None:
    run = claim(MemoryStore())

    run = runs.used(runs.used(runs.used(run, 1.25), 0.5), -3.0)

    assert (run.passes, run.coordinator_seconds) == (3, 1.75)
    assert runs.used(run, 1e-6).coordinator_seconds == 1.750001
    assert runs.used(run, 4e-7).coordinator_seconds == 1.75


def test_only_an_open_run_is_changed_by_its_owner() -> None:
    store = MemoryStore()
    run = claim(store)
    cancelled = runs.cancel(store, KEYS)
    assert cancelled.state == "cancelled"

    with pytest.raises(RunCancelled, match=r"was cancelled\. The same run id takes it up again"):
        runs.change_own(store, run, update(wave=1))
    assert runs.change_own(store, run, update(wave=1), states=("cancelled",)).wave == 1

    runs.change(store, KEYS, update(state="publishing"))
    with pytest.raises(Superseded, match="is publishing already"):
        runs.change_own(store, run, update(wave=2), states=("running",))
    assert runs.cancel(store, KEYS).state == "publishing"
    assert runs.read(store, KEYS).wave == 1


def test_a_run_that_is_being_published_stays_so_when_it_is_taken_up() -> None:
    store = MemoryStore()
    runs.change_own(store, claim(store), update(state="publishing"))

    taken = claim(store, replace(WANTED, owner="second", code_version="two"))

    assert (taken.state, taken.epoch, taken.code_version) == ("publishing", 2, "two")


def test_a_run_is_found_by_its_key_and_read_by_its_owner_only() -> None:
    store = MemoryStore()
    assert runs.find(store, KEYS) is None
    run = claim(store)

    assert runs.find(store, KEYS) == run
    assert runs.exists(store, KEYS)
    assert runs.read_owned(store, KEYS, "first") == run
    with pytest.raises(Superseded, match="now belongs to first"):
        runs.read_owned(store, KEYS, "second")


def unavailable(action: Callable[[], Any]) -> Any:
    raise StoreUnavailable("Nothing was written.")


def test_a_write_that_the_store_refused_for_now_is_not_tried_in_a_loop() -> None:
    store = Faulty()
    run = claim(store)

    store.planned = [("replace", unavailable)]
    with pytest.raises(StoreUnavailable):
        runs.change_own(store, run, update(wave=1))
    assert runs.read(store, KEYS).wave == 0

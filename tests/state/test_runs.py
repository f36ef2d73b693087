"""Claiming a run, owning it, and changing it by compare-and-swap."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from coordinator.errors import (
    Changed,
    KeyMissing,
    OutcomeUnknown,
    RunBusy,
    RunExpired,
    RunMismatch,
    Superseded,
)
from coordinator.keys import RunKeys
from coordinator.model import File as Document, Hints, LastPass, PlanRef, RunRecord, Tenure
from coordinator.state import runs
from coordinator.store.memory import MemoryStore

T = TypeVar("T")
KEYS = RunKeys("job", "r1")
WANTED = runs.Claim(
    keys=KEYS,
    owner="first",
    code_version="one",
    declaration={"source": "Lines", "limits": {}},
    inputs=("in/*",),
    logical_time=5.0,
    waves=2,
)
DAY = 86_400.0


def claim(
    store: MemoryStore, wanted: runs.Claim = WANTED, *, now: float = 100.0, live: bool = False
) -> RunRecord:
    return runs.claim(store, wanted, now=now, is_live=lambda owner: live)


def update(**fields: Any) -> Callable[[RunRecord], RunRecord]:
    return lambda found: found.model_copy(update=fields)


def test_a_new_run_is_pinned_to_what_it_was_begun_with() -> None:
    store = MemoryStore()

    run = claim(store)

    assert run == runs.read(store, KEYS)
    assert (run.owner, run.epoch, run.state) == ("first", 1, "planning")
    assert (run.created, run.logical_time) == (100.0, 5.0)
    assert run.tenure == Tenure(began=100.0, after=0, waves=2)


def test_the_owner_that_meets_itself_goes_on() -> None:
    store = MemoryStore()
    run = claim(store)

    assert claim(store, live=True) == run


def test_a_duplicate_trigger_finds_a_living_owner_and_stops() -> None:
    store = MemoryStore()
    run = claim(store)

    with pytest.raises(RunBusy, match="r1 of job job is being executed by first"):
        claim(store, replace(WANTED, owner="second"), live=True)
    assert runs.read(store, KEYS) == run


def test_where_the_owner_has_ended_a_new_one_takes_over_with_one_more_wave() -> None:
    store = MemoryStore()
    run = claim(store)
    runs.change_own(
        store, run, update(wave=7, progress=LastPass(stage="map", entries=3, stalled=2))
    )

    second = replace(WANTED, owner="second", logical_time=99.0, code_version="two")
    taken = claim(store, second, now=250.0)

    assert (taken.owner, taken.epoch, taken.wave) == ("second", 2, 7)
    assert taken.code_version == "two"
    assert taken.tenure == Tenure(began=250.0, after=7, waves=1)
    assert taken.progress == LastPass()
    assert taken.logical_time == 5.0


def test_an_owner_that_lost_its_run_can_change_nothing() -> None:
    store = MemoryStore()
    run = claim(store)
    claim(store, replace(WANTED, owner="second"))

    with pytest.raises(Superseded, match="now belongs to second"):
        runs.change_own(store, run, update(wave=9))
    assert runs.read(store, KEYS).wave == 0


def test_a_published_run_is_given_as_it_is() -> None:
    store = MemoryStore()
    published = runs.change_own(store, claim(store), update(state="published"))

    assert claim(store, replace(WANTED, owner="second"), now=100 * DAY) == published


def test_a_cancelled_run_is_taken_up_where_it_was() -> None:
    store = MemoryStore()
    claim(store)
    runs.cancel(store, KEYS)

    assert claim(store, replace(WANTED, owner="second")).state == "planning"

    plan = PlanRef(draft="a", plan=Document(key="p", size=1, sha256="s"), index_offset=0, shards=1)
    runs.change(store, KEYS, update(plans={"map": plan}))
    runs.cancel(store, KEYS)

    assert claim(store, replace(WANTED, owner="third")).state == "running"


def test_a_run_whose_publishing_is_committed_is_not_cancelled() -> None:
    store = MemoryStore()
    run = runs.change_own(store, claim(store), update(state="publishing"))

    assert runs.cancel(store, KEYS) == run
    assert runs.read(store, KEYS) == run


def test_a_published_run_cannot_be_cancelled() -> None:
    store = MemoryStore()
    runs.change_own(store, claim(store), update(state="published"))

    assert runs.cancel(store, KEYS).state == "published"


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (
            replace(WANTED, declaration={"source": "Csv", "limits": {}, "merge": "parts"}),
            r"another declaration \(differing: merge, source\)",
        ),
        (replace(WANTED, inputs=("other/*",)), r"begun over other inputs \(in/\*\)"),
        (replace(WANTED, hints=Hints(shard_bytes=7)), "another shard size"),
    ],
)
def test_a_run_id_that_belongs_to_something_else_is_refused(other: runs.Claim, says: str) -> None:
    store = MemoryStore()
    run = claim(store)

    with pytest.raises(RunMismatch, match=says):
        claim(store, replace(other, owner="second"))
    assert runs.read(store, KEYS) == run


def test_other_lanes_and_no_shard_size_are_no_mismatch() -> None:
    store = MemoryStore()
    claim(store, replace(WANTED, hints=Hints(shard_bytes=7, lanes=2)))

    taken = claim(store, replace(WANTED, owner="second", hints=Hints(lanes=16)))

    assert taken.hints == Hints(shard_bytes=7, lanes=2)


def test_a_run_too_old_for_its_parts_is_refused() -> None:
    store = MemoryStore()
    claim(store, now=0.0)
    second = replace(WANTED, owner="second")

    with pytest.raises(RunExpired, match="more than 29 days ago"):
        claim(store, second, now=29 * DAY + 1)
    assert claim(store, second, now=29 * DAY - 1).owner == "second"


@pytest.mark.parametrize("left", [KEYS.manifest, KEYS.published_ledger("map")])
def test_a_run_id_whose_record_has_expired_and_whose_result_stands_is_refused(left: str) -> None:
    store = MemoryStore()
    store.create(left, b"{}")

    with pytest.raises(RunExpired, match="its record has expired"):
        claim(store)
    assert runs.find(store, KEYS) is None


def test_one_of_many_at_once_begins_the_run_and_all_others_find_it_busy() -> None:
    store = MemoryStore()
    together = threading.Barrier(8)
    ended: list[str] = []

    def begin(number: int) -> None:
        together.wait()
        try:
            claim(store, replace(WANTED, owner=f"owner-{number}"), live=True)
            ended.append("owns")
        except RunBusy:
            ended.append("busy")

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(ended) == ["busy"] * 7 + ["owns"]


def test_no_change_is_lost_when_many_change_at_once() -> None:
    store = MemoryStore()
    claim(store)

    def add_waves() -> None:
        for _ in range(5):
            done = False
            while not done:
                try:
                    runs.change(
                        store, KEYS, lambda run: run.model_copy(update={"wave": run.wave + 1})
                    )
                    done = True
                except Changed:
                    continue

    threads = [threading.Thread(target=add_waves) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert runs.read(store, KEYS).wave == 20


class Faulty(MemoryStore):
    """A store that does something of the test's own at its next writes."""

    def __init__(self) -> None:
        super().__init__()
        self.planned: list[tuple[str, Callable[[Callable[[], Any]], Any]]] = []

    def perform(self, operation: str, key: str, action: Callable[[], T]) -> T:
        if self.planned and self.planned[0][0] == operation:
            found: T = self.planned.pop(0)[1](action)
            return found
        return action()


def lost_answer(action: Callable[[], Any]) -> Any:
    action()
    raise OutcomeUnknown("The answer was lost.")


def lost_request(action: Callable[[], Any]) -> Any:
    raise OutcomeUnknown("The request was lost.")


def test_a_claim_whose_answer_was_lost_is_found_to_be_ones_own() -> None:
    store = Faulty()
    store.planned = [("create", lost_answer)]

    run = claim(store, live=True)

    assert (run.owner, run.epoch) == ("first", 1)


def test_a_claim_whose_request_was_lost_can_be_tried_again() -> None:
    store = Faulty()
    store.planned = [("create", lost_request)]

    with pytest.raises(OutcomeUnknown):
        claim(store)
    assert claim(store).epoch == 1


@pytest.mark.parametrize("fault", [lost_answer, lost_request])
def test_a_change_whose_outcome_is_unknown_is_read_back_and_made_once(
    fault: Callable[[Callable[[], Any]], Any],
) -> None:
    store = Faulty()
    run = claim(store)
    store.planned = [("replace", fault)]

    changed = runs.change_own(
        store, run, lambda found: found.model_copy(update={"wave": found.wave + 1})
    )

    assert changed.wave == 1
    assert runs.read(store, KEYS).wave == 1


def test_a_change_that_meets_another_is_asked_again() -> None:
    store = Faulty()
    run = claim(store)

    def someone_was_faster(action: Callable[[], Any]) -> Any:
        runs.change(store, KEYS, update(dispatched=4))
        return action()

    store.planned = [("replace", someone_was_faster)]
    runs.change_own(store, run, lambda found: found.model_copy(update={"wave": found.wave + 1}))

    found = runs.read(store, KEYS)
    assert (found.wave, found.dispatched) == (1, 4)


def test_a_record_that_keeps_changing_is_given_up() -> None:
    store = Faulty()
    run = claim(store)

    def always_faster(action: Callable[[], Any]) -> Any:
        raise Changed("Someone was faster.")

    store.planned = [("replace", always_faster)] * 50

    with pytest.raises(Changed, match="kept changing"):
        runs.change_own(store, run, update(wave=3))


def test_a_run_that_is_not_there_is_said_so() -> None:
    store = MemoryStore()

    assert not runs.exists(store, KEYS)
    with pytest.raises(KeyMissing):
        runs.read(store, KEYS)
    with pytest.raises(KeyMissing):
        runs.cancel(store, KEYS)

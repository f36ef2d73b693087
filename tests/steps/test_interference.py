"""What others do to a run at any moment: cancel it, repair it, plan it twice, wake up late."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, TypeVar

import pytest

from coordinator.errors import (
    FanfoldError,
    RunCancelled,
    RunMismatch,
    StoreUnavailable,
    Superseded,
)
from coordinator.formats.lines import Lines
from coordinator.ids import new_draft
from coordinator.keys import RunKeys
from coordinator.limits import Limits
from coordinator.model import RunRecord
from coordinator.rules.costs import OVERHEAD_A_FAILURE, Spent, lambda_dollars
from coordinator.rules.starts import Started
from coordinator.state import catalogue, runs
from coordinator.state.snapshots import read_snapshot
from coordinator.steps.plan import plan as plan_map, redo_quarantined, start
from coordinator.steps.publish import publish
from coordinator.store.memory import MemoryInputs, MemoryStore
from coordinator.upkeep.repair import repair
from tests.support import World, a_job, words

T = TypeVar("T")
BODIES = {"a": b"to be or\nnot to be\n", "b": b"that is\nthe question"}
KEYS = RunKeys("job", "r1")


class Struck(MemoryStore):
    """A store in which something happens just before the n-th operation."""

    def __init__(self, at: int, strike: Callable[[MemoryStore], None]) -> None:
        super().__init__()
        self.at = at
        self.strike = strike
        self.operations = 0

    def perform(self, operation: str, key: str, action: Callable[[], T]) -> T:
        self.operations += 1
        if self.operations == self.at:
            self.strike(self)
        return action()


def operations() -> int:
    """How many operations an undisturbed run takes."""
    store = Struck(0, lambda store: None)
    a_world(store).run()
    return store.operations


def a_world(store: MemoryStore) -> World:
    return World(words(), dict(BODIES), store=store, shard_bytes=9)


def result(world: World) -> bytes:
    manifest = world.run().manifest
    return world.body(f"{manifest.results_prefix}job.jsonl")


EXPECTED = result(a_world(MemoryStore()))


def test_a_cancelled_run_publishes_nothing_at_whatever_moment_it_was_cancelled() -> None:
    late = 0
    for at in range(1, operations() + 1):
        told: list[RunRecord] = []

        def cancel(store: MemoryStore, told: list[RunRecord] = told) -> None:
            if runs.find(store, KEYS) is not None:
                told.append(runs.cancel(store, KEYS))

        world = a_world(Struck(at, cancel))
        try:
            world.run()
        except RunCancelled:
            assert told[0].state == "cancelled"
            assert [*world.store.list("job/published/")] == []
            assert not world.store.exists("job/latest.json")
            assert result(world) == EXPECTED
        else:
            late += bool(told)
            assert all(record.state in {"publishing", "published"} for record in told)
        assert world.findings() == []
    assert late > 3


def test_a_repair_at_any_moment_fences_off_or_comes_too_late() -> None:
    for at in range(1, operations() + 1, 2):

        def break_and_repair(store: MemoryStore) -> None:
            run = runs.find(store, KEYS)
            if run is None or "map" not in run.plans:
                return
            entries = [*store.list(runs.keys_of(run).ledger("map"))]
            if entries and run.state == "running":
                store.replace(entries[0].key, b"broken", entries[0].tag)
                repair(store, KEYS, owner="repair", draft=new_draft())

        world = a_world(Struck(at, break_and_repair))
        try:
            world.run()
        except FanfoldError:
            assert not world.store.exists("job/latest.json")
        assert result(world) == EXPECTED
        assert world.findings() == []


def test_publishing_that_breaks_off_anywhere_is_finished_by_the_next() -> None:
    class Down(BaseException):
        """The process is gone."""

    def die(store: MemoryStore) -> None:
        raise Down

    for at in range(1, operations() + 1, 2):
        world = a_world(Struck(at, die))
        with pytest.raises(Down):
            world.run()

        assert result(world) == EXPECTED
        assert world.findings() == []


def test_a_publish_that_was_asleep_does_not_publish_an_older_draft() -> None:
    world = a_world(MemoryStore())
    world.run()
    fields: dict[str, Any] = {"state": "running", "published": None}
    asleep = runs.change(world.store, KEYS, lambda found: found.model_copy(update=fields))
    world.store.delete([stat.key for stat in world.store.list("job/published/")])
    world.store.delete(["job/latest.json"])
    first = next(iter(world.store.list(world.keys.ledger("map"))))
    world.overwrite(first.key, b"broken")
    repair(world.store, KEYS, owner=asleep.owner, draft=new_draft())

    with pytest.raises(Superseded, match="drafted anew"):
        publish(world.store, world.job, asleep, clock=lambda: 9.0)
    assert not world.store.exists("job/latest.json")


def redo_on_aws(world: World) -> RunRecord:
    """What Plan does with an execution that asks for a redo."""
    limits = world.job.limits
    return start(
        world.store,
        world.inputs,
        world.job,
        Started({"run_id": "r1", "redo": "quarantined"}, "by-hand", 0.0, ("**",), limits),
        owner="by-hand",
        redrives=0,
        draft="draft",
        code_version="test",
        now=world.clock(),
        is_live=lambda owner: False,
    )


@pytest.mark.parametrize("redo", [lambda world: world.run(redo=True), redo_on_aws])
def test_a_redo_that_comes_too_late_leaves_the_run_to_whoever_publishes_it(
    redo: Callable[[World], object],
) -> None:
    world = a_world(MemoryStore())
    world.run()
    before = runs.change(
        world.store, KEYS, lambda found: found.model_copy(update={"state": "publishing"})
    )

    with pytest.raises(RunMismatch, match="is publishing"):
        redo(world)

    assert world.record() == before


# ------------------------------------------------------------------------------------------------
# Planning
# ------------------------------------------------------------------------------------------------


def begun(store: MemoryStore) -> RunRecord:
    return runs.claim(
        store,
        runs.Claim(
            keys=KEYS,
            owner="owner",
            code_version="test",
            declaration=words().declaration(),
            inputs=("**",),
            logical_time=0.0,
            waves=1,
        ),
        now=0.0,
        is_live=lambda owner: False,
    )


def test_invocations_of_plan_that_overlap_anywhere_pin_every_object_once() -> None:
    bodies = {f"in/{number:02d}": b"x\n" for number in range(9)}

    def planned(store: MemoryStore, draft: str) -> RunRecord:
        inputs = MemoryInputs(bodies, page_size=2)
        run = runs.read(store, KEYS)
        return plan_map(
            store,
            inputs,
            words(),
            run,
            draft=draft,
            code_version="test",
            clock=lambda: 0.0,
            pages=1,
        )

    for at in range(1, 30):
        drafts = count()

        def overlap(store: MemoryStore, drafts: Iterator[int] = drafts) -> None:
            if runs.find(store, KEYS) is not None:
                planned(store, f"other{next(drafts)}")

        store = Struck(at, overlap)
        run = begun(store)
        while "map" not in run.plans:
            run = planned(store, f"own{next(drafts)}")

        snapshot = run.plans["map"].snapshot
        assert snapshot is not None
        assert [pinned.key for pinned in read_snapshot(store, snapshot)] == sorted(bodies)


# ------------------------------------------------------------------------------------------------
# Code, quarantine, money
# ------------------------------------------------------------------------------------------------


def test_a_shard_that_refuses_more_than_is_tolerated_commits_nothing_and_is_mended() -> None:
    mended: list[bool] = []

    def half(line: str) -> list[float]:
        return [1 / int(line) if mended else 1 / (int(line) - 1)]

    job = a_job(Lines(), half)
    job.limits = Limits(tolerated=1)
    world = World(job, {"a": b"1\n1\n2\n"})

    with pytest.raises(
        FanfoldError, match=r"2 records were refused, and the job tolerates 1.*a at 0"
    ):
        world.run()
    assert [*world.store.list(world.keys.ledger("map"))] == []

    mended.append(True)
    manifest = world.run().manifest
    assert (manifest.quarantined, manifest.stages["map"].mapped) == (0, 3)


@pytest.mark.parametrize(
    ("bad", "tolerated", "says"),
    [
        (1, 0, r"1 record was refused, and the job tolerates 0\. The first: a at 0: .*\. Mend"),
        (2, 1, r"2 records were refused, and the job tolerates 1\. The first: a at 0: .*\. Mend"),
    ],
)
def test_it_is_said_how_many_records_were_refused_and_which_was_the_first(
    bad: int, tolerated: int, says: str
) -> None:
    job = a_job(Lines(), lambda line: [int(line)], limits=Limits(tolerated=tolerated))

    with pytest.raises(FanfoldError, match=says):
        World(job, {"a": b"x\n" * bad}).run()


def test_as_many_refused_records_as_are_tolerated_do_not_stop_a_run() -> None:
    job = a_job(Lines(), lambda line: [int(line)], limits=Limits(tolerated=2))

    assert World(job, {"a": b"x\n1\ny\n"}).run().manifest.quarantined == 2


def test_shards_with_quarantined_records_are_done_again_and_no_others() -> None:
    mapped: list[str] = []
    mended: list[bool] = []

    def strict(line: str) -> list[str]:
        mapped.append(line)
        if line == "odd" and not mended:
            raise ValueError("odd")
        return [line]

    job = a_job(Lines(), strict)
    job.limits = Limits(tolerated=0.01)
    world = World(job, {"a": b"even\n", "b": b"odd\n", "c": b"even\n"}, shard_bytes=4)
    with pytest.raises(FanfoldError, match="1 records were quarantined"):
        world.run()

    mended.append(True)
    mapped.clear()
    manifest = world.run(redo=True).manifest

    assert mapped == ["odd"]
    assert (manifest.quarantined, manifest.quarantine) == (0, None)
    assert world.findings() == []


def refused(strike: Callable[[MemoryStore], None]) -> tuple[Struck, RunRecord]:
    """A run with quarantined records that has ended, and what happens to it when it is told to."""

    def strict(line: str) -> list[str]:
        if line == "odd":
            raise ValueError("odd")
        return [line]

    store = Struck(0, strike)
    job = a_job(Lines(), strict)
    job.limits = Limits(tolerated=0.01)
    with pytest.raises(FanfoldError, match="1 records were quarantined"):
        World(job, {"a": b"even\n", "b": b"odd\n"}, store=store, shard_bytes=4).run()
    return store, runs.read(store, KEYS)


def test_two_invocations_that_redo_at_once_both_go_on() -> None:
    moments = 0
    for at in count(1):
        store, run = refused(lambda store: None)
        first: list[RunRecord] = []

        def redo(store: MemoryStore, run: RunRecord = run, first: list[RunRecord] = first) -> None:
            first.append(redo_quarantined(store, run, draft="first"))

        store.strike, store.at = redo, store.operations + at
        second = redo_quarantined(store, run, draft="second")
        if not first:
            break
        moments += 1
        assert second.plans["map"].draft in {"first", "second"}
        assert second == runs.read(store, KEYS)
    assert moments > 3


def test_an_owner_that_was_replaced_redoes_nothing() -> None:
    store, run = refused(lambda store: None)
    runs.change(store, KEYS, lambda found: found.model_copy(update={"owner": "another"}))

    with pytest.raises(Superseded, match="now belongs to another"):
        redo_quarantined(store, run, draft="late")
    assert runs.read(store, KEYS).redrafts == 0


@pytest.mark.parametrize("state", ["publishing", "published"])
def test_nothing_is_redone_of_a_run_that_is_committed_meanwhile(state: str) -> None:
    store, run = refused(lambda store: None)
    runs.change(store, KEYS, lambda found: found.model_copy(update={"state": state}))
    after = runs.read(store, KEYS)

    for seen in (run, after):
        with pytest.raises(Superseded, match=f"is {state} already"):
            redo_quarantined(store, seen, draft="late")
    assert runs.read(store, KEYS) == after


def test_a_run_that_was_cancelled_once_it_was_redone_is_not_gone_on_with() -> None:
    store, run = refused(lambda store: None)
    redo_quarantined(store, run, draft="first")
    runs.cancel(store, KEYS)

    with pytest.raises(RunCancelled):
        redo_quarantined(store, run, draft="second")


def test_a_redo_where_nothing_was_refused_gives_the_run_as_it_is() -> None:
    world = a_world(MemoryStore())
    world.run()
    fields: dict[str, Any] = {"state": "running", "published": None}
    run = runs.change(world.store, KEYS, lambda found: found.model_copy(update=fields))

    assert redo_quarantined(world.store, run, draft="again") == run == world.record()


def test_a_redo_of_a_published_run_is_refused_even_if_nothing_was_refused_in_it() -> None:
    world = a_world(MemoryStore())
    run = world.run().run

    with pytest.raises(Superseded, match="is published already"):
        redo_quarantined(world.store, run, draft="again")


def test_what_failed_is_in_the_price_of_a_run() -> None:
    tries = count()

    def flaky(line: str) -> list[str]:
        if next(tries) < 3:
            raise StoreUnavailable("Try again.")
        return [line]

    world = World(a_job(Lines(), flaky), {"a": b"x\n"})
    totals = world.run().manifest.stages["map"]

    assert totals.failures == 3
    assert totals.failed_seconds > 0
    spent = Spent.of([totals], passes=0, coordinator_seconds=0.0, memory_mb=1024)
    seconds = totals.seconds + totals.failed_seconds
    assert spent.dollars() >= lambda_dollars(seconds, 1024) + 3 * OVERHEAD_A_FAILURE


@pytest.mark.parametrize("torn", [b"", b"{", b'{"version":1}', b"\xff"])
@pytest.mark.parametrize("order", [("r1", "r2"), ("r2", "r1")])
def test_a_torn_pointer_is_written_anew_to_the_newest_run(
    torn: bytes, order: tuple[str, str]
) -> None:
    store = MemoryStore()
    times = {"r1": 1.0, "r2": 2.0}
    for number, run_id in enumerate(order):
        if number:
            found = store.get("job/latest.json")
            store.replace("job/latest.json", torn, found.tag)
        World(words(), dict(BODIES), store=store, run_id=run_id, logical_time=times[run_id]).run()

    pointer = catalogue.read_pointer(store, "job")
    assert pointer is not None
    assert pointer.run_id == "r2"

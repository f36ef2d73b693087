"""Plan: list, pin, cut and commit; the same plan however the listing came."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Iterator, Sequence
from itertools import islice

import pytest
from hypothesis import given, strategies as st

from coordinator.errors import (
    CodeChanged,
    InputInvalid,
    LedgerBroken,
    NoInput,
    SourceContradicted,
    Superseded,
)
from coordinator.formats.csv import Csv
from coordinator.formats.lines import Lines
from coordinator.formats.objects import Objects
from coordinator.job import Job
from coordinator.keys import RunKeys
from coordinator.limits import Limits
from coordinator.model import Hints, Pinned, PlanRef, RunRecord, Shard, ShardRef
from coordinator.rules.coverage import check_coverage
from coordinator.state import runs
from coordinator.state.plans import read_index, read_shard
from coordinator.state.snapshots import read_snapshot, snapshot_digest
from coordinator.steps import plan as planning
from coordinator.steps.plan import plan as plan_map
from coordinator.store.memory import MemoryInputs, MemoryStore
from coordinator.store.ports import Inputs, Page, Readable
from tests.support import Unsorted, a_job, examples

KEYS = RunKeys("job", "r1")


def begin(
    store: MemoryStore, job: Job, *, shard_bytes: int | None = None, owner: str = "owner"
) -> RunRecord:
    return runs.claim(
        store,
        runs.Claim(
            keys=KEYS,
            owner=owner,
            code_version="test",
            declaration=job.declaration(),
            inputs=("**",),
            logical_time=0.0,
            waves=1,
            hints=Hints(shard_bytes=shard_bytes),
        ),
        now=0.0,
        is_live=lambda owner: False,
    )


def plan(
    job: Job,
    inputs: Inputs,
    *,
    shard_bytes: int | None = None,
    store: MemoryStore | None = None,
    pages: int | None = None,
) -> tuple[MemoryStore, PlanRef]:
    """Plan a new run; with a budget of pages, as often as it takes."""
    store = store or MemoryStore()
    run = begin(store, job, shard_bytes=shard_bytes)
    for attempt in range(1000):
        run = plan_map(
            store,
            inputs,
            job,
            run,
            draft=f"draft-{attempt}",
            pages=pages,
            code_version="test",
            clock=lambda: 0.0,
        )
        if "map" in run.plans:
            return store, run.plans["map"]
    raise AssertionError("the listing never ended")


def refs(store: MemoryStore, ref: PlanRef) -> list[ShardRef]:
    return [
        ShardRef(id=str(number), key=ref.plan.key, offset=offset, length=length, digest=digest)
        for number, (offset, length, digest) in enumerate(read_index(store, ref))
    ]


def shards_of(store: MemoryStore, ref: PlanRef) -> list[Shard]:
    return [read_shard(store, found) for found in refs(store, ref)]


def pinned_in(store: MemoryStore, ref: PlanRef) -> list[Pinned]:
    assert ref.snapshot is not None
    return list(read_snapshot(store, ref.snapshot))


BODIES = {f"k{number:02d}": b"x" * number for number in range(30)}


def test_every_input_is_pinned_once_and_every_byte_is_in_a_shard() -> None:
    store, ref = plan(a_job(Lines()), MemoryInputs(BODIES), shard_bytes=50)

    pinned = pinned_in(store, ref)
    assert [found.key for found in pinned] == sorted(BODIES)
    assert (ref.objects, ref.bytes) == (30, sum(range(30)))
    check_coverage(pinned, (piece for shard in shards_of(store, ref) for piece in shard.slices))


@given(st.data(), st.lists(st.sampled_from(sorted(BODIES)), max_size=60), st.integers(1, 4))
@examples(60)
def test_the_plan_is_the_same_however_the_listing_came(
    data: st.DataObject, repeats: list[str], pages: int
) -> None:
    """In any order, with repeats, on any pages, in one go or in several."""
    listing = data.draw(st.permutations([*BODIES, *repeats]))
    size = data.draw(st.integers(1, 20))
    cut = [listing[at : at + size] for at in range(0, len(listing), size)]

    straight, expected = plan(a_job(Lines()), MemoryInputs(BODIES), shard_bytes=50)
    store, found = plan(a_job(Lines()), Unsorted(BODIES, cut), shard_bytes=50, pages=pages)

    assert shards_of(store, found) == shards_of(straight, expected)
    assert found.snapshot_digest == expected.snapshot_digest
    assert (found.objects, found.bytes) == (expected.objects, expected.bytes)
    assert (found.plan.sha256, found.plan.size) == (expected.plan.sha256, expected.plan.size)


def test_a_listing_longer_than_a_chunk_is_merged_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planning, "CHUNK_OBJECTS", 7)
    listing = [[key] for key in sorted(BODIES, reverse=True)]

    store, found = plan(a_job(Lines()), Unsorted(BODIES, listing), shard_bytes=50)

    assert [pinned.key for pinned in pinned_in(store, found)] == sorted(BODIES)


def test_a_listing_that_is_taken_up_does_not_begin_again() -> None:
    class Counting(Unsorted):
        listed = 0

        def pages(self, patterns: Sequence[str], cursor: str = "") -> Iterator[Page]:
            for page in super().pages(patterns, cursor):
                self.listed += len(page.objects)
                yield page

    inputs = Counting(BODIES, [[key] for key in BODIES])

    _, ref = plan(a_job(Lines()), inputs, pages=7)

    assert ref.objects == 30
    assert inputs.listed == 30


def test_a_listing_that_is_broken_off_says_how_far_it_came_and_what_it_took() -> None:
    job, store, inputs = a_job(Lines()), MemoryStore(), MemoryInputs(BODIES, page_size=4)
    run = begin(store, job)
    seconds = iter([10.0, 11.5, 20.0, 22.25, 30.0, 30.125])

    def go_on(draft: str, pages: int) -> None:
        nonlocal run
        run = plan_map(
            store,
            inputs,
            job,
            run,
            draft=draft,
            pages=pages,
            code_version="test",
            clock=lambda: next(seconds),
        )
        assert run == runs.read(store, KEYS)

    go_on("first", 2)
    assert run.listing is not None
    assert (run.listing.objects, run.listing.cursor, len(run.listing.chunks)) == (8, "k07", 1)
    assert (run.plans, run.passes, run.coordinator_seconds) == ({}, 1, 1.5)
    go_on("second", 1)
    assert (run.listing.objects, run.listing.cursor, len(run.listing.chunks)) == (12, "k11", 2)
    assert (run.plans, run.passes, run.coordinator_seconds) == ({}, 2, 3.75)
    go_on("third", 5)
    assert (run.plans["map"].objects, run.passes, run.coordinator_seconds) == (30, 3, 3.875)


def test_a_listing_that_others_have_gone_on_with_is_not_set_back() -> None:
    job, store, inputs = a_job(Lines()), MemoryStore(), MemoryInputs(BODIES, page_size=4)
    late = begin(store, job)

    def go_on(run: RunRecord, draft: str) -> RunRecord:
        return plan_map(
            store,
            inputs,
            job,
            run,
            draft=draft,
            pages=1,
            code_version="test",
            clock=lambda: 0.0,
        )

    ahead = go_on(go_on(late, "first"), "second")

    assert go_on(late, "late") == ahead == runs.read(store, KEYS)
    while "map" not in ahead.plans:
        ahead = go_on(ahead, f"d{ahead.passes}")
    assert go_on(late, "later") == ahead == runs.read(store, KEYS)


def test_code_that_its_epoch_is_not_bound_to_plans_nothing() -> None:
    job, store = a_job(Lines()), MemoryStore()
    run = begin(store, job)
    before = [stat.key for stat in store.list("")]

    with pytest.raises(CodeChanged):
        plan_map(
            store,
            MemoryInputs(BODIES),
            job,
            run,
            draft="first",
            code_version="other",
            clock=lambda: 0.0,
        )
    assert [stat.key for stat in store.list("")] == before


def test_an_object_that_is_replaced_while_it_is_listed_is_pinned_as_it_was_first_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Replaced(MemoryInputs):
        def pages(self, patterns: Sequence[str], cursor: str = "") -> Iterator[Page]:
            for number, etag in enumerate(("z", "y", "x")):
                found = Pinned(key="a", size=9 - number, etag=etag, version_id=f"v{etag}")
                yield Page([found], None if number == 2 else str(number))

    for chunk in (1, 2, 100):
        monkeypatch.setattr(planning, "CHUNK_OBJECTS", chunk)
        store, ref = plan(a_job(Lines()), Replaced({}))
        assert [(found.size, found.etag) for found in pinned_in(store, ref)] == [(9, "z")]


def test_keys_are_ordered_by_their_utf8_bytes() -> None:
    bodies = dict.fromkeys(["b", "a/b", "a", "a.b", "\uffee", "\U00010000", "é", "Z"], b"x")

    store, ref = plan(a_job(Lines()), MemoryInputs(bodies))

    keys = [found.key for found in pinned_in(store, ref)]
    assert keys == sorted(bodies, key=str.encode)


def test_names_with_anything_in_them_are_pinned_as_they_are() -> None:
    bodies = dict.fromkeys(
        ["a b", "-rf", "new\nline", 'quo"te', "tab\t", "漢字", "..", "\u2028"], b"x"
    )

    store, ref = plan(a_job(Lines()), MemoryInputs(bodies))

    assert {found.key for found in pinned_in(store, ref)} == set(bodies)
    assert len([piece for shard in shards_of(store, ref) for piece in shard.slices]) == 8


def test_a_plan_that_is_committed_is_used() -> None:
    job = a_job(Lines())
    store, ref = plan(job, MemoryInputs(BODIES))
    run = runs.read(store, KEYS)

    again = plan_map(
        store,
        MemoryInputs({"other": b"x"}),
        job,
        run,
        draft="second",
        code_version="test",
        clock=lambda: 0.0,
    )

    assert again.plans["map"] == ref


def test_of_two_that_plan_at_once_one_commits_and_both_use_it() -> None:
    job, store = a_job(Lines()), MemoryStore()
    run = begin(store, job)

    first = plan_map(
        store, MemoryInputs(BODIES), job, run, draft="first", code_version="test", clock=lambda: 0.0
    )
    second = plan_map(
        store,
        MemoryInputs({"other": b"x"}),
        job,
        run,
        draft="second",
        code_version="test",
        clock=lambda: 0.0,
    )

    assert first.plans == second.plans == runs.read(store, KEYS).plans
    assert second.state == "running"


def test_a_planner_that_lost_its_run_commits_nothing() -> None:
    job, store = a_job(Lines()), MemoryStore()
    run = begin(store, job)
    begin(store, job, owner="second")

    with pytest.raises(Superseded):
        plan_map(
            store,
            MemoryInputs(BODIES),
            job,
            run,
            draft="first",
            code_version="test",
            clock=lambda: 0.0,
        )
    assert runs.read(store, KEYS).plans == {}


def test_nothing_to_read_is_said() -> None:
    with pytest.raises(NoInput, match=r"No input matches \*\*"):
        plan(a_job(Lines()), MemoryInputs({}))


def test_empty_objects_are_inputs() -> None:
    store, ref = plan(a_job(Lines()), MemoryInputs({"a": b"", "b": b""}))

    assert ref.objects == 2
    assert len(shards_of(store, ref)) == 1


def test_a_stage_has_at_most_so_many_shards() -> None:
    job = a_job(Lines(), limits=Limits(shards=7, shard_bytes=1))

    store, ref = plan(job, MemoryInputs(BODIES))

    assert ref.shards == len(shards_of(store, ref)) <= 7


def test_a_compression_that_cannot_be_read_is_refused_before_anything_runs() -> None:
    with pytest.raises(InputInvalid, match=r"a\.zst can't be read as Lines"):
        plan(a_job(Lines()), MemoryInputs({"a.zst": b"x"}))


# ------------------------------------------------------------------------------------------------
# The header of a Csv
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("multiline", [True, False])
@pytest.mark.parametrize(
    "first",
    [
        {},
        {"0": b""},
        {"0.gz": gzip.compress(b"")},
        {"0.gz": gzip.compress(b"p,q\n" * 100)[:-9]},
        {"0": b"", "00.gz": gzip.compress(b"")},
    ],
    ids=["none", "empty", "empty gzip", "broken gzip", "two empty"],
)
def test_the_header_is_that_of_the_first_object_that_has_one(
    multiline: bool, first: dict[str, bytes]
) -> None:
    _, ref = plan(
        a_job(Csv(multiline=multiline)), MemoryInputs({**first, "1": b"p,q\n1,2\n", "2": b"p,q\n"})
    )

    assert ref.header == ("p", "q")


def test_objects_that_are_all_empty_have_no_header() -> None:
    _, ref = plan(a_job(Csv()), MemoryInputs({"a": b"", "b": b""}))

    assert ref.header is None


def test_declared_columns_need_no_header() -> None:
    _, ref = plan(a_job(Csv(columns=("p", "q"))), MemoryInputs({"a": b"1,2\n"}))

    assert ref.header is None


def test_a_header_that_is_none_is_said_before_anything_runs() -> None:
    with pytest.raises(SourceContradicted, match="a does not begin with a header"):
        plan(a_job(Csv()), MemoryInputs({"a": b"p,p\n1,2\n"}))


# ------------------------------------------------------------------------------------------------
# Reading a plan
# ------------------------------------------------------------------------------------------------


def test_a_shard_is_read_by_its_range_and_nothing_else_is() -> None:
    store, ref = plan(a_job(Lines()), MemoryInputs(BODIES), shard_bytes=20)

    for number, found in enumerate(refs(store, ref)):
        assert read_shard(store, found).id == str(number)


def test_a_shard_that_is_not_what_its_message_says_is_refused() -> None:
    store, ref = plan(a_job(Lines()), MemoryInputs(BODIES), shard_bytes=20)
    first, second, *_ = refs(store, ref)

    for wrong in (
        first.model_copy(update={"digest": second.digest}),
        first.model_copy(update={"offset": second.offset, "length": second.length}),
        first.model_copy(update={"length": first.length - 1}),
    ):
        with pytest.raises(LedgerBroken, match="Shard 0 is described otherwise"):
            read_shard(store, wrong)
    with pytest.raises(LedgerBroken, match="describes shard 1, not 0"):
        read_shard(store, second.model_copy(update={"id": "0"}))


def test_a_damaged_index_is_named() -> None:
    store, ref = plan(a_job(Lines()), MemoryInputs(BODIES), shard_bytes=20)

    with pytest.raises(LedgerBroken, match="has no readable index"):
        read_index(store, ref.model_copy(update={"index_offset": ref.index_offset + 1}))
    with pytest.raises(LedgerBroken, match=r"lists \d+ shards, not 3"):
        read_index(store, ref.model_copy(update={"shards": 3}))


def test_the_digest_of_a_snapshot_tells_any_change_of_it() -> None:
    store, ref = plan(a_job(Lines()), MemoryInputs(BODIES))
    other, changed = plan(a_job(Lines()), MemoryInputs({**BODIES, "k07": b"y" * 7}))

    assert ref.snapshot is not None
    assert changed.snapshot is not None
    assert snapshot_digest(store, ref.snapshot) == ref.snapshot_digest
    assert snapshot_digest(other, changed.snapshot) == changed.snapshot_digest
    assert ref.snapshot_digest != changed.snapshot_digest


def test_a_snapshot_that_was_cut_short_is_named() -> None:
    store, ref = plan(a_job(Lines()), MemoryInputs(BODIES))
    assert ref.snapshot is not None
    whole = store.get(ref.snapshot.key)
    store.replace(ref.snapshot.key, whole.body[:-5], whole.tag)

    with pytest.raises(LedgerBroken, match=r"map\.snapshot\.jsonl\.gz is not what was recorded"):
        list(read_snapshot(store, ref.snapshot))


# ------------------------------------------------------------------------------------------------
# Memory
# ------------------------------------------------------------------------------------------------


class Many:
    """So many objects, made up while they are listed."""

    def __init__(self, count: int) -> None:
        self.count = count

    def pages(self, patterns: Sequence[str], cursor: str = "") -> Iterator[Page]:
        made = (
            Pinned(key=f"in/{number * 7919 % self.count:09d}", size=1000, etag=f"{number:032x}")
            for number in range(self.count)
        )
        while page := list(islice(made, 1000)):
            last = page[-1].etag == f"{self.count - 1:032x}"
            yield Page(page, None if last else "more")

    def open(self, pinned: Pinned, start: int, stop: int) -> Readable:
        raise NotImplementedError


def peak_of_planning(objects: int) -> int:
    job = a_job(Objects(), limits=Limits(shard_items=1000))
    store = MemoryStore()
    tracemalloc.start()
    try:
        plan(job, Many(objects), store=store)
        held = sum(stat.size for stat in store.list(""))
        return tracemalloc.get_traced_memory()[1] - held
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "CHUNK_OBJECTS", 1000)
    few, many = peak_of_planning(2000), peak_of_planning(8000)

    assert many < few * 1.5

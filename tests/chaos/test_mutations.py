"""The suite has teeth: each of these mistakes makes it fail.

A mistake is made by replacing one function; then cases of `test_single_faults.py` are played until
one fails. That they pass without the mistake is shown there.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from coordinator.errors import AlreadyExists, OutcomeUnknown
from coordinator.job import Job
from coordinator.keys import RunKeys
from coordinator.model import Answer, Entry, Manifest, Message, Pinned, RunRecord
from coordinator.rules import decide as deciding
from coordinator.state import catalogue, files, ledger, plans, proof, runs
from coordinator.steps import attempts, publish as publishing, reconcile as reconciling
from coordinator.steps.attempts import Verdict, attend
from coordinator.steps.publish import Published
from coordinator.steps.workplace import Workplace
from coordinator.store.memory import MemoryInputs
from coordinator.store.ports import Got, Page, Stat, Store
from coordinator.upkeep import clean as cleaning
from functions import answers, plan, publish as publish_function, wiring, work
from tests.chaos.faults import TAKEN_OVER, Case, all_cases, scenario_named, undisturbed
from tests.chaos.scenarios import SAME_NAME
from tests.chaos.simulator.effects import Kind
from tests.chaos.simulator.store import SimulatedStore

pytestmark = pytest.mark.chaos

MOST_CASES = 200
Patch = pytest.MonkeyPatch


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the suite: cases of some kinds, of some effects, of some scenarios."""

    scenarios: tuple[str, ...] = ("words", "splits")
    kinds: tuple[Kind, ...] = tuple(Kind)
    actor: str | None = None
    operation: str | None = None

    def cases(self) -> Iterator[Case]:
        """At most so many, from all over the part."""
        found = [
            case
            for name in self.scenarios
            for case in all_cases(scenario_named(name))
            if case.kind in self.kinds
            and self.actor in {None, case.effect.actor}
            and self.operation in {None, case.effect.operation}
        ]
        assert found
        yield from found[:: -(-len(found) // MOST_CASES)]


def first_failure(part: Part) -> str | None:
    """What the suite says to the first case that fails; what has no fault is played first."""
    try:
        for case in part.cases():
            case.play()
    except AssertionError as error:
        return str(error)
    return None


@pytest.fixture(autouse=True)
def recorded_anew() -> Iterator[None]:
    """A mistake may change what an undisturbed run does."""
    undisturbed.cache_clear()
    yield
    undisturbed.cache_clear()


# ------------------------------------------------------------------------------------------------
# The mistakes
# ------------------------------------------------------------------------------------------------


def put_if_absent_is_dropped(patch: Patch) -> None:
    def create(self: SimulatedStore, key: str, body: bytes) -> str:
        return self.perform("create", key, lambda: self._put(key, body))

    patch.setattr(SimulatedStore, "create", create)


def the_token_is_answered_before_the_commit(patch: Patch) -> None:
    def early(place: Workplace, message: Message, **rest: Any) -> Verdict:
        answers.done(message, Answer(shard=message.shard.id, outcome="done"))
        return attend(place, message, **rest)

    patch.setattr(work, "attend", early)


def publishing_comes_before_verifying(patch: Patch) -> None:
    prove = proof.prove_run

    def unverified(store: Store, run: RunRecord) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(proof, "prove", lambda *arguments, **named: None)
            prove(store, run)

    def publish_first(
        store: Store, job: Job, run: RunRecord, *, clock: Callable[[], float]
    ) -> Published:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(proof, "prove_run", unverified)
            published = publishing.publish(store, job, run, clock=clock)
        prove(store, published.run)
        return published

    patch.setattr(publish_function, "publish", publish_first)


def only_the_first_page_of_keys_is_listed(patch: Patch) -> None:
    def listed(self: SimulatedStore, prefix: str, *, after: str = "") -> Iterator[Stat]:
        return iter(self.page(prefix, after)[0])

    patch.setattr(SimulatedStore, "list", listed)


def only_the_first_page_of_inputs_is_listed(patch: Patch) -> None:
    pages = MemoryInputs.pages

    def listed(self: MemoryInputs, patterns: Sequence[str], cursor: str = "") -> Iterator[Page]:
        first = next(pages(self, patterns, cursor))
        yield Page(first.objects, None)

    patch.setattr(MemoryInputs, "pages", listed)


def the_children_of_a_split_come_from_the_loser(patch: Patch) -> None:
    """As if the children lay beside the entry, where the last to write them wins."""
    commit, get = ledger.commit, SimulatedStore.get

    def beside(key: str) -> str:
        return key.replace("/ledger/", "/children/")

    def commit_in_two(store: Store, keys: RunKeys, entry: Entry) -> Entry:
        if entry.children:
            with store.writer(beside(keys.entry(entry.stage, entry.shard))) as writer:
                writer.write(entry.encode())
                writer.close()
        return commit(store, keys, entry)

    def get_both(self: SimulatedStore, key: str) -> Got:
        got = get(self, key)
        last = self.peek(beside(key)) if "/ledger/" in key else None
        if last is None:
            return got
        merged = {**json.loads(got.body), "children": json.loads(last)["children"]}
        return got._replace(body=json.dumps(merged).encode())

    patch.setattr(ledger, "commit", commit_in_two)
    patch.setattr(SimulatedStore, "get", get_both)


def the_pointer_moves_backwards(patch: Patch) -> None:
    def move(store: Store, keys: RunKeys, manifest: Manifest) -> bool:
        with store.writer(keys.latest(manifest.source_key)) as writer:
            writer.write(catalogue.pointer_to(keys, manifest).encode())
            writer.close()
        return True

    patch.setattr(catalogue, "move_pointer", move)


def a_412_is_taken_for_a_strangers(patch: Patch) -> None:
    """The attempt thinks that it lost, and removes what it wrote."""

    def commit(store: Store, keys: RunKeys, entry: Entry) -> Entry:
        try:
            store.create(keys.entry(entry.stage, entry.shard), entry.encode())
        except AlreadyExists:
            store.delete(part.key for part in entry.receipt.parts)
            standing = ledger.find(store, keys, entry.stage, entry.shard)
            assert standing is not None
            return standing
        return entry

    patch.setattr(ledger, "commit", commit)


def a_412_is_taken_for_success(patch: Patch) -> None:
    def commit(store: Store, keys: RunKeys, entry: Entry) -> Entry:
        try:
            store.create(keys.entry(entry.stage, entry.shard), entry.encode())
        except AlreadyExists:
            return entry
        return entry

    patch.setattr(ledger, "commit", commit)


def a_result_of_ones_own_is_taken_for_anothers(patch: Patch) -> None:
    patch.setattr(files, "file_at", lambda store, key: None)


def a_plan_replaces_the_one_before(patch: Patch) -> None:
    def commit_plan(
        store: Store, run: RunRecord, stage: Any, ref: Any, seconds: float = 0.0
    ) -> RunRecord:
        def put(found: RunRecord) -> RunRecord:
            return found.model_copy(update={"plans": {**found.plans, stage: ref}})

        return runs.change_own(store, run, put)

    patch.setattr(plans, "commit", commit_plan)


def a_stage_is_closed_before_it_is_complete(patch: Patch) -> None:
    decide = deciding.decide

    def hasty(facts: Any) -> Any:
        if facts.outcomes:
            facts = dataclasses.replace(facts, roots=0)
        return decide(facts)

    patch.setattr(reconciling, "decide", hasty)


def a_living_owner_is_taken_for_dead(patch: Patch) -> None:
    patch.setattr(plan, "_is_live", lambda owner: False)


def an_owner_that_was_replaced_goes_on(patch: Patch) -> None:
    patch.setattr(
        runs,
        "change_own",
        lambda store, run, edit: runs.change(store, RunKeys(run.job, run.run_id), edit),
    )
    patch.setattr(
        wiring,
        "owned_run",
        lambda ref: runs.read(wiring.store(), RunKeys(ref["job"], ref["run_id"])),
    )


def run_json_is_written_without_comparing(patch: Patch) -> None:
    def change(store: Store, keys: RunKeys, edit: Callable[[RunRecord], RunRecord]) -> RunRecord:
        after = edit(runs.read(store, keys))
        with store.writer(keys.run) as writer:
            writer.write(after.encode())
            writer.close()
        return after

    patch.setattr(runs, "change", change)


def an_unknown_outcome_is_taken_for_done(patch: Patch) -> None:
    def change(store: Store, keys: RunKeys, edit: Callable[[RunRecord], RunRecord]) -> RunRecord:
        got = store.get(keys.run)
        after = edit(RunRecord.decode(got.body, where=keys.run))
        with suppress(OutcomeUnknown):
            store.replace(keys.run, after.encode(), got.tag)
        return after

    patch.setattr(runs, "change", change)


def the_code_of_a_worker_is_not_looked_at(patch: Patch) -> None:
    patch.setattr(attempts, "check_code", lambda run, code_version: None)


def an_input_that_changed_is_read(patch: Patch) -> None:
    def opened(self: MemoryInputs, pinned: Pinned, start: int, stop: int) -> io.BytesIO:
        return io.BytesIO(self.objects[pinned.key][start:])

    patch.setattr(MemoryInputs, "open", opened)


def the_budget_is_not_looked_at(patch: Patch) -> None:
    patch.setattr(deciding, "_affordable", lambda due, facts: due)


def what_was_written_today_is_cleaned_away(patch: Patch) -> None:
    patch.setattr(cleaning, "DAY_SECONDS", 0.0)


TWICE = (Kind.TWICE,)
REFUSED = (Kind.OWN_REFUSAL,)
MISTAKES: dict[Callable[[Patch], None], Part] = {
    put_if_absent_is_dropped: Part(kinds=TWICE, actor="work"),
    the_token_is_answered_before_the_commit: Part(kinds=(Kind.CRASH_BEFORE,), actor="work"),
    publishing_comes_before_verifying: Part((SAME_NAME.name,)),
    only_the_first_page_of_keys_is_listed: Part(),
    only_the_first_page_of_inputs_is_listed: Part(),
    the_children_of_a_split_come_from_the_loser: Part(("splits",), TWICE, "work"),
    the_pointer_moves_backwards: Part(("newer first",)),
    a_412_is_taken_for_a_strangers: Part(kinds=REFUSED),
    a_412_is_taken_for_success: Part(kinds=TWICE, actor="work"),
    a_result_of_ones_own_is_taken_for_anothers: Part(kinds=REFUSED, actor="work"),
    a_plan_replaces_the_one_before: Part(actor="states", operation="invoke"),
    a_stage_is_closed_before_it_is_complete: Part(("splits",)),
    a_living_owner_is_taken_for_dead: Part(("triggered twice",)),
    an_owner_that_was_replaced_goes_on: Part(("words",), TAKEN_OVER),
    run_json_is_written_without_comparing: Part(("words",), TAKEN_OVER, operation="put"),
    an_unknown_outcome_is_taken_for_done: Part(("words",), (Kind.UNKNOWN,)),
    the_code_of_a_worker_is_not_looked_at: Part(("spelled",), (Kind.DEPLOYED,)),
    an_input_that_changed_is_read: Part(("words",), (Kind.INPUT_OVERWRITTEN,)),
    the_budget_is_not_looked_at: Part(("thrifty",), (Kind.CRASH_AFTER, Kind.DELAYED), "work"),
    what_was_written_today_is_cleaned_away: Part(("words",), (Kind.LOOKED_AFTER,)),
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_is_found(
    mistake: Callable[[Patch], None],
    monkeypatch: Patch,
    record_property: Callable[[str, object], None],
) -> None:
    with monkeypatch.context() as patch:
        mistake(patch)
        said = first_failure(MISTAKES[mistake])
    assert said is not None, "nothing failed in spite of the mistake"
    record_property("said", said)


@pytest.mark.parametrize(
    "part", [Part(kinds=TWICE, actor="work"), Part(kinds=REFUSED)], ids=["twice", "refused"]
)
def test_without_a_mistake_nothing_fails(part: Part) -> None:
    assert first_failure(part) is None

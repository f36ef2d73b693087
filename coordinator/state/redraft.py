"""Drafting a stage anew: the same plan under a new draft, which inherits the entries that hold.

Nothing is deleted: an entry that is not inherited is in a ledger that nobody reads any more, and so
is whatever a process writes that wakes up late. Roots are inherited or done again as a whole, with
all that was cut from them. A merge is done again whole, because the results of a run lie in one folder.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from coordinator.keys import RunKeys
from coordinator.model import COMMITTED, PlanRef, RunRecord, Stage, root_id
from coordinator.rules.stages import stages_of
from coordinator.state import runs
from coordinator.state.files import write_lines
from coordinator.state.ledger import Ledger
from coordinator.store.ports import Store


class Entries(Protocol):
    """The entries of a stage, as far as they can be read."""

    def in_order(self) -> list[str]: ...

    def body(self, shard: str) -> bytes: ...


def redraft(
    store: Store,
    run: RunRecord,
    stage: Stage,
    *,
    draft: str,
    again: Collection[str],
    found: Entries,
    begin: Callable[[RunRecord], RunRecord],
) -> RunRecord:
    """Have the roots `again` of a stage done once more, and every later stage planned anew.

    Args:
        found: the stage's ledger, as far as it can be read.
        begin: what else changes in `run.json`, such as its owner; asked of the record that is
            found, which is another one's when it raises.

    Raises:
        Superseded, RunCancelled: somebody else has changed the plans meanwhile; nothing was done.
    """
    keys = RunKeys(run.job, run.run_id)
    whole = stage == "merge"
    kept = [shard for shard in found.in_order() if not whole and root_id(shard) not in again]
    inherits = write_lines(store, keys.inherited(draft, stage), map(found.body, kept))
    order = stages_of(run.declaration)
    anew = order[order.index(stage) :]

    def edit(before: RunRecord) -> RunRecord:
        if stage in before.plans and before.plans[stage].draft == draft:
            return before  # our own first try, which was refused when it was sent again
        if before.plans != run.plans or before.state in COMMITTED:
            raise runs.refusal_in(before)
        plan: PlanRef = before.plans[stage].model_copy(
            update={"draft": draft, "inherits": inherits}
        )
        plans = {s: p for s, p in before.plans.items() if s not in anew[1:]}
        return begin(before).model_copy(
            update={
                "redrafts": before.redrafts + 1,
                "plans": {**plans, stage: plan},
                "sealed": {s: f for s, f in before.sealed.items() if s not in anew},
                "totals": {s: t for s, t in before.totals.items() if s not in anew},
            }
        )

    return runs.change(store, keys, edit)


def quarantined_roots(found: Ledger) -> set[str]:
    """The roots of a map stage in which records were quarantined."""
    facts = found.outcomes.items()
    return {root_id(shard) for shard, outcome in facts if outcome.quarantined}

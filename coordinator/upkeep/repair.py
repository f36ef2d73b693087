"""Repair: have the shards done again whose entries are broken. Nothing but this and a redo of what
was quarantined ever takes an entry out of a run.

The stage is drafted anew without the roots that such entries belong to, and whatever was derived
from them: every later stage is planned again. Nothing is deleted; taking the run up again does just
that work anew.
"""

from __future__ import annotations

from coordinator.errors import RunMismatch
from coordinator.keys import RunKeys
from coordinator.model import COMMITTED, LastPass, RunRecord, root_id
from coordinator.rules.stages import stages_of
from coordinator.state import runs
from coordinator.state.redraft import redraft
from coordinator.store.ports import Store
from coordinator.upkeep.examine import Broken, examine


def repair(store: Store, keys: RunKeys, *, owner: str, draft: str) -> list[Broken]:
    """Draft the first broken stage of an unpublished run anew, and plan what follows it again.

    The run gets a new owner and epoch, so that whoever still works on it is fenced off.

    Raises:
        RunMismatch: the run is published; its results stand.
        LedgerBroken: the plan itself is broken, which nothing can mend.
    """
    run = runs.read(store, keys)
    if run.state in COMMITTED:
        raise RunMismatch(
            f"Run {keys.run_id} is {run.state}, and its results stand. Run the job again under a new "
            "run id instead."
        )

    def begin(before: RunRecord) -> RunRecord:
        return before.model_copy(
            update={"owner": owner, "epoch": before.epoch + 1, "progress": LastPass()}
        )

    for stage in stages_of(run.declaration):
        if stage not in run.plans:
            break
        found = examine(store, run, stage)
        if found.broken:
            again = {root_id(each.shard) for each in found.broken}
            redraft(store, run, stage, draft=draft, again=again, found=found, begin=begin)
            return found.broken
    return []

"""Repair: set broken entries aside, the only thing that ever removes an entry.

An entry is broken when it can't be read, or a part or quarantine file it names is missing or is
not what it says. Whatever was derived from it goes with it: the children of its split, the seal
of its stage, and every later stage. Taking the run up again does just that work anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from coordinator.errors import AlreadyExists, FanfoldError, LedgerBroken, RunMismatch
from coordinator.keys import RunKeys, shard_of_entry
from coordinator.model import Entry, LastPass, RunRecord, Stage
from coordinator.rules.stages import stages
from coordinator.state import runs
from coordinator.state.files import file_at
from coordinator.store.ports import Store


@dataclass(frozen=True, slots=True)
class Removed:
    """An entry that was set aside, and why."""

    stage: Stage
    shard: str
    reason: str


def repair(store: Store, keys: RunKeys, *, owner: str) -> list[Removed]:
    """Set aside all broken entries of an unpublished run, and what was derived from them.

    The run gets a new owner and epoch, so that whoever still works on it is fenced off.

    Raises:
        RunMismatch: the run is published; its results stand.
    """
    run = runs.read(store, keys)
    if run.state == "published" or store.exists(keys.manifest):
        raise RunMismatch(
            f"Run {keys.run_id} is published, and its results stand. Run the job again under a new "
            "run id instead."
        )
    removed: list[Removed] = []
    order = stages(bool(run.declaration["keyed"]))
    for place, stage in enumerate(order):
        broken = list(_broken(store, keys, stage))
        if broken:
            removed = broken + _derived(store, keys, stage, broken)
            for later in order[place + 1 :]:
                removed += [
                    Removed(later, shard, f"stage {stage} changed")
                    for shard in _shards(store, keys, later)
                ]
            _reopen(store, keys, owner, order[place:])
            break
    else:
        return []
    for entry in removed:
        _set_aside(store, keys, entry)
    store.delete([stat.key for stat in store.list(keys.results)])
    return removed


def _broken(store: Store, keys: RunKeys, stage: Stage) -> Iterator[Removed]:
    for shard in _shards(store, keys, stage):
        if (reason := _problem(store, keys, stage, shard)) is not None:
            yield Removed(stage, shard, reason)


def _problem(store: Store, keys: RunKeys, stage: Stage, shard: str) -> str | None:
    """What is wrong with an entry; None when nothing is."""
    key = keys.entry(stage, shard)
    try:
        entry = Entry.decode(store.get(key).body, where=store.url(key))
    except LedgerBroken as error:
        return str(error)
    receipt = entry.receipt
    files = [part.plain() for part in receipt.parts]
    files += [*receipt.results, *([receipt.quarantine] if receipt.quarantine else [])]
    for file in files:
        if file_at(store, file.key) != file:
            return f"{store.url(file.key)} is missing or is not what the entry says"
    return None


def _derived(store: Store, keys: RunKeys, stage: Stage, broken: list[Removed]) -> list[Removed]:
    """The entries of shards that were cut from a broken one."""
    parents = tuple(f"{entry.shard}." for entry in broken)
    known = {entry.shard for entry in broken}
    return [
        Removed(stage, shard, "it was cut from a broken shard")
        for shard in _shards(store, keys, stage)
        if shard.startswith(parents) and shard not in known
    ]


def _shards(store: Store, keys: RunKeys, stage: Stage) -> list[str]:
    return [shard_of_entry(stat.key) for stat in store.list(keys.ledger(stage))]


def _reopen(store: Store, keys: RunKeys, owner: str, stages_again: tuple[Stage, ...]) -> None:
    """Unseal a stage and forget all that was planned after it."""

    def reopen(found: RunRecord) -> RunRecord:
        return found.model_copy(
            update={
                "owner": owner,
                "epoch": found.epoch + 1,
                "sealed": {s: f for s, f in found.sealed.items() if s not in stages_again},
                "totals": {s: t for s, t in found.totals.items() if s not in stages_again},
                "plans": {s: p for s, p in found.plans.items() if s not in stages_again[1:]},
                "progress": LastPass(),
            }
        )

    runs.change(store, keys, reopen)


def _set_aside(store: Store, keys: RunKeys, entry: Removed) -> None:
    """Keep an entry under `broken/`, and remove it from the ledger."""
    key = keys.entry(entry.stage, entry.shard)
    try:
        body = store.get(key).body
    except FanfoldError:
        return
    for number in count():
        try:
            store.create(keys.broken(entry.stage, entry.shard, number), body)
            break
        except AlreadyExists:
            continue
    store.delete([key])

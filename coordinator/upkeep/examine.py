"""Examine: what is wrong with the entries of a stage.

An entry is broken when it can't be read, does not add up, does not account for its shard, or names
a file that is missing or is not what it says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from coordinator.errors import FanfoldError, KeyMissing, LedgerBroken
from coordinator.keys import RunKeys, shard_of_entry
from coordinator.model import (
    Entry,
    PlanRef,
    RunRecord,
    Shard,
    ShardRef,
    Stage,
    parent_id,
    shard_order,
)
from coordinator.rules.slices import joined
from coordinator.state import plans, runs
from coordinator.state.files import file_at, read_file, read_lines
from coordinator.store.ports import Store
from coordinator.store.prefetch import bodies, in_order


@dataclass(frozen=True, slots=True)
class Broken:
    """An entry that does not hold, and why."""

    stage: Stage
    shard: str
    reason: str


@dataclass(slots=True)
class Examined:
    """The entries of a stage that can be read, and what is wrong with it."""

    bodies: dict[str, bytes] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    broken: list[Broken] = field(default_factory=list)

    def in_order(self) -> list[str]:
        return sorted(self.bodies, key=shard_order)

    def body(self, shard: str) -> bytes:
        return self.bodies[shard]


def examine(store: Store, run: RunRecord, stage: Stage) -> Examined:
    """Every entry of a stage, and everything that is wrong with them."""
    plan, keys = run.plans[stage], runs.keys_of(run)
    if plan.snapshot is not None:
        for _ in read_file(store, plan.snapshot):
            pass
    found = Examined()
    for shard, key, body in _bodies(store, keys, stage, plan):
        try:
            entry = Entry.decode(body, where=store.url(key))
            if entry.shard != shard or entry.stage != stage:
                raise LedgerBroken(f"{store.url(key)} is of shard {entry.shard}.")
        except LedgerBroken as error:
            found.broken.append(Broken(stage, shard, str(error)))
            continue
        if shard in found.entries:
            found.broken.append(Broken(stage, shard, "the shard has two entries"))
        found.entries[shard], found.bodies[shard] = entry, body
    index = plans.read_index(store, plan)

    def look(shard: str) -> str | None:
        entry = found.entries[shard]
        return _problem(store, keys, plan, index, found, entry) or _lost_file(store, entry)

    for shard, reason in in_order(store.lanes, found.in_order(), look):
        if reason is not None:
            found.broken.append(Broken(stage, shard, reason))
    if stage in run.sealed and not found.broken:
        found.broken += _seal(store, run, stage)
    return found


def _bodies(
    store: Store, keys: RunKeys, stage: Stage, plan: PlanRef
) -> Iterator[tuple[str, str, bytes]]:
    """Shard, key and body of what the stage inherits, and of what lies in its folder."""
    if plan.inherits is not None:
        for line in read_lines(store, plan.inherits):
            entry = Entry.decode(line, where=store.url(plan.inherits.key))
            yield entry.shard, plan.inherits.key, line
    listed = (stat for stat in store.list(keys.ledger(stage)) if shard_of_entry(stat.key))
    for key, body in bodies(store, listed):
        yield shard_of_entry(key) or "", key, body


def _problem(
    store: Store,
    keys: RunKeys,
    plan: PlanRef,
    index: list[tuple[int, int, str]],
    found: Examined,
    entry: Entry,
) -> str | None:
    """What is wrong with an entry by itself, and with its place in the plan."""
    receipt = entry.receipt
    if receipt.records_in != receipt.mapped + receipt.quarantined + receipt.blank:
        return "its counts do not add up"
    if (entry.outcome == "split") != bool(entry.children):
        return "it is no outcome"
    try:
        shard = _described(store, keys, plan, index, found, entry)
    except FanfoldError as error:
        return str(error)
    if shard is None:
        return "the plan has no such shard"
    accounted = (*entry.covered, *(piece for child in entry.children for piece in child))
    if joined(accounted) != joined(shard.slices):
        return "it does not account for its shard"
    return None


def _described(
    store: Store,
    keys: RunKeys,
    plan: PlanRef,
    index: list[tuple[int, int, str]],
    found: Examined,
    entry: Entry,
) -> Shard | None:
    """A shard as the plan, or the split entry of its parent, describes it."""
    cut = parent_id(entry.shard)
    if cut is None:
        root = int(entry.shard)
        if root >= len(index):
            return None
        offset, length, digest = index[root]
        ref = ShardRef(
            id=entry.shard, key=plan.plan.key, offset=offset, length=length, digest=digest
        )
        shard = plans.read_shard(store, ref)
    else:
        parent, _ = cut
        if parent not in found.bodies or not found.entries[parent].children:
            return None
        shard = plans.child_of(found.bodies[parent], entry.shard)
    return shard


def _lost_file(store: Store, entry: Entry) -> str | None:
    """A file that an entry names and that is not what it says; a read that fails says nothing."""
    for file in entry.receipt.files():
        if file_at(store, file.key) != file:
            return f"{store.url(file.key)} is missing or is not what the entry says"
    return None


def _seal(store: Store, run: RunRecord, stage: Stage) -> Iterator[Broken]:
    """What is wrong with the sealed ledger of a stage whose entries are whole."""
    try:
        for _ in read_lines(store, run.sealed[stage]):
            pass
    except (LedgerBroken, KeyMissing) as error:
        yield Broken(stage, "", str(error))

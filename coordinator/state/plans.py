"""Plans: a line a shard, then the index of all lines; and the shards that they describe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from pydantic_core import from_json

from coordinator.errors import KeyMissing, LedgerBroken
from coordinator.keys import RunKeys
from coordinator.model import PlanRef, RunRecord, Shard, ShardRef, Stage, parent_id
from coordinator.state import runs
from coordinator.store.ports import Store


def commit(
    store: Store, run: RunRecord, stage: Stage, ref: PlanRef, seconds: float = 0.0
) -> RunRecord:
    """Make a plan the run's own; one that was committed before stands. `seconds` is what making it
    took."""

    def add(found: RunRecord) -> RunRecord:
        if stage in found.plans:
            return found
        return runs.used(found, seconds).model_copy(
            update={"plans": {**found.plans, stage: ref}, "state": "running", "listing": None}
        )

    return runs.change_own(store, run, add)


def write(
    store: Store, keys: RunKeys, stage: Stage, draft: str, planned: Iterable[Shard]
) -> PlanRef:
    """Write a plan: a line a shard, then the index of all lines."""
    index: list[tuple[int, int, str]] = []
    offset = 0
    with store.writer(keys.plan(draft, stage)) as writer:
        for shard in planned:
            line = shard.encode()
            writer.write(line + b"\n")
            index.append((offset, len(line), hashlib.sha256(line).hexdigest()))
            offset += len(line) + 1
        writer.write(json.dumps(index, separators=(",", ":")).encode() + b"\n")
        file = writer.close()
    return PlanRef(draft=draft, plan=file, index_offset=offset, shards=len(index))


def read_index(store: Store, ref: PlanRef) -> list[tuple[int, int, str]]:
    """Offset, length and digest of every shard's line.

    Raises:
        LedgerBroken: the plan is not what was committed.
    """
    try:
        body = store.get_range(ref.plan.key, ref.index_offset, ref.plan.size)
        index = [
            (int(offset), int(length), str(digest)) for offset, length, digest in from_json(body)
        ]
    except (ValueError, TypeError, KeyMissing) as error:
        raise LedgerBroken(
            f"{store.url(ref.plan.key)} is missing or has no readable index. Start a new run id."
        ) from error
    if len(index) != ref.shards:
        raise LedgerBroken(
            f"{store.url(ref.plan.key)} lists {len(index)} shards, not {ref.shards}."
        )
    return index


def read_shard(store: Store, ref: ShardRef) -> Shard:
    """A shard's description: its line of the plan, or its place among the children of a split.

    Raises:
        LedgerBroken: it is not what the message says.
    """
    try:
        if ref.length:
            line = store.get_range(ref.key, ref.offset, ref.offset + ref.length)
        else:
            line = child_of(store.get(ref.key).body, ref.id).encode()
    except KeyMissing as error:
        raise LedgerBroken(
            f"{store.url(ref.key)}, which describes shard {ref.id}, is missing. Start a new run id."
        ) from error
    if hashlib.sha256(line).hexdigest() != ref.digest:
        raise LedgerBroken(
            f"Shard {ref.id} is described otherwise in {store.url(ref.key)} than in its message."
        )
    shard = Shard.decode(line, where=store.url(ref.key))
    if shard.id != ref.id:
        raise LedgerBroken(f"{store.url(ref.key)} describes shard {shard.id}, not {ref.id}.")
    return shard


def child_of(entry_body: bytes, shard: str) -> Shard:
    """The child `shard` that a split entry cut off.

    Raises:
        LedgerBroken: the entry has no such child.
    """
    cut = parent_id(shard)
    try:
        if cut is None:
            raise ValueError(f"{shard} is no child.")
        children = from_json(entry_body)["children"]
        return Shard.model_validate({"id": shard, "slices": children[cut[1]]})
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise LedgerBroken(f"The split entry that cut shard {shard} can't be read.") from error

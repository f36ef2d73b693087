"""What the stages after map are made of: pure functions of the entries of the stage before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from coordinator.errors import LedgerBroken
from coordinator.job import Job
from coordinator.keys import result_of_all, result_of_root
from coordinator.model import Part, Shard, Stage, root_id

LeafParts = tuple[str, tuple[Part, ...]]


def stages(keyed: bool) -> tuple[Stage, ...]:
    """The stages of a run, in order."""
    return ("map", "reduce", "merge") if keyed else ("map", "merge")


def stages_of(declaration: Mapping[str, Any]) -> tuple[Stage, ...]:
    """The stages of a run, by the declaration that it is pinned to.

    Raises:
        LedgerBroken: that is none.
    """
    if not isinstance(declaration.get("keyed"), bool):
        raise LedgerBroken(
            "The declaration that the run is pinned to does not say whether it is keyed."
        )
    return stages(declaration["keyed"])


def stage_after(stage: Stage, *, keyed: bool) -> Stage | None:
    """The stage that follows; None after the last."""
    order = stages(keyed)
    place = order.index(stage) + 1
    return order[place] if place < len(order) else None


def reduce_shards(partitions: int) -> Iterator[Shard]:
    """One shard a partition."""
    for partition in range(partitions):
        yield Shard(id=str(partition), partition=partition)


def merge_shards(leaves: Iterable[LeafParts], *, single: bool) -> Iterator[Shard]:
    """One shard for everything, or one for each root shard of the stage before.

    `leaves` are (shard id, parts) in shard order, so the leaves of a root lie together.
    """
    if single:
        yield Shard(id="0", parts=tuple(part for _, parts in leaves for part in parts))
        return
    for root, group in groupby(leaves, key=lambda leaf: root_id(leaf[0])):
        yield Shard(id=root, parts=tuple(part for _, parts in group for part in parts))


def is_single(job: Job) -> bool:
    """Whether all results go into one object. A sink whose outputs have names goes root by root."""
    return job.merge == "single" and not job.sink.names_results


def result_name(job: Job, root: str) -> str:
    """The name of the result object that a merge shard writes."""
    extension = job.sink.extension
    if is_single(job):
        return result_of_all(job.name, extension)
    return result_of_root(root, extension)

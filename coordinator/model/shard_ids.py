"""Ids of shards: `7` is a root, of the plan; `7.0` the first child that it left when it was split."""

from __future__ import annotations


def shard_order(shard: str) -> tuple[int, ...]:
    """The place of a shard in its stage: ids compare as tuples of integers."""
    return tuple(int(step) for step in shard.split("."))


def child_id(shard: str, number: int) -> str:
    """The id of a child that a split shard left; the first has number 0."""
    return f"{shard}.{number}"


def parent_id(shard: str) -> tuple[str, int] | None:
    """The shard that left this one when it was split, and this one's number; None for a root."""
    parent, dot, number = shard.rpartition(".")
    return (parent, int(number)) if dot else None


def root_id(shard: str) -> str:
    """The shard of the plan that this one comes from."""
    return shard.partition(".")[0]

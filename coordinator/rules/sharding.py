"""How a snapshot is cut into shards: a pure function of its objects and the limits.

Objects come in key order and leave in key order; nothing is held but the shard being filled, so
memory does not grow with the snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from coordinator.limits import MIB, Limits
from coordinator.model import Pinned, Slice

LANE_SHARDS = 6

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Cut:
    """The size of a shard: it is closed at so many bytes or so many items."""

    shard_bytes: int
    shard_items: int

    def widened(self, factor: int) -> Cut:
        return Cut(self.shard_bytes * factor, self.shard_items * factor)


def cuts(
    objects: Iterable[tuple[Item, int, bool]], cut: Cut
) -> Iterator[list[tuple[Item, int, int]]]:
    """Fill shards with consecutive ranges until each has `shard_bytes` or `shard_items`.

    Takes (object, size, whether it can be cut) and gives shards of (object, start, stop). An
    object that can be cut is cut exactly where its shard is full; one that can't opens a new
    shard when it does not fit. Every byte of every object lies in exactly one range; an empty
    object has one empty range.
    """
    shard: list[tuple[Item, int, int]] = []
    filled = 0
    for item, size, cutting in objects:
        if shard and not cutting and filled + size > cut.shard_bytes:
            yield shard
            shard, filled = [], 0
        start = 0
        while True:
            stop = min(start + cut.shard_bytes - filled, size) if cutting else size
            shard.append((item, start, stop))
            filled += stop - start
            if filled >= cut.shard_bytes or len(shard) >= cut.shard_items:
                yield shard
                shard, filled = [], 0
            if stop >= size:
                break
            start = stop
    if shard:
        yield shard


def shards(
    objects: Iterable[Pinned], cut: Cut, cuttable: Callable[[str], bool]
) -> Iterator[tuple[Slice, ...]]:
    """The slices of every shard of a stage, in order; see `cuts`."""
    sized = ((pinned, pinned.size, cuttable(pinned.key)) for pinned in objects)
    for shard in cuts(sized, cut):
        yield tuple(Slice.of(pinned, start, stop) for pinned, start, stop in shard)


def count_shards(sizes: Iterable[tuple[int, bool]], cut: Cut) -> int:
    """How many shards `cuts` gives, from sizes and cuttability alone."""
    return sum(1 for _ in cuts(((None, size, cutting) for size, cutting in sizes), cut))


def fit(cut: Cut, most: int, count: Callable[[Cut], int]) -> Cut:
    """The narrowest multiple of a cut that gives at most `most` shards.

    `count` tells how many shards a cut gives; every doubling at least halves what can be halved,
    so this ends.
    """
    while (shards := count(cut)) > most:
        cut = cut.widened(-(-shards // most))
    return cut


def first_cut(limits: Limits, total_bytes: int, lanes: int | None, shard_bytes: int | None) -> Cut:
    """The cut to begin with: as asked, or small enough to keep every lane busy to the end."""
    size = shard_bytes or limits.shard_bytes
    if lanes and shard_bytes is None:
        size = min(size, max(MIB, -(-total_bytes // (lanes * LANE_SHARDS))))
    return Cut(size, limits.shard_items)


def partitions(total_bytes: int, limits: Limits) -> int:
    """How many shards the reduce stage has. It depends on nothing but the inputs' size, so that
    the order of a result is the same however the map stage is cut."""
    return max(1, min(limits.partitions, -(-total_bytes // limits.reduce_bytes)))

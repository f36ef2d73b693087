"""The reduce side of the shuffle: the segments of one partition, merged by key.

Values of a key stay in shard and record order. Memory is bounded: what does not fit is spilled as
a run, which is a segment in the order of its keys, and runs are merged again. There are never more
than `FAN_IN` to merge at once: so many are merged into one, a level up, before another comes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import chain, groupby
from operator import itemgetter
from types import TracebackType
from typing import Any, Self

from coordinator.shuffle.keys import Key, order
from coordinator.shuffle.segments import LINE_BYTES, Items, Segments
from coordinator.shuffle.spill import Span, Spill
from coordinator.shuffle.table import Combine, Table
from coordinator.shuffle.values import MOST_BYTES, Values

FAN_IN = 64


class Gather:
    """Collects the segments of one partition, in shard order, and gives its keys in order.

    `types` are those that the job declares, by name. Use as a context manager: it may hold
    temporary files.
    """

    def __init__(
        self,
        combine: Combine | None,
        buffer_bytes: int,
        types: Mapping[str, type] | None = None,
    ) -> None:
        self.combine = combine
        self.buffer_bytes = buffer_bytes
        self._values = Values(types, max(buffer_bytes, MOST_BYTES))
        self._table = Table(combine, self._values)
        self._segments = Segments(self._values, lists=combine is None)
        self._levels: list[_Level] = []  # the last holds the oldest runs
        self._heaviest = 0  # of all that was spilled
        self._tagged = False
        self._files = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._files.close()

    def take(self, lines: Iterable[bytes]) -> None:
        """Take in a segment. Segments are given in shard order.

        Raises:
            ReduceFailed: the job's combine raised, or gave what can't cross.
            OutputUnwritable: there is no room for temporary files.
        """
        table = self._table
        take_in = table.extend if self.combine is None else table.fold
        for line in lines:
            take_in(self._segments.decode(line))
            if table.outweighs(self.buffer_bytes):
                self._spill()

    def groups(self) -> Iterator[tuple[Any, Any]]:
        """Every key in order, with its folded value, or an iterator over all of its values."""
        decode, folded = self._table.keys.decode, self.combine is not None
        if not self._levels:
            for key, found in self._table.in_order():
                yield key if type(key) is str else decode(key), found if folded else iter(found)
            return
        for key, found in self._merged_groups():
            yield decode(key), found

    def _merged_groups(self) -> Iterator[tuple[Key, Any]]:
        self._spill()
        while self._runs() > self._fan_in():
            self._merge(next(n for n, level in enumerate(self._levels) if level.runs))
        for key, same in groupby(self._merged(self._levels), key=itemgetter(0)):
            values = map(itemgetter(1), same)
            if self.combine is not None:
                yield key, self._table.fold_up(values)
            else:
                yield key, chain.from_iterable(values)

    # -- runs ------------------------------------------------------------------------------------

    def _spill(self) -> None:
        self._heaviest = max(self._heaviest, self._table.heaviest)
        self._tagged = self._tagged or self._values.tagged
        self._add_run(0, self._table.in_order())
        self._table.clear()
        for number, level in enumerate(self._levels):
            if len(level.runs) >= self._fan_in():
                self._merge(number)

    def _merge(self, number: int) -> None:
        """Make one run of all those of a level, a level up."""
        level = self._levels[number]
        self._add_run(number + 1, self._merged([level]))
        level.runs.clear()
        level.spill.clear()

    def _add_run(self, number: int, items: Items) -> None:
        if number == len(self._levels):
            self._levels.append(_Level())
            self._files.callback(self._levels[number].spill.close)
        lines = self._segments.encode(items, self._heaviest, tagged=self._tagged)
        level = self._levels[number]
        level.runs.append(level.spill.append(lines))

    def _merged(self, levels: list[_Level]) -> Iterator[tuple[Key, Any]]:
        """The runs of levels as one; equal keys stay in the order of the runs."""
        runs = [
            chain.from_iterable(map(self._segments.decode, level.spill.lines(run)))
            for level in reversed(levels)
            for run in level.runs
        ]
        return heapq.merge(*runs, key=lambda item: order(item[0]))

    def _runs(self) -> int:
        return sum(len(level.runs) for level in self._levels)

    def _fan_in(self) -> int:
        """How many runs may be merged at once: a line of each is in memory."""
        room = max(self.buffer_bytes, FAN_IN * LINE_BYTES)
        return max(2, min(FAN_IN, room // max(self._heaviest, LINE_BYTES)))


class _Level:
    """Runs that were merged equally often, in the order in which they came."""

    def __init__(self) -> None:
        self.spill = Spill()
        self.runs: list[Span] = []

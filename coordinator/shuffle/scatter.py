"""The map side of the shuffle: the pairs of one shard, folded or collected, by partition.

Values of a key stay in record order. Memory is bounded: what does not fit is spilled, in order.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from operator import itemgetter
from types import TracebackType
from typing import Any, Self

from coordinator.errors import Unencodable
from coordinator.limits import MIB
from coordinator.shuffle.keys import Key
from coordinator.shuffle.segments import Segments
from coordinator.shuffle.spill import Spill
from coordinator.shuffle.table import Combine, Table
from coordinator.shuffle.values import (
    ATOM_BYTES,
    FIXED,
    MOST_BYTES,
    PLACE_BYTES,
    Values,
)

WAITING_BYTES = 1 * MIB  # of what was taken and is not yet folded in
WAITING_PAIRS = 8192
_key_of = itemgetter(0)
_LOW, _HIGH = 1 - (1 << 30), (1 << 30) - 1
LONG_KEY = 1000  # letters; what a key of fewer weighs while it waits is not counted


class Scatter:
    """Folds or collects the pairs of one map shard, and gives them by partition.

    `take` gathers the pairs of a record; `settle` checks those of all records since the last time
    and folds them in, which is much cheaper than one by one. What is large is checked, and folded
    in, when it is taken. `types` are those that the job declares, by name. Use as a context
    manager: it may hold a temporary file.
    """

    def __init__(
        self,
        partitions: int,
        combine: Combine | None,
        buffer_bytes: int,
        types: Mapping[str, type] | None = None,
    ) -> None:
        self.partitions = partitions
        self.buffer_bytes = buffer_bytes
        self.records = 0
        self._values = Values(types, max(buffer_bytes, MOST_BYTES))
        self._table = Table(combine, self._values)
        self._segments = Segments(self._values, lists=combine is None)
        self._spill = Spill()
        self._spilled: list[array[int]] = []  # where the segments of each spill begin and end

        # What was taken and is not folded in: pairs that were checked, then records that were not.
        self._waiting: list[Any] = []
        self._checked = 0
        self._ends: list[int] = []
        self._weight = self._key_weight = 0
        self._heaviest = ATOM_BYTES

        # Records checked since the last `settle`, and those of them that were refused.
        self._number = 0
        self._refused: list[tuple[int, Exception]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._spill.close()

    def take(self, pairs: Iterable[Any]) -> None:
        """Gather what the map yields for one record; nothing of it, if the map raises.

        Raises:
            Unencodable: something of it is no pair, or can't cross.
            ReduceFailed: the job's combine raised, over this record or one before.
        """
        waiting = self._waiting
        start = len(waiting)
        try:
            waiting += pairs
        except BaseException:
            del waiting[start:]
            raise
        if is_light(waiting[start:] if start else waiting):
            self._ends.append(len(waiting))
            if len(waiting) > WAITING_PAIRS:
                self._fold()
        else:
            self._check_heavy(start)

    def settle(self) -> list[tuple[int, Exception]]:
        """Fold in everything taken; gives the records that could not be, by their number since
        the last time, and why. Of these nothing is folded in.

        Raises:
            ReduceFailed: the job's combine raised, or gave what can't cross.
        """
        self._fold()
        refused = self._refused
        self._refused, self._number = [], 0
        return refused

    def segments(self) -> Iterator[Iterator[bytes]]:
        """For every partition in turn, its segment in pieces."""
        for partition, items in enumerate(self._table.by_partition(self.partitions)):
            yield self._segment(partition, items)

    def _segment(self, partition: int, items: list[tuple[Key, Any]]) -> Iterator[bytes]:
        for edges in self._spilled:
            yield from self._spill.pieces((edges[partition], edges[partition + 1]))
        yield from self._lines(items)

    def _lines(self, items: list[tuple[Key, Any]]) -> Iterator[bytes]:
        return self._segments.encode(items, self._table.heaviest, tagged=self._values.tagged)

    # -- from taken to folded in -----------------------------------------------------------------

    def _fold(self) -> None:
        """Fold in what is waiting, but for the records that are refused."""
        self._check_light()
        self.records += len(self._waiting)
        self._table.add(self._waiting, self._weight, self._heaviest)
        self._waiting.clear()
        self._checked = self._weight = self._key_weight = 0
        self._heaviest = ATOM_BYTES
        if self._table.outweighs(self.buffer_bytes):
            self._empty_table()

    def _empty_table(self) -> None:
        edges = array("Q", [0])
        for items in self._table.by_partition(self.partitions):
            edges[-1], stop = self._spill.append(self._lines(items))
            edges.append(stop)
        self._spilled.append(edges)
        self._table.clear()

    def _check_heavy(self, start: int) -> None:
        """Check the record taken last, whose pairs begin here."""
        waiting = self._waiting
        pairs = waiting[start:]
        del waiting[start:]
        if self._ends:
            self._check_light()
        waiting += self._checked_pairs(pairs)
        self._checked = len(waiting)
        self._number += 1
        weight = self._weight + self._key_weight
        if self._checked > WAITING_PAIRS or weight > WAITING_BYTES:
            self._fold()

    def _check_light(self) -> None:
        """Check the records that were not when they were taken; those refused are left out."""
        waiting, checked = self._waiting, self._checked
        loose = waiting[checked:] if checked else waiting
        if not is_text("".join(map(_key_of, loose))):
            waiting[checked:] = self._checked_records()
        elif self._table.combine is None:
            self._weight += PLACE_BYTES * len(loose)
        self._number += len(self._ends)
        self._ends.clear()
        self._checked = len(waiting)

    def _checked_records(self) -> list[tuple[Key, Any]]:
        """The pairs of every record whose keys and values can all cross."""
        good: list[tuple[Key, Any]] = []
        start = self._checked
        for number, end in enumerate(self._ends, self._number):
            try:
                good += self._checked_pairs(self._waiting[start:end])
            except Unencodable as error:
                self._refused.append((number, error))
            start = end
        return good

    def _checked_pairs(self, pairs: list[Any]) -> list[tuple[Key, Any]]:
        """The pairs of a record as they will be decoded.

        Raises:
            Unencodable: something is no pair, or its key or value can't cross.
        """
        checked: list[tuple[Key, Any]] = []
        values, heaviest, total = self._values, self._heaviest, 0
        for pair in pairs:
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise Unencodable(
                    "the map of a job with a reduce must yield (key, value), not "
                    f"{type(pair).__name__}"
                )
            key, value = pair
            if type(key) is not str or len(key) >= LONG_KEY or not key.isascii():
                key = self._table.keys.encode(key)
                self._key_weight += self._table.keys.weigh(key)
            if type(value) not in FIXED:
                values.weight = 0
                value = values.copy(value)
                total += values.weight
                if values.weight > heaviest:
                    heaviest = values.weight
            checked.append((key, value))
        self._weight += total + PLACE_BYTES * len(checked)
        self._heaviest = heaviest
        return checked


def is_light(pairs: list[Any]) -> bool:
    """Whether all are pairs of a short text and a small whole number: nothing can change them, and
    they need not be weighed while they wait."""
    for pair in pairs:
        if type(pair) is not tuple or len(pair) != 2:
            return False
        key, value = pair
        if type(value) is not int or not _LOW < value < _HIGH:
            return False
        if type(key) is not str or len(key) >= LONG_KEY:
            return False
    return True


def is_text(letters: str) -> bool:
    """Whether these can be encoded: a lone surrogate can't."""
    if letters.isascii():
        return True
    try:
        letters.encode()
    except UnicodeEncodeError:
        return False
    return True

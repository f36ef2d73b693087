"""The table of either side of the shuffle: of each key its folded value, or its values in order.

It knows what it weighs, so that it can be emptied in time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from operator import countOf
from sys import getsizeof
from typing import Any

from coordinator.errors import FanfoldError, ReduceFailed, Unencodable, reason_of
from coordinator.shuffle.keys import KEY_BYTES, Key, Keys, order, partition_of
from coordinator.shuffle.values import (
    ATOM_BYTES,
    FIXED,
    LEAST_WORD,
    LIST_BYTES,
    PLACE_BYTES,
    WORD,
    Values,
    are_words,
    is_decimal,
)

Combine = Callable[[Any, Any], Any]

# What a text takes beside its letters: in ASCII, and at most.
ASCII_BYTES, TEXT_BYTES = 49, 80

_LOW, _HIGH = 1 - (1 << 30), (1 << 30) - 1  # Python compares such integers fastest


class Table:
    """Keys, and what is held of each. `weight` is what all of it takes in memory, or more;
    `heaviest` what a single key or value does."""

    def __init__(self, combine: Combine | None, values: Values) -> None:
        self.combine = combine
        self.values = values
        self.keys = Keys(values)
        self._place = KEY_BYTES + (LIST_BYTES if combine is None else 0)  # of a key and its list
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.held: dict[Key, Any] = {}
        self.weight = 0
        self._replacing = 0  # how much of it are values that a combine gave
        self.heaviest = ATOM_BYTES
        self.values.tagged = False

    # -- what map yields -------------------------------------------------------------------------

    def add(self, pairs: list[tuple[Key, Any]], weight: int, heaviest: int) -> None:
        """Take in pairs, whose values weigh so much.

        Raises:
            ReduceFailed: the job's combine raised, or gave what can't cross.
        """
        self.heaviest = max(self.heaviest, heaviest)
        if self.combine is not None:
            self.fold(pairs)
            return
        held = self.held
        known = len(held)
        for key, value in pairs:
            if key in held:
                held[key].append(value)
            else:
                held[key] = [value]
        self.weight += weight
        self._weigh_keys(known)

    # -- what segments hold ----------------------------------------------------------------------

    def extend(self, pairs: Iterable[tuple[Key, list[Any]]]) -> None:
        """Take in keys with lists of their values, as they were decoded."""
        held = self.held
        known = len(held)
        taken: list[Any] = []
        for key, values in pairs:
            if key in held:
                held[key] += values
            else:
                held[key] = values
            taken += values
        self._count(taken)
        self._weigh_keys(known)

    def fold(self, pairs: Iterable[tuple[Key, Any]]) -> None:
        """Fold values into those that are held, in order.

        Raises:
            ReduceFailed: the job's combine raised, or gave what can't cross.
        """
        held, combine, low, high = self.held, self.combine, _LOW, _HIGH
        before_or_none = held.get
        assert combine is not None  # noqa: S101  values of a job without one come in lists
        known = len(held)
        try:
            for key, value in pairs:
                before = before_or_none(key)
                if before is not None or key in held:
                    value = combine(before, value)
                    if type(value) is not int or not low < value < high:
                        value = self._folded(value)
                held[key] = value
        except Exception as error:
            raise combine_failed(error) from error
        self._weigh_keys(known)
        self._count(list(islice(reversed(held.values()), len(held) - known)))

    def fold_up(self, values: Iterator[Any]) -> Any:
        """The fold of values, one or more, in order.

        Raises:
            ReduceFailed: the job's combine raised, or gave what can't cross.
        """
        combine = self.combine
        assert combine is not None  # noqa: S101  as in `fold`
        value = next(values)
        try:
            for other in values:
                value = self._folded(combine(value, other))
        except Exception as error:
            raise combine_failed(error) from error
        return value

    def _folded(self, value: Any) -> Any:
        """What a combine gave, as it will be decoded."""
        kind = type(value)
        if kind in FIXED or (kind is int and LEAST_WORD < value < WORD):
            return value
        values = self.values
        values.weight = 0
        value = values.copy(value)
        weight = values.weight
        self.weight += weight
        self._replacing += weight
        if weight > self.heaviest:
            self.heaviest = weight
        return value

    # -- weighing --------------------------------------------------------------------------------

    def outweighs(self, buffer_bytes: int) -> bool:
        """Whether it has to be emptied to stay within a buffer."""
        if self.weight > buffer_bytes and self._replacing > self.weight // 2:
            # Most of the weight may be of values that were folded into others since.
            self.weight = self._replacing = 0
            self._weigh_keys(0)
            self._count(list(self.held.values()))
            return self.weight > buffer_bytes // 2
        return self.weight > buffer_bytes

    def _count(self, values: list[Any]) -> None:
        """Add the weight of values."""
        self.weight += PLACE_BYTES * len(values)
        if countOf(map(type, values), int) == len(values) and are_words(values):
            return
        if countOf(map(type, values), str) == len(values):
            weights = list(map(getsizeof, values))
        else:
            weights = [self.values.weigh(value) for value in values if type(value) not in FIXED]
            if self.combine is not None and not all(map(is_decimal, values)):
                self.values.tagged = True  # who gave them may not have looked
        self.weight += sum(weights)
        self.heaviest = max(self.heaviest, max(weights, default=0))

    def _weigh_keys(self, known: int) -> None:
        """Add the weight of the keys that came after the first so many."""
        fresh = len(self.held) - known
        if fresh:
            keys = list(islice(reversed(self.held), fresh))
            if countOf(map(type, keys), str) == fresh:
                weight, heaviest = _weigh_texts(keys)
            else:
                weights = list(map(self.keys.weigh, keys))
                weight, heaviest = sum(weights), max(weights)
            self.weight += self._place * fresh + weight
            self.heaviest = max(self.heaviest, KEY_BYTES + heaviest)

    # -- what is held ----------------------------------------------------------------------------

    def in_order(self) -> Iterator[tuple[Key, Any]]:
        """All keys in order, with what is held of each."""
        held = self.held
        in_itself = {str}.issuperset(map(type, held))
        keys = sorted(held, key=None if in_itself else order)
        return zip(keys, map(held.__getitem__, keys), strict=True)

    def by_partition(self, partitions: int) -> list[list[tuple[Key, Any]]]:
        """The keys of every partition as they came, with what is held of each."""
        if partitions == 1:
            return [list(self.held.items())]
        parted: list[list[tuple[Key, Any]]] = [[] for _ in range(partitions)]
        for item in self.held.items():
            parted[partition_of(item[0], partitions)].append(item)
        return parted


def _weigh_texts(texts: list[str]) -> tuple[int, int]:
    """What texts weigh, and the heaviest of them; or more, where their letters are of many
    widths."""
    joined = "".join(texts)
    empty, width = (ASCII_BYTES, 1) if joined.isascii() else (TEXT_BYTES, 4)
    return empty * len(texts) + getsizeof(joined), empty + width * max(map(len, texts))


def combine_failed(error: Exception) -> FanfoldError:
    """The error of the tree for what came of a combine."""
    if isinstance(error, FanfoldError):
        return error
    if isinstance(error, Unencodable):
        return ReduceFailed(f"combine gave what it may not: {error}.")
    return ReduceFailed(f"combine raised {reason_of(error)}")

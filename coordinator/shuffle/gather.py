"""The reduce side of the shuffle: the segments of one partition, merged by key.

Values of a key stay in shard and record order. Memory is bounded: what does not fit is spilled,
sorted, and merged again.
"""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import chain, groupby
from operator import itemgetter
from types import TracebackType
from typing import IO, Any, Self

from coordinator.formats.jsonlines import encode_json
from coordinator.shuffle.folds import Combine, fold, fold_into
from coordinator.shuffle.segments import decode_pairs
from coordinator.shuffle.values import KEY_BYTES, Key, key_order, key_weight, weight


class Gather:
    """Collects the segments of one partition, in shard order, and gives its keys in order.

    Use as a context manager: it may hold temporary files.
    """

    def __init__(self, combine: Combine | None, buffer_bytes: int) -> None:
        self.combine = combine
        self.buffer_bytes = buffer_bytes
        self._held: dict[Key, Any] = {}
        self._weight = 0
        self._runs: list[IO[bytes]] = []
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
        """Take in a segment. Segments are given in shard order."""
        for line in lines:
            pairs = decode_pairs(line)
            if self.combine is not None:
                self._weight += fold_into(self._held, pairs, self.combine)
            else:
                self._extend(pairs)
            if self._weight > self.buffer_bytes:
                self._spill()

    def _extend(self, pairs: Iterable[tuple[Key, list[Any]]]) -> None:
        held = self._held
        for key, values in pairs:
            if key in held:
                held[key] += values
            else:
                held[key] = values
                self._weight += KEY_BYTES + key_weight(key)
            self._weight += weight(values)

    def groups(self) -> Iterator[tuple[Key, Any]]:
        """Every key in order, with its folded value, or an iterator over all of its values."""
        if self._runs:
            self._spill()
            pairs = self._merged()
        else:
            pairs = iter(self._sorted())
        if self.combine is not None:
            yield from self._folded(pairs, self.combine) if self._runs else pairs
        else:
            for key, same in groupby(pairs, key=itemgetter(0)):
                yield key, (value for _, values in same for value in values)

    def _folded(
        self, pairs: Iterator[tuple[Key, Any]], combine: Combine
    ) -> Iterator[tuple[Key, Any]]:
        for key, same in groupby(pairs, key=itemgetter(0)):
            value = next(same)[1]
            for _, other in same:  # noqa: B031  the rest of the same group
                value = fold(combine, value, other)
            yield key, value

    def _sorted(self) -> list[tuple[Key, Any]]:
        held = self._held
        if {str}.issuperset(map(type, held)):
            return sorted(held.items(), key=itemgetter(0))
        return sorted(held.items(), key=lambda item: key_order(item[0]))

    def _spill(self) -> None:
        run = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        for key, value in self._sorted():
            run.write(encode_json([[key], [value]]) + b"\n")
        self._runs.append(run)
        self._held = {}
        self._weight = 0

    def _merged(self) -> Iterator[tuple[Key, Any]]:
        """The sorted runs as one; equal keys stay in the order of the runs."""
        for run in self._runs:
            run.seek(0)
        runs = (chain.from_iterable(map(decode_pairs, run)) for run in self._runs)
        return heapq.merge(*runs, key=lambda item: key_order(item[0]))

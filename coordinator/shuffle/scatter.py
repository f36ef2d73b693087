"""The map side of the shuffle: the pairs of one shard, folded or collected, by partition.

Values of a key stay in record order. Memory is bounded: what does not fit is spilled, in order.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import IO, Any, Self

from coordinator.shuffle.folds import Combine, fold_into
from coordinator.shuffle.segments import encode_pairs
from coordinator.shuffle.values import (
    KEY_BYTES,
    Key,
    are_plain,
    canonical_pair,
    encode_key,
    key_weight,
    weight,
)

_SPOOL_BYTES = 1024 * 1024


class Scatter:
    """Folds or collects the pairs of one map shard, and gives them by partition.

    `take` only gathers the pairs of a record; `settle` checks those of all records since the last
    time and folds them in, which is much cheaper than one by one. Use as a context manager: it
    may hold temporary files.
    """

    def __init__(self, partitions: int, combine: Combine | None, buffer_bytes: int) -> None:
        self.partitions = partitions
        self.combine = combine
        self.buffer_bytes = buffer_bytes
        self.records = 0
        self._pairs: list[Any] = []
        self._ends: list[int] = []
        self._held: dict[Key, Any] = {}
        self._weight = 0
        self._files = ExitStack()
        self._spilled: list[IO[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._files.close()

    def take(self, pairs: Iterable[Any]) -> None:
        """Gather what the map yields for one record; nothing of it, if the map raises."""
        start = len(self._pairs)
        try:
            self._pairs += pairs
        except BaseException:
            del self._pairs[start:]
            raise
        self._ends.append(len(self._pairs))

    def settle(self) -> list[tuple[int, Exception]]:
        """Fold in everything taken; gives the records that could not be, by their number since
        the last time, and why. Of these nothing is folded in.

        Raises:
            OutputInvalid: something is no pair, or a key or value has a wrong type.
            ReduceFailed: the job's combine raised.
        """
        pairs = self._pairs
        refused: list[tuple[int, Exception]] = []
        if not are_plain(pairs):
            pairs, refused = self._canonical_pairs()
        self.records += len(pairs)
        self._pairs, self._ends = [], []
        if self.combine is None:
            self._collect(pairs)
        else:
            self._weight += fold_into(self._held, pairs, self.combine)
        if self._weight > self.buffer_bytes:
            self._spill()
        return refused

    def _canonical_pairs(self) -> tuple[list[tuple[Key, Any]], list[tuple[int, Exception]]]:
        """The pairs of every record whose keys and values can all be encoded."""
        good: list[tuple[Key, Any]] = []
        refused: list[tuple[int, Exception]] = []
        start = 0
        for number, end in enumerate(self._ends):
            try:
                good += [canonical_pair(pair) for pair in self._pairs[start:end]]
            except ValueError as error:
                refused.append((number, error))
            start = end
        return good, refused

    def _collect(self, pairs: list[tuple[Key, Any]]) -> None:
        held = self._held
        for key, value in pairs:
            if key in held:
                held[key].append(value)
            else:
                held[key] = [value]
                self._weight += KEY_BYTES + key_weight(key)
            self._weight += 32 if type(value) is int else weight(value)

    def segments(self) -> Iterator[Iterator[bytes]]:
        """For every partition in turn, its segment in pieces."""
        if not self._spilled:
            for items in self._by_partition():
                yield encode_pairs(items)
            return
        self._spill()
        for spool in self._spilled:
            spool.seek(0)
            yield iter(lambda spool=spool: spool.read(_SPOOL_BYTES), b"")  # type: ignore[misc]

    def _by_partition(self) -> list[list[tuple[Key, Any]]]:
        parted: list[list[tuple[Key, Any]]] = [[] for _ in range(self.partitions)]
        if self.partitions == 1:
            return [list(self._held.items())]
        crc32, partitions = zlib.crc32, self.partitions
        for item in self._held.items():
            parted[crc32(encode_key(item[0])) % partitions].append(item)
        return parted

    def _spill(self) -> None:
        if not self._spilled:
            self._spilled = [
                self._files.enter_context(tempfile.SpooledTemporaryFile(_SPOOL_BYTES))  # noqa: SIM115
                for _ in range(self.partitions)
            ]
        for spool, items in zip(self._spilled, self._by_partition(), strict=True):
            spool.writelines(encode_pairs(items))
        self._held = {}
        self._weight = 0

"""Keyed values on their way from map to reduce: canonical forms, partitions, folds and spills.

What map yields is encoded once; combine and reduce see only decoded values, so a job gives the
same result whether a value crossed a machine or not. Values of a key stay in shard and record
order. Memory is bounded: what does not fit is spilled, in order, and merged again.

A segment (one partition of one map shard) is a sequence of lines, each a JSON pair of equally
long lists: keys and their values. With a combine a value is the folded one, without it the list
of all values so far.
"""

from __future__ import annotations

import heapq
import json
import math
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, groupby, islice
from json.encoder import encode_basestring
from operator import itemgetter
from types import TracebackType
from typing import IO, Any, Self

from pydantic_core import from_json

from coordinator.errors import FanfoldError, OutputInvalid, ReduceFailed
from coordinator.sinks import encode_json

Key = str | int | tuple[Any, ...]
Combine = Callable[[Any, Any], Any]

_ATOMS = frozenset({int, bool, type(None)})
_KEY_BYTES = 96
_ABSENT = object()
_PAIRS_A_LINE = 512
_SPOOL_BYTES = 1024 * 1024


# ------------------------------------------------------------------------------------------------
# Canonical keys and values
# ------------------------------------------------------------------------------------------------


def canonical_key(key: Any) -> Key:
    """A key as it will be decoded; lists become tuples, so that it can be looked up.

    Raises:
        OutputInvalid: it is neither text, a whole number, nor a list of these.
        ValueError: a text in it has no encoding.
    """
    if type(key) is int:
        return key
    if type(key) is str:
        return _encodable(key)
    if isinstance(key, (tuple, list)):
        return tuple(canonical_key(step) for step in key)
    raise OutputInvalid(
        f"A key must be a str, an int or a list of these, not {type(key).__name__}."
    )


def canonical(value: Any) -> Any:
    """A value as it would be after a journey through JSON.

    Raises:
        OutputInvalid: its type has no encoding.
        ValueError: its value has none (NaN, a lone surrogate).
    """
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is str:
        return _encodable(value)
    if kind is float:
        if not math.isfinite(value):
            raise ValueError("a value is not a finite number")
        return value
    if kind is tuple or kind is list:
        return [canonical(item) for item in value]
    if kind is dict and all(type(name) is str for name in value):
        return {name: canonical(item) for name, item in value.items()}
    return from_json(encode_json(value))


def _encodable(text: str) -> str:
    """The text; UnicodeEncodeError, a ValueError, if it holds a lone surrogate."""
    if not text.isascii():
        text.encode()
    return text


def _weight(value: Any) -> int:
    """Roughly the memory of a canonical value, in bytes; never less than its elements need."""
    if isinstance(value, str):
        return 56 + len(value)
    if isinstance(value, list):
        return 64 + sum(map(_weight, value))
    if isinstance(value, dict):
        return 128 + sum(56 + len(name) + _weight(item) for name, item in value.items())
    return 32


def encode_key(key: Key) -> bytes:
    """The bytes of a key that its partition is the hash of."""
    return encode_basestring(key).encode() if type(key) is str else encode_json(key)


def partition_of(key: Key, partitions: int) -> int:
    """The partition of a key: CRC-32 of its encoded bytes, modulo their number."""
    return zlib.crc32(encode_key(key)) % partitions


def key_order(key: Key) -> tuple[int, Any]:
    """How keys sort: whole numbers, text by code point, lists by their elements."""
    if type(key) is int:
        return (0, key)
    if type(key) is str:
        return (1, key)
    return (2, tuple(key_order(step) for step in key))  # type: ignore[union-attr]


# ------------------------------------------------------------------------------------------------
# The map side
# ------------------------------------------------------------------------------------------------


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
        if not _are_plain(pairs):
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
                self._weight += _KEY_BYTES + _key_weight(key)
            self._weight += 32 if type(value) is int else _weight(value)

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


def _are_plain(pairs: list[Any]) -> bool:
    """Whether all are pairs of a text and a whole number, which are canonical as they are."""
    try:
        for key, value in pairs:
            if type(key) is not str or type(value) is not int:
                return False
    except (TypeError, ValueError):
        return False
    return True


def canonical_pair(pair: Any) -> tuple[Key, Any]:
    """A pair with its key and value as they will be decoded.

    Raises:
        OutputInvalid: it is no pair, or a key or value has a wrong type.
        ValueError: a value has no encoding.
    """
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise OutputInvalid(
            f"The map of a job with a reduce must yield (key, value), not {type(pair).__name__}."
        )
    return canonical_key(pair[0]), canonical(pair[1])


def fold_into(held: dict[Key, Any], pairs: Iterable[tuple[Key, Any]], combine: Combine) -> int:
    """Fold canonical pairs into a table, in order; gives the memory that it grew by.

    Raises:
        ReduceFailed: the job's combine raised, or gave what has no encoding.
        OutputInvalid: a key holds a lone surrogate.
    """
    before_or_absent = held.get
    weight = 0
    fresh = []
    try:
        for key, value in pairs:
            before = before_or_absent(key, _ABSENT)
            if before is _ABSENT:
                fresh.append(key)
            else:
                value = combine(before, value)
            if type(value) is not int:
                if before is not _ABSENT:
                    value = folded(value)
                weight += _weight(value)
            held[key] = value
    except Exception as error:
        raise _combine_failed(error) from error
    return weight + len(fresh) * _KEY_BYTES + sum(map(_key_weight, fresh))


def fold(combine: Combine, left: Any, right: Any) -> Any:
    """Two decoded values of one key, as the job's combine makes them one.

    Raises:
        ReduceFailed: it raised, or gave what has no encoding.
    """
    try:
        value = combine(left, right)
    except Exception as error:
        raise _combine_failed(error) from error
    return value if type(value) is int else folded(value)


def folded(value: Any) -> Any:
    """What a combine gave, as it will be decoded.

    Raises:
        ReduceFailed: it has no encoding.
    """
    try:
        return canonical(value)
    except ValueError as error:
        raise _combine_failed(error) from error


def _combine_failed(error: Exception) -> Exception:
    """The error of the tree for what a combine raised."""
    if isinstance(error, FanfoldError):
        return error
    return ReduceFailed(f"combine raised {type(error).__name__}: {error}")


def _key_weight(key: Key) -> int:
    """The memory of a key beyond its place in the table.

    Raises:
        OutputInvalid: it holds a lone surrogate.
    """
    if type(key) is not str:
        return 0
    if not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError:
            raise OutputInvalid("A key holds a lone surrogate, which has no encoding.") from None
    return len(key)


def encode_pairs(items: Iterable[tuple[Key, Any]]) -> Iterator[bytes]:
    """Pairs as the lines of a segment."""
    waiting = iter(items)
    while chunk := list(islice(waiting, _PAIRS_A_LINE)):
        keys, values = zip(*chunk, strict=True)
        yield json.dumps([keys, values], ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def decode_pairs(line: bytes) -> Iterator[tuple[Key, Any]]:
    """The pairs of a line of a segment."""
    keys, values = from_json(line)
    if list in set(map(type, keys)):
        keys = map(canonical_key, keys)
    return zip(keys, values, strict=True)


# ------------------------------------------------------------------------------------------------
# The reduce side
# ------------------------------------------------------------------------------------------------


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
                self._weight += _KEY_BYTES + _key_weight(key)
            self._weight += _weight(values)

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


def segment_range(segments: Sequence[tuple[int, int]], partition: int) -> tuple[int, int]:
    """The byte range [start, stop) of a partition's segment in a part."""
    start = sum(length for length, _ in segments[:partition])
    return start, start + segments[partition][0]

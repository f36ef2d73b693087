"""Reading many objects in order, several at a time: S3 answers 30 ms after it is asked.

What is read ahead is bounded in number and in bytes. A store of one lane is read in a plain loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, NamedTuple, TypeVar

from coordinator.limits import MIB
from coordinator.store.ports import Stat, Store

AHEAD_BYTES = 8 * MIB
ROUNDS = 2  # while the first in order is slow, the other lanes have more to do

_T = TypeVar("_T")
_R = TypeVar("_R")

# Items, each with the pieces of its body.
Stream = Generator[tuple[_T, Iterator[bytes]], None, None]


def in_order(
    lanes: int,
    items: Iterable[_T],
    read: Callable[[_T], _R],
    *,
    weigh: Callable[[_T], int] = lambda item: 0,
    ahead_bytes: int = AHEAD_BYTES,
) -> Generator[tuple[_T, _R], None, None]:
    """Each item with what `read` gives for it, in the order of the items.

    `items` is advanced in the caller's thread, and `read` called in threads, `lanes` at a time; with
    one lane in the caller's thread, when the item's turn comes. What either raises is raised in its
    turn, and ends the iteration. Closed before its end, or dropped, it waits for the reads under way
    and leaves no thread.

    Args:
        weigh: how many bytes reading an item gives.
        ahead_bytes: once so many are read or being read ahead, no further item is begun.
    """
    if lanes == 1:
        for item in items:
            yield item, read(item)
        return
    rest = iter(items)
    broken: Exception | None = None
    ahead: deque[_Ahead[_T, _R]] = deque()
    held = 0
    pool = ThreadPoolExecutor(lanes, thread_name_prefix="read-ahead")
    try:
        while True:
            while broken is None and len(ahead) < ROUNDS * lanes and held < ahead_bytes:
                try:
                    item = next(rest)
                    ahead.append(_Ahead(item, weigh(item), pool.submit(read, item)))
                except StopIteration:
                    break
                except Exception as error:  # noqa: BLE001  raised when its turn comes
                    broken = error
                else:
                    held += ahead[-1].weight
            if not ahead:
                break
            held -= ahead[0].weight
            yield ahead[0].item, ahead.popleft().found.result()  # of which nothing is kept here
    finally:
        pool.shutdown(cancel_futures=True)
    if broken is not None:
        raise broken


class _Ahead(NamedTuple, Generic[_T, _R]):
    item: _T
    weight: int
    found: Future[_R]


def pieces_in_order(
    lanes: int,
    items: Iterable[_T],
    pieces: Callable[[_T], Iterator[bytes]],
    *,
    weigh: Callable[[_T], int],
    ahead_bytes: int = AHEAD_BYTES,
) -> Stream[_T]:
    """Each item with the pieces of its body, in order. Small ones are read ahead, whole; a body of
    more than half of `ahead_bytes` comes piece by piece, when its turn comes."""
    small = ahead_bytes // 2 if lanes > 1 else -1

    def whole(item: _T) -> list[bytes] | None:
        return list(pieces(item)) if weigh(item) <= small else None

    def weight(item: _T) -> int:
        return weigh(item) if weigh(item) <= small else 0

    for item, held in in_order(lanes, items, whole, weigh=weight, ahead_bytes=ahead_bytes):
        yield item, pieces(item) if held is None else iter(held)


def bodies(store: Store, listed: Iterable[Stat]) -> Generator[tuple[str, bytes], None, None]:
    """Key and body of each object that a listing shows, in order.

    Raises:
        KeyMissing: one of them is not there any more.
    """
    found = in_order(store.lanes, listed, lambda stat: store.get(stat.key), weigh=_size)
    for stat, got in found:
        yield stat.key, got.body


def _size(stat: Stat) -> int:
    return stat.size

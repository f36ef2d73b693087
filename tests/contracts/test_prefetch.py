"""Reading ahead: in order, as many at a time as a store has lanes, within bounds, whatever goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from coordinator.errors import KeyMissing, LedgerBroken, StoreUnavailable
from coordinator.limits import KIB, MIB
from coordinator.store.memory import MemoryStore
from coordinator.store.ports import Stat, Store
from coordinator.store.prefetch import (
    AHEAD_BYTES,
    ROUNDS,
    bodies,
    in_order,
    pieces_in_order,
)
from tests.support import memory_within

LANES = 4
WINDOW = ROUNDS * LANES
LONG = 60  # seconds, that nothing here takes unless it hangs


def lanes_in_use() -> list[str]:
    return [it.name for it in threading.enumerate() if it.name.startswith("read-ahead")]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert lanes_in_use() == []


class Asked:
    """Numbers, as they are asked for."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.count = 0
        self.numbers = count
        self.error = error

    def __iter__(self) -> Iterator[int]:
        for number in range(self.numbers):
            self.count += 1
            yield number
        if self.error is not None:
            raise self.error


# ------------------------------------------------------------------------------------------------
# Order and lanes
# ------------------------------------------------------------------------------------------------


def test_as_many_are_read_at_a_time_as_there_are_lanes() -> None:
    together = threading.Barrier(LANES)  # nobody passes before so many are there
    lock = threading.Lock()
    under_way = most = 0

    def read(number: int) -> int:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        together.wait(LONG)
        with lock:
            under_way -= 1
        return -number

    found = list(in_order(LANES, range(5 * LANES), read))

    assert found == [(number, -number) for number in range(5 * LANES)]
    assert most == LANES


def test_one_that_is_slow_holds_up_none_but_those_that_come_after_it() -> None:
    others = threading.Semaphore(0)

    def read(number: int) -> int:
        if number == 3:
            for _ in range(WINDOW - 1):  # all that may be read before it is done
                assert others.acquire(timeout=LONG)
        elif number > 3:
            others.release()
        return number

    numbers = Asked(50)
    found = in_order(LANES, numbers, read)

    assert [next(found)[0] for _ in range(3)] == [0, 1, 2]
    assert next(found) == (3, 3)
    assert numbers.count == 3 + WINDOW
    assert [number for number, _ in found] == list(range(4, 50))


def test_with_one_lane_it_is_a_plain_loop() -> None:
    numbers, threads = Asked(10), set()

    def read(number: int) -> int:
        threads.add(threading.current_thread())
        return number

    for number, same in in_order(1, numbers, read):
        assert number == same == numbers.count - 1

    assert threads == {threading.current_thread()}


def test_of_nothing_there_is_nothing() -> None:
    assert list(in_order(LANES, [], lambda item: item)) == []
    assert list(in_order(1, [], lambda item: item)) == []


# ------------------------------------------------------------------------------------------------
# Errors and leaving
# ------------------------------------------------------------------------------------------------


def test_the_first_error_in_order_is_raised_in_its_turn() -> None:
    failed = threading.Event()

    def read(number: int) -> int:
        if number == 5:
            failed.set()
            raise StoreUnavailable("The fifth, at once.")
        if number == 4:
            assert failed.wait(LONG)
            raise StoreUnavailable("The fourth, later.")
        return number

    found = in_order(LANES, range(100), read)

    assert [next(found)[0] for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(StoreUnavailable, match="The fourth"):
        next(found)
    assert lanes_in_use() == []
    assert list(found) == []


@pytest.mark.parametrize("lanes", [1, LANES])
def test_what_breaks_off_is_given_as_far_as_it_goes(lanes: int) -> None:
    numbers = Asked(6, LedgerBroken("It ends here."))
    found = in_order(lanes, numbers, lambda number: number)

    assert [next(found)[0] for _ in range(6)] == list(range(6))
    with pytest.raises(LedgerBroken, match="ends here"):
        next(found)


def test_what_cannot_be_weighed_is_an_error_in_its_turn() -> None:
    sizes = [1, 1, None]
    found = in_order(LANES, sizes, lambda size: size, weigh=lambda size: 1 + size)  # type: ignore[operator]

    assert [next(found), next(found)] == [(1, 1), (1, 1)]
    with pytest.raises(TypeError):
        next(found)


def test_whoever_stops_half_way_waits_for_those_under_way_and_begins_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopped = threading.Event()
    begun: list[int] = []
    ended: list[int] = []

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            stopped.set()
            super().shutdown(wait=wait)

    def read(number: int) -> None:
        begun.append(number)
        if number:
            assert stopped.wait(LONG)
        ended.append(number)

    monkeypatch.setattr("coordinator.store.prefetch.ThreadPoolExecutor", Pool)
    numbers = Asked(1000)
    found = in_order(LANES, numbers, read)
    next(found)
    found.close()

    assert lanes_in_use() == []
    assert numbers.count == WINDOW
    assert sorted(begun) == sorted(ended)
    assert len(begun) <= 1 + LANES


def test_whoever_fails_half_way_leaves_no_thread() -> None:
    def use() -> None:
        for number, _ in in_order(LANES, range(100), lambda number: number):
            assert 1 // (5 - number) < 2

    with pytest.raises(ZeroDivisionError):
        use()
    assert lanes_in_use() == []


# ------------------------------------------------------------------------------------------------
# Bounds
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weight", "ahead"), [(0, WINDOW), (1, WINDOW), (33, 4), (40, 3), (50, 2), (500, 1)]
)
def test_what_is_read_ahead_is_bounded_in_number_and_in_bytes(weight: int, ahead: int) -> None:
    numbers = Asked(50)

    for number, _ in in_order(
        LANES, numbers, lambda number: number, weigh=lambda number: weight, ahead_bytes=100
    ):
        assert numbers.count == min(number + ahead, 50)
    assert numbers.count == 50


def test_what_was_taken_makes_room_for_as_much() -> None:
    sizes = [90, 5, 5, 5, 50, 45, 1]
    numbers = Asked(len(sizes))
    found = in_order(
        LANES, numbers, lambda number: number, weigh=lambda it: sizes[it], ahead_bytes=100
    )

    assert [numbers.count for _ in found] == [3, 6, 6, 6, 7, 7, 7]


@pytest.mark.parametrize(("size", "ahead"), [(50, 2), (25, 4), (51, WINDOW)])
def test_of_bodies_those_count_that_are_read_ahead(size: int, ahead: int) -> None:
    numbers = Asked(30)
    found = pieces_in_order(
        LANES, numbers, lambda _: iter([b""]), weigh=lambda _: size, ahead_bytes=100
    )

    assert [numbers.count for _ in found] == [min(number + ahead, 30) for number in range(30)]


def test_listed_bodies_count_with_the_size_in_the_listing() -> None:
    store = MemoryStore()
    store.lanes = LANES
    store.create("a", b"")
    numbers = Asked(10)
    listed = (Stat("a", AHEAD_BYTES // 2, "", 0.0) for _ in numbers)

    assert [numbers.count for _ in bodies(store, listed)] == [*range(2, 11), 10]


def test_memory_does_not_grow_with_the_number_of_bodies() -> None:
    size = 64 * KIB
    with memory_within(3 * MIB):
        for _, body in in_order(
            LANES, range(1000), lambda _: bytes(size), weigh=lambda _: size, ahead_bytes=MIB
        ):
            assert len(body) == size


@pytest.mark.parametrize("lanes", [2, LANES])
def test_a_large_body_comes_piece_by_piece_in_its_turn_and_in_the_callers_thread(
    lanes: int,
) -> None:
    sizes = [1, 50, 51, 2, 1000]
    readers: dict[int, str] = {}

    def pieces(size: int) -> Iterator[bytes]:
        readers[size] = threading.current_thread().name
        yield from (b"x" for _ in range(size))

    for size, body in pieces_in_order(lanes, sizes, pieces, weigh=lambda it: it, ahead_bytes=100):
        assert (size not in readers) == (size > 50)
        assert b"".join(body) == b"x" * size

    assert [readers[size].startswith("read-ahead") for size in sizes] == [
        *(True, True, False),
        *(True, False),
    ]


def test_with_one_lane_every_body_comes_piece_by_piece() -> None:
    given: list[bytes] = []

    def pieces(number: int) -> Iterator[bytes]:
        for piece in (b"a", b"b"):
            given.append(piece)
            yield piece

    for _, body in pieces_in_order(1, range(3), pieces, weigh=lambda _: 0):
        given.clear()
        assert next(body) == b"a"
        assert given == [b"a"]


# ------------------------------------------------------------------------------------------------
# Stores
# ------------------------------------------------------------------------------------------------


@pytest.fixture(params=[1, LANES])
def laned(request: pytest.FixtureRequest, store: Store) -> Store:
    """Each store, read in one lane and in several: threads may share all of them."""
    store.lanes = request.param  # type: ignore[misc]
    return store


class TestBodies:
    def test_they_come_in_the_order_asked_for(self, laned: Store) -> None:
        keys = [f"many/{number:02}" for number in range(30)]
        for key in keys:
            laned.create(key, key.encode())
        listed = list(laned.list("many/"))

        assert list(bodies(laned, laned.list("many/"))) == [(key, key.encode()) for key in keys]
        assert [key for key, _ in bodies(laned, listed[::-1])] == keys[::-1]
        assert list(bodies(laned, laned.list("few/"))) == []

    def test_one_that_is_gone_is_named_in_its_turn(self, laned: Store) -> None:
        for key in "abc":
            laned.create(key, b"")
        listed = list(laned.list(""))
        laned.delete(["b"])
        found = bodies(laned, listed)

        assert next(found) == ("a", b"")
        with pytest.raises(KeyMissing, match=r"\bb\b"):
            next(found)

    def test_they_may_be_left_in_the_middle(self, laned: Store) -> None:
        for number in range(20):
            laned.create(f"{number:02}", b"")
        found = bodies(laned, laned.list(""))
        assert next(found)[0] == "00"
        found.close()

"""Reading ahead: in order, as many at a time as a store has lanes, within bounds, whatever goes wrong."""

from __future__ import annotations

import hashlib
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from coordinator.errors import KeyMissing, LedgerBroken, StoreUnavailable
from coordinator.limits import KIB, MIB
from coordinator.model import Part
from coordinator.state import files
from coordinator.store.memory import MemoryStore
from coordinator.store.ports import Readable, Stat, Store
from coordinator.store.prefetch import (
    AHEAD_BYTES,
    ROUNDS,
    Stream,
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


# ------------------------------------------------------------------------------------------------
# Parts
# ------------------------------------------------------------------------------------------------


class Watched(MemoryStore):
    """Counts the streams that are open, and may be away at one key."""

    lanes = LANES

    def __init__(self) -> None:
        super().__init__()
        self.away = ""
        self.opened = self.closed = 0
        self._counting = threading.Lock()

    def perform(self, operation: str, key: str, action: Callable[[], Any]) -> Any:
        if key == self.away:
            raise StoreUnavailable(f"{key} is away.")
        return super().perform(operation, key, action)

    def open(self, key: str, start: int = 0, stop: int | None = None) -> Readable:
        stream = super().open(key, start, stop)
        with self._counting:
            self.opened += 1
        return _Counted(stream, self)

    def one_closed(self) -> None:
        with self._counting:
            self.closed += 1


class _Counted:
    def __init__(self, stream: Readable, store: Watched) -> None:
        self.stream = stream
        self.store = store

    def read(self, size: int = -1, /) -> bytes:
        return self.stream.read(size)

    def close(self) -> None:
        self.stream.close()
        self.store.one_closed()


def parts_in(store: Store, count: int) -> list[Part]:
    """Parts of two segments of a line each."""
    found = []
    for number in range(count):
        one, other = f"one {number}\n".encode(), f"other {number}\n".encode()
        body = one + other
        store.create(f"part/{number}", body)
        part = Part(
            key=f"part/{number}",
            size=len(body),
            sha256=hashlib.sha256(body).hexdigest(),
            records=2,
            segments=tuple((len(it), zlib.crc32(it)) for it in (one, other)),
        )
        found.append(part)
    return found


READS: dict[str, Callable[[Store, list[Part]], Stream[Part]]] = {
    "parts": lambda store, parts: files.parts_in_order(store, parts, LANES),
    "segments": lambda store, parts: files.segments_in_order(
        store, parts, 1, lanes=LANES, ahead_bytes=MIB
    ),
    "files": files.files_in_order,  # type: ignore[dict-item]
}


@pytest.mark.parametrize("read", READS)
class TestParts:
    def test_they_are_what_they_are_when_read_one_by_one(self, read: str) -> None:
        store = Watched()
        parts = parts_in(store, 50)
        wanted = {
            "segments": [list(files.segment_lines(store, part, 1)) for part in parts],
        }.get(read, [list(files.read_part(store, part)) for part in parts])

        found = [(part, list(pieces)) for part, pieces in READS[read](store, parts)]

        assert found == list(zip(parts, wanted, strict=True))
        assert store.opened == store.closed > 0

    @pytest.mark.parametrize("damage", ["changed", "longer", "gone"])
    def test_the_one_that_is_damaged_is_named_in_its_turn(self, read: str, damage: str) -> None:
        store = Watched()
        parts = parts_in(store, 20)
        body = store.get("part/7").body
        store.delete(["part/7"])
        if damage == "changed" or (damage, read) == ("longer", "segments"):
            store.create("part/7", body.swapcase())
        elif damage == "longer":
            store.create("part/7", body + b"\n")
        found = READS[read](store, parts)

        assert [next(found)[0] for _ in range(7)] == parts[:7]
        with pytest.raises(LedgerBroken, match="part/7"):
            next(found)
        assert store.opened == store.closed

    def test_a_store_that_is_away_in_a_lane_is_said_to_be_away(self, read: str) -> None:
        store = Watched()
        parts = parts_in(store, 20)
        store.away = "part/7"
        found = READS[read](store, parts)

        assert [next(found)[0] for _ in range(7)] == parts[:7]
        with pytest.raises(StoreUnavailable, match="part/7 is away"):
            next(found)
        assert store.opened == store.closed

    def test_streams_are_closed_when_they_are_left(self, read: str) -> None:
        store = Watched()
        found = READS[read](store, parts_in(store, 100))
        next(found)
        found.close()

        assert store.opened == store.closed <= WINDOW


def test_a_part_that_has_grown_is_not_held_whole() -> None:
    store = MemoryStore()
    parts = parts_in(store, 3)
    store.delete(["part/1"])
    store.create("part/1", bytes(64 * MIB))

    with memory_within(8 * MIB), pytest.raises(LedgerBroken, match="part/1"):
        list(files.parts_in_order(store, parts, LANES))

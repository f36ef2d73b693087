"""Files and parts that are read ahead: the same bytes, the same errors, and no stream left open."""

from __future__ import annotations

import hashlib
import threading
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from coordinator.errors import LedgerBroken, StoreUnavailable
from coordinator.limits import MIB
from coordinator.model import Part
from coordinator.state import files
from coordinator.store.memory import MemoryStore
from coordinator.store.ports import Readable, Store
from coordinator.store.prefetch import ROUNDS, Stream
from tests.support import memory_within

LANES = 4


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

        assert store.opened == store.closed <= ROUNDS * LANES


def test_a_part_that_has_grown_is_not_held_whole() -> None:
    store = MemoryStore()
    parts = parts_in(store, 3)
    store.delete(["part/1"])
    store.create("part/1", bytes(64 * MIB))

    with memory_within(8 * MIB), pytest.raises(LedgerBroken, match="part/1"):
        list(files.parts_in_order(store, parts, LANES))

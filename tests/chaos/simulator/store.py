"""The store and the inputs of a world: every operation is an effect, and all writes are remembered."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from coordinator.errors import (
    AlreadyExists,
    Changed,
    FanfoldError,
    InputUnreadable,
    OutcomeUnknown,
    OutputUnwritable,
    StoreUnavailable,
)
from coordinator.model import Pinned
from coordinator.store.memory import MemoryInputs, MemoryStore
from coordinator.store.ports import Page, Readable, Stat
from tests.chaos.simulator.effects import Trouble
from tests.chaos.simulator.world import World

_T = TypeVar("_T")

PAGE_KEYS = 2
SHORT_BYTES = 40
LISTED = "the inputs"
WRITES = frozenset({"create", "replace", "put", "delete"})


@dataclass(frozen=True, slots=True)
class Write:
    """A write that took place. `owner` is the execution for which a function did it, `actor` what
    function, or whether a person."""

    operation: str
    key: str
    body: bytes | None
    owner: str | None
    actor: str | None = None


class SimulatedStore(MemoryStore):
    """A store in memory whose every operation, page and read is an effect.

    `history` holds all writes in order; `watch` is called after each.
    """

    def __init__(self, world: World, page_keys: int = PAGE_KEYS) -> None:
        super().__init__(lambda: world.now)
        self.world = world
        self.page_keys = page_keys
        self.history: list[Write] = []
        self.watch: Callable[[Write], None] = lambda write: None
        self.on_expired: Callable[[str], None] = lambda key: None

    def perform(self, operation: str, key: str, action: Callable[[], _T]) -> _T:
        if operation not in WRITES:
            return self.world.effect(operation, key, action, _reading(key))

        def write() -> _T:
            result = action()
            by = self.world.current
            by_whom = (by.owner, by.actor) if by else (None, None)
            done = Write(operation, key, self.peek(key), *by_whom)
            self.history.append(done)
            self.watch(done)
            return result

        return self.world.effect(operation, key, write, _writing(operation, key))

    def peek(self, key: str) -> bytes | None:
        """What lies under a key, without any effect."""
        held = self._objects.get(key)
        return held.body if held else None

    def spoil(self, key: str) -> None:
        """Someone damages an object by hand: half of it goes, or all of a short one."""
        held = self._objects.pop(key)
        if len(held.body) > SHORT_BYTES:
            self._objects[key] = held._replace(body=held.body[: len(held.body) // 2])

    def expire(self, prefix: str, seconds: float) -> None:
        """The lifecycle of the bucket removes what was written so long ago."""
        for key in self.keys(prefix):
            if self._objects[key].modified <= self.world.now - seconds:
                del self._objects[key]
                self.on_expired(key)

    def keys(self, prefix: str = "") -> list[str]:
        """The keys with a prefix, without any effect."""
        return sorted(key for key in self._objects if key.startswith(prefix))

    def open(self, key: str, start: int = 0, stop: int | None = None) -> Readable:
        stream = super().open(key, start, stop)
        return SimulatedStream(self.world, key, stream)

    def list(self, prefix: str, *, after: str = "") -> Iterator[Stat]:
        """Page by page, each an effect."""
        while True:
            page, more = self.page(prefix, after)
            yield from page
            if not more:
                return
            after = page[-1].key

    def page(self, prefix: str, after: str) -> tuple[Sequence[Stat], bool]:
        """One page of a listing, and whether there are more."""

        def action() -> tuple[Sequence[Stat], bool]:
            found = [key for key in self.keys(prefix) if key > after]
            page = [self._stat(key) for key in found[: self.page_keys]]
            return page, len(found) > len(page)

        return self.perform("list", prefix, action)


class SimulatedInputs(MemoryInputs):
    """Inputs in memory, listed page by page; every page and every read is an effect."""

    def __init__(self, world: World, objects: Mapping[str, bytes], page_size: int) -> None:
        super().__init__(objects, page_size=page_size)
        self.world = world

    def pages(self, patterns: Sequence[str], cursor: str = "") -> Iterator[Page]:
        following: str | None = cursor
        while following is not None:
            first = partial(self._first_page, patterns, following)
            page = self.world.effect("list inputs", following, first, _reading(LISTED))
            yield page
            following = page.cursor

    def _first_page(self, patterns: Sequence[str], cursor: str) -> Page:
        return next(super().pages(patterns, cursor))

    def open(self, pinned: Pinned, start: int, stop: int) -> Readable:
        def opened() -> Readable:
            return super(SimulatedInputs, self).open(pinned, start, stop)

        stream = self.world.effect("open input", pinned.key, opened, _reading(pinned.key))
        return SimulatedStream(self.world, pinned.key, stream)


class SimulatedStream:
    """A stream whose every read is an effect, but for those that only find its end."""

    def __init__(self, world: World, key: str, stream: Readable) -> None:
        self._world = world
        self._key = key
        self._stream = stream
        self._ahead = stream.read(1)

    def read(self, size: int = -1, /) -> bytes:
        if not self._ahead or not size:
            return b""
        return self._world.effect("read", self._key, lambda: self._take(size), _reading(self._key))

    def _take(self, size: int) -> bytes:
        piece = self._ahead + self._stream.read(size if size < 0 else size - 1)
        self._ahead = self._stream.read(1)
        return piece

    def close(self) -> None:
        self._stream.close()


def _reading(key: str) -> Trouble:
    def unavailable() -> FanfoldError:
        return StoreUnavailable(f"{key} can't be read just now (simulated).")

    kind = InputUnreadable if key == LISTED or "://" in key else OutputUnwritable
    return Trouble(
        unavailable, unavailable, denied=lambda: kind(f"{key} can't be read: denied (simulated).")
    )


def _writing(operation: str, key: str) -> Trouble:
    return Trouble(
        before=lambda: StoreUnavailable(f"{key} can't be written just now (simulated)."),
        after=lambda: OutcomeUnknown(f"Whether {key} was written is not known (simulated)."),
        refused=lambda: (
            AlreadyExists(f"{key} is there already (simulated).")
            if operation == "create"
            else Changed(f"{key} is another version (simulated).")
        ),
        denied=lambda: OutputUnwritable(f"{key} can't be written: denied (simulated)."),
    )


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()

"""A store that is far away, in virtual time: a request takes 30 ms, in a lane or in the caller's thread.

Before that it takes the one processor for as long as boto3 does, which threads share. Nothing sleeps
and no thread is begun: a read is done when it is handed to a lane, and the caller's clock moves on to
its end when its result is asked for.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

from coordinator.store.memory import MemoryStore
from coordinator.store.ports import Stat

T = TypeVar("T")

LANES = 32
REQUEST_SECONDS = 0.030
PROCESSOR_SECONDS = 0.0025  # a GetObject of 1.5 kB took 2.2 to 2.5 ms of user and system time
PAGE_KEYS = 1000


class Far(MemoryStore):
    """Each request, and each page of a listing, takes its time."""

    def __init__(self, lanes: int = LANES) -> None:
        super().__init__()
        self.lanes = lanes
        self.processor_seconds = PROCESSOR_SECONDS
        self.processor_free = 0.0
        self.now = 0.0  # of the caller
        self.in_lane: float | None = None  # of the lane that a read is being done in
        self.requests = 0

    def perform(self, operation: str, key: str, action: Callable[[], T]) -> T:
        self.request()
        return super().perform(operation, key, action)

    def request(self) -> None:
        self.requests += 1
        asked = self.now if self.in_lane is None else self.in_lane
        if self.processor_seconds:  # in the order of the reads: each is one request then
            asked = self.processor_free = max(self.processor_free, asked) + self.processor_seconds
        answered = asked + REQUEST_SECONDS
        if self.in_lane is None:
            self.now = answered
        else:
            self.in_lane = answered

    def list(self, prefix: str, *, after: str = "") -> Iterator[Stat]:
        for number, stat in enumerate(super().list(prefix, after=after), 1):
            yield stat
            if number % PAGE_KEYS == 0:
                self.request()

    @contextmanager
    def far_away(self) -> Iterator[None]:
        """Let what is read ahead be read in this store's lanes."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "coordinator.store.prefetch.ThreadPoolExecutor",
                lambda lanes, **_: _Lanes(self, lanes),
            )
            yield

    def seconds(self, act: Callable[[], T]) -> tuple[float, T]:
        """How long something takes, our own code's processor time included, and what it gives."""
        began, worked = self.now, time.process_time()
        found = act()
        return self.now - began + time.process_time() - worked, found


class _Lanes:
    """Stands for a pool of threads."""

    def __init__(self, store: Far, lanes: int) -> None:
        self.store = store
        self.free = [store.now] * lanes

    def submit(self, read: Callable[[Any], Any], item: Any) -> _Later:
        store = self.store
        assert store.in_lane is None  # no lane hands on to lanes
        later = _Later()
        store.in_lane = max(heapq.heappop(self.free), store.now)
        try:
            later.set_result(read(item))
        except Exception as error:  # noqa: BLE001
            later.set_exception(error)
        later.store, later.at = store, store.in_lane
        heapq.heappush(self.free, store.in_lane)
        store.in_lane = None
        return later

    def shutdown(self, *, cancel_futures: bool) -> None:
        assert cancel_futures


class _Later(Future[Any]):
    store: Far
    at: float

    def result(self, timeout: float | None = None) -> Any:
        self.store.now = max(self.store.now, self.at)
        return super().result(timeout)

"""The queue of one wave on one machine: ready orders, delayed ones, and which are still open."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from itertools import count

from coordinator.model import Message
from coordinator.worker import Order

WITHOUT_END = 1e9
SECONDS_KEPT = 1000


class WaveQueue:
    """The orders of a wave. Times are of one monotonic clock, in seconds.

    `open` and `closed` count shards; `seconds` is how long some of those done took.
    """

    def __init__(self, messages: Sequence[Message]) -> None:
        self.ready = deque(Order(message=message, receives=1) for message in messages)
        self.wave = messages[0].wave if messages else 0
        self.seconds: deque[float] = deque(maxlen=SECONDS_KEPT)
        self.closed = 0
        self._open = {message.shard.id for message in messages}
        self._doubled: set[str] = set()
        self._delayed: list[tuple[float, int, Order]] = []
        self._ticket = count()

    @property
    def open(self) -> int:
        """How many shards have neither an answer nor a last note."""
        return len(self._open)

    def wants(self, order: Order) -> bool:
        """Whether what is said of an order still matters."""
        return order.message.wave == self.wave and order.message.shard.id in self._open

    def delay(self, order: Order, due: float) -> None:
        """Have an order received again at a time."""
        heapq.heappush(self._delayed, (due, next(self._ticket), order.received_again()))

    def ripen(self, now: float) -> None:
        """Make ready what is due."""
        while self._delayed and self._delayed[0][0] <= now:
            order = heapq.heappop(self._delayed)[2]
            if self.wants(order):
                self.ready.append(order)

    def patience(self, now: float) -> float:
        """How long until a delayed order is due."""
        return max(self._delayed[0][0] - now, 0.0) if self._delayed else WITHOUT_END

    def double(self, order: Order) -> bool:
        """Whether an order may be begun a second time: once each."""
        shard = order.message.shard.id
        if shard in self._doubled:
            return False
        self._doubled.add(shard)
        return True

    def close(self, order: Order, *, seconds: float | None = None) -> None:
        """A shard has its answer, or its last note."""
        self._open.discard(order.message.shard.id)
        self.closed += 1
        if seconds is not None:
            self.seconds.append(seconds)

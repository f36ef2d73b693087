"""The queue of one wave on one machine: ready messages, delayed ones, and which are still open."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from itertools import count

from coordinator.machine.worker import Delivery
from coordinator.model import Message

WITHOUT_END = 1e9
SECONDS_KEPT = 1000


class WaveQueue:
    """The messages of a wave. Times are of one monotonic clock, in seconds.

    `open` and `closed` count shards; `seconds` is how long some of those done took.
    """

    def __init__(self, messages: Sequence[Message]) -> None:
        self.ready = deque(Delivery(message=message, receives=1) for message in messages)
        self.wave = messages[0].wave if messages else 0
        self.seconds: deque[float] = deque(maxlen=SECONDS_KEPT)
        self.closed = 0
        self._open = {message.shard.id for message in messages}
        self._doubled: set[str] = set()
        self._delayed: list[tuple[float, int, Delivery]] = []
        self._ticket = count()

    @property
    def open(self) -> int:
        """How many shards have neither an answer nor a last note."""
        return len(self._open)

    def wants(self, delivery: Delivery) -> bool:
        """Whether what is said of a delivery still matters."""
        return delivery.message.wave == self.wave and delivery.message.shard.id in self._open

    def delay(self, delivery: Delivery, due: float) -> None:
        """Have a delivery received again at a time."""
        heapq.heappush(self._delayed, (due, next(self._ticket), delivery.received_again()))

    def ripen(self, now: float) -> None:
        """Make ready what is due."""
        while self._delayed and self._delayed[0][0] <= now:
            delivery = heapq.heappop(self._delayed)[2]
            if self.wants(delivery):
                self.ready.append(delivery)

    def patience(self, now: float) -> float:
        """How long until a delayed one is due."""
        return max(self._delayed[0][0] - now, 0.0) if self._delayed else WITHOUT_END

    def double(self, delivery: Delivery) -> bool:
        """Whether a delivery may be begun a second time: once each."""
        shard = delivery.message.shard.id
        if shard in self._doubled:
            return False
        self._doubled.add(shard)
        return True

    def close(self, delivery: Delivery, *, seconds: float | None = None) -> None:
        """A shard has its answer, or its last note; it counts once."""
        if not self.wants(delivery):
            return
        self._open.discard(delivery.message.shard.id)
        self.closed += 1
        if seconds is not None:
            self.seconds.append(seconds)

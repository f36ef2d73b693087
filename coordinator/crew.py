"""The crew of one machine: worker processes, and the queue that feeds them.

It behaves as the queue on AWS does: a message whose worker died is received again, one that failed
retryably comes back after a delay, and one received too often is buried with a note.
"""

from __future__ import annotations

import heapq
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Self

from coordinator.attempts import Desk, bury
from coordinator.errors import AttemptFailed
from coordinator.local import Watch
from coordinator.model import Answer, Message, Note, RunRecord
from coordinator.worker import Order, Setup, decode_verdict

DEEPEST = 16
BRIEF_SECONDS = 0.05
GRACE_SECONDS = 5.0
FUTILE_STARTS = 3


@dataclass(slots=True)
class Hand:
    """One worker process, and the orders it holds: the first is the one it works on."""

    process: subprocess.Popen[bytes]
    orders_fd: int
    answers_fd: int
    held: deque[Order] = field(default_factory=deque)
    unread: bytes = b""
    answers: int = 0

    def close_pipes(self) -> None:
        os.close(self.orders_fd)
        os.close(self.answers_fd)


class ProcessCrew:
    """Worker processes of one run. Use as a context manager; leaving it ends them."""

    def __init__(self, setup: Setup, desk: Desk, workers: int) -> None:
        self.setup = setup
        self.desk = desk
        self.attempts = setup.limits.attempts
        self._hands: list[Hand] = []
        self._selector = selectors.DefaultSelector()
        self._futile_starts = 0
        self._seconds_a_shard = 1.0
        for _ in range(workers):
            self._hire()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def work(self, run: RunRecord, messages: Sequence[Message], watch: Watch) -> None:
        """Have every message answered or failed."""
        wave = _Wave(messages)
        while wave.open:
            wave.ripen(time.monotonic())
            for hand in self._hands:
                self._feed(hand, wave)
            for key, _ in self._selector.select(wave.patience(time.monotonic())):
                self._listen(key.data, wave, watch)

    def close(self) -> None:
        """End all workers; what they were at is not committed."""
        for hand in self._hands:
            hand.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        for hand in self._hands:
            try:
                hand.process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                hand.process.kill()
                hand.process.wait()
            hand.close_pipes()
        self._hands.clear()
        self._selector.close()

    # -- feeding ---------------------------------------------------------------------------------

    def _feed(self, hand: Hand, wave: _Wave) -> None:
        """Keep a worker supplied: a few orders ahead while shards are brief, else one."""
        depth = 1
        if self._seconds_a_shard < BRIEF_SECONDS:
            depth = max(1, min(DEEPEST, len(wave.ready) // (2 * len(self._hands))))
        lines = []
        while wave.ready and len(hand.held) < depth:
            order = wave.ready.popleft()
            hand.held.append(order)
            lines.append(order.encode() + b"\n")
        if lines:
            try:
                _write_all(hand.orders_fd, b"".join(lines))
            except BrokenPipeError:
                return  # it has died: `_listen` sees its pipe closed

    def _listen(self, hand: Hand, wave: _Wave, watch: Watch) -> None:
        chunk = os.read(hand.answers_fd, 65536)
        if not chunk:
            self._replace(hand, wave, watch)
            return
        *lines, hand.unread = (hand.unread + chunk).split(b"\n")
        for line in lines:
            order = hand.held.popleft()
            hand.answers += 1
            self._futile_starts = 0
            verdict = decode_verdict(line)
            if "answered" in verdict:
                answer = Answer.model_validate(verdict["answered"])
                self._seconds_a_shard += (answer.seconds - self._seconds_a_shard) / 8
                wave.close_one()
                watch.answered(answer)
            elif "again" in verdict:
                wave.delay(order, time.monotonic() + verdict["delay_seconds"])
                watch.retried(Note.model_validate(verdict["again"]))
            else:
                wave.close_one()
                watch.failed(Note.model_validate(verdict["failed"]))

    # -- hiring ----------------------------------------------------------------------------------

    def _hire(self) -> Hand:
        """Start a worker process and tell it where it works."""
        their_orders, orders_fd = os.pipe()
        answers_fd, their_answers = os.pipe()
        try:
            process = subprocess.Popen(  # noqa: S603  our own interpreter, our own module
                [sys.executable, "-m", "coordinator.worker", str(their_orders), str(their_answers)],
                pass_fds=(their_orders, their_answers),
                stdin=subprocess.DEVNULL,
                stdout=2,
            )
        finally:
            os.close(their_orders)
            os.close(their_answers)
        hand = Hand(process, orders_fd, answers_fd)
        self._hands.append(hand)
        self._selector.register(answers_fd, selectors.EVENT_READ, hand)
        _write_all(orders_fd, self.setup.encode() + b"\n")
        return hand

    def _replace(self, hand: Hand, wave: _Wave, watch: Watch) -> None:
        """A worker died: receive again what it was at, hand back the rest, hire another."""
        status = hand.process.wait()
        self._selector.unregister(hand.answers_fd)
        self._hands.remove(hand)
        hand.close_pipes()
        if not hand.answers:
            self._futile_starts += 1
            if self._futile_starts >= FUTILE_STARTS * max(self.attempts, 1):
                raise AttemptFailed(
                    f"Workers keep ending before they answer anything ({_ended(status)})."
                )
        if hand.held:
            suspect = hand.held.popleft()
            self._receive_again(suspect, _ended(status), wave, watch)
        wave.ready.extendleft(reversed(hand.held))
        self._hire()

    def _receive_again(self, order: Order, reason: str, wave: _Wave, watch: Watch) -> None:
        if order.receives < self.attempts:
            wave.ready.append(order.model_copy(update={"receives": order.receives + 1}))
            return
        note = bury(
            self.desk, order.message, receives=order.receives, reason=f"Its worker {reason}."
        )
        wave.close_one()
        watch.failed(note)


class _Wave:
    """The queue of one wave: ready orders, delayed ones, and how many are not yet closed."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.ready = deque(Order(message=message, receives=1) for message in messages)
        self.open = len(messages)
        self._delayed: list[tuple[float, int, Order]] = []
        self._ticket = count()

    def delay(self, order: Order, due: float) -> None:
        again = order.model_copy(update={"receives": order.receives + 1})
        heapq.heappush(self._delayed, (due, next(self._ticket), again))

    def ripen(self, now: float) -> None:
        while self._delayed and self._delayed[0][0] <= now:
            self.ready.append(heapq.heappop(self._delayed)[2])

    def patience(self, now: float) -> float | None:
        """How long to wait for answers before a delayed order is due; None: as long as it takes."""
        return max(self._delayed[0][0] - now, 0.0) if self._delayed else None

    def close_one(self) -> None:
        self.open -= 1


def _ended(status: int) -> str:
    """How a process ended, in words."""
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with exit code {status}"


def _write_all(fd: int, body: bytes) -> None:
    view = memoryview(body)
    while view:
        view = view[os.write(fd, view) :]

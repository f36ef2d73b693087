"""The crew of one machine: worker processes, and the queue that feeds them.

It behaves as the queue on AWS does: a message whose worker died is received again, one that failed
retryably comes back after a delay, and one received too often is buried with a note. At the end of
a wave, idle workers help: a shard far behind is told to split off its rest, and one that can't be
split is begun a second time by an idle worker. The first entry wins.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

from coordinator.errors import AttemptFailed, RunCancelled
from coordinator.machine.local import Hear
from coordinator.machine.queue import WaveQueue
from coordinator.machine.worker import VERDICT, Delivery, Setup
from coordinator.model import Message, RunRecord
from coordinator.rules.pacing import is_skewed
from coordinator.steps.attempts import Again, Answered, bury
from coordinator.steps.workplace import RunPlace
from coordinator.store.ports import Store

DEEPEST = 16
BRIEF_SECONDS = 0.05
GRACE_SECONDS = 5.0
FUTILE_STARTS = 3
LOOK_SECONDS = 0.5
STRAGGLER_SECONDS = 2.0


@dataclass(slots=True)
class Hand:
    """One worker process, and the messages it holds: the first is the one it works on."""

    process: subprocess.Popen[bytes]
    deliveries_fd: int
    answers_fd: int
    held: deque[Delivery] = field(default_factory=deque)
    unread: bytes = b""
    answers: int = 0
    began: float = 0.0
    hurried: bool = False

    def close_pipes(self) -> None:
        """Let go of the worker; it ends when it has read all."""
        os.close(self.deliveries_fd)
        os.close(self.answers_fd)

    def begin_next(self, now: float) -> None:
        """The message in front is being worked on from now."""
        self.began = now
        self.hurried = False


class ProcessCrew:
    """Worker processes of one run. Use as a context manager; leaving it ends them.

    Args:
        store: where the notes of shards go whose workers died; `clock` dates them.
        splittable: whether shards of the map stage may be split.
        is_cancelled: asked now and then while a wave goes on.
    """

    def __init__(
        self,
        setup: Setup,
        store: Store,
        workers: int,
        *,
        clock: Callable[[], float],
        splittable: bool,
        is_cancelled: Callable[[], bool],
    ) -> None:
        self.setup = setup
        self.store = store
        self.clock = clock
        self.attempts = setup.limits.attempts
        self.splittable = splittable
        self.is_cancelled = is_cancelled
        self._run: RunRecord
        self._hear: Hear
        self._hands: list[Hand] = []
        self._selector = selectors.DefaultSelector()
        self._futile_starts = 0
        self._seconds_a_shard = 1.0
        self._looked = time.monotonic()
        for _ in range(workers):
            self._hire()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def work(self, run: RunRecord, messages: Sequence[Message], hear: Hear) -> None:
        """Have every message answered or failed.

        Raises:
            RunCancelled: the run was cancelled meanwhile.
        """
        self._run, self._hear = run, hear
        wave = WaveQueue(messages)
        while wave.open:
            now = time.monotonic()
            wave.ripen(now)
            for hand in self._hands:
                self._feed(hand, wave, now)
            for key, _ in self._selector.select(min(wave.patience(now), LOOK_SECONDS)):
                self._listen(key.data, wave)
            self._look_around(wave)

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

    def _feed(self, hand: Hand, wave: WaveQueue, now: float) -> None:
        """Keep a worker supplied: a few messages ahead while shards are brief, else one."""
        depth = 1
        if self._seconds_a_shard < BRIEF_SECONDS:
            depth = max(1, min(DEEPEST, len(wave.ready) // (2 * len(self._hands))))
        deliveries: list[Delivery] = []
        while wave.ready and len(hand.held) + len(deliveries) < depth:
            deliveries.append(wave.ready.popleft())
        if deliveries:
            self._send(hand, deliveries, now)

    def _send(self, hand: Hand, deliveries: list[Delivery], now: float) -> None:
        if not hand.held:
            hand.begin_next(now)
        hand.held.extend(deliveries)
        try:
            _write_all(hand.deliveries_fd, b"".join(each.encode() + b"\n" for each in deliveries))
        except BrokenPipeError:
            return  # it has died: `_listen` sees its pipe closed

    def _listen(self, hand: Hand, wave: WaveQueue) -> None:
        chunk = os.read(hand.answers_fd, 65536)
        if not chunk:
            self._replace(hand, wave)
            return
        now = time.monotonic()
        *lines, hand.unread = (hand.unread + chunk).split(b"\n")
        for line in lines:
            delivery = hand.held.popleft()
            hand.begin_next(now)
            hand.answers += 1
            self._futile_starts = 0
            if wave.wants(delivery):
                self._take(line, delivery, wave, now)

    def _take(self, line: bytes, delivery: Delivery, wave: WaveQueue, now: float) -> None:
        """Act on a verdict about a message that is still open."""
        verdict = VERDICT.validate_json(line)
        if isinstance(verdict, Answered):
            seconds = verdict.answer.seconds
            self._seconds_a_shard += (seconds - self._seconds_a_shard) / 8
            wave.close(delivery, seconds=seconds)
        elif isinstance(verdict, Again):
            wave.delay(delivery, now + verdict.delay_seconds)
        else:
            wave.close(delivery)
        self._hear(verdict)

    # -- looking around --------------------------------------------------------------------------

    def _look_around(self, wave: WaveQueue) -> None:
        """Now and then: is the run cancelled, and can idle workers help?"""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        if self.is_cancelled():
            raise RunCancelled("The run was cancelled. The same run id takes it up again.")
        idle = [hand for hand in self._hands if not hand.held]
        if idle and wave.open and not wave.ready:
            self._help(idle[0], wave, now)

    def _help(self, idle: Hand, wave: WaveQueue, now: float) -> None:
        """Have the slowest shard split off its rest, or begin it a second time."""
        busy = [hand for hand in self._hands if hand.held and wave.wants(hand.held[0])]
        slow = [hand for hand in busy if self._is_straggling(hand, wave, now)]
        for hand in sorted(slow, key=lambda hand: hand.began):
            delivery = hand.held[0]
            if self.splittable and delivery.message.stage == "map" and not hand.hurried:
                hand.hurried = True
                hand.process.send_signal(signal.SIGUSR1)
                return
            if wave.double(delivery):
                self._send(idle, [delivery], now)
                return

    def _is_straggling(self, hand: Hand, wave: WaveQueue, now: float) -> bool:
        elapsed = now - hand.began
        behind = is_skewed(elapsed, wave.seconds, wave.closed, wave.closed + wave.open)
        return elapsed > STRAGGLER_SECONDS and behind

    # -- hiring ----------------------------------------------------------------------------------

    def _hire(self) -> Hand:
        """Start a worker process and tell it where it works."""
        their_deliveries, deliveries_fd = os.pipe()
        answers_fd, their_answers = os.pipe()
        try:
            process = subprocess.Popen(  # noqa: S603  our own interpreter, our own module
                [
                    *(sys.executable, "-P"),  # a file of the user's here must not pass for a module
                    *(
                        "-m",
                        "coordinator.machine.worker",
                        str(their_deliveries),
                        str(their_answers),
                    ),
                ],
                pass_fds=(their_deliveries, their_answers),
                stdin=subprocess.DEVNULL,
                stdout=2,
            )
        finally:
            os.close(their_deliveries)
            os.close(their_answers)
        hand = Hand(process, deliveries_fd, answers_fd)
        self._hands.append(hand)
        self._selector.register(answers_fd, selectors.EVENT_READ, hand)
        _write_all(deliveries_fd, self.setup.encode() + b"\n")
        return hand

    def _replace(self, hand: Hand, wave: WaveQueue) -> None:
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
            elsewhere = any(suspect in other.held for other in self._hands)
            if wave.wants(suspect) and not elsewhere:
                self._receive_again(suspect, _ended(status), wave)
        wave.ready.extendleft(each for each in reversed(hand.held) if wave.wants(each))
        self._hire()

    def _receive_again(self, delivery: Delivery, reason: str, wave: WaveQueue) -> None:
        if delivery.receives < self.attempts:
            wave.ready.append(delivery.received_again())
            return
        verdict = bury(
            RunPlace(self.store, self._run, self.clock),
            delivery.message,
            receives=delivery.receives,
            reason=f"Its worker {reason}.",
        )
        wave.close(delivery)
        self._hear(verdict)


def _ended(status: int) -> str:
    """How a process ended, in words."""
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with exit code {status}"


def _write_all(fd: int, body: bytes) -> None:
    view = memoryview(body)
    while view:
        view = view[os.write(fd, view) :]

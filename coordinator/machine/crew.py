"""The crew of one machine: worker processes, and the queue that feeds them.

It behaves as the queue on AWS does: a message whose worker died is received again, one that failed
retryably comes back after a delay, and one received too often is buried with a note. A worker that
gives no sign of progress for `timeout_seconds` is ended; a shard that takes about as long in all is
told to split off its rest. At the end of a wave, idle workers help: a shard far behind is told to
split, too, and one that can't be split is begun a second time. The first entry wins.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from subprocess import TimeoutExpired
from typing import Self

from coordinator.errors import AttemptFailed, RunCancelled
from coordinator.machine.hand import Hand
from coordinator.machine.local import Hear
from coordinator.machine.queue import WaveQueue
from coordinator.machine.worker import TELL_SECONDS, VERDICT, Delivery, Setup
from coordinator.model import Message, RunRecord
from coordinator.rules.pacing import is_skewed, working_seconds
from coordinator.rules.transport import receives
from coordinator.steps.attempts import Again, Answered, bury
from coordinator.steps.workplace import RunPlace
from coordinator.store.ports import Store

DEEPEST = 16
BRIEF_SECONDS = 0.05
CLOSE_SECONDS = 5.0
FUTILE_STARTS = 3
ROUND_SECONDS = 0.5
STRAGGLER_SECONDS = 2.0
START_SECONDS = 60.0  # that a worker has at least until it is ready
SLEPT_SECONDS = 2.0  # between two looks: more, and we were stopped ourselves (Ctrl-Z, a lid closed)

Lost = Callable[[Message, str], None]


def nobody(message: Message, reason: str) -> None:
    """Tells no one that a worker died at a message."""


class ProcessCrew:
    """Worker processes of one run. Use as a context manager; leaving it ends them.

    Args:
        store: where the notes of shards go whose workers died; `clock` dates them.
        splittable: whether shards of the map stage may be split.
        is_cancelled: asked now and then while a wave goes on.
        lost: told of a message that is received again because its worker died, and why.
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
        lost: Lost = nobody,
    ) -> None:
        self.setup = setup
        self.store = store
        self.clock = clock
        self.receives = receives(setup.limits)
        self.timeout_seconds = setup.limits.timeout_seconds
        self.splittable = splittable
        self.is_cancelled = is_cancelled
        self.lost = lost
        self._run: RunRecord
        self._hear: Hear
        self._hands: list[Hand] = []
        self._selector = selectors.DefaultSelector()
        self._futile_starts = 0
        self._seconds_a_shard = 1.0
        self._looked = time.monotonic()
        try:
            for _ in range(workers):
                self._hire()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def work(self, run: RunRecord, messages: Sequence[Message], hear: Hear) -> None:
        """Have every message answered or failed.

        Raises:
            RunCancelled: the run was cancelled meanwhile.
            AttemptFailed: workers can't even start.
        """
        self._run, self._hear = run, hear
        wave = WaveQueue(messages)
        while wave.open:
            now = time.monotonic()
            wave.ripen(now)
            for hand in self._hands:
                self._feed(hand, wave, now)
            for key, _ in self._selector.select(min(wave.patience(now), ROUND_SECONDS)):
                self._listen(key.data, wave)
            self._look_around(wave)

    def close(self) -> None:
        """End all workers; what they were at is not committed. Interrupted, it kills them."""
        try:
            for hand in self._hands:
                hand.process.terminate()
            deadline = time.monotonic() + CLOSE_SECONDS
            for hand in self._hands:
                with suppress(TimeoutExpired):
                    hand.process.wait(max(deadline - time.monotonic(), 0.0))
        finally:
            self.kill()
            for hand in self._hands:
                hand.end(CLOSE_SECONDS)
                hand.close_pipes()
            self._hands.clear()
            self._selector.close()

    def kill(self) -> None:
        """End all workers at once."""
        for hand in self._hands:
            hand.process.kill()

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
            self._send(hand, deliveries, wave, now)

    def _send(self, hand: Hand, deliveries: list[Delivery], wave: WaveQueue, now: float) -> None:
        if not hand.held:
            hand.begin_next(now)
        if hand.write(b"".join(each.encode() + b"\n" for each in deliveries)):
            hand.held.extend(deliveries)
        else:
            wave.ready.extendleft(reversed(deliveries))

    def _listen(self, hand: Hand, wave: WaveQueue) -> None:
        lines = hand.read()
        if lines is None:
            self._replace(hand, wave)
        else:
            self._heed(hand, lines, wave)

    def _heed(self, hand: Hand, lines: Sequence[bytes], wave: WaveQueue) -> None:
        """Take the verdicts of a worker about what it held, in order."""
        now = time.monotonic()
        for line in lines:
            delivery = hand.held.popleft()
            hand.begin_next(now)
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
        """Now and then: is the run cancelled, is a worker dead, stuck or long at its shard, and can
        idle ones help?"""
        now = time.monotonic()
        elapsed = now - self._looked
        if elapsed < ROUND_SECONDS:
            return
        self._looked = now
        if self.is_cancelled():
            raise RunCancelled("The run was cancelled. The same run id takes it up again.")
        for hand in list(self._hands):
            if hand.process.poll() is not None:
                # A process that the job started may hold its pipe open: no end of it is seen.
                self._heed(hand, hand.read() or (), wave)
                self._replace(hand, wave)
            elif hand.held:
                self._mind(hand, wave, now, min(elapsed, SLEPT_SECONDS))
        idle = [hand for hand in self._hands if not hand.held]
        if idle and wave.open and not wave.ready:
            self._help(idle[0], wave, now)

    def _mind(self, hand: Hand, wave: WaveQueue, now: float, elapsed: float) -> None:
        """End a worker that makes no progress; have a shard that takes long split."""
        hand.still_seconds += elapsed
        patience = self.timeout_seconds if hand.ready else max(self.timeout_seconds, START_SECONDS)
        overdue = hand.still_seconds - patience - 2 * TELL_SECONDS
        if overdue <= 0:
            if now - hand.began > working_seconds(self.timeout_seconds) and self._can_split(hand):
                hand.hurry()
        elif not hand.stopped:
            hand.stopped = (
                f"was stopped: no progress for {patience} s, the job's timeout_seconds"
                if hand.ready
                else f"was stopped: it was not ready for work after {patience:.0f} s"
            )
            hand.say_where_it_stands()
        elif overdue > TELL_SECONDS:
            hand.process.kill()
            self._replace(hand, wave)

    def _help(self, idle: Hand, wave: WaveQueue, now: float) -> None:
        """Have the slowest shard split off its rest, or begin it a second time."""
        busy = [hand for hand in self._hands if hand.held and wave.wants(hand.held[0])]
        slow = [hand for hand in busy if self._is_straggling(hand, wave, now)]
        for hand in sorted(slow, key=lambda hand: hand.began):
            delivery = hand.held[0]
            if self._can_split(hand):
                hand.hurry()
                return
            if wave.double(delivery):
                self._send(idle, [delivery], wave, now)
                behind = list(hand.held)[1:]
                wave.ready.extend(each for each in behind if wave.wants(each) and wave.double(each))
                return

    def _is_straggling(self, hand: Hand, wave: WaveQueue, now: float) -> bool:
        elapsed = now - hand.began
        behind = is_skewed(elapsed, wave.seconds, wave.closed, wave.closed + wave.open)
        return elapsed > STRAGGLER_SECONDS and behind

    def _can_split(self, hand: Hand) -> bool:
        """Whether a worker can be asked to split off the rest of its shard, and has not been."""
        mapping = self.splittable and hand.held[0].message.stage == "map"
        return mapping and hand.ready and not hand.hurried

    # -- hiring ----------------------------------------------------------------------------------

    def _hire(self) -> None:
        """Start a worker process."""
        hand = Hand.hire(self.setup)
        self._hands.append(hand)
        self._selector.register(hand.answers_fd, selectors.EVENT_READ, hand)

    def _replace(self, hand: Hand, wave: WaveQueue) -> None:
        """A worker died: receive again what it was at, hand back the rest, hire another."""
        end = hand.end(CLOSE_SECONDS)
        self._selector.unregister(hand.answers_fd)
        self._hands.remove(hand)
        hand.close_pipes()
        if not hand.ready:
            self._futile_starts += 1
            if self._futile_starts >= FUTILE_STARTS * self.receives:
                raise AttemptFailed(f"Workers keep ending before they are ready for work ({end}).")
        if hand.held:
            suspect = hand.held.popleft()
            elsewhere = any(suspect in other.held for other in self._hands)
            if wave.wants(suspect) and not elsewhere:
                self._receive_again(suspect, end, wave)
        wave.ready.extendleft(each for each in reversed(hand.held) if wave.wants(each))
        self._hire()

    def _receive_again(self, delivery: Delivery, end: str, wave: WaveQueue) -> None:
        if delivery.receives < self.receives:
            self.lost(delivery.message, f"its worker {end}")
            wave.ready.append(delivery.received_again())
            return
        verdict = bury(
            RunPlace(self.store, self._run, self.clock),
            delivery.message,
            receives=delivery.receives,
            reason=f"Its worker {end}.",
        )
        wave.close(delivery)
        self._hear(verdict)

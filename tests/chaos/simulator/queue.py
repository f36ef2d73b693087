"""A queue and the mapping that feeds a function from it: visibility, receive counts, dead letters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from tests.chaos.simulator.effects import Kind
from tests.chaos.simulator.world import Process, World

KEPT_SECONDS = 4 * 86_400.0
DEAD_KEPT_SECONDS = 14 * 86_400.0


@dataclass(eq=False, slots=True)
class Letter:
    """A message in a queue."""

    body: str
    visible_at: float
    name: str
    receives: int = 0
    gone: bool = False
    shard: str = ""
    sent_at: float = 0.0


Handle = Callable[[str, Letter, Callable[[Process], None], float], None]


class Queue:
    """Messages, delivered one at a time to at most `lanes` invocations at once."""

    def __init__(
        self,
        world: World,
        function: str,
        *,
        invoke: Handle,
        visibility_seconds: float,
        most_receives: int = 0,
        dead_letters: Queue | None = None,
        lanes: int = 3,
    ) -> None:
        self.world = world
        self.function = function
        self.letters: list[Letter] = []
        self.visibility_seconds = visibility_seconds
        self.most_receives = most_receives
        self.dead_letters = dead_letters
        self.lanes = lanes
        self.kept_seconds = KEPT_SECONDS if dead_letters else DEAD_KEPT_SECONDS
        self._invoke = invoke
        self._busy = 0
        self._names = count(1)
        self.duplicated: Counter[str] = Counter()

    def send(
        self, body: str, shard: str, *, delay: float = 0.0, sent_at: float | None = None
    ) -> None:
        """Put a message in the queue. A dead letter is as old as the message was."""
        name = f"{self.function}-{next(self._names)}"
        sent_at = self.world.now if sent_at is None else sent_at
        self.letters.append(
            Letter(body, self.world.now + delay, name, shard=shard, sent_at=sent_at)
        )
        self.world.after(delay, self.poll)

    def change_visibility(self, name: str, seconds: float) -> None:
        """Have a message seen again in so many seconds."""
        for letter in self.letters:
            if letter.name == name:
                letter.visible_at = self.world.now + seconds
                self.world.at(letter.visible_at, self.poll)

    def hidden(self) -> int:
        """How many messages have been received and are not yet back or deleted."""
        return sum(it.receives > 0 and it.visible_at > self.world.now for it in self.letters)

    def duplicate(self, letter: Letter, over: Callable[[], object] = lambda: None) -> None:
        """Deliver a message once more, at once, beside the first time; `over` is told of its end."""
        letter.receives += 1
        self.duplicated[letter.name] += 1
        self._work(letter, over)

    def poll(self) -> None:
        """Receive what is visible, and forget what is too old."""
        oldest = self.world.now - self.kept_seconds
        self.letters[:] = [letter for letter in self.letters if letter.sent_at > oldest]
        while self._busy < self.lanes:
            visible = [it for it in self.letters if it.visible_at <= self.world.now]
            if not visible:
                return
            self._receive(visible[0])

    def _receive(self, letter: Letter) -> None:
        world = self.world
        if self.most_receives and letter.receives >= self.most_receives:
            assert self.dead_letters is not None
            self.letters.remove(letter)
            self.dead_letters.send(letter.body, letter.shard, sent_at=letter.sent_at)
            return
        letter.receives += 1
        letter.visible_at = world.now + self.visibility_seconds
        world.at(letter.visible_at, self.poll)
        kind = world.by_service(f"{self.function} queue", "receive", letter.shard)
        match kind:
            case Kind.ERROR_BEFORE:
                letter.receives -= 1
                letter.visible_at = world.now + 1
                world.at(letter.visible_at, self.poll)
            case Kind.ERROR_AFTER | Kind.THROTTLED:
                pass  # received, and never handed on: it comes back by itself
            case Kind.DELAYED:
                again = letter.visible_at + len(world.trace) % 32 / 100
                world.at(again, lambda: self._work(letter))
            case Kind.TWICE:
                self._work(letter)
                self.duplicate(letter)
            case Kind.OUT_OF_ORDER:
                letter.receives -= 1
                letter.visible_at = world.now + 30
                world.at(letter.visible_at, self.poll)
            case Kind.TAKEN_OVER | Kind.TAKEN_OVER_LATE:
                world.take_over()
                wait = 0.0 if kind is Kind.TAKEN_OVER else 50.0
                world.after(wait, lambda: self._work(letter))
            case None:
                self._work(letter)
            case _:
                raise AssertionError(f"{kind} does not apply to receiving")

    def _work(self, letter: Letter, over: Callable[[], object] = lambda: None) -> None:
        self._busy += 1

        def ended(process: Process) -> None:
            self._busy -= 1
            self._conclude(letter, process)
            self.poll()
            over()

        self._invoke(self.function, letter, ended, 0.0)

    def _conclude(self, letter: Letter, process: Process) -> None:
        answer: Any = process.result
        handled = process.dead is None and process.error is None
        if not handled or answer["batchItemFailures"] or letter.gone:
            return
        world = self.world
        kind = world.by_service(f"{self.function} queue", "delete", letter.shard)
        match kind:
            case Kind.ERROR_BEFORE:
                return
            case Kind.DELAYED:
                late = letter.visible_at + len(world.trace) % 32 / 100
                world.at(late, lambda: self._delete(letter))
                return
            case Kind.TWICE:
                self.duplicate(letter)
            case Kind.TAKEN_OVER | Kind.TAKEN_OVER_LATE:
                world.take_over()
            case None:
                pass
            case _:
                raise AssertionError(f"{kind} does not apply to deleting")
        self._delete(letter)

    def _delete(self, letter: Letter) -> None:
        letter.gone = True
        if letter in self.letters:
            self.letters.remove(letter)

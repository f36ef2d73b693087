"""A world in virtual time: a clock, events, processes, and every effect of theirs, numbered.

An effect is whatever one process does that another could see: a store call, a message sent,
received or deleted, a token answered, a function invoked. A script says at which effect which
fault happens. Nothing here knows what the effects are for.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

from tests.chaos.simulator.effects import Effect, Kind, Script, Trouble, Undisturbed
from tests.chaos.simulator.fibers import Fiber, Killed

_T = TypeVar("_T")

TICK_SECONDS = 0.01
EPOCH = 1_800_000_000.0
MOST_EFFECTS = 20_000
LATE_SECONDS = 10 * 3600.0
AFTER_CLEANING_SECONDS = 30 * 3600.0


@dataclass(eq=False, slots=True)
class Process:
    """One invocation: a fiber, what it is, and by when it has to end.

    `again` makes the same invocation once more, beside this one: it is told whom to tell of its end,
    and whether it is the second whose answer counts. The one that is `unheard` has nobody to answer.
    """

    actor: str
    fiber: Fiber
    deadline: float
    letter: Any = None
    owner: str | None = None
    container: Any = None
    held_until: float = 0.0
    again: Callable[[Callable[[], object], bool], None] = lambda over, heard: None
    unheard: bool = False
    dead: str | None = None
    result: Any = None
    error: BaseException | None = None


class Event:
    """Something that will happen, unless it is called off."""

    __slots__ = ("action", "off")

    def __init__(self, action: Callable[[], object]) -> None:
        self.action = action
        self.off = False


class World:
    """Runs events in the order of their times; processes take turns at every effect."""

    def __init__(self, script: Script | None = None) -> None:
        self.script: Script = script or Undisturbed()
        self.now = EPOCH
        self.trace: list[Effect] = []
        self.told: list[str] = []
        self.current: Process | None = None
        self.processes: list[Process] = []
        self.pause_at: int | None = None
        self._events: list[tuple[float, int, Event]] = []
        self._tickets = count()
        self._turns: dict[Process, Callable[[], None]] = {}
        self.on_container: Callable[[Any], None] = lambda container: None
        self.take_over: Callable[[], None] = lambda: None
        self.clean_next_day: Callable[[], None] = lambda: None
        self.arrived_when_cleaned = False
        self.beside: Mapping[Kind, Callable[[], object]] = {}
        self.duplicate: Callable[[Any], None] = lambda letter: None

    # -- time ------------------------------------------------------------------------------------

    def at(self, when: float, action: Callable[[], object]) -> Event:
        """Have something happen at a time, or at once if that has passed."""
        event = Event(action)
        heapq.heappush(self._events, (when, next(self._tickets), event))
        return event

    def after(self, seconds: float, action: Callable[[], object]) -> Event:
        """Have something happen in so many seconds."""
        return self.at(self.now + seconds, action)

    def run(self, effects: int | None = None) -> None:
        """Until nothing is left to happen, or for about so many effects."""
        self.pause_at = None if effects is None else len(self.trace) + effects
        while self._events and not self._pausing():
            when, _, event = heapq.heappop(self._events)
            if event.off:
                continue
            self.now = max(self.now, when)
            event.action()
        self.pause_at = None

    @property
    def idle(self) -> bool:
        """Whether nothing is left to happen."""
        while self._events and self._events[0][2].off:
            heapq.heappop(self._events)
        return not self._events

    def _pausing(self) -> bool:
        if len(self.trace) > MOST_EFFECTS:
            raise AssertionError(f"no end after {MOST_EFFECTS} effects; the last: {self.trace[-1]}")
        return self.pause_at is not None and len(self.trace) >= self.pause_at

    # -- processes -------------------------------------------------------------------------------

    def spawn(
        self,
        actor: str,
        body: Callable[[], Any],
        ended: Callable[[Process], None],
        *,
        limit_seconds: float,
        letter: Any = None,
        owner: str | None = None,
        container: Any = None,
    ) -> Process:
        """Start a process; `ended` is told when it has ended, however it did."""

        def live() -> None:
            try:
                process.result = body()
            except Killed:
                assert process.dead
            except Exception as error:  # noqa: BLE001  whatever a handler raises is its answer
                process.error = error

        process = Process(
            actor,
            Fiber(live),
            self.now + limit_seconds,
            letter,
            owner,
            container,
        )
        self.processes.append(process)

        def turn() -> None:
            if process not in self._turns:
                return
            if self.now < process.held_until and process.dead is None:
                self.at(process.held_until, turn)
            else:
                self._turn(process)
                if process.fiber.ended:
                    self.processes.remove(process)
                    del self._turns[process]
                    ended(process)

        self._turns[process] = turn
        self.at(self.now, turn)
        return process

    def _turn(self, process: Process) -> None:
        before, self.current = self.current, process
        self.on_container(process.container)
        process.fiber.resume()
        self.current = before

    def sleep(self, seconds: float) -> None:
        """Let the current process wait; one that waits past its deadline dies."""
        process = self._running()
        self.at(min(self.now + seconds, process.deadline), self._turns[process])
        process.fiber.pause()
        self._check(process)

    def wait_for(self, begin: Callable[[Callable[[], object]], object]) -> None:
        """Let the current process wait until what begins here says that it is over."""
        process = self._running()
        over: list[bool] = []

        def wake() -> None:
            if not over:
                over.append(True)
                self.at(self.now, self._turns.get(process, _nothing))

        begin(wake)
        self.at(process.deadline, wake)
        process.fiber.pause()
        self._check(process)

    def hold(self, process: Process, seconds: float) -> None:
        """A process that is waiting for its turn gets none for a while."""
        process.held_until = min(self.now + seconds, process.deadline)

    def kill(self, process: Process, how: str = "Runtime.ExitError") -> None:
        """A process that is waiting for its turn dies; nothing more that it does has an effect."""
        process.dead = process.dead or how
        self.at(self.now, self._turns[process])

    def die(self) -> None:
        """The current process dies."""
        self._running().dead = "Runtime.ExitError"
        raise Killed

    def end(self) -> None:
        """End all processes, so that no thread is left waiting."""
        for process in list(self.processes):
            process.dead = process.dead or "Runtime.ExitError"
            while not process.fiber.ended:
                self._turn(process)
        self.processes.clear()
        self._turns.clear()
        self._events.clear()

    def _running(self) -> Process:
        assert self.current is not None, "no process is running"
        return self.current

    def _check(self, process: Process) -> None:
        if process.dead is None and self.now >= process.deadline:
            process.dead = "Sandbox.Timedout"
        if process.dead is not None:
            raise Killed

    # -- effects ---------------------------------------------------------------------------------

    def number(self, actor: str, operation: str, target: str) -> tuple[Effect, Kind | None]:
        """Number an effect, and say what goes wrong with it."""
        self.now += TICK_SECONDS
        effect = Effect(len(self.trace) + 1, actor, operation, target)
        self.trace.append(effect)
        return effect, self.script.at(effect)

    def by_service(self, actor: str, operation: str, target: str) -> Kind | None:
        """Number an effect of a service. What happens beside it leaves it alone."""
        _, kind = self.number(actor, operation, target)
        if kind is not None and kind in self.beside:
            self.beside[kind]()
            return None
        return kind

    def effect(self, operation: str, target: str, action: Callable[[], _T], trouble: Trouble) -> _T:
        """Do one effect of the current process, with the fault that the script has for it."""
        if self.current is None:  # a test looks at the world
            return action()
        process = self.current
        self._check(process)
        _, kind = self.number(process.actor, operation, target)
        if self.pause_at is not None or (self._events and self._events[0][0] <= self.now):
            self.at(self.now, self._turns[process])
            process.fiber.pause()
            self._check(process)
        if kind is None:
            return action()
        return self._disturbed(kind, process, action, trouble)

    def _disturbed(
        self, kind: Kind, process: Process, action: Callable[[], _T], trouble: Trouble
    ) -> _T:
        match kind:
            case Kind.ERROR_BEFORE | Kind.THROTTLED:
                raise trouble.before()
            case Kind.ERROR_AFTER:
                action()
                raise trouble.after()
            case Kind.UNKNOWN:
                raise trouble.after()
            case Kind.DENIED:
                assert trouble.denied is not None
                raise trouble.denied()
            case Kind.OWN_REFUSAL:
                action()
                assert trouble.refused is not None
                raise trouble.refused()
            case Kind.CRASH_BEFORE:
                self.die()
            case Kind.CRASH_AFTER:
                action()
                self.die()
            case Kind.DELAYED:
                again = process.letter.visible_at if process.letter else process.deadline + 5
                self._arrive(again, action)
                self.sleep(float("inf"))
            case Kind.LATE | Kind.LATE_TAKEN_OVER:
                self._arrive(self.now + LATE_SECONDS, action)
                if kind is Kind.LATE_TAKEN_OVER:
                    self.take_over()
                self.sleep(float("inf"))
            case Kind.LATE_CLEANED:
                self.clean_next_day()
                self.arrived_when_cleaned = True
                self._arrive(self.now + AFTER_CLEANING_SECONDS, action)
                self.sleep(float("inf"))
            case Kind.TWICE:
                self.duplicate(process.letter)
            case Kind.OVERTAKEN:
                self.wait_for(lambda over: process.again(over, True))
            case Kind.IN_TURNS:
                process.again(_nothing, len(self.trace) % 2 == 0)
                self.sleep(TICK_SECONDS)
            case _ if kind in self.beside:
                self.beside[kind]()
                self.sleep(TICK_SECONDS * (len(self.trace) % 8))
            case Kind.TAKEN_OVER:
                self.take_over()
                self.sleep(TICK_SECONDS * (5 + len(self.trace) % 40))
            case Kind.TAKEN_OVER_LATE:
                self.take_over()
                self.sleep(process.deadline - self.now - 1)
            case _:
                raise AssertionError(f"{kind} does not apply here")
        return action()

    def _arrive(self, when: float, action: Callable[[], object]) -> None:
        """Have a request take place after its sender is dead, at about the time when another may
        do the same again."""

        def arrive() -> None:
            with suppress(Exception):  # nobody is left to be told
                action()

        self.at(when + TICK_SECONDS * (len(self.trace) % 32), arrive)


def _nothing() -> None:
    """Nobody waits for this."""

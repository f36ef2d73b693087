"""A script of faults: which call goes wrong, and how.

Every method takes `match`, a predicate on the event (of a function) or the `ApiCall` (of an
operation), and `nth`, which of the matching calls are meant, counted from 1 since the fault was
scripted; without `nth`, all of them.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Literal

from botocore.exceptions import ReadTimeoutError

from tests.cloud.harness.records import ApiCall

When = Literal["before", "after"]
Match = Callable[[Any], bool]
Nth = int | Collection[int] | None
HOLD_SECONDS = 60.0


class WorkerDied(BaseException):
    """The process is gone: no handler of `Exception` sees it, nothing is answered or deleted.

    Unlike a real kill, `finally` blocks of the code under test still run.
    """


class Throttled(Exception):
    """Lambda refused the invocation: TooManyRequestsException."""


class Hold:
    """Something that waits until the test lets it go on."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._released = threading.Event()
        self._callbacks: list[Callable[[], None]] = []

    @property
    def released(self) -> bool:
        return self._released.is_set()

    def release(self) -> None:
        self._released.set()
        for callback in self._callbacks:
            callback()

    def on_release(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def reach(self) -> None:
        """Say that the held call has arrived here."""
        self._reached.set()

    def wait_reached(self, deadline_seconds: float = HOLD_SECONDS) -> None:
        """Block until the held call has arrived."""
        if not self._reached.wait(deadline_seconds):
            raise TimeoutError(f"Nothing arrived at the hold within {deadline_seconds} s.")

    def wait(self) -> None:
        """Block the held call itself."""
        self.reach()
        if not self._released.wait(HOLD_SECONDS):
            raise TimeoutError(f"The hold was not released within {HOLD_SECONDS} s.")


@dataclass
class Fault:
    """One line of the script. `hits` says how often it struck."""

    target: str
    act: Callable[[Any], None]
    when: When = "before"
    match: Match | None = None
    nth: frozenset[int] | None = None
    seen: int = 0
    hits: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def strikes(self, subject: Any) -> bool:
        """Count a call of the target; true when it is one of those meant."""
        if self.match is not None and not self.match(subject):
            return False
        with self._lock:
            self.seen += 1
            if self.nth is not None and self.seen not in self.nth:
                return False
            self.hits += 1
            return True

    @property
    def struck(self) -> bool:
        """Whether it struck, and at every one of the calls meant."""
        return self.hits >= (len(self.nth) if self.nth is not None else 1)


def message_of(event: Any) -> dict[str, Any]:
    """The order in an event from the queue: the body of its only record."""
    body: dict[str, Any] = json.loads(event["Records"][0]["body"])
    return body


def about_shard(*ids: str) -> Match:
    """Matches events and queue messages about one of these shards."""

    def match(subject: Any) -> bool:
        body = json.loads(subject) if isinstance(subject, str) else message_of(subject)
        return body["shard"]["id"] in ids

    return match


def key_contains(part: str) -> Match:
    """Matches API calls on a key with this part."""
    return lambda call: part in call.key


class Faults:
    """The script of one cloud."""

    def __init__(self) -> None:
        self._functions: list[Fault] = []
        self._calls: list[Fault] = []
        self._copies: list[tuple[Fault, Hold | None]] = []
        self._held: list[tuple[Fault, Hold]] = []
        self._remaining: dict[str, list[tuple[Fault, int]]] = {}
        self._lost: set[str] = set()
        self._holds: list[Hold] = []
        self._scripted: list[Fault] = []
        self._order: random.Random | None = None
        self._shuffled: Fault

    # Functions ------------------------------------------------------------------------------------

    def fail(
        self,
        function: str,
        *,
        error: Exception | None = None,
        after: bool = False,
        nth: Nth = None,
        match: Match | None = None,
    ) -> Fault:
        """The invocation ends with an exception; `after`, once the handler has done its work."""
        return self._function(
            function, _raise(error or RuntimeError("scripted failure")), after, nth, match
        )

    def crash(
        self, function: str, *, after: bool = False, nth: Nth = None, match: Match | None = None
    ) -> Fault:
        """The worker dies: no answer and no delete; `after`, with all its effects in place."""
        return self._function(function, _raise(WorkerDied()), after, nth, match)

    def throttle(self, function: str, *, nth: Nth = None, match: Match | None = None) -> Fault:
        """Lambda refuses to run the function (TooManyRequestsException)."""
        return self._function(function, _raise(Throttled()), False, nth, match)

    def slow(
        self, function: str, *, after: bool = False, nth: Nth = None, match: Match | None = None
    ) -> Hold:
        """The invocation waits until the hold is released."""
        hold = self._new_hold()
        self._function(function, lambda _: hold.wait(), after, nth, match)
        return hold

    def deadline(
        self, function: str, remaining_ms: int, *, nth: Nth = None, match: Match | None = None
    ) -> Fault:
        """The context says that only so much of the function's time is left."""
        fault = self._script(Fault(function, lambda _: None, match=match, nth=_numbers(nth)))
        self._remaining.setdefault(function, []).append((fault, remaining_ms))
        return fault

    # Calls to AWS ---------------------------------------------------------------------------------

    def lose_response(
        self,
        operation: str,
        *,
        seen_by: Literal["sdk", "caller"] = "sdk",
        nth: Nth = None,
        match: Match | None = None,
    ) -> Fault:
        """The call took effect and its answer is lost.

        Seen by the `sdk`, which sends it again (a put-if-absent then meets its own success); or by
        the `caller`, after the SDK's own attempts got no answer either (and had no effect).
        """

        def act(call: ApiCall) -> None:
            if seen_by == "caller":
                self._lost.add(call.invocation_id)
            raise ReadTimeoutError(endpoint_url=call.name)

        return self._call(operation, act, "after", nth, match)

    def refuse(
        self,
        operation: str,
        *,
        error: Exception | None = None,
        nth: Nth = None,
        match: Match | None = None,
    ) -> Fault:
        """The call does not reach AWS."""
        failure = error or ReadTimeoutError(endpoint_url=operation)
        return self._call(operation, _raise(failure), "before", nth, match)

    def die_at(
        self, operation: str, *, after: bool = False, nth: Nth = None, match: Match | None = None
    ) -> Fault:
        """The worker dies just before this call, or just `after` it took effect."""
        return self._call(
            operation, _raise(WorkerDied()), "after" if after else "before", nth, match
        )

    def pause_at(
        self, operation: str, *, after: bool = False, nth: Nth = None, match: Match | None = None
    ) -> Hold:
        """The call waits, before or `after` its effect, until the hold is released."""
        hold = self._new_hold()
        self._call(operation, lambda _: hold.wait(), "after" if after else "before", nth, match)
        return hold

    def do_at(
        self,
        operation: str,
        action: Callable[[ApiCall], None],
        *,
        after: bool = False,
        nth: Nth = None,
        match: Match | None = None,
    ) -> Fault:
        """Something else happens at this moment: an input is overwritten, a run stopped."""
        return self._call(operation, action, "after" if after else "before", nth, match)

    # Messages; `match` gets the body as text ------------------------------------------------------

    def deliver_twice(
        self, *, late: bool = False, nth: Nth = None, match: Match | None = None
    ) -> Hold:
        """The queue hands a message out again, at once or, when `late`, on release."""
        hold = self._new_hold()
        if not late:
            hold.release()
        fault = Fault("message twice", lambda _: None, match=match, nth=_numbers(nth))
        self._copies.append((self._script(fault), hold))
        return hold

    def deliver_late(self, *, nth: Nth = None, match: Match | None = None) -> Hold:
        """A message stays undelivered until the hold is released."""
        hold = self._new_hold()
        fault = Fault("message late", lambda _: None, match=match, nth=_numbers(nth))
        self._held.append((self._script(fault), hold))
        return hold

    def shuffle(self, seed: int) -> Fault:
        """Deliver visible messages in a random order. It strikes where that is another."""
        self._order = random.Random(seed)
        self._shuffled = self._script(Fault("order of messages", lambda _: None))
        return self._shuffled

    def without_effect(self) -> list[str]:
        """The faults scripted so far that did not strike at every call that was meant: whatever
        held in spite of them has not been shown."""
        return [
            f"{fault.target}, {fault.when}: struck {fault.hits} times of {fault.seen} calls"
            for fault in self._scripted
            if not fault.struck
        ]

    # What the harness asks ------------------------------------------------------------------------

    def clear(self) -> None:
        """End of the script: nothing goes wrong any more; whatever is held goes on."""
        self.release_all()
        self._functions.clear()
        self._calls.clear()
        self._copies.clear()
        self._held.clear()
        self._remaining.clear()
        self._order = None

    def release_all(self) -> None:
        for hold in self._holds:
            if not hold.released:
                hold.release()

    def at_function(self, function: str, event: Any, when: When) -> None:
        self._strike(self._functions, function, event, when)

    def at_call(self, call: ApiCall, when: When) -> None:
        if when == "before" and call.invocation_id in self._lost:
            raise ReadTimeoutError(endpoint_url=call.name)
        self._strike(self._calls, call.name, call, when)

    def remaining_ms(self, function: str, event: Any) -> int | None:
        for fault, remaining in self._remaining.get(function, []):
            if fault.strikes(event):
                return remaining
        return None

    def copies_of(self, body: str) -> list[Hold]:
        return [hold for fault, hold in self._copies if hold is not None and fault.strikes(body)]

    def reorder(self, messages: list[Any]) -> None:
        """Put messages into the order in which they are to be delivered."""
        if self._order is not None:
            before = list(messages)
            self._order.shuffle(messages)
            self._shuffled.hits += messages != before

    def hold_of(self, body: str) -> Hold | None:
        for fault, hold in self._held:
            if fault.strikes(body):
                return hold
        return None

    @staticmethod
    def _strike(script: list[Fault], target: str, subject: Any, when: When) -> None:
        for fault in list(script):
            if fault.target == target and fault.when == when and fault.strikes(subject):
                fault.act(subject)

    def _function(
        self,
        function: str,
        act: Callable[[Any], None],
        after: bool,
        nth: Nth,
        match: Match | None,
    ) -> Fault:
        fault = self._script(
            Fault(function, act, "after" if after else "before", match, _numbers(nth))
        )
        self._functions.append(fault)
        return fault

    def _call(
        self,
        operation: str,
        act: Callable[[Any], None],
        when: When,
        nth: Nth,
        match: Match | None,
    ) -> Fault:
        fault = self._script(Fault(operation, act, when, match, _numbers(nth)))
        self._calls.append(fault)
        return fault

    def _script(self, fault: Fault) -> Fault:
        self._scripted.append(fault)
        return fault

    def _new_hold(self) -> Hold:
        hold = Hold()
        self._holds.append(hold)
        return hold


def _numbers(nth: Nth) -> frozenset[int] | None:
    if nth is None:
        return None
    return frozenset({nth} if isinstance(nth, int) else nth)


def _raise(error: BaseException) -> Callable[[Any], None]:
    def act(_: Any) -> None:
        raise error

    return act

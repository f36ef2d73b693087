"""Fibers: code that can be stopped at any effect and gone on with later, or never.

A fiber is a thread, but at any moment one thread of a world runs and all others wait, so what
happens is as deterministic as in one thread. Threads are kept and used again.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock, Thread


class Killed(BaseException):
    """The process is dead: nothing after this has any effect. No `except Exception` holds it."""


class Fiber:
    """`body` runs when `resume` is called, until it ends or calls `pause`; then `resume` returns."""

    def __init__(self, body: Callable[[], None]) -> None:
        self.ended = False
        self._body = body
        self._carrier: _Carrier | None = None

    def resume(self) -> None:
        """Let it run until it pauses or ends."""
        if self.ended:
            return
        if self._carrier is None:
            self._carrier = _idle.pop() if _idle else _Carrier()
            self._carrier.fiber = self
        self._carrier.mine.release()
        self._carrier.theirs.acquire()
        self._release(self._carrier)

    def _release(self, carrier: _Carrier) -> None:
        if self.ended:
            _idle.append(carrier)
            self._carrier = None

    def pause(self) -> None:
        """Called by the body: give control back to whoever resumed it."""
        carrier = self._carrier
        assert carrier is not None
        carrier.theirs.release()
        carrier.mine.acquire()

    def run(self) -> None:
        try:
            self._body()
        finally:
            self.ended = True


class _Carrier:
    """A thread, and the two batons that are passed between it and the world's thread."""

    def __init__(self) -> None:
        self.mine = Lock()
        self.theirs = Lock()
        self.mine.acquire()
        self.theirs.acquire()
        self.fiber: Fiber | None = None
        Thread(target=self._serve, name="fiber", daemon=True).start()

    def _serve(self) -> None:
        while True:
            self.mine.acquire()
            assert self.fiber is not None
            try:
                self.fiber.run()
            finally:
                self.theirs.release()


_idle: list[_Carrier] = []

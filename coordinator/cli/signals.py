"""The signals that end a command: the first in good order, the second at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """Someone asks the command to end. No error: nothing that catches errors may swallow it."""


class Signals:
    """Heeds Ctrl-C, SIGTERM and SIGHUP while a command runs, unless its starter has them ignored
    (`nohup`, a shell's background). Use as a context manager.

    The first raises `Stopped`; the second also calls `at_once`, the third ends the process.
    `number` is the first that came.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.at_once: Callable[[], None] | None = None
        self._came = 0
        self._deaf = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in ENDING:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._before[number] = signal.signal(number, self._heed)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def disregard(self) -> None:
        """The command has ended, and has only to say so: that is not broken off."""
        self._deaf = True

    @property
    def name(self) -> str:
        """The first signal, as people call it."""
        if self.number in (None, signal.SIGINT):
            return "Ctrl-C"
        return signal.Signals(self.number).name

    @property
    def exit_code(self) -> int:
        """The exit code of a command that a signal has ended."""
        return 128 + (self.number or signal.SIGINT)

    def _heed(self, number: int, _: FrameType | None) -> None:
        if self._deaf:
            return
        self._came += 1
        if self.number is None:
            self.number = number
        else:
            if self.at_once is not None:
                self.at_once()
            if self._came > 2:
                os._exit(self.exit_code)
        raise Stopped

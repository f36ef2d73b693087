"""How a command ends other than well: its exit code, and what is said of it.

| exit code | status | what it means |
|---|---|---|
| 1 | failed | it was begun and failed |
| 2 | refused | it can't be done as asked; nothing was begun |
| 128 + the signal's number | interrupted | Ctrl-C, SIGTERM or SIGHUP ended it |
"""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass
from typing import Any, Literal

from coordinator.cli.output import NotPrinted, complain, discard, prepare, say
from coordinator.cli.signals import Signals
from coordinator.errors import FanfoldError, RunBusy, RunExpired, RunMismatch, reason_of
from coordinator.store.file.disk import FULL

FAILED, REFUSED = 1, 2
INTERRUPTED = "Interrupted"  # the error's name where a signal ended the command

Status = Literal["failed", "refused", "interrupted"]

# Said of a run before the command has done anything to it.
_OF_RUNS = (RunBusy, RunExpired, RunMismatch)


@dataclass(frozen=True, slots=True)
class Ending:
    """A command's end. `advice` are lines for people; a run that was begun has its id."""

    code: int
    status: Status
    error: str
    message: str
    advice: str = ""
    run_id: str | None = None

    def as_json(self) -> str:
        """One object in one line."""
        known: dict[str, Any] = {"status": self.status, "error": self.error}
        run = {} if self.run_id is None else {"run_id": self.run_id}
        return json.dumps({**known, "message": self.message, **run})

    def as_text(self) -> str:
        """A sentence or two, and the advice."""
        return "\n".join(filter(None, (f"fanfold: {self.message}", self.advice)))


class CommandEnded(Exception):
    """Raised by a command that knows best how it has ended."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.message)
        self.ending = ending


def conclude(error: BaseException, given: list[str], signals: Signals) -> int:
    """Say how a command has ended that an error broke off; gives its exit code."""
    if isinstance(error, BrokenPipeError):
        discard()
        return FAILED
    prepare()
    asked = given[: given.index("--")] if "--" in given else given
    if "--debug" in asked:
        import traceback

        complain("".join(traceback.format_exception(error)))
    ending = ending_of(error, signals)
    if "--json" in asked and not isinstance(error, NotPrinted):
        try:
            say(ending.as_json())
        except NotPrinted as second:
            complain(f"{ending.as_text()}\nfanfold: {second}")
    else:
        complain(ending.as_text())
    return ending.code


def ending_of(error: BaseException, signals: Signals, *, begun: bool | None = None) -> Ending:
    """How a command ends that an error broke off; `begun` tells of one that begins something
    whether it had by then."""
    if isinstance(error, CommandEnded):
        return error.ending
    if signals.number is not None or isinstance(error, KeyboardInterrupt):
        message = f"Stopped by {signals.name}."
        return Ending(signals.exit_code, "interrupted", INTERRUPTED, message)
    if hasattr(error, "format_message"):
        return _ending("UsageError", _of_usage(error), refused=True)
    if isinstance(error, FanfoldError):
        refused = error.exit_code == REFUSED or isinstance(error, _OF_RUNS)
        return _ending(error.name, str(error), refused=refused if begun is None else not begun)
    if isinstance(error, OSError):
        return _ending(type(error).__name__, _of_system(error), refused=begun is False)
    message = f"{reason_of(error)}. This is a defect of Fanfold; --debug shows where it lies."
    return _ending(type(error).__name__, message)


def _ending(name: str, message: str, *, refused: bool = False) -> Ending:
    if refused:
        return Ending(REFUSED, "refused", name, message)
    return Ending(FAILED, "failed", name, message)


def _of_usage(error: Any) -> str:
    """What the command line's parser says. Its errors are click's, which typer brings along or
    needs beside it, by version."""
    command = error.ctx.command_path if getattr(error, "ctx", None) else "fanfold"
    return f"{error.format_message().rstrip('.')}. See {command} --help."


def _of_system(error: OSError) -> str:
    """What the system refused, with the path that it is about."""
    reason = error.strerror or str(error)
    if error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {reason}."
    if error.errno in FULL:
        import tempfile

        return (
            f"A temporary file can't be written ({reason}). Make room in {tempfile.gettempdir()}, or "
            "name another folder in TMPDIR; then run the same command again."
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{reason}. Raise the limit, such as by `ulimit -n 4096`, and run the command again."
    if error.errno == errno.ENOENT:
        return "The folder that this was started in is gone. Change to one that is there."
    return f"{reason}."

"""A hand of the crew: one worker process, its pipes, and the messages that it holds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from coordinator.machine.worker import STAND_SIGNAL, Delivery, Setup

READ_BYTES = 65536
# Sets and dicts of a map iterate alike in every worker, whatever the process.
HASH_SEED = {"PYTHONHASHSEED": "0"}


@dataclass(slots=True, eq=False)
class Hand:
    """One worker process, and the messages it holds: the first is the one it works on.

    `ready` once it has said anything; `still_seconds` is how long it has given no sign of
    progress, `stopped` says why it is being ended, if it is.
    """

    process: subprocess.Popen[bytes]
    deliveries_fd: int
    answers_fd: int
    held: deque[Delivery] = field(default_factory=deque)
    unread: bytes = b""
    began: float = 0.0
    hurried: bool = False
    ready: bool = False
    still_seconds: float = 0.0
    stopped: str = ""

    @classmethod
    def hire(cls, setup: Setup) -> Hand:
        """Start a worker process and tell it where it works."""
        their_deliveries, deliveries_fd = os.pipe()
        answers_fd, their_answers = os.pipe()
        command = [
            *(sys.executable, "-P"),  # a file of the user's here must not pass for a module
            *("-m", "coordinator.machine.worker"),
            *(str(their_deliveries), str(their_answers), str(os.getpid())),
        ]
        try:
            with _interrupts_blocked():
                process = subprocess.Popen(  # noqa: S603  our own interpreter, our own module
                    command,
                    pass_fds=(their_deliveries, their_answers),
                    stdin=subprocess.DEVNULL,
                    stdout=2,
                    env={**os.environ, **HASH_SEED},
                )
        except BaseException:
            os.close(deliveries_fd)
            os.close(answers_fd)
            raise
        finally:
            os.close(their_deliveries)
            os.close(their_answers)
        os.set_blocking(answers_fd, False)
        hand = cls(process, deliveries_fd, answers_fd)
        hand.write(setup.encode() + b"\n")
        return hand

    # -- what passes between us ------------------------------------------------------------------

    def write(self, body: bytes) -> bool:
        """Send lines; False when not a byte of them can be sent, as it has died."""
        view = memoryview(body)
        with suppress(BrokenPipeError):  # of one that dies amid them is noticed elsewhere
            while view:
                view = view[os.write(self.deliveries_fd, view) :]
        return len(view) < len(body)

    def read(self) -> list[bytes] | None:
        """The lines that it has sent, signs of progress left out; None when it has closed."""
        try:
            chunk = os.read(self.answers_fd, READ_BYTES)
        except BlockingIOError:
            return []
        if not chunk:
            return None
        self.ready = True
        self.still_seconds = 0.0
        self.stopped = ""
        *lines, self.unread = (self.unread + chunk).split(b"\n")
        return [line for line in lines if line]

    def close_pipes(self) -> None:
        """Let go of the worker; it ends when it has read all."""
        os.close(self.deliveries_fd)
        os.close(self.answers_fd)

    # -- what it is at ---------------------------------------------------------------------------

    def begin_next(self, now: float) -> None:
        """The message in front is being worked on from now."""
        self.began = now
        self.hurried = False

    def hurry(self) -> None:
        """Ask it to split off the rest of its shard."""
        self.hurried = True
        self.process.send_signal(signal.SIGUSR1)

    def say_where_it_stands(self) -> None:
        """Have it print its stack."""
        self.process.send_signal(STAND_SIGNAL)

    # -- its end ---------------------------------------------------------------------------------

    def end(self, patience_seconds: float) -> str:
        """Wait for it to end, and have it killed when it does not; gives how it ended, in words.
        One that not even that ends (a disk that doesn't answer) is left to itself."""
        for patience in (patience_seconds, max(patience_seconds, 1.0)):
            try:
                status = self.process.wait(patience)
                break
            except subprocess.TimeoutExpired:
                self.process.kill()
        else:
            return self.stopped or "did not end when it was killed"
        return self.stopped or _ended(status)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """A process started here gets no Ctrl-C until it unblocks it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ended(status: int) -> str:
    """How a process ended, in words."""
    if status < 0:
        known = -status in set(signal.Signals)
        return f"was killed by {signal.Signals(-status).name if known else f'signal {-status}'}"
    return f"ended with exit code {status}"

"""A worker process: takes messages from a pipe, answers each on another, until the pipe closes.

Lines of JSON both ways; nothing is pickled. Between its answers it gives empty lines: signs of
progress. Started by `hand` as `python -m coordinator.machine.worker <in> <out> <crew>` with the
numbers of two inherited file descriptors and of the crew's process.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter

from coordinator.errors import FanfoldError, Fate
from coordinator.ids import new_attempt
from coordinator.keys import RunKeys
from coordinator.limits import Limits
from coordinator.loading import load_job
from coordinator.machine.pulse import BeatingInputs, BeatingStore, Hurry, Pulse, beating
from coordinator.model import Document, Message
from coordinator.state import runs
from coordinator.steps.attempts import Failed, Verdict, attend, note_of
from coordinator.steps.workplace import Workplace

VERDICT: TypeAdapter[Verdict] = TypeAdapter(Verdict)
GARBAGE_THRESHOLD = 50_000  # containers made, less those gone, between two collections
TELL_SECONDS = 0.25  # between two signs of progress
ABANDONED = 125  # the exit code of a worker whose crew has vanished: nobody reads it
STAND_SIGNAL = signal.SIGUSR2  # has a worker print where it stands
JOB_FILE = "FANFOLD_JOB_FILE"  # tells processes that the job's code spawns which job it is
_PR_SET_PDEATHSIG = 1  # prctl(2)


class Ended(BaseException):
    """The crew ends its workers. Nothing that the job's code catches may hold it up."""


class Setup(Document):
    """The first line that a worker gets: where it works and on what."""

    root: str
    job_path: str
    run_id: str
    limits: Limits


class Delivery(Document):
    """Every further line: a message, and how often it has been received."""

    message: Message
    receives: int

    def received_again(self) -> Delivery:
        """The same message, received once more."""
        return self.model_copy(update={"receives": self.receives + 1})


class Answers:
    """The pipe to the crew. Two threads write to it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()

    def give(self, line: bytes = b"") -> None:
        """Write a line: a verdict, or with none a sign of progress."""
        rest = memoryview(line + b"\n")
        with self._lock:
            while rest:
                rest = rest[os.write(self._fd, rest) :]


def main() -> None:
    """Work until the pipe closes. SIGTERM ends at once: nothing half-done is visible."""
    deliveries_fd, answers_fd, crew = map(int, sys.argv[1:4])
    for fd in (deliveries_fd, answers_fd):
        os.set_inheritable(fd, False)  # a process that the job starts must not hold our pipes open
    pulse = Pulse()
    hurry = Hurry(pulse)
    try:
        _heed_signals(hurry)
        _end_with(crew)
        spare_collector()
        answers = Answers(answers_fd)
        threading.Thread(target=_tell, args=(pulse, answers, crew), daemon=True).start()
        with os.fdopen(deliveries_fd, "rb") as deliveries:
            serve(deliveries, answers, hurry, pulse)
    except Ended:
        sys.exit(128 + signal.SIGTERM)
    except BrokenPipeError:
        os._exit(ABANDONED)


def _heed_signals(hurry: Hurry) -> None:
    """Ctrl-C is for the crew, which blocked it for us until now."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGUSR1, hurry.trip)
    faulthandler.register(STAND_SIGNAL, file=2)


def _end(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is on its way
    raise Ended


def _end_with(crew: int) -> None:
    """Have the kernel end us when the crew's process ends, even while the job's code lets no
    other thread run. Linux alone can; see also `_tell`."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != crew:
        os._exit(ABANDONED)


def _tell(pulse: Pulse, answers: Answers, crew: int) -> None:
    """Tell the crew of progress, and end the process when the crew is gone."""
    told = pulse.beats
    while os.getppid() == crew:
        if pulse.beats != told:
            told = pulse.beats
            try:
                answers.give()
            except OSError:
                break
        time.sleep(TELL_SECONDS)
    os._exit(ABANDONED)


def spare_collector() -> None:
    """Keep the garbage collector from looking at all records of a batch again and again: maps
    make many objects and few cycles. What is there now lives as long as the process."""
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)


def serve(deliveries: Iterable[bytes], answers: Answers, hurry: Hurry, pulse: Pulse) -> None:
    """Answer every message in turn. The first sign of progress is that we are ready."""
    lines = iter(deliveries)
    first = next(lines, None)
    if first is None:
        return  # the crew ended while it hired us
    setup = Setup.model_validate_json(first)
    place: Workplace | None = None
    wave = -1
    for line in lines:
        delivery = Delivery.model_validate_json(line)
        if place is None or delivery.message.wave != wave:
            try:
                place = arrange(setup, pulse)
            except FanfoldError as error:
                answers.give(VERDICT.dump_json(_unable(error, delivery)))
                continue
            wave = delivery.message.wave
            answers.give()
        hurry.reset()
        verdict = attend(
            place,
            delivery.message,
            attempt=new_attempt(),
            receives=delivery.receives,
            guard=hurry,
            jitter=random.random,
        )
        answers.give(VERDICT.dump_json(verdict))


def _unable(error: FanfoldError, delivery: Delivery) -> Failed:
    """What is said of a message that no attempt could be begun at, here or in any other worker:
    the job can't be imported any more, most likely."""
    if error.fate is not Fate.RUN:
        raise error
    now = time.time()
    return Failed(
        note=note_of(
            error, delivery.message, attempt="", receives=delivery.receives, at=now, began=now
        )
    )


def arrange(setup: Setup, pulse: Pulse) -> Workplace:
    """Everything that the run's shards stand on, as `run.json` has it now."""
    _keep_importable(Path(setup.job_path))
    loaded = load_job(setup.job_path)
    store = BeatingStore(Path(setup.root), pulse)
    run = runs.read(store, RunKeys(loaded.job.name, setup.run_id))
    return Workplace(
        store,
        run,
        time.time,
        BeatingInputs(pulse),
        beating(loaded.job.with_limits(setup.limits), pulse),
        loaded.program,
    )


def _keep_importable(path: Path) -> None:
    """Let the job's code import what lies beside it at any time, also in processes that it spawns.

    The folder comes last, and not into PYTHONPATH: no file in it may pass for a module that the
    standard library, a package or we have.
    """
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.append(folder)
    os.environ[JOB_FILE] = str(path)


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":
    # A process that the job's code spawned through multiprocessing, which gave it our sys.path:
    # it finds the job's functions where they were pickled.
    load_job(os.environ[JOB_FILE])

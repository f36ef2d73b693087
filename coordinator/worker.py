"""A worker process: takes messages from a pipe, answers each on another, until the pipe closes.

Lines of JSON both ways; nothing is pickled. Started by `crew` as
`python -m coordinator.worker <in> <out>` with the numbers of two inherited file descriptors.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import time
import uuid
from pathlib import Path
from typing import IO, Any

from pydantic_core import from_json, to_json

from coordinator import runs
from coordinator.attempts import Again, Answered, Verdict, attend
from coordinator.job import Limits
from coordinator.keys import RunKeys
from coordinator.loading import load_job
from coordinator.model import Document, Message
from coordinator.store.file import FileStore
from coordinator.store.file_inputs import FileInputs
from coordinator.work import Place

GARBAGE_THRESHOLD = 50_000  # containers made, less those gone, between two collections


class Setup(Document):
    """The first line that a worker gets: where it works and on what."""

    root: str
    job_path: str
    run_id: str
    limits: Limits


class Order(Document):
    """Every further line: a message, and how often it has been received."""

    message: Message
    receives: int

    def received_again(self) -> Order:
        """The order, received once more."""
        return self.model_copy(update={"receives": self.receives + 1})


class Hurry:
    """The guard of a worker process: trips when the crew asks it to split off its rest."""

    def __init__(self) -> None:
        self.tripped = False

    def trip(self, *_: object) -> None:
        """SIGUSR1: stop the present shard at its next record."""
        self.tripped = True


def main() -> None:
    """Work until the pipe closes. SIGTERM ends at once: nothing half-done is visible."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    hurry = Hurry()
    signal.signal(signal.SIGUSR1, hurry.trip)
    spare_collector()
    with (
        os.fdopen(int(sys.argv[1]), "rb") as orders,
        os.fdopen(int(sys.argv[2]), "wb", buffering=0) as answers,
    ):
        serve(orders, answers, hurry)


def spare_collector() -> None:
    """Keep the garbage collector from looking at all records of a batch again and again: maps
    make many objects and few cycles. What is there now lives as long as the process."""
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)


def serve(orders: IO[bytes], answers: Any, hurry: Hurry) -> None:
    """Answer every order in turn."""
    setup = Setup.model_validate_json(orders.readline())
    place: Place | None = None
    wave = -1
    for line in orders:
        order = Order.model_validate_json(line)
        if place is None or order.message.wave != wave:
            place = arrange(setup)
            wave = order.message.wave
        hurry.tripped = False
        verdict = attend(
            place,
            order.message,
            attempt=uuid.uuid4().hex[:16],
            receives=order.receives,
            guard=hurry,
            spread=random.random,
        )
        answers.write(encode_verdict(verdict) + b"\n")


def arrange(setup: Setup) -> Place:
    """Everything that the run's shards stand on, as `run.json` has it now."""
    loaded = load_job(setup.job_path)
    store = FileStore(Path(setup.root))
    run = runs.read(store, RunKeys(loaded.job.name, setup.run_id))
    return Place(
        store,
        FileInputs(),
        loaded.job.with_limits(setup.limits),
        run,
        loaded.code_version,
        time.time,
    )


def encode_verdict(verdict: Verdict) -> bytes:
    """A verdict as a line for the pipe."""
    if isinstance(verdict, Answered):
        return to_json({"answered": verdict.answer})
    if isinstance(verdict, Again):
        return to_json({"again": verdict.note, "delay_seconds": verdict.delay_seconds})
    return to_json({"failed": verdict.note})


def decode_verdict(line: bytes) -> dict[str, Any]:
    """What `encode_verdict` wrote."""
    found: dict[str, Any] = from_json(line)
    return found


if __name__ == "__main__":
    main()

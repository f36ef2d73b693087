"""A worker process: takes messages from a pipe, answers each on another, until the pipe closes.

Lines of JSON both ways; nothing is pickled. Started by `crew` as
`python -m coordinator.machine.worker <in> <out>` with the numbers of two inherited file descriptors.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import IO, Any

from pydantic import TypeAdapter

from coordinator.ids import new_attempt
from coordinator.keys import RunKeys
from coordinator.limits import Limits
from coordinator.loading import load_job
from coordinator.model import Document, Message
from coordinator.state import runs
from coordinator.steps.attempts import Verdict, attend
from coordinator.steps.workplace import Workplace
from coordinator.store.file.inputs import FileInputs
from coordinator.store.file.store import FileStore

VERDICT: TypeAdapter[Verdict] = TypeAdapter(Verdict)
GARBAGE_THRESHOLD = 50_000  # containers made, less those gone, between two collections


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


class Hurry:
    """The guard of a worker process: trips when the crew asks it to split off its rest."""

    def __init__(self) -> None:
        self._hurried = False

    def trip(self, *_: object) -> None:
        """SIGUSR1: stop the present shard at its next record."""
        self._hurried = True

    def reset(self) -> None:
        """Another shard begins."""
        self._hurried = False

    def tripped(self) -> bool:
        """Whether the present shard has to stop."""
        return self._hurried


def main() -> None:
    """Work until the pipe closes. SIGTERM ends at once: nothing half-done is visible."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    hurry = Hurry()
    signal.signal(signal.SIGUSR1, hurry.trip)
    spare_collector()
    with (
        os.fdopen(int(sys.argv[1]), "rb") as deliveries,
        os.fdopen(int(sys.argv[2]), "wb", buffering=0) as answers,
    ):
        serve(deliveries, answers, hurry)


def spare_collector() -> None:
    """Keep the garbage collector from looking at all records of a batch again and again: maps
    make many objects and few cycles. What is there now lives as long as the process."""
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)


def serve(deliveries: IO[bytes], answers: Any, hurry: Hurry) -> None:
    """Answer every message in turn."""
    setup = Setup.model_validate_json(deliveries.readline())
    place: Workplace | None = None
    wave = -1
    for line in deliveries:
        delivery = Delivery.model_validate_json(line)
        if place is None or delivery.message.wave != wave:
            place = arrange(setup)
            wave = delivery.message.wave
        hurry.reset()
        verdict = attend(
            place,
            delivery.message,
            attempt=new_attempt(),
            receives=delivery.receives,
            guard=hurry,
            jitter=random.random,
        )
        answers.write(VERDICT.dump_json(verdict) + b"\n")


def arrange(setup: Setup) -> Workplace:
    """Everything that the run's shards stand on, as `run.json` has it now."""
    loaded = load_job(setup.job_path)
    store = FileStore(Path(setup.root))
    run = runs.read(store, RunKeys(loaded.job.name, setup.run_id))
    return Workplace(
        store,
        run,
        time.time,
        FileInputs(),
        loaded.job.with_limits(setup.limits),
        loaded.code_version,
    )


if __name__ == "__main__":
    main()

"""For a job's own tests: run it in memory, in one line.

outcome = run_job("jobs/wordcount.py", {"a.txt": b"to be or not to be"})
assert outcome.records()[0] == {"word": "be", "count": 2}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from coordinator.errors import ShardError
from coordinator.job import Job
from coordinator.loading import load_job
from coordinator.loading.program import Program
from coordinator.machine.local import Hear, LocalRun, Watch, run
from coordinator.model import Hints, Manifest, Message, RunRecord
from coordinator.state.files import read_lines
from coordinator.state.proof import results_in
from coordinator.steps.attempts import Again, attend
from coordinator.steps.workplace import UNHURRIED, Workplace
from coordinator.store.memory import MemoryInputs, MemoryStore
from coordinator.store.ports import Inputs, Store

PROGRAM = Program("test")


class InlineCrew:
    """Works on messages one after the other, in this process, without waiting between tries."""

    def __init__(self, job: Job, store: Store, inputs: Inputs, clock: Callable[[], float]) -> None:
        self.job = job
        self.store = store
        self.inputs = inputs
        self.clock = clock
        self._attempts = count()

    def work(self, run: RunRecord, messages: Sequence[Message], hear: Hear) -> None:
        """Have every message answered or failed."""
        place = Workplace(
            self.store, run, self.clock, self.inputs, self.job, PROGRAM, pause=lambda seconds: None
        )
        for message in messages:
            self._finish(place, message, hear)

    def _finish(self, place: Workplace, message: Message, hear: Hear) -> None:
        for receives in count(1):
            verdict = attend(
                place,
                message,
                attempt=f"{next(self._attempts):016x}",
                receives=receives,
                guard=UNHURRIED,
                jitter=lambda: 0.0,
            )
            hear(verdict)
            if not isinstance(verdict, Again):
                return


@dataclass(frozen=True, slots=True)
class Outcome:
    """A published run: the bytes of its results by name, its quarantine and its manifest."""

    job: Job
    results: dict[str, bytes]
    quarantine: list[dict[str, Any]]
    manifest: Manifest

    def records(self) -> list[Any]:
        """The records of all results, decoded: JSON values, text lines, or rows as dicts.

        Raises:
            ShardError: the job has an Objects sink; look at `results`.
        """
        if self.job.sink.names_results:
            raise ShardError("An Objects sink has no records; look at `results`.")
        return [record for body in self.results.values() for record in self.job.sink.decode(body)]


def run_job(
    job: Job | str | Path,
    inputs: Mapping[str, bytes | str],
    *,
    run_id: str = "test",
    shard_bytes: int | None = None,
) -> Outcome:
    """Run a job in memory over inputs given by name, and give its result.

    Args:
        job: a `Job`, or the path of its module.
        inputs: contents by object key.
        shard_bytes: cut finely to see that the result does not depend on it.

    Raises:
        FanfoldError: as the run would end.
    """
    loaded = job.check() if isinstance(job, Job) else load_job(str(job)).job
    bodies = {key: body.encode() if isinstance(body, str) else body for key, body in inputs.items()}
    store, source = MemoryStore(), MemoryInputs(bodies)
    seconds = count(1_700_000_000)

    def clock() -> float:
        return float(next(seconds))

    asked = LocalRun(
        job=loaded,
        run_id=run_id,
        patterns=("*",) if all("/" not in key for key in bodies) else ("**",),
        store=store,
        inputs=source,
        clock=clock,
        code_version=PROGRAM.version,
        hints=Hints(shard_bytes=shard_bytes, billed=False),
    )
    published = run(asked, InlineCrew(loaded, store, source, clock), Watch())
    return outcome_of(loaded, store, published.manifest)


def outcome_of(job: Job, store: Store, manifest: Manifest) -> Outcome:
    """The outcome of a published run, read from its store."""
    results = {
        file.key.removeprefix(manifest.results_prefix): store.get(file.key).body
        for file in results_in(store, manifest.ledgers)
    }
    refused = read_lines(store, manifest.quarantine) if manifest.quarantine else ()
    return Outcome(job, results, [json.loads(line) for line in refused], manifest)

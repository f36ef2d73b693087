"""For a job's own tests: run it in memory, in one line.

outcome = run_job("jobs/wordcount.py", {"a.txt": b"to be or not to be"})
assert outcome.records()[0] == {"word": "be", "count": 2}
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from coordinator.attempts import Again, Answered, attend
from coordinator.errors import ShardError
from coordinator.job import Csv, Job
from coordinator.keys import RunKeys
from coordinator.loading import load_job
from coordinator.local import Request, Watch, run
from coordinator.model import Answer, Hints, Manifest, Message, Note, RunRecord, Stage
from coordinator.store import Inputs, Store
from coordinator.store.memory import MemoryInputs, MemoryStore
from coordinator.work import NEVER, Place


class Quiet:
    """A watch that shows nothing."""

    def planning(self) -> None: ...

    def wave(self, run: RunRecord, stage: Stage, wave: int, shards: int) -> None: ...

    def answered(self, answer: Answer) -> None: ...

    def retried(self, note: Note) -> None: ...

    def failed(self, note: Note) -> None: ...

    def publishing(self) -> None: ...


class InlineCrew:
    """Works on messages one after the other, in this process, without waiting between tries."""

    def __init__(self, job: Job, store: Store, inputs: Inputs, clock: Callable[[], float]) -> None:
        self.job = job
        self.store = store
        self.inputs = inputs
        self.clock = clock
        self._attempts = count()

    def work(self, run: RunRecord, messages: Sequence[Message], watch: Watch) -> None:
        """Have every message answered or failed."""
        place = Place(self.store, self.inputs, self.job, run, "test", self.clock)
        for message in messages:
            self._finish(place, message, watch)

    def _finish(self, place: Place, message: Message, watch: Watch) -> None:
        for receives in count(1):
            verdict = attend(
                place,
                message,
                attempt=f"{next(self._attempts):016x}",
                receives=receives,
                guard=NEVER,
                spread=lambda: 0.0,
            )
            if isinstance(verdict, Again):
                watch.retried(verdict.note)
                continue
            if isinstance(verdict, Answered):
                watch.answered(verdict.answer)
            else:
                watch.failed(verdict.note)
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
        found: list[Any] = []
        for body in self.results.values():
            text = body.decode()
            if self.job.sink.kind == "JsonLines":
                found += [json.loads(line) for line in text.split("\n")[:-1]]
            elif isinstance(self.job.sink, Csv):
                rows = csv.DictReader(
                    io.StringIO(text, newline=""), delimiter=self.job.sink.delimiter
                )
                found += list(rows)
            elif self.job.sink.kind == "Text":
                found += text.split("\n")[:-1]
            else:
                raise ShardError("An Objects sink has no records; look at `results`.")
        return found


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

    request = Request(
        job=loaded,
        run_id=run_id,
        patterns=("*",) if all("/" not in key for key in bodies) else ("**",),
        store=store,
        inputs=source,
        clock=clock,
        hints=Hints(shard_bytes=shard_bytes, billed=False),
    )
    published = run(request, InlineCrew(loaded, store, source, clock), Quiet())
    return outcome_of(loaded, store, published.manifest)


def outcome_of(job: Job, store: Store, manifest: Manifest) -> Outcome:
    """The outcome of a published run, read from its store."""
    prefix = RunKeys(manifest.job, manifest.run_id).results
    results = {file.key.removeprefix(prefix): store.get(file.key).body for file in manifest.results}
    refused = [
        json.loads(line)
        for file in manifest.quarantine
        for line in store.get(file.key).body.split(b"\n")[:-1]
    ]
    return Outcome(job, results, refused, manifest)

"""A whole run, in one function: where a reader starts.

The same steps run on AWS, each in a Lambda function of its own; here they are called in turn, and
a `Crew` of worker processes stands for queue and workers.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from coordinator import runs
from coordinator.errors import FanfoldError, NoInput
from coordinator.job import Job
from coordinator.keys import RunKeys
from coordinator.model import Answer, Hints, Message, Note, RunRecord, Stage
from coordinator.planning import plan_map
from coordinator.publish import Published, publish, read_manifest
from coordinator.reconcile import check_tolerance, run_error
from coordinator.store import Inputs, Store
from coordinator.waves import FanOut, reconcile

ON_OWN_MACHINE = Hints(billed=False)


class Watch(Protocol):
    """What is told of a run while it goes on."""

    def planning(self) -> None: ...

    def wave(self, run: RunRecord, stage: Stage, wave: int, shards: int) -> None: ...

    def answered(self, answer: Answer) -> None: ...

    def retried(self, note: Note) -> None: ...

    def failed(self, note: Note) -> None: ...

    def publishing(self) -> None: ...


class Crew(Protocol):
    """Works on a wave's messages until each is answered or has failed for good."""

    def work(self, run: RunRecord, messages: Sequence[Message], watch: Watch) -> None: ...


@dataclass(frozen=True, slots=True)
class Request:
    """A run as asked for on one machine."""

    job: Job
    run_id: str
    patterns: tuple[str, ...]
    store: Store
    inputs: Inputs
    clock: Callable[[], float]
    hints: Hints = ON_OWN_MACHINE
    logical_time: float | None = None


def run(request: Request, crew: Crew, watch: Watch) -> Published:
    """Execute a run to its end, or take it up again: only what is missing is done.

    The caller holds the run's lock, so an owner found in `run.json` has ended.

    Raises:
        FanfoldError: nothing was published; the same call takes the run up again.
    """
    job, store = request.job, request.store
    keys = RunKeys(job.name, request.run_id)
    record = _claim(request, keys)
    if record.state == "published":
        return Published(record, read_manifest(store, keys), pointer_moved=True)
    watch.planning()
    record = plan_map(store, request.inputs, job, record, attempt=new_attempt())
    while True:
        ahead = reconcile(store, job, record, attempt=new_attempt())
        record = ahead.run
        if not isinstance(ahead, FanOut):
            watch.publishing()
            return publish(store, job, record, now=request.clock())
        watch.wave(record, ahead.stage, ahead.wave, len(ahead.shards))
        record = ahead.dispatched(store)
        crew.work(record, ahead.messages(), Judge(job, record, ahead.stage, watch))


def _claim(request: Request, keys: RunKeys) -> RunRecord:
    now = request.clock()
    if not runs.exists(request.store, keys):
        refuse_no_input(request)
    return runs.claim(
        request.store,
        runs.Claim(
            keys=keys,
            owner=f"local-{new_attempt()}",
            declaration=request.job.declaration(),
            inputs=request.patterns,
            logical_time=now if request.logical_time is None else request.logical_time,
            waves=request.job.limits.waves,
            hints=request.hints,
        ),
        now=now,
        is_live=lambda owner: False,
    )


def refuse_no_input(request: Request) -> None:
    """Say that nothing matches before a run is begun.

    Raises:
        NoInput: nothing does.
    """
    pages = request.inputs.pages(request.patterns)
    if not any(page.objects for page in pages):
        raise NoInput(
            f"No input matches {', '.join(request.patterns)} "
            f"(the job reads names like {getattr(request.job.source, 'glob', '*')}). Check the paths."
        )


def new_attempt() -> str:
    """A random id for an attempt, an owner or a set of plans."""
    return uuid.uuid4().hex[:16]


class Judge:
    """A watch that ends a wave early where going on is pointless."""

    def __init__(self, job: Job, run: RunRecord, stage: Stage, watch: Watch) -> None:
        self.job = job
        self.watch = watch
        self.quarantined = 0
        self.records = 0
        self.stage = stage
        self.run = run

    def answered(self, answer: Answer) -> None:
        """Stop once more is quarantined than the job tolerates."""
        self.watch.answered(answer)
        self.quarantined += answer.quarantined
        self.records += answer.records_in
        if self.stage == "map":
            check_tolerance(self.quarantined, self.records, self.job.limits, complete=False)

    def failed(self, note: Note) -> None:
        """Stop at an error that is fatal to the run."""
        self.watch.failed(note)
        error: type[FanfoldError] = run_error(note.error)
        if note.fate.value == "run":
            raise error(note.reason)

    def retried(self, note: Note) -> None:
        self.watch.retried(note)

    def planning(self) -> None:
        self.watch.planning()

    def wave(self, run: RunRecord, stage: Stage, wave: int, shards: int) -> None:
        self.watch.wave(run, stage, wave, shards)

    def publishing(self) -> None:
        self.watch.publishing()

"""A whole run, in one function: where a reader starts.

The same steps run on AWS, each in a Lambda function of its own; here they are called in turn, and
a `Crew` of worker processes stands for queue and workers. Waves after failures do not wait: the crew has
waited between its tries, and the same command tries again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from coordinator.errors import Fate, NoInput, error_from
from coordinator.ids import new_draft, new_owner
from coordinator.job import Job
from coordinator.keys import RunKeys
from coordinator.model import Hints, Message, Pinned, RunRecord, Stage
from coordinator.rules.decide import check_tolerance
from coordinator.state import runs
from coordinator.state.catalogue import points_at, read_manifest
from coordinator.steps.attempts import Answered, Failed, Verdict
from coordinator.steps.plan import check_redo, plan, redo_quarantined
from coordinator.steps.publish import Published, publish
from coordinator.steps.reconcile import Finish, Unplanned, reconcile
from coordinator.store.ports import Inputs, Store

ON_OWN_MACHINE = Hints(billed=False)


class Watch:
    """What is told of a run while it goes on. This one shows nothing."""

    def claimed(self, run: RunRecord) -> None:
        """The run is ours; from here on it can be taken up again."""

    def planning(self) -> None:
        """The inputs are being listed and cut."""

    def wave(self, run: RunRecord, stage: Stage, wave: int, shards: int) -> None:
        """A wave of shards is sent out."""

    def heard(self, verdict: Verdict) -> None:
        """An attempt has ended."""

    def publishing(self) -> None:
        """All shards are done."""


Hear = Callable[[Verdict], None]


class Crew(Protocol):
    """Works on a wave's messages until each is answered or has failed for good, and tells `hear`
    of every attempt that ends. An error that `hear` raises ends the wave."""

    def work(self, run: RunRecord, messages: Sequence[Message], hear: Hear) -> None: ...


@dataclass(frozen=True, slots=True)
class LocalRun:
    """A run as asked for on one machine. `limits` are those of the job's that were changed for it:
    the job has them already. `redo` has shards with quarantined records done again."""

    job: Job
    run_id: str
    patterns: tuple[str, ...]
    store: Store
    inputs: Inputs
    clock: Callable[[], float]
    code_version: str
    redo: bool = False
    hints: Hints = ON_OWN_MACHINE
    logical_time: float | None = None
    limits: Mapping[str, Any] = field(default_factory=dict)


def run(asked: LocalRun, crew: Crew, watch: Watch) -> Published:
    """Execute a run to its end, or take it up again: only what is missing is done.

    The caller holds the run's lock, so an owner found in `run.json` has ended.

    Raises:
        FanfoldError: nothing was published; the same call takes the run up again.
    """
    job, store = asked.job, asked.store
    keys = RunKeys(job.name, asked.run_id)
    code, clock = asked.code_version, asked.clock
    if asked.redo:
        check_redo(runs.find(store, keys))
    record = _claim(asked, keys)
    if record.state == "published":
        manifest = read_manifest(store, keys)
        return Published(record, manifest, points_at(store, manifest))
    if asked.redo:
        record = redo_quarantined(store, record, draft=new_draft())
    watch.claimed(record)
    while True:
        ahead = reconcile(store, job, record, draft=new_draft(), code_version=code, clock=clock)
        record = ahead.run
        if isinstance(ahead, Unplanned):
            watch.planning()
            record = plan(
                store,
                asked.inputs,
                job,
                record,
                draft=new_draft(),
                code_version=code,
                clock=clock,
            )
        elif isinstance(ahead, Finish):
            watch.publishing()
            return publish(store, job, record, clock=clock)
        else:
            watch.wave(record, ahead.stage, ahead.wave, len(ahead.shards))
            record = ahead.dispatched(store)
            crew.work(record, ahead.messages(), Judge(job, ahead.stage, watch.heard))


def _claim(asked: LocalRun, keys: RunKeys) -> RunRecord:
    now = asked.clock()
    if not runs.exists(asked.store, keys):
        check_input(asked)
    return runs.claim(
        asked.store,
        runs.Claim(
            keys=keys,
            owner=new_owner("local"),
            code_version=asked.code_version,
            declaration=asked.job.declaration(),
            inputs=asked.patterns,
            logical_time=now if asked.logical_time is None else asked.logical_time,
            waves=asked.job.limits.waves,
            hints=asked.hints,
            limits=asked.limits,
        ),
        now=now,
        is_live=lambda owner: False,
    )


def check_input(asked: LocalRun) -> None:
    """Say before a run is begun that nothing matches, or that the job can't read what does.

    Raises:
        NoInput: nothing does.
        InputInvalid: one of the first has a name that the source doesn't take.
    """
    found: list[Pinned] = next(
        (page.objects for page in asked.inputs.pages(asked.patterns) if page.objects), []
    )
    if not found:
        raise NoInput(
            f"No input matches {', '.join(asked.patterns)} "
            f"(the job reads names like {asked.job.source.glob}). Check the paths."
        )
    for pinned in found:
        asked.job.source.cuts_bytes(pinned.key)


class Judge:
    """Passes on what is heard, and ends a wave early where going on is pointless."""

    def __init__(self, job: Job, stage: Stage, hear: Hear) -> None:
        self.job = job
        self.stage = stage
        self.hear = hear
        self.quarantined = 0

    def __call__(self, verdict: Verdict) -> None:
        """Stop once more is quarantined than the job tolerates, or at an error that is fatal to
        the run.

        Raises:
            ToleranceExceeded: or the error that a note tells of.
        """
        self.hear(verdict)
        if isinstance(verdict, Failed) and verdict.note.fate is Fate.RUN:
            raise error_from(verdict.note.error, verdict.note.reason)
        if isinstance(verdict, Answered) and self.stage == "map":
            self.quarantined += verdict.answer.quarantined
            check_tolerance(self.quarantined, 0, self.job.limits, complete=False)  # no share yet

"""`fanfold run`: a job over files, on this machine."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from coordinator.cli.arguments import parse_size
from coordinator.cli.endings import CommandEnded, Ending, ending_of
from coordinator.cli.failures import advice, first_refusal
from coordinator.cli.output import (
    NotPrinted,
    check_text,
    job_apart,
    printing,
    say,
    show_bytes,
    show_seconds,
    stderr,
)
from coordinator.cli.progress import Progress
from coordinator.cli.signals import Signals
from coordinator.errors import InputInvalid, RunMismatch, ToleranceExceeded
from coordinator.ids import new_run_id
from coordinator.keys import RunKeys, check_run_id
from coordinator.loading import LoadedJob, load_job
from coordinator.machine.crew import ProcessCrew
from coordinator.machine.local import LocalRun, run
from coordinator.machine.worker import Setup
from coordinator.model import Hints, Manifest, RunRecord
from coordinator.rules.starts import limits_of
from coordinator.state import runs
from coordinator.state.proof import results_in
from coordinator.steps.publish import Published
from coordinator.store.file.inputs import FileInputs
from coordinator.store.file.store import FileStore
from coordinator.store.ports import Store


@dataclass(frozen=True, slots=True)
class Asked:
    """The command as it was typed."""

    job: str
    inputs: tuple[str, ...]
    output: str
    workers: int | None
    shard_bytes: str | None
    shard_items: int | None
    run_id: str | None
    redo: bool = False


@dataclass(frozen=True, slots=True)
class Summary:
    """What `--json` prints and the closing table shows."""

    run_id: str
    status: str
    results: list[str]
    manifest: str
    records_in: int
    records_out: int
    quarantined: int
    shards: int
    waves: int
    seconds: float


def run_command(asked: Asked, signals: Signals, *, as_json: bool) -> None:
    """Run a job, show how it goes, and end with its results.

    Raises:
        CommandEnded: nothing was published.
        NotPrinted: the run is published, and that can't be said.
    """
    began = time.monotonic()
    progress = Progress(Console(file=stderr(), highlight=False))
    request: LocalRun | None = None
    try:
        with job_apart():
            loaded = load_job(asked.job)
            check_text(str(loaded.path), "The path of the job")
            request = request_for(asked, loaded)
            published, before = _run(request, loaded, progress, signals)
    except BaseException as error:
        raise CommandEnded(_ending(error, request, progress, signals)) from error
    signals.disregard()
    keys = RunKeys(request.job.name, request.run_id)
    summary = summarise(request.store, keys, published.manifest, time.monotonic() - began)
    try:
        if as_json:
            say(json.dumps(asdict(summary)))
        else:
            _show(summary, published, request.store, already=before)
    except NotPrinted as error:
        raise NotPrinted(
            f"{error} Run {summary.run_id} is published all the same: {summary.manifest}"
        ) from error


def request_for(asked: Asked, loaded: LoadedJob) -> LocalRun:
    """The run as it was asked for; options that were left out are those it was begun with.

    Raises:
        UsageError: something in it can't be used.
        RunMismatch: it was begun with another option.
    """
    store = FileStore(check_text(os.path.abspath(asked.output), "The output"))  # noqa: PTH100
    run_id = new_run_id(datetime.now(UTC)) if asked.run_id is None else check_run_id(asked.run_id)
    shard_bytes = None if asked.shard_bytes is None else parse_size(asked.shard_bytes)
    limits = {} if asked.shard_items is None else {"shard_items": asked.shard_items}
    begun = runs.find(store, RunKeys(loaded.job.name, run_id))
    if asked.redo and begun is None:
        raise InputInvalid("--redo takes up a run that was begun: name it by --run-id.")
    if begun is not None:
        check_same_limits(limits, begun, store)
        limits = begun.limits
    job = loaded.job.with_limits(limits_of(loaded.job.limits, limits))
    lanes = asked.workers or os.cpu_count() or 1
    return LocalRun(
        job=job,
        run_id=run_id,
        patterns=tuple(absolute(pattern) for pattern in asked.inputs),
        store=store,
        inputs=FileInputs(glob=job.source.glob, exclude=(store.root,)),
        code_version=loaded.program.version,
        clock=time.time,
        hints=Hints(lanes=lanes, shard_bytes=shard_bytes, billed=False),
        limits=limits,
        redo=asked.redo,
    )


def check_same_limits(limits: Mapping[str, Any], begun: RunRecord, store: FileStore) -> None:
    """Refuse an option that contradicts what a run is pinned to.

    Raises:
        RunMismatch: one does.
    """
    pinned = begun.declaration.get("limits", {})
    for name, value in limits.items():
        if pinned.get(name) != value:
            raise RunMismatch(
                f"Run {begun.run_id} in {store.url(RunKeys(begun.job, begun.run_id).root)} was begun "
                f"with --{name.replace('_', '-')} {pinned.get(name)}. Take a new run id, or leave the "
                "option out."
            )


def _run(
    request: LocalRun, loaded: LoadedJob, progress: Progress, signals: Signals
) -> tuple[Published, bool]:
    """Execute the run under its lock; also tells whether it had been published before."""
    store, job = request.store, request.job
    if not isinstance(store, FileStore):
        raise InputInvalid("A run on this machine needs a folder as its output.")
    keys = RunKeys(job.name, request.run_id)
    with ExitStack() as stack:
        stack.enter_context(store.hold(keys.run))
        found = runs.find(store, keys)
        before = found is not None and found.state == "published"
        setup = Setup(
            root=str(store.root),
            job_path=str(loaded.path),
            run_id=request.run_id,
            limits=job.limits,
        )
        crew = stack.enter_context(
            ProcessCrew(
                setup,
                store,
                0 if before else request.hints.lanes or 1,
                clock=request.clock,
                splittable=job.splittable,
                is_cancelled=lambda: _is_cancelled(store, keys),
                lost=progress.lost,
            )
        )
        signals.at_once = crew.kill
        stack.enter_context(progress)
        return run(request, crew, progress), before


def _is_cancelled(store: FileStore, keys: RunKeys) -> bool:
    """Whether `fanfold cancel` has marked the run."""
    found = runs.find(store, keys)
    return found is not None and found.state == "cancelled"


def absolute(pattern: str) -> str:
    """An input as it is pinned: a path from the root, whatever folder the command runs in.

    Raises:
        InputInvalid: an address of another kind than a path, or no UTF-8.
    """
    if "://" in pattern:
        raise InputInvalid(
            f"{pattern} is no path. `fanfold run` reads files; deploy the job to read S3."
        )
    if ".." in pattern.split("/"):
        # After a link it means what it means to the system.
        return check_text(str(Path.cwd() / pattern), "The input")
    return check_text(os.path.abspath(pattern), "The input")  # noqa: PTH100  links stay as named


# ------------------------------------------------------------------------------------------------
# How it ended
# ------------------------------------------------------------------------------------------------


def _ending(
    error: BaseException, request: LocalRun | None, progress: Progress, signals: Signals
) -> Ending:
    """How a run ended that was not published, and what may be done about it."""
    ending = ending_of(error, signals, begun=progress.begun)
    if request is None or not progress.begun:
        return ending
    if ending.status == "interrupted":
        message = f"{ending.message} The run id {request.run_id} takes the run up again."
        ending = replace(ending, message=message)
    elif isinstance(error, ToleranceExceeded):
        first = first_refusal(request.store, RunKeys(request.job.name, request.run_id))
        ending = replace(ending, message=f"{ending.message} {first}".rstrip())
    again = advice(error, _again(request.run_id), hopeless=progress.hopeless)
    return replace(ending, run_id=request.run_id, advice=again)


def _again(run_id: str) -> str:
    """The command that takes this run up again."""
    arguments = [word for word in sys.argv[1:] if word != "--json"]
    if not any(word == "--run-id" or word.startswith("--run-id=") for word in arguments):
        arguments[1:1] = ["--run-id", run_id]
    return shlex.join(["fanfold", *arguments])


def summarise(store: Store, keys: RunKeys, manifest: Manifest, seconds: float) -> Summary:
    """The numbers of a published run."""
    stages = manifest.stages
    return Summary(
        run_id=manifest.run_id,
        status="published",
        results=[store.url(file.key) for file in results_in(store, manifest.ledgers)],
        manifest=store.url(keys.manifest),
        records_in=stages["map"].records_in,
        records_out=stages["merge"].records_out,
        quarantined=manifest.quarantined,
        shards=sum(total.shards for total in stages.values()),
        waves=manifest.waves,
        seconds=round(seconds, 3),
    )


def _show(summary: Summary, published: Published, store: Store, *, already: bool) -> None:
    """The closing lines: where the result is, and a short table."""
    stages = published.manifest.stages
    table = Table.grid(padding=(0, 3))
    table.add_row("run", summary.run_id)
    table.add_row("records", f"{summary.records_in:,} in, {summary.records_out:,} out")
    if summary.quarantined:
        table.add_row("quarantined", f"{summary.quarantined:,}, listed in the manifest")
    table.add_row("read", show_bytes(stages["map"].bytes_in))
    table.add_row("shards", f"{summary.shards:,} in {summary.waves} waves")
    table.add_row("time", show_seconds(summary.seconds))
    if not published.pointer_moved:
        table.add_row("latest", "left on a newer run")
    with printing() as stdout:
        console = Console(file=stdout, highlight=False)
        if already:
            console.print(f"Run {summary.run_id} was published before; nothing was done.")
        console.print(table)
        console.print(Text(summary.manifest), soft_wrap=True)
        if len(summary.results) == 1:
            console.print(Text(summary.results[0]), soft_wrap=True)
        else:
            where = store.url(RunKeys(published.manifest.job, summary.run_id).results)
            console.print(Text(f"{len(summary.results)} results in {where}"), soft_wrap=True)

"""`fanfold run`: a job over files, on this machine."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coordinator.cli.progress import Progress
from coordinator.cli.sizes import parse_size, show_bytes, show_seconds
from coordinator.errors import FanfoldError, InputInvalid
from coordinator.ids import new_run_id
from coordinator.keys import RunKeys, check_run_id
from coordinator.limits import Limits
from coordinator.loading import LoadedJob, load_job
from coordinator.machine.crew import ProcessCrew
from coordinator.machine.local import LocalRun, run
from coordinator.machine.worker import Setup
from coordinator.model import Hints, Manifest
from coordinator.state import runs
from coordinator.steps.publish import Published
from coordinator.store.file.inputs import FileInputs
from coordinator.store.file.store import FileStore

INTERRUPTED = 130


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


def run_command(
    reference: str,
    patterns: tuple[str, ...],
    *,
    output: Path,
    workers: int | None,
    shard_bytes: str | None,
    shard_items: int | None,
    run_id: str | None,
    as_json: bool,
) -> None:
    """Run a job, show how it goes, and end with its results."""
    began = time.monotonic()
    console = Console(stderr=True, highlight=False)
    loaded = load_job(reference)
    job = loaded.job.with_limits(_limits(loaded.job.limits, shard_items))
    run_id = check_run_id(run_id) if run_id else new_run_id(datetime.now(UTC))
    count = workers or os.cpu_count() or 1
    store = FileStore(output)
    keys = RunKeys(job.name, run_id)
    asked = LocalRun(
        job=job,
        run_id=run_id,
        patterns=tuple(absolute(pattern) for pattern in patterns),
        store=store,
        inputs=FileInputs(glob=job.source.glob, exclude=(store.root,)),
        clock=time.time,
        hints=Hints(
            lanes=count, shard_bytes=parse_size(shard_bytes) if shard_bytes else None, billed=False
        ),
    )
    try:
        published, before = _run(asked, loaded, count, console)
    except KeyboardInterrupt:
        console.print(
            Text(f"Stopped. Take the run up again with:\n  {_again(run_id)}"), soft_wrap=True
        )
        raise typer.Exit(INTERRUPTED) from None
    except FanfoldError as error:
        if error.exit_code == 1 and runs.exists(store, keys):
            console.print(Text(f"To take the run up again:\n  {_again(run_id)}"), soft_wrap=True)
        raise
    summary = summarise(store, keys, published.manifest, time.monotonic() - began)
    if as_json:
        typer.echo(json.dumps(asdict(summary)))
        return
    _show(summary, published, store, already=before)


def _run(
    asked: LocalRun, loaded: LoadedJob, workers: int, console: Console
) -> tuple[Published, bool]:
    """Execute the run under its lock; also tells whether it had been published before."""
    store, job = asked.store, asked.job
    if not isinstance(store, FileStore):
        raise InputInvalid("A run on this machine needs a folder as its output.")
    keys = RunKeys(job.name, asked.run_id)
    with ExitStack() as stack:
        stack.enter_context(store.hold(keys.run))
        before = runs.exists(store, keys) and runs.read(store, keys).state == "published"
        setup = Setup(
            root=str(store.root),
            job_path=str(loaded.path),
            run_id=asked.run_id,
            limits=job.limits,
        )
        crew = stack.enter_context(
            ProcessCrew(
                setup,
                store,
                0 if before else workers,
                clock=asked.clock,
                splittable=job.splittable,
                is_cancelled=lambda: _is_cancelled(store, keys),
            )
        )
        progress = stack.enter_context(Progress(console))
        return run(asked, crew, progress), before


def _is_cancelled(store: FileStore, keys: RunKeys) -> bool:
    """Whether `fanfold cancel` has marked the run."""
    return runs.exists(store, keys) and runs.read(store, keys).state == "cancelled"


def _limits(limits: Limits, shard_items: int | None) -> Limits:
    """The job's limits, with what was asked for on the command line."""
    if shard_items is None:
        return limits
    return Limits(**{**limits.model_dump(), "shard_items": shard_items})


def absolute(pattern: str) -> str:
    """An input as it is pinned: a path from the root, whatever folder the command runs in.

    Raises:
        InputInvalid: an address of another kind than a path.
    """
    if "://" in pattern:
        raise InputInvalid(
            f"{pattern} is no path. `fanfold run` reads files; deploy the job to read S3."
        )
    if not pattern:
        raise InputInvalid("An input is empty: give files, folders or globs.")
    if ".." in pattern.split("/"):
        return str(Path.cwd() / pattern)  # after a link it means what it means to the system
    return os.path.abspath(pattern)  # noqa: PTH100  links stay as they were named


def _again(run_id: str) -> str:
    """The command that takes this run up again."""
    arguments = [word for word in sys.argv[1:] if word != "--json"]
    if not any(word == "--run-id" or word.startswith("--run-id=") for word in arguments):
        arguments[1:1] = ["--run-id", run_id]
    return shlex.join(["fanfold", *arguments])


def summarise(store: FileStore, keys: RunKeys, manifest: Manifest, seconds: float) -> Summary:
    """The numbers of a published run."""
    stages = manifest.stages
    return Summary(
        run_id=manifest.run_id,
        status="published",
        results=[store.url(result.key) for result in manifest.results],
        manifest=store.url(keys.manifest),
        records_in=stages["map"].records_in,
        records_out=stages["merge"].records_out,
        quarantined=manifest.quarantined,
        shards=sum(total.shards for total in stages.values()),
        waves=manifest.waves,
        seconds=round(seconds, 3),
    )


def _show(summary: Summary, published: Published, store: FileStore, *, already: bool) -> None:
    """The closing lines: where the result is, and a short table."""
    console = Console(highlight=False)
    if already:
        console.print(f"Run {summary.run_id} was published before; nothing was done.")
    table = Table.grid(padding=(0, 3))
    stages = published.manifest.stages
    table.add_row("run", summary.run_id)
    table.add_row("records", f"{summary.records_in:,} in, {summary.records_out:,} out")
    if summary.quarantined:
        table.add_row("quarantined", f"{summary.quarantined:,}, listed in the manifest")
    table.add_row("read", show_bytes(stages["map"].bytes_in))
    table.add_row("shards", f"{summary.shards:,} in {summary.waves} waves")
    table.add_row("time", show_seconds(summary.seconds))
    if not published.pointer_moved:
        table.add_row("latest", "left on a newer run")
    console.print(table)
    console.print(Text(summary.manifest), soft_wrap=True)
    if len(summary.results) == 1:
        console.print(Text(summary.results[0]), soft_wrap=True)
    else:
        where = store.url(RunKeys(published.manifest.job, summary.run_id).results)
        console.print(Text(f"{len(summary.results)} results in {where}"), soft_wrap=True)

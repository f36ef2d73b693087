"""`fanfold verify`, `cancel`, `clean` and `repair`: what is done to runs besides running them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import typer

from coordinator.cli.arguments import locate, open_store
from coordinator.cli.endings import FAILED
from coordinator.cli.output import complain, say, show_bytes
from coordinator.errors import FanfoldError, InputInvalid, RunBusy, RunMismatch
from coordinator.ids import new_draft, new_owner
from coordinator.keys import JOB_NAME, RunKeys
from coordinator.state import runs
from coordinator.state.catalogue import read_manifest
from coordinator.store.file.store import FileStore
from coordinator.store.ports import Store
from coordinator.upkeep.clean import Cleaned, clean, jobs_in, run_ids
from coordinator.upkeep.repair import repair
from coordinator.upkeep.verify import verify

ABANDONED_SECONDS = 86_400.0


def verify_command(run_dir: str, *, as_json: bool) -> None:
    """Say what is wrong with a run, or that nothing is.

    Raises:
        InputInvalid: the folder is not a run's.
    """
    store, keys = locate(run_dir, published=True)
    findings = list(verify(store, keys))
    if as_json:
        status = "broken" if findings else "proven"
        problems = [{"where": finding.where, "problem": finding.problem} for finding in findings]
        say(json.dumps({"run_id": keys.run_id, "status": status, "findings": problems}))
    elif findings:
        for finding in findings:
            say(f"{finding.where}: {finding.problem}")
    else:
        manifest = read_manifest(store, keys)
        run = runs.find(store, keys)
        cleaned = " Its parts are gone." if run is None or run.cleaned else ""
        say(
            f"Run {keys.run_id} of job {keys.job} is proven: {manifest.objects:,} objects, "
            f"{manifest.bytes:,} bytes, {manifest.quarantined:,} quarantined, "
            f"{manifest.result_objects:,} results.{cleaned}"
        )
    if findings:
        raise typer.Exit(1)


def cancel_command(run_dir: str) -> None:
    """Mark a run as cancelled.

    Raises:
        RunMismatch: it is too late: the run is published.
    """
    store, keys = locate(run_dir)
    run = runs.cancel(store, keys)
    if run.state != "cancelled":
        raise RunMismatch(
            f"Run {keys.run_id} of job {keys.job} is published already; nothing was done."
        )
    say(f"Run {keys.run_id} of job {keys.job} is cancelled. Its run id takes it up again.")


def repair_command(run_dir: str) -> None:
    """Set broken entries aside, and say which."""
    store, keys = locate(run_dir)
    with _held(store, keys):
        removed = repair(store, keys, owner=new_owner("repair"), draft=new_draft())
    for entry in removed:
        say(f"{entry.stage} shard {entry.shard}: {entry.reason}")
    if removed:
        say(f"{len(removed)} entries were set aside. Take run {keys.run_id} up again.")
    else:
        say(f"No entry of run {keys.run_id} is broken.")


def clean_command(output: str, job: str | None, *, dry: bool) -> None:
    """Clean the runs of a folder or bucket, and say what went. A run that can't be read is named
    and passed over."""
    if job is not None and not JOB_NAME.match(job):
        raise InputInvalid(f"{job!r} is no job's name.")
    store = open_store(output)
    if isinstance(store, FileStore):
        if not Path(store.root).is_dir():
            raise InputInvalid(f"There is no folder {store.root}. Give the folder of the runs.")
        if not dry:
            store.sweep(ABANDONED_SECONDS, time.time())
    objects = size = troubles = 0
    for name in list(jobs_in(store)) if job is None else [job]:
        for run_id in run_ids(store, name):
            try:
                cleaned = _clean(store, RunKeys(name, run_id), dry=dry)
            except FanfoldError as error:
                complain(f"{name} {run_id}: {error}")
                troubles += 1
                continue
            if cleaned is not None:
                say(f"{name} {run_id}: {cleaned.objects:,} objects, {show_bytes(cleaned.bytes)}")
                objects, size = objects + cleaned.objects, size + cleaned.bytes
    verb = "would be removed" if dry else "removed"
    say(f"{objects:,} objects, {show_bytes(size)} {verb}.")
    if troubles:
        raise typer.Exit(FAILED)


def _clean(store: Store, keys: RunKeys, *, dry: bool) -> Cleaned | None:
    """Clean one run, unless someone is executing it."""
    try:
        with nullcontext() if dry else _held(store, keys):
            return clean(store, keys, now=time.time(), dry=dry)
    except RunBusy:
        return None


@contextmanager
def _held(store: Store, keys: RunKeys) -> Iterator[None]:
    """Own a run while it is worked on, where a store has locks; elsewhere epochs fence."""
    with store.hold(keys.run) if isinstance(store, FileStore) else nullcontext():
        yield

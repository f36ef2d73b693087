"""`fanfold cancel`, `clean` and `repair`: what is done to runs besides running them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import typer

from coordinator.cli.places import locate, open_store
from coordinator.cli.sizes import show_bytes
from coordinator.errors import InputInvalid, RunBusy
from coordinator.ids import new_owner
from coordinator.keys import JOB_NAME, RunKeys
from coordinator.state import runs
from coordinator.store.file.store import FileStore
from coordinator.store.ports import Store
from coordinator.upkeep.clean import Cleaned, clean, jobs_in, run_ids
from coordinator.upkeep.repair import repair

ABANDONED_SECONDS = 86_400.0


def cancel_command(run_dir: str) -> None:
    """Mark a run as cancelled."""
    store, keys = locate(run_dir)
    run = runs.cancel(store, keys)
    if run.state == "published":
        typer.echo(f"Run {keys.run_id} of job {keys.job} is published already; nothing was done.")
    else:
        typer.echo(
            f"Run {keys.run_id} of job {keys.job} is cancelled. Its run id takes it up again."
        )


def repair_command(run_dir: str) -> None:
    """Set broken entries aside, and say which."""
    store, keys = locate(run_dir)
    with _held(store, keys):
        removed = repair(store, keys, owner=new_owner("repair"))
    for entry in removed:
        typer.echo(f"{entry.stage} shard {entry.shard}: {entry.reason}")
    if removed:
        typer.echo(f"{len(removed)} entries were set aside. Take run {keys.run_id} up again.")
    else:
        typer.echo(f"No entry of run {keys.run_id} is broken.")


def clean_command(output: str, job: str | None, *, dry: bool) -> None:
    """Clean the runs of a folder or bucket, and say what went."""
    store = open_store(output)
    if job is not None and not JOB_NAME.match(job):
        raise InputInvalid(f"{job!r} is no job's name.")
    if isinstance(store, FileStore) and not dry:
        store.sweep(ABANDONED_SECONDS, time.time())
    objects = size = 0
    for name in [job] if job else list(jobs_in(store)):
        for run_id in run_ids(store, name):
            cleaned = _clean(store, RunKeys(name, run_id), dry=dry)
            if cleaned is not None:
                typer.echo(
                    f"{name} {run_id}: {cleaned.objects:,} objects, {show_bytes(cleaned.bytes)}"
                )
                objects, size = objects + cleaned.objects, size + cleaned.bytes
    verb = "would be removed" if dry else "removed"
    typer.echo(f"{objects:,} objects, {show_bytes(size)} {verb}.")


def _clean(store: Store, keys: RunKeys, *, dry: bool) -> Cleaned | None:
    """Clean one run, unless someone is executing it."""
    try:
        with _held(store, keys):
            return clean(store, keys, now=time.time(), dry=dry)
    except RunBusy:
        return None


@contextmanager
def _held(store: Store, keys: RunKeys) -> Iterator[None]:
    """Own a run while it is worked on, where a store has locks; elsewhere epochs fence."""
    with store.hold(keys.run) if isinstance(store, FileStore) else nullcontext():
        yield

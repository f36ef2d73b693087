"""`fanfold verify`: prove a published run again."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from coordinator.errors import InputInvalid
from coordinator.keys import RunKeys
from coordinator.publish import read_manifest
from coordinator.store.file import FileStore
from coordinator.verify import verify


def verify_command(run_dir: Path, *, as_json: bool) -> None:
    """Say what is wrong with a run, or that nothing is.

    Raises:
        InputInvalid: the folder is not a run's.
    """
    store, keys = locate(run_dir)
    findings = list(verify(store, keys))
    if as_json:
        status = "broken" if findings else "proven"
        problems = [{"where": finding.where, "problem": finding.problem} for finding in findings]
        typer.echo(json.dumps({"run_id": keys.run_id, "status": status, "findings": problems}))
    elif findings:
        for finding in findings:
            typer.echo(f"{finding.where}: {finding.problem}")
    else:
        manifest = read_manifest(store, keys)
        typer.echo(
            f"Run {keys.run_id} of job {keys.job} is proven: {manifest.objects:,} objects, "
            f"{manifest.bytes:,} bytes, {manifest.quarantined:,} quarantined, "
            f"{len(manifest.results):,} results."
        )
    if findings:
        raise typer.Exit(1)


def locate(run_dir: Path) -> tuple[FileStore, RunKeys]:
    """The store and the keys of a run's folder.

    Raises:
        InputInvalid: the folder is not a run's.
    """
    path = run_dir.absolute()
    if not (path / "run.json").is_file() or path.parent.name != "runs":
        raise InputInvalid(
            f"{run_dir} is no run: give the folder OUTPUT/JOB/runs/RUN_ID, which holds run.json."
        )
    root = path.parents[2]
    return FileStore(root), RunKeys(path.parents[1].name, path.name)

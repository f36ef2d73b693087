"""`fanfold verify`: prove a published run again."""

from __future__ import annotations

import json

import typer

from coordinator.cli.output import say
from coordinator.cli.places import locate
from coordinator.state import runs
from coordinator.state.catalogue import read_manifest
from coordinator.upkeep.verify import verify


def verify_command(run_dir: str, *, as_json: bool) -> None:
    """Say what is wrong with a run, or that nothing is.

    Raises:
        InputInvalid: the folder is not a run's.
    """
    store, keys = locate(run_dir)
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
        cleaned = " Its parts have been cleaned away." if runs.read(store, keys).cleaned else ""
        say(
            f"Run {keys.run_id} of job {keys.job} is proven: {manifest.objects:,} objects, "
            f"{manifest.bytes:,} bytes, {manifest.quarantined:,} quarantined, "
            f"{manifest.result_objects:,} results.{cleaned}"
        )
    if findings:
        raise typer.Exit(1)

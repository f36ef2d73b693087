"""Plan: claim the run that a trigger asks for, pin its inputs, cut them into shards."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.exceptions import ClientError

from coordinator.errors import RunBusy, StoreUnavailable, Superseded
from coordinator.ids import new_draft
from coordinator.model import RunRecord
from coordinator.rules.probing import asks_for_probe, probe_of
from coordinator.rules.starts import Started
from coordinator.steps.plan import plan, start
from coordinator.store.s3.requests import trouble_of
from functions import telemetry, wiring
from functions.settings import loaded_job, settings

PAGES_AN_INVOCATION = 200
LIVE = frozenset({"RUNNING", "PENDING_REDRIVE"})


@telemetry.entry_point
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """One invocation of the state Plan.

    Returns `{"run", "next", "reason"}`: `next` is "reconcile", "plan" when there is more to list,
    or "stop" when another execution has the run. `redrives` says before which redrive it was made.
    """
    execution = event["execution"]
    try:
        run = wiring.owned_run(event["run"]) if event.get("run") else _claim(execution)
    except (RunBusy, Superseded) as error:
        telemetry.logger.info("nothing to do", extra={"reason": str(error)})
        return {"run": event.get("run"), "next": "stop", "reason": f"{error.name}: {error}"}
    telemetry.describe(run)
    if run.state == "published":
        return {
            "run": wiring.reference_to(run),
            "next": "stop",
            "reason": f"Run {run.run_id} was published before.",
        }
    job = wiring.job_of(run)
    run = plan(
        wiring.store(),
        wiring.inputs(job.source.glob),
        job,
        run,
        draft=new_draft(),
        code_version=loaded_job().program.version,
        clock=wiring.now,
        pages=PAGES_AN_INVOCATION,
    )
    planned = "map" in run.plans
    if planned:
        telemetry.logger.info("planned", extra={"shards": run.plans["map"].shards})
        telemetry.count("ShardsPlanned", run.plans["map"].shards)
    return {
        "run": wiring.reference_to(run),
        "next": "reconcile" if planned else "plan",
        "reason": None,
        "redrives": int(execution.get("RedriveCount", 0)),
    }


def _claim(execution: dict[str, Any]) -> RunRecord:
    """The run of this execution: begun, gone on with, or taken over."""
    job, event = loaded_job().job, execution["Input"]
    if asks_for_probe(event):
        job = probe_of(job)
    trigger = Started(
        event=event,
        execution=execution["Name"],
        started=datetime.fromisoformat(execution["StartTime"]).timestamp(),
        usual_inputs=settings().usual_inputs(job.name),
        limits=job.limits,
    )
    return start(
        wiring.store(),
        wiring.inputs(job.source.glob),
        job,
        trigger,
        owner=execution["Id"],
        redrives=int(execution.get("RedriveCount", 0)),
        draft=new_draft(),
        code_version=loaded_job().program.version,
        now=wiring.now(),
        is_live=_is_live,
    )


def _is_live(owner: str) -> bool:
    """Whether the execution that owns a run is still going."""
    try:
        status = wiring.states().describe_execution(executionArn=owner)["status"]
    except ClientError as error:
        if error.response["Error"]["Code"] in {"ExecutionDoesNotExist", "InvalidArn"}:
            return False
        trouble = trouble_of(error)
        if trouble.passing:
            raise StoreUnavailable(
                f"Whether {owner} is still going can't be asked just now ({trouble.reason})."
            ) from error
        raise
    return status in LIVE

"""Plan: claim the run that a trigger asks for, pin its inputs, cut them into shards."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.exceptions import ClientError

from coordinator import runs
from coordinator.errors import InputInvalid, RunBusy, Superseded
from coordinator.job import Job
from coordinator.keys import RunKeys
from coordinator.model import RunRecord
from coordinator.planning import plan_map
from functions import desk
from functions.settings import loaded_job, settings
from functions.triggers import Start, understand

PAGES_AN_INVOCATION = 200
MOST_SHARDS = 10_000
LIVE = frozenset({"RUNNING", "PENDING_REDRIVE"})


@desk.entry_point
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """One invocation of the state Plan.

    Returns `{"run", "next", "reason"}`: `next` is "reconcile", "plan" when there is more to list,
    or "stop" when another execution has the run.
    """
    execution = event["execution"]
    try:
        run = desk.owned_run(event["run"]) if event.get("run") else _claim(execution)
    except (RunBusy, Superseded) as error:
        desk.logger.info("nothing to do", extra={"reason": str(error)})
        return {"run": event.get("run"), "next": "stop", "reason": f"{error.name}: {error}"}
    desk.describe(run)
    if run.state == "published":
        return {
            "run": desk.reference_to(run),
            "next": "stop",
            "reason": f"Run {run.run_id} was published before.",
        }
    run = plan_map(
        desk.store(),
        desk.inputs(),
        desk.job_of(run),
        run,
        attempt=desk.new_attempt(),
        pages=PAGES_AN_INVOCATION,
    )
    planned = "map" in run.plans
    if planned:
        desk.logger.info("planned", extra={"shards": run.plans["map"].shards})
        desk.count("ShardsPlanned", run.plans["map"].shards)
    return {
        "run": desk.reference_to(run),
        "next": "reconcile" if planned else "plan",
        "reason": None,
    }


def _claim(execution: dict[str, Any]) -> RunRecord:
    """The run of this execution: begun, gone on with, or taken over."""
    job = loaded_job().job
    started = datetime.fromisoformat(execution["StartTime"]).timestamp()
    start = understand(
        execution["Input"],
        job=job,
        execution=execution["Name"],
        usual_inputs=settings().usual_inputs(job.name),
        started=started,
        inputs=desk.inputs(),
        store=desk.store(),
    )
    return runs.claim(
        desk.store(), _claim_of(start, job, execution["Id"]), now=desk.now(), is_live=_is_live
    )


def _claim_of(start: Start, job: Job, owner: str) -> runs.Claim:
    limits = desk.limits_of(job, start.limits)
    if limits.shards > MOST_SHARDS:
        raise InputInvalid(
            f"limits.shards is {limits.shards}; a stage on AWS has at most {MOST_SHARDS}."
        )
    return runs.Claim(
        keys=RunKeys(job.name, start.run_id),
        owner=owner,
        declaration=job.with_limits(limits).declaration(),
        inputs=start.inputs,
        logical_time=start.logical_time,
        waves=limits.waves,
        limits=start.limits,
        source_key=start.source_key,
    )


def _is_live(owner: str) -> bool:
    """Whether the execution that owns a run is still going."""
    try:
        status = desk.states().describe_execution(executionArn=owner)["status"]
    except ClientError as error:
        if error.response["Error"]["Code"] in {"ExecutionDoesNotExist", "InvalidArn"}:
            return False
        raise
    return status in LIVE

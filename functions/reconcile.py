"""Reconcile: compare the plan with the ledger, and say what comes next. The state that fails."""

from __future__ import annotations

import json
from random import SystemRandom
from typing import Any, Literal

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.exceptions import BotoCoreError, ClientError

from coordinator.errors import FanfoldError, Superseded, error_from
from coordinator.ids import new_draft
from coordinator.keys import RunKeys
from coordinator.limits import Limits
from coordinator.rules.transport import (
    INLINE_ITEMS,
    child_timeout_seconds,
    lost_children,
    open_children,
)
from coordinator.steps.reconcile import FanOut, Unplanned, reconcile
from functions import telemetry, wiring
from functions.settings import loaded_job, settings

HIDDEN: Literal["ApproximateNumberOfMessagesNotVisible"] = "ApproximateNumberOfMessagesNotVisible"


@telemetry.entry_point
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """One invocation of the state Reconcile; see coordinator/run.asl.json for what it returns.

    Raises:
        FanfoldError: the run ends here, until it is redriven or taken up again.
    """
    state, redrives = event["state"], int(event["execution"].get("RedriveCount", 0))
    reference, failure = state.get("run"), state.get("error")
    if not reference:
        if failure and redrives <= state.get("redrives", 0):
            raise error_of(failure)
        return {"run": None, "next": "plan", "redrives": redrives}
    if redrives > state.get("redrives", 0):
        failure = None  # the one that the redrive is to get around, however often this is retried
    try:
        run = wiring.owned_run(reference)
        telemetry.describe(run)
        ahead = reconcile(
            wiring.store(),
            wiring.job_of(run),
            run,
            draft=new_draft(),
            code_version=loaded_job().program.version,
            clock=wiring.now,
            redrives=redrives,
            failure=error_of(failure) if failure else None,
            served=lambda: _is_served(event["queue"]),
            jitter=SystemRandom().random(),
        )
    except Superseded as error:
        telemetry.logger.info("superseded", extra={"reason": str(error)})
        return {"run": reference, "next": "stop", "reason": f"{error.name}: {error}"}
    age = max(wiring.now() - ahead.run.tenure.began, 0.0)
    telemetry.count("RunSeconds", age, MetricUnit.Seconds)
    if isinstance(ahead, Unplanned):
        return {"run": reference, "next": "plan", "redrives": redrives}
    if isinstance(ahead, FanOut):
        return {**_fan_out(ahead, wiring.job_of(ahead.run).limits), "redrives": redrives}
    return {"run": wiring.reference_to(ahead.run), "next": "publish", "redrives": redrives}


def _fan_out(ahead: FanOut, limits: Limits) -> dict[str, Any]:
    """The wave as the state machine takes it: its items in S3, or inline when they are few."""
    run, store = ahead.run, wiring.store()
    keys = RunKeys(run.job, run.run_id)
    items = [ref.model_dump() for ref in ahead.shards]
    inline = len(items) <= INLINE_ITEMS
    pause = ahead.pause_seconds
    way = "inline" if inline else "map"
    if not inline:
        with store.writer(keys.items(ahead.wave)) as writer:
            writer.write(json.dumps(items).encode())
            writer.close()
    telemetry.logger.info(
        "dispatching",
        extra={
            "stage": ahead.stage,
            "wave": ahead.wave,
            "shards": len(items),
            "pause_seconds": pause,
        },
    )
    telemetry.count("ShardsDispatched", len(items))
    run = ahead.dispatched(store)
    return {
        "run": wiring.reference_to(run),
        "next": "pause" if pause else way,
        "pause_seconds": pause,
        "after_pause": way,
        "stage": ahead.stage,
        "draft": ahead.draft,
        "wave": ahead.wave,
        "shards": items if inline else [],
        "items": {"bucket": settings().bucket, "key": keys.items(ahead.wave)},
        "results": {"bucket": settings().bucket, "prefix": keys.map_results(ahead.wave)},
        "concurrency": open_children(limits, len(items)),
        "lost_children": lost_children(limits, len(items)),
        "child_timeout_seconds": child_timeout_seconds(limits, len(items)),
    }


def _is_served(queue_url: str) -> bool:
    """Whether workers are at messages of the queue; where that can't be asked, as if they were."""
    try:
        found = wiring.sqs().get_queue_attributes(QueueUrl=queue_url, AttributeNames=[HIDDEN])
    except (ClientError, BotoCoreError) as error:
        telemetry.logger.warning("the queue can't be asked", extra={"reason": str(error)})
        return True
    return int(found["Attributes"][HIDDEN]) > 0


def error_of(failure: dict[str, Any]) -> FanfoldError:
    """The error that a Catch kept."""
    name, cause = str(failure.get("Error", "")), str(failure.get("Cause", ""))
    try:
        found = json.loads(cause)
    except ValueError:
        found = None
    message = found.get("errorMessage", cause) if isinstance(found, dict) else cause
    return error_from(name, message)

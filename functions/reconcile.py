"""Reconcile: compare the plan with the ledger, and say what comes next. The state that fails."""

from __future__ import annotations

import json
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from coordinator.errors import FanfoldError, Fate, Superseded
from coordinator.job import Limits
from coordinator.keys import RunKeys
from coordinator.reconcile import run_error
from coordinator.waves import FanOut, reconcile
from functions import desk
from functions.settings import settings

MOST_INLINE = 40
CONCURRENCY_FACTOR = 3
CHILD_HOURS_LEAST = 6


@desk.entry_point
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """One invocation of the state Reconcile; see coordinator/run.asl.json for what it returns.

    Raises:
        FanfoldError: the run ends here, until it is redriven or taken up again.
    """
    state, redrives = event["state"], int(event["execution"].get("RedriveCount", 0))
    reference, failure = state.get("run"), state.get("error")
    if not reference:
        if failure and not redrives:
            raise error_of(failure)
        return {"run": None, "next": "plan"}
    try:
        run = desk.owned_run(reference)
        desk.describe(run)
        if failure and redrives <= run.tenure.redrives:
            _check(failure)
        if "map" not in run.plans:
            return {"run": reference, "next": "plan"}
        ahead = reconcile(
            desk.store(),
            desk.job_of(run),
            run,
            attempt=desk.new_attempt(),
            redrives=redrives,
            failed=bool(failure),
        )
    except Superseded as error:
        desk.logger.info("superseded", extra={"reason": str(error)})
        return {"run": reference, "next": "stop", "reason": f"{error.name}: {error}"}
    if isinstance(ahead, FanOut):
        return _fan_out(ahead, desk.job_of(ahead.run).limits)
    return {"run": desk.reference_to(ahead.run), "next": "publish"}


def _fan_out(ahead: FanOut, limits: Limits) -> dict[str, Any]:
    """The wave as the state machine takes it: its items in S3, or inline when they are few."""
    run, store = ahead.run, desk.store()
    keys = RunKeys(run.job, run.run_id)
    items = [ref.model_dump() for ref in ahead.shards]
    inline = len(items) <= MOST_INLINE
    if not inline:
        with store.writer(keys.items(ahead.wave)) as writer:
            writer.write(json.dumps(items).encode())
            writer.close()
    desk.logger.info(
        "dispatching", extra={"stage": ahead.stage, "wave": ahead.wave, "shards": len(items)}
    )
    desk.count("ShardsDispatched", len(items))
    run = ahead.dispatched(store)
    return {
        "run": desk.reference_to(run),
        "next": "inline" if inline else "map",
        "stage": ahead.stage,
        "wave": ahead.wave,
        "shards": items if inline else [],
        "items": {"bucket": settings().bucket, "key": keys.items(ahead.wave)},
        "results": {"bucket": settings().bucket, "prefix": f"{keys.wave(ahead.wave)}map"},
        "concurrency": min(limits.concurrency * CONCURRENCY_FACTOR, len(items)),
        "child_timeout_seconds": child_timeout_seconds(limits),
    }


def child_timeout_seconds(limits: Limits) -> int:
    """When a child gives up waiting for a lost answer: long after every try has had its time."""
    tries = max(limits.attempts, 5) * (limits.timeout_seconds + 60 + 300)
    return max(CHILD_HOURS_LEAST * 3600, CONCURRENCY_FACTOR * 2 * tries)


def _check(failure: dict[str, Any]) -> None:
    """Pass on an error of another state that going round again can't mend."""
    error = error_of(failure)
    if error.fate is not Fate.RETRY and type(error) is not FanfoldError:
        raise error


def error_of(failure: dict[str, Any]) -> FanfoldError:
    """The error that a Catch kept, as one of the tree; a plain `FanfoldError` if it is none."""
    name, cause = str(failure.get("Error", "")), str(failure.get("Cause", ""))
    try:
        found = json.loads(cause)
    except ValueError:
        found = None
    message = found.get("errorMessage", cause) if isinstance(found, dict) else cause
    kind = run_error(name)
    if kind.__name__ == name:
        return kind(message)
    return FanfoldError(f"{name}: {message}")

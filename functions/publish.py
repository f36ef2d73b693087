"""Publish: prove the run complete, write its manifest, move the pointer."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from coordinator.keys import RunKeys
from coordinator.publish import publish
from functions import desk


@desk.entry_point
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """One invocation of the state Publish; may be repeated.

    Raises:
        FanfoldError: the proof failed, and nothing was published.
    """
    run = desk.owned_run(event["run"])
    desk.describe(run)
    published = publish(desk.store(), desk.job_of(run), run, now=desk.now())
    manifest = published.manifest
    desk.logger.info(
        "published",
        extra={
            "objects": manifest.objects,
            "quarantined": manifest.quarantined,
            "latest": published.pointer_moved,
        },
    )
    desk.count("RunsPublished", 1)
    desk.count("RunDollars", manifest.cost.dollars)
    desk.count("RunQuarantined", manifest.quarantined)
    desk.count("FreshnessSeconds", desk.now() - manifest.logical_time, MetricUnit.Seconds)
    keys = RunKeys(run.job, run.run_id)
    return {
        "run": desk.reference_to(published.run),
        "status": "published",
        "results": len(manifest.results),
        "manifest": desk.store().url(keys.manifest),
        "results_prefix": desk.store().url(keys.results),
        "latest": published.pointer_moved,
        "records_in": manifest.stages["map"].records_in,
        "quarantined": manifest.quarantined,
        "dollars": manifest.cost.dollars,
    }

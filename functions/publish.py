"""Publish: prove the run complete, write its manifest, move the pointer."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from coordinator.keys import RunKeys
from coordinator.steps.publish import publish
from functions import telemetry, wiring


@telemetry.entry_point
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """One invocation of the state Publish; may be repeated.

    Raises:
        FanfoldError: the proof failed, and nothing was published.
    """
    run = wiring.owned_run(event["run"])
    telemetry.describe(run)
    published = publish(wiring.store(), wiring.job_of(run), run, clock=wiring.now)
    manifest = published.manifest
    telemetry.logger.info(
        "published",
        extra={
            "objects": manifest.objects,
            "quarantined": manifest.quarantined,
            "latest": published.pointer_moved,
        },
    )
    telemetry.count("RunsPublished", 1)
    telemetry.count("RunDollars", manifest.cost.dollars)
    telemetry.count("RunQuarantined", manifest.quarantined)
    telemetry.count("FreshnessSeconds", wiring.now() - manifest.logical_time, MetricUnit.Seconds)
    keys = RunKeys(run.job, run.run_id)
    return {
        "run": wiring.reference_to(published.run),
        "status": "published",
        "results": manifest.result_objects,
        "manifest": wiring.store().url(keys.manifest),
        "results_prefix": wiring.store().url(manifest.results_prefix),
        "latest": published.pointer_moved,
        "records_in": manifest.stages["map"].records_in,
        "quarantined": manifest.quarantined,
        "dollars": manifest.cost.dollars,
    }

"""What all functions tell of themselves: logs, metrics, traces, by Powertools."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from aws_lambda_powertools import Logger, Metrics, Tracer, single_metric
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from coordinator.model import Message, RunRecord
from coordinator.rules.transport import METRICS

logger = Logger(service="fanfold", log_uncaught_exceptions=False)
metrics = Metrics(namespace=METRICS, service="")  # the job is the only dimension
UNTRACED = "POWERTOOLS_TRACE_DISABLED"

Handler = Callable[[dict[str, Any], LambdaContext], dict[str, Any]]


@cache
def tracer() -> Tracer:
    """Made when it is needed: X-Ray's SDK takes a third of the time that all else takes to import."""
    return Tracer(service="fanfold", auto_patch=False)  # a handler is one span, no request is


def entry_point(handler: Handler) -> Handler:
    """Log, trace and measure a handler; what it measured is written even when it raises."""

    @wraps(handler)
    def measured(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        try:
            return handler(event, context)
        finally:
            if metrics.metric_set:
                metrics.flush_metrics()

    @cache
    def traced() -> Handler:
        spans: Handler = tracer().capture_lambda_handler(measured, capture_response=False)
        return spans

    @logger.inject_lambda_context(clear_state=True)
    @wraps(handler)
    def observed(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        told = measured if os.environ.get(UNTRACED) == "true" else traced()
        return told(event, context)

    return observed


def describe(run: RunRecord) -> None:
    """Name the run on every further log line, and the job on every metric."""
    logger.append_keys(job=run.job, run=run.run_id, epoch=run.epoch)
    metrics.set_default_dimensions(job=run.job)


def describe_message(message: Message, **more: object) -> None:
    """Name the shard and its run on every further log line, and the job on every metric."""
    logger.append_keys(
        job=message.job,
        run=message.run_id,
        stage=message.stage,
        shard=message.shard.id,
        wave=message.wave,
        epoch=message.epoch,
        **more,
    )
    metrics.set_default_dimensions(job=message.job)


def count(name: str, amount: float, unit: MetricUnit = MetricUnit.Count) -> None:
    """Add to a metric of this invocation."""
    metrics.add_metric(name=name, unit=unit, value=amount)


def count_by_reason(name: str, reason: str, *, job: str) -> None:
    """Count something by its reason too: a metric of its own, beside the job's."""
    count(name, 1)
    with single_metric(
        name=name,
        unit=MetricUnit.Count,
        value=1,
        namespace=METRICS,
        default_dimensions={"job": job},
    ) as metric:
        metric.add_dimension(name="reason", value=reason)

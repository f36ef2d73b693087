"""What all functions work with: clients made once and lazily, logs, metrics, traces, the job.

A handler can be imported with no environment: nothing here is made before it is asked for.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from functools import cache, wraps
from typing import TYPE_CHECKING, Any

import boto3
from aws_lambda_powertools import Logger, Metrics, Tracer, single_metric
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from coordinator import runs
from coordinator.errors import Superseded
from coordinator.job import Job, Limits
from coordinator.keys import RunKeys
from coordinator.model import Message, RunRecord
from coordinator.store.s3 import S3Store, make_client
from coordinator.store.s3_inputs import S3Inputs
from functions.settings import loaded_job, settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient

logger = Logger(service="fanfold", log_uncaught_exceptions=False)
tracer = Tracer(service="fanfold")
metrics = Metrics(namespace="Fanfold", service="")  # the job is the only dimension

_CONFIG = Config(
    retries={"mode": "standard", "max_attempts": 5}, connect_timeout=5, read_timeout=30
)


Handler = Callable[[dict[str, Any], LambdaContext], dict[str, Any]]


def entry_point(handler: Handler) -> Handler:
    """Log, trace and measure a handler; what it measured is written even when it raises."""

    @logger.inject_lambda_context(clear_state=True)
    @tracer.capture_lambda_handler(capture_response=False)
    @wraps(handler)
    def observed(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        try:
            return handler(event, context)
        finally:
            if metrics.metric_set:
                metrics.flush_metrics()

    return observed  # type: ignore[no-any-return]


@cache
def s3() -> S3Client:
    """The S3 client of this function."""
    return make_client()


@cache
def sqs() -> SQSClient:
    """The SQS client of this function."""
    return boto3.client("sqs", config=_CONFIG)


@cache
def states() -> SFNClient:
    """The Step Functions client of this function."""
    return boto3.client("stepfunctions", config=_CONFIG)


@cache
def store() -> S3Store:
    """The work bucket."""
    return S3Store(settings().bucket, s3())


@cache
def inputs() -> S3Inputs:
    """Where this job's objects are listed and read."""
    return S3Inputs(s3(), glob=loaded_job().job.source.glob)


def new_attempt() -> str:
    """A random id for an attempt or a set of plans."""
    return uuid.uuid4().hex[:16]


def now() -> float:
    """Seconds since the epoch."""
    return time.time()


def job_of(run: RunRecord) -> Job:
    """The deployed job, with the limits that this run was given."""
    job = loaded_job().job
    return job.with_limits(limits_of(job, run.limits))


def limits_of(job: Job, changes: dict[str, Any]) -> Limits:
    """A job's limits with some of them changed."""
    return Limits(**{**job.limits.model_dump(), **changes}) if changes else job.limits


def owned_run(reference: dict[str, Any]) -> RunRecord:
    """The run that a state names, as it is now.

    Raises:
        Superseded: it belongs to another owner by now.
    """
    keys = RunKeys(reference["job"], reference["run_id"])
    run = runs.read(store(), keys)
    if run.owner != reference["owner"]:
        raise Superseded(
            f"Run {run.run_id} of job {run.job} now belongs to {run.owner} (epoch {run.epoch})."
        )
    return run


def reference_to(run: RunRecord) -> dict[str, Any]:
    """How states name a run."""
    return {"job": run.job, "run_id": run.run_id, "owner": run.owner, "epoch": run.epoch}


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


def count_by_reason(name: str, reason: str) -> None:
    """Count something by its reason too: a metric of its own, beside the job's."""
    count(name, 1)
    with single_metric(
        name=name,
        unit=MetricUnit.Count,
        value=1,
        namespace="Fanfold",
        default_dimensions={"job": loaded_job().job.name},
    ) as metric:
        metric.add_dimension(name="reason", value=reason)


def count(name: str, amount: float, unit: MetricUnit = MetricUnit.Count) -> None:
    """Add to a metric of this invocation."""
    metrics.add_metric(name=name, unit=unit, value=amount)

"""What all functions work with: clients, the work bucket, the job, the run's record.

Made once and lazily: a handler can be imported with no environment.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3

from coordinator.job import Job
from coordinator.keys import RunKeys
from coordinator.model import Message, RunRecord
from coordinator.rules.probing import is_probe, probe_of
from coordinator.rules.starts import limits_of
from coordinator.state import runs
from coordinator.steps.workplace import Workplace
from coordinator.store.s3.inputs import S3Inputs
from coordinator.store.s3.requests import client_config
from coordinator.store.s3.store import S3Store, make_client
from functions.settings import loaded_job, settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient

FRESH_SECONDS = 30.0

_CONFIG = client_config(read_timeout_seconds=30)


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
def inputs(glob: str) -> S3Inputs:
    """Where objects are listed and read whose names fit."""
    return S3Inputs(s3(), glob=glob, requester_pays=settings().requester_pays)


def now() -> float:
    """Seconds since the epoch."""
    return time.time()


def job_of(run: RunRecord) -> Job:
    """The deployed job, with the limits that this run was given; the probe, if it is one."""
    job = loaded_job().job
    if is_probe(run):
        return probe_of(job)
    return job.with_limits(limits_of(job.limits, run.limits))


def owned_run(reference: dict[str, Any]) -> RunRecord:
    """The run that a state names, as it is now.

    Raises:
        Superseded: it belongs to another owner by now.
    """
    keys = RunKeys(reference["job"], reference["run_id"])
    return runs.read_owned(store(), keys, reference["owner"])


def reference_to(run: RunRecord) -> dict[str, Any]:
    """How states name a run."""
    return {"job": run.job, "run_id": run.run_id, "owner": run.owner, "epoch": run.epoch}


# ------------------------------------------------------------------------------------------------
# What workers stand on: the run's record, read anew now and then, and never once a shard
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Seen:
    run: RunRecord
    at: float


_seen: dict[RunKeys, _Seen] = {}


def run_of(message: Message) -> RunRecord:
    """The run that a message belongs to.

    A container remembers a run's record for half a minute, but never one older than the message:
    epoch, wave and stage of the message must be known to it.

    Raises:
        KeyMissing: there is no such run; `clean` has removed it.
    """
    keys = RunKeys(message.job, message.run_id)
    moment = now()
    seen = _seen.get(keys)
    if seen is None or moment - seen.at > FRESH_SECONDS or _is_behind(seen.run, message):
        seen = _Seen(runs.read(store(), keys), moment)
        _seen.clear()
        _seen[keys] = seen
    return seen.run


def workplace_of(message: Message) -> Workplace:
    """Where a message is worked on.

    Raises:
        KeyMissing: there is no such run; `clean` has removed it.
    """
    run = run_of(message)
    job = job_of(run)
    return Workplace(store(), run, now, inputs(job.source.glob), job, loaded_job().program)


def forget() -> None:
    """Read every record anew: for tests that change the world under a container."""
    _seen.clear()


def _is_behind(run: RunRecord, message: Message) -> bool:
    return run.epoch < message.epoch or run.wave < message.wave or message.stage not in run.plans

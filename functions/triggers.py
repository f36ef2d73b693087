"""What started an execution, understood: the run id, its inputs and its place in time.

Three inputs are understood: what our schedules send, EventBridge's "Object Created" of S3, and a
person's. Schedules and EventBridge deliver at least once, so the run id is derived from the
trigger: a second delivery finds the first one's run.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.utilities.parser import ValidationError, parse
from aws_lambda_powertools.utilities.parser.models import S3EventNotificationEventBridgeModel
from pydantic import BaseModel, ConfigDict, Field

from coordinator import runs
from coordinator.errors import InputInvalid, Superseded
from coordinator.job import Job, Limits
from coordinator.keys import RunKeys, check_run_id
from coordinator.model import RunRecord
from coordinator.store import Inputs, Store

# An execution's input goes with every payload, and has to leave room for the rest of 256 KiB.
INPUT_BYTES = 128 * 1024
MANIFEST_SUFFIX = ".inputs.json"
DEPLOYED_LIMITS = frozenset({"memory_mb", "timeout_seconds", "attempts"})
EXPECTED = (
    'Send {"inputs": ["s3://bucket/prefix/"], "run_id": "...", "limits": {...}} (all optional), '
    "or let a schedule or an upload start the run."
)


@dataclass(frozen=True, slots=True)
class Start:
    """A run as its trigger asks for it; see `runs.Claim`."""

    run_id: str
    inputs: tuple[str, ...]
    logical_time: float
    source_key: str | None = None
    limits: dict[str, Any] = field(default_factory=dict)


class ScheduledStart(BaseModel):
    """What our EventBridge Scheduler schedules send; see infra/triggers.py."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schedule: str = Field(min_length=1)
    scheduled_time: datetime


class ManualStart(BaseModel):
    """What a person, or another program, sends."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    inputs: list[str] | None = Field(default=None, min_length=1)
    run_id: str | None = None
    limits: dict[str, Any] = {}
    logical_time: float | None = None


class ListedInputs(BaseModel):
    """What an uploaded `*.inputs.json` holds."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    inputs: list[str] = Field(min_length=1)


def understand(
    event: object,
    *,
    job: Job,
    execution: str,
    usual_inputs: tuple[str, ...],
    started: float,
    inputs: Inputs,
    store: Store,
) -> Start:
    """What an execution's input asks for.

    Args:
        execution: the execution's name: the run id of a manual start that gives none.
        usual_inputs: what is read where no inputs are given.
        started: when the execution started, in seconds since the epoch.

    Raises:
        InputInvalid: the input is none of the three; says what to send.
        Superseded: the uploaded object has been replaced since.
    """
    if not isinstance(event, dict):
        raise InputInvalid(f"The execution's input is no JSON object. {EXPECTED}")
    size = len(json.dumps(event, ensure_ascii=False).encode())
    if size > INPUT_BYTES:
        raise InputInvalid(
            f"The execution's input has {size} bytes, more than {INPUT_BYTES}. Name prefixes or "
            f"globs, or upload the list as an object that ends in {MANIFEST_SUFFIX}."
        )
    if event.get("detail-type") == "Object Created":
        return _uploaded(event, job, inputs)
    if "schedule" in event:
        return _scheduled(event, usual_inputs)
    return _manual(event, job, execution, usual_inputs, started, store)


def _scheduled(event: dict[str, Any], usual_inputs: tuple[str, ...]) -> Start:
    scheduled: ScheduledStart = _parsed(event, ScheduledStart)
    moment = scheduled.scheduled_time
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    digest = hashlib.sha256(scheduled.schedule.encode()).hexdigest()[:8]
    return Start(
        run_id=f"at-{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}-{digest}",
        inputs=usual_inputs,
        logical_time=moment.timestamp(),
    )


def _uploaded(event: dict[str, Any], job: Job, inputs: Inputs) -> Start:
    created: S3EventNotificationEventBridgeModel = _parsed(
        event, S3EventNotificationEventBridgeModel
    )
    bucket, item = created.detail.bucket.name, created.detail.object
    sequencer = item.sequencer or ""
    identity = json.dumps([bucket, item.key, item.version_id, sequencer])
    address = f"s3://{bucket}/{item.key}"
    listed = _only(address, inputs)
    if listed is None or (item.etag and listed[0].strip('"') != item.etag.strip('"')):
        raise Superseded(f"{address} has been replaced or deleted since it was uploaded.")
    patterns = (
        _listed_inputs(listed[1], address) if item.key.endswith(MANIFEST_SUFFIX) else (address,)
    )
    return Start(
        # Padded, a sequencer sorts: of two uploads in the same second, the later one is newer.
        run_id=f"up-{sequencer.lower():0>20}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}",
        inputs=patterns,
        logical_time=created.time.timestamp(),
        source_key=address,
    )


def _only(address: str, inputs: Inputs) -> tuple[str, bytes] | None:
    """The etag of an object as it is now, and, if it lists inputs, its contents."""
    for page in inputs.pages((address,)):
        for pinned in page.objects:
            if pinned.key != address:
                continue
            if not address.endswith(MANIFEST_SUFFIX):
                return pinned.etag, b""
            stream = inputs.open(pinned, 0, pinned.size)
            try:
                pieces = []
                while piece := stream.read(1 << 20):
                    pieces.append(piece)
            finally:
                stream.close()
            return pinned.etag, b"".join(pieces)
    return None


def _listed_inputs(body: bytes, address: str) -> tuple[str, ...]:
    """The inputs that an uploaded `*.inputs.json` lists: {"inputs": ["s3://...", ...]}."""
    try:
        return tuple(ListedInputs.model_validate_json(body).inputs)
    except ValidationError as error:
        raise InputInvalid(
            f'{address} must hold {{"inputs": ["s3://bucket/key", ...]}} and nothing else.'
        ) from error


def _manual(
    event: dict[str, Any],
    job: Job,
    execution: str,
    usual_inputs: tuple[str, ...],
    started: float,
    store: Store,
) -> Start:
    asked: ManualStart = _parsed(event, ManualStart)
    _check_limits(job, asked.limits)
    if asked.run_id is not None and asked.inputs is None:
        keys = RunKeys(job.name, check_run_id(asked.run_id))
        if runs.exists(store, keys):
            return _taken_up(runs.read(store, keys), asked.limits)
    return Start(
        run_id=check_run_id(asked.run_id if asked.run_id is not None else execution[:64]),
        inputs=tuple(asked.inputs) if asked.inputs else usual_inputs,
        logical_time=asked.logical_time if asked.logical_time is not None else started,
        limits=asked.limits,
    )


def _taken_up(run: RunRecord, limits: dict[str, Any]) -> Start:
    """A run id alone takes an existing run up again, as it was begun."""
    return Start(
        run_id=run.run_id,
        inputs=run.inputs,
        logical_time=run.logical_time,
        source_key=run.source_key,
        limits=limits or run.limits,
    )


def _check_limits(job: Job, changes: dict[str, Any]) -> None:
    """Refuse limits that make no sense, or that only a deployment can change."""
    if fixed := sorted(DEPLOYED_LIMITS & changes.keys()):
        raise InputInvalid(f"limits.{fixed[0]} is fixed when the job is deployed: change it there.")
    try:
        Limits(**{**job.limits.model_dump(), **changes})
    except ValidationError as error:
        raise InputInvalid(f"limits.{_problem(error)} {EXPECTED}") from error


def _parsed(event: dict[str, Any], model: type[Any]) -> Any:
    try:
        return parse(event=event, model=model)
    except ValidationError as error:
        raise InputInvalid(
            f"The execution's input can't be used: {_problem(error)} {EXPECTED}"
        ) from error


def _problem(error: ValidationError) -> str:
    found = error.errors(include_url=False)[0]
    return f"{'.'.join(str(step) for step in found['loc'])}: {found['msg']}."

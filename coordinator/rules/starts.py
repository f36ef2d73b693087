"""What started an execution, understood: the run id, its inputs and its place in time.

Four inputs are understood: what our schedules send, EventBridge's "Object Created" of S3, a
person's, and that of a probe. Schedules and EventBridge deliver at least once, so the run id is derived from the
trigger: a second delivery finds the first one's run. What has to be looked up comes in as
functions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from coordinator.errors import InputInvalid, Superseded
from coordinator.ids import (
    SEQUENCER_DIGITS,
    execution_run_id,
    scheduled_run_id,
    uploaded_run_id,
)
from coordinator.keys import check_run_id
from coordinator.limits import Limits
from coordinator.model import RunRecord
from coordinator.rules.probing import PROBE, asks_for_probe
from coordinator.rules.transport import MAP_ITEMS

Model = TypeVar("Model", bound=BaseModel)

# An execution's input goes with every payload, and has to leave room for the rest of 256 KiB.
INPUT_BYTES = 128 * 1024
INPUTS_SUFFIX = ".inputs.json"
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
    redo: bool = False
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
    redo: Literal["quarantined"] | None = None
    logical_time: float | None = Field(default=None, allow_inf_nan=False)


class ProbeStart(BaseModel):
    """What `fanfold probe` sends: the run that it names, of the made-up objects in a folder."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    probe: str
    inputs: list[str] = Field(min_length=1, max_length=1)


class Bucket(BaseModel):
    """The bucket that an event names."""

    name: str = Field(min_length=1)


class CreatedObject(BaseModel):
    """The object that an event names."""

    key: str = Field(min_length=1)
    etag: str = ""
    version_id: str | None = Field(default=None, alias="version-id")
    sequencer: str = Field(default="", pattern=rf"^[0-9A-Fa-f]{{0,{SEQUENCER_DIGITS}}}$")


class Created(BaseModel):
    """The detail of `ObjectCreated`."""

    bucket: Bucket
    object: CreatedObject


class ObjectCreated(BaseModel):
    """EventBridge's "Object Created", as far as it is read.

    Source: "EventBridge event message structure", Amazon S3 user guide.
    """

    time: datetime
    detail: Created


class ListedInputs(BaseModel):
    """What an uploaded `*.inputs.json` holds."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    inputs: list[str] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Started:
    """What is known of an execution when it begins.

    Args:
        event: the execution's input.
        execution: its name: the run id of a manual start that gives none.
        started: when it started, in seconds since the epoch.
        usual_inputs: what is read where no inputs are given.
        limits: the job's own.
    """

    event: object
    execution: str
    started: float
    usual_inputs: tuple[str, ...]
    limits: Limits


@dataclass(frozen=True, slots=True)
class Uploaded:
    """An uploaded object as it is now: its etag, and what it holds if it is a list of inputs."""

    etag: str
    body: bytes


Find = Callable[[str], Uploaded | None]
Standing = Callable[[str], RunRecord | None]


def understand(trigger: Started, *, find: Find, standing: Standing) -> Start:
    """What an execution's input asks for.

    Args:
        find: gives the uploaded object at an address, None where it is gone.
        standing: gives the run that has a run id, None where there is none.

    Raises:
        InputInvalid: the input is none of the three; says what to send.
        Superseded: the uploaded object has been replaced since.
    """
    event = trigger.event
    if not isinstance(event, dict):
        raise InputInvalid(f"The execution's input is no JSON object. {EXPECTED}")
    try:
        size = len(json.dumps(event, ensure_ascii=False).encode())
    except UnicodeEncodeError as error:
        raise InputInvalid("The execution's input holds a lone surrogate: send Unicode.") from error
    if size > INPUT_BYTES:
        raise InputInvalid(
            f"The execution's input has {size} bytes, more than {INPUT_BYTES}. Name prefixes or "
            f"globs, or upload the list as an object that ends in {INPUTS_SUFFIX}."
        )
    if event.get("detail-type") == "Object Created":
        start = _uploaded(event, find)
    elif asks_for_probe(event):
        start = _probe(event, trigger)
    elif "schedule" in event:
        start = _scheduled(event, trigger.usual_inputs)
    else:
        start = _manual(event, trigger, standing)
    try:
        limits = limits_of(trigger.limits, start.limits)
    except ValidationError as error:
        raise InputInvalid(
            f"Run {start.run_id} was begun with limits that the job does not take any more: "
            f"limits.{_problem(error)} Send others with its run id."
        ) from error
    if limits.shards > MAP_ITEMS:
        raise InputInvalid(
            f"limits.shards is {limits.shards}; a stage on AWS has at most {MAP_ITEMS}."
        )
    return start


def limits_of(limits: Limits, changes: Mapping[str, Any]) -> Limits:
    """Limits with some of them changed."""
    return Limits(**{**limits.model_dump(), **changes}) if changes else limits


def lists_inputs(address: str) -> bool:
    """Whether an uploaded object is a list of inputs, and not an input."""
    return address.endswith(INPUTS_SUFFIX)


def _scheduled(event: dict[str, Any], usual_inputs: tuple[str, ...]) -> Start:
    scheduled = _parsed(event, ScheduledStart)
    moment = _in_utc(scheduled.scheduled_time)
    return Start(
        run_id=scheduled_run_id(scheduled.schedule, moment),
        inputs=usual_inputs,
        logical_time=moment.timestamp(),
    )


def _probe(event: dict[str, Any], trigger: Started) -> Start:
    asked = _parsed(event, ProbeStart)
    return Start(
        run_id=check_run_id(asked.probe),
        inputs=tuple(asked.inputs),
        logical_time=trigger.started,
        source_key=PROBE,
    )


def _uploaded(event: dict[str, Any], find: Find) -> Start:
    created = _parsed(event, ObjectCreated)
    bucket, item = created.detail.bucket.name, created.detail.object
    address = f"s3://{bucket}/{item.key}"
    found = find(address)
    if found is None or (item.etag and found.etag.strip('"') != item.etag.strip('"')):
        raise Superseded(f"{address} has been replaced or deleted since it was uploaded.")
    return Start(
        run_id=uploaded_run_id(bucket, item.key, item.version_id, item.sequencer),
        inputs=_listed_inputs(found.body, address) if lists_inputs(address) else (address,),
        logical_time=_in_utc(created.time).timestamp(),
        source_key=address,
    )


def _in_utc(moment: datetime) -> datetime:
    """A moment in UTC, which it is in where it does not say.

    Raises:
        InputInvalid: in UTC it is beyond the year 9999, or before the year 1.
    """
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise InputInvalid(f"The time {moment.isoformat()} can't be told in UTC.") from error


def _listed_inputs(body: bytes, address: str) -> tuple[str, ...]:
    """The inputs that an uploaded `*.inputs.json` lists: {"inputs": ["s3://...", ...]}."""
    try:
        return tuple(ListedInputs.model_validate_json(body).inputs)
    except ValidationError as error:
        raise InputInvalid(
            f'{address} must hold {{"inputs": ["s3://bucket/key", ...]}} and nothing else.'
        ) from error


def _manual(event: dict[str, Any], trigger: Started, standing: Standing) -> Start:
    asked = _parsed(event, ManualStart)
    _check_limits(trigger.limits, asked.limits)
    if asked.run_id is not None and asked.inputs is None:
        run = standing(check_run_id(asked.run_id))
        if run is not None:
            return _taken_up(run, asked)
    if asked.redo:
        raise InputInvalid('"redo" takes up a run: name one that exists, by its run_id alone.')
    return Start(
        run_id=check_run_id(
            execution_run_id(trigger.execution) if asked.run_id is None else asked.run_id
        ),
        inputs=tuple(asked.inputs) if asked.inputs else trigger.usual_inputs,
        logical_time=trigger.started if asked.logical_time is None else asked.logical_time,
        limits=asked.limits,
    )


def _taken_up(run: RunRecord, asked: ManualStart) -> Start:
    """A run id alone takes an existing run up again, as it was begun."""
    return Start(
        run_id=run.run_id,
        inputs=run.inputs,
        logical_time=run.logical_time,
        source_key=run.source_key,
        limits=asked.limits or run.limits,
        redo=asked.redo is not None,
    )


def _check_limits(limits: Limits, changes: dict[str, Any]) -> None:
    """Refuse limits that make no sense, or that only a deployment can change."""
    if fixed := sorted(DEPLOYED_LIMITS & changes.keys()):
        raise InputInvalid(f"limits.{fixed[0]} is fixed when the job is deployed: change it there.")
    try:
        limits_of(limits, changes)
    except ValidationError as error:
        raise InputInvalid(f"limits.{_problem(error)} {EXPECTED}") from error


def _parsed(event: dict[str, Any], model: type[Model]) -> Model:
    try:
        return model.model_validate(event)
    except ValidationError as error:
        raise InputInvalid(
            f"The execution's input can't be used: {_problem(error)} {EXPECTED}"
        ) from error


def _problem(error: ValidationError) -> str:
    found = error.errors(include_url=False)[0]
    return f"{'.'.join(str(step) for step in found['loc'])}: {found['msg']}."

"""What a deployment may choose, read from `fanfold.toml` and CDK's context, and checked.
docs/deploying.md lists it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from coordinator.errors import InputInvalid
from coordinator.store.globs import literal_prefix
from infra.settings import Settings

LOG_DAYS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 3653)
INVOCATIONS_A_POLLER = 10

_BUCKET = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"
_KEY_ARN = r"^arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/[A-Za-z0-9-]+$"
_TOPIC_ARN = r"^arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:.+$"
_ADDRESS = re.compile(r"^s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<key>.*)$", re.DOTALL)
_OWN_OPTION = re.compile(r"^[A-Za-z]+$")  # CDK's own context keys hold a ':', '/' or '@'


def _as_list(value: object) -> object:
    """A comma-separated text as a list: what `-c name=a,b` gives."""
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return value


def _as_pollers(value: object) -> object:
    """`true`, `8` or `2-8` as an object with a minimum and a maximum."""
    if isinstance(value, str) and (found := re.fullmatch(r"(\d+)-(\d+)", value)):
        return {"minimum": int(found[1]), "maximum": int(found[2])}
    if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value).isdigit():
        return {"maximum": int(value)}
    if str(value).lower() in {"true", "false"}:
        return {} if str(value).lower() == "true" else None
    return value


class Pollers(BaseModel):
    """Provisioned pollers of the work queue; without a maximum, as many as the concurrency needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    minimum: int = Field(default=2, ge=2, le=200)
    maximum: int | None = Field(default=None, ge=2, le=2000)


class Location(NamedTuple):
    """A bucket, and what the keys of all inputs in it begin with."""

    bucket: str
    prefix: str


class Options(BaseModel):
    """The options of one job's deployment."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
    )

    bucket: str | None = Field(default=None, pattern=_BUCKET)
    versioned: bool = False
    kms: Literal["new"] | Annotated[str, Field(pattern=_KEY_ARN)] | None = None
    inputs: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = ()
    input_keys: Annotated[
        tuple[Annotated[str, Field(pattern=_KEY_ARN)], ...], BeforeValidator(_as_list)
    ] = ()
    requester_pays: bool = False
    uploads: str | None = Field(default=None, pattern=_BUCKET)
    provisioned_pollers: Annotated[Pollers | None, BeforeValidator(_as_pollers)] = None
    reserved: bool = False
    snap_start: bool = False
    tracing: bool = False
    alarm_topic: str | None = Field(default=None, pattern=_TOPIC_ARN)
    ticket_topic: str | None = Field(default=None, pattern=_TOPIC_ARN)
    alarm_email: str | None = Field(default=None, pattern=r"^[^@\s]+@[^@\s]+$")
    runbooks: str = "docs/runbooks"
    log_days: int = 30
    long_run_hours: int = Field(default=24, ge=1, le=29 * 24)

    def input_locations(self) -> tuple[Location, ...]:
        """Where the inputs given by option lie; a glob is cut before its first sign."""
        found = (_ADDRESS.match(address) for address in self.inputs)
        return tuple(
            Location(match["bucket"], literal_prefix(match["key"])) for match in found if match
        )


@dataclass(frozen=True, slots=True)
class Request:
    """What one synthesis is asked for: which jobs, in which stage, with which options over those of
    the settings."""

    settings: Settings
    jobs: Path
    job: str | None
    stage: str | None
    over: Mapping[str, Any]

    def options_of(self, job: str) -> Options:
        """The options of a job.

        Raises:
            InputInvalid: one is unknown, or makes no sense.
        """
        return read_options({**self.settings.options_of(job, self.stage), **self.over})


def read_request(
    context: Mapping[str, Any], settings: Settings, stage: str | None = None
) -> Request:
    """The request in CDK's context, over the settings. Keys of CDK's own are passed over.

    Raises:
        InputInvalid: an option is unknown, or makes no sense.
    """
    ours = {name: value for name, value in context.items() if _OWN_OPTION.match(name)}
    job, stage = ours.pop("job", None), ours.pop("stage", stage)
    jobs = Path(ours.pop("jobs", settings.jobs))
    request = Request(settings, jobs, job, stage, ours)
    for each in (settings, *settings.stage.values()):
        for name in ("", *each.job):
            for layer in each.layers(name):
                read_names(layer)
    request.options_of("")
    return request


def given_options(options: Options) -> dict[str, Any]:
    """What was given of some options, as `fanfold.toml` would say it."""
    return options.model_dump(mode="json", by_alias=True, exclude_unset=True)


def read_names(given: Mapping[str, Any]) -> None:
    """Check that there are options of these names.

    Raises:
        InputInvalid: there is none of one.
    """
    known = [field.alias or name for name, field in Options.model_fields.items()]
    for name in given:
        if name not in known:
            raise InputInvalid(f"There is no option {name!r}.{_suggestion(name, known)}")


def read_options(given: Mapping[str, Any]) -> Options:
    """Check options.

    Raises:
        InputInvalid: one is unknown, or makes no sense.
    """
    read_names(given)
    try:
        options = Options.model_validate(dict(given))
    except ValidationError as error:
        raise InputInvalid(_sentence(error)) from error
    _check_together(options)
    return options


def _check_together(options: Options) -> None:
    """Refuse options that are wrong in themselves, or beside each other."""
    for address in options.inputs:
        if not _ADDRESS.match(address):
            raise InputInvalid(f"The option inputs has {address!r}: write s3://bucket/prefix/.")
    if options.log_days not in LOG_DAYS:
        days = ", ".join(str(count) for count in LOG_DAYS)
        raise InputInvalid(
            f"The option logDays is {options.log_days}; CloudWatch Logs takes {days}."
        )
    if options.bucket and options.versioned:
        raise InputInvalid(
            "The option versioned sets up a new bucket; turn versions on in the bucket "
            f"{options.bucket} yourself."
        )
    if options.bucket and options.kms == "new":
        raise InputInvalid(
            f"The bucket {options.bucket} has its encryption already: give the ARN of its key as "
            "the option kms, or leave kms out."
        )
    if options.alarm_topic and options.alarm_email:
        raise InputInvalid("Give the option alarmTopic or alarmEmail, not both.")
    if options.ticket_topic and not (options.alarm_topic or options.alarm_email):
        raise InputInvalid(
            "The option ticketTopic is for what can wait: give alarmTopic or alarmEmail too, for what "
            "can't."
        )


def _suggestion(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return (
        f" Did you mean {close[0]}?"
        if close
        else f" There are: {', '.join(known)}, jobs, job, stage."
    )


def _sentence(error: ValidationError) -> str:
    """The first problem of the options, as one sentence."""
    problem = error.errors(include_url=False)[0]
    name = ".".join(str(step) for step in problem["loc"])
    return (
        f"The option {name} is {problem.get('input')!r}: {problem['msg']}. See docs/deploying.md."
    )

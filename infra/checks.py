"""What AWS would refuse of a job, said at synthesis in one sentence instead of at deployment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from zoneinfo import available_timezones

from coordinator.errors import JobInvalid
from coordinator.job import Job
from coordinator.keys import JobKeys
from coordinator.rules.transport import MAP_ITEMS
from coordinator.triggers import OnUpload, Schedule
from infra.cron import parse_cron
from infra.options import INVOCATIONS_A_POLLER, Options

MAPPING_CONCURRENCY = (2, 1000)
TAG_SIGNS = 256
PREFIX_BYTES = 1024

_TAG_VALUE = re.compile(r"^[\w\s+=.:/@-]*$")


def check_job(job: Job, options: Options) -> None:
    """Refuse a job that can't be deployed with these options.

    Raises:
        JobInvalid: with the field and the fix.
    """
    _check_limits(job, options)
    _check_tags(job)
    for trigger in job.triggers:
        if isinstance(trigger, Schedule):
            _check_schedule(job, trigger)
        else:
            _check_upload(job, trigger, options)


def _check_limits(job: Job, options: Options) -> None:
    limits = job.limits
    if limits.shards > MAP_ITEMS:
        raise JobInvalid(
            f"Job {job.name}: limits.shards is {limits.shards}; a stage on AWS has at most "
            f"{MAP_ITEMS}, the children that one Distributed Map runs at a time. Lower it."
        )
    pollers = options.provisioned_pollers
    low, high = MAPPING_CONCURRENCY
    if pollers is None and not low <= limits.concurrency <= high:
        raise JobInvalid(
            f"Job {job.name}: limits.concurrency is {limits.concurrency}; a queue feeds {low} to "
            f"{high} workers. Lower it, or deploy with the option provisionedPollers."
        )
    if pollers is None:
        return
    if not options.reserved:
        raise JobInvalid(
            f"Job {job.name}: provisioned pollers are bounded by the reserved concurrency alone; "
            "add the option reserved=true."
        )
    most = limits.concurrency // INVOCATIONS_A_POLLER
    if most < pollers.minimum or (pollers.maximum or 0) > most:
        raise JobInvalid(
            f"Job {job.name}: {pollers.maximum or pollers.minimum} pollers start up to "
            f"{(pollers.maximum or pollers.minimum) * INVOCATIONS_A_POLLER} workers, more than "
            f"limits.concurrency ({limits.concurrency}) allows: raise it, or take fewer pollers."
        )


def _check_tags(job: Job) -> None:
    for field, value in (("owner", job.owner), ("cost_centre", job.cost_centre)):
        if len(value) > TAG_SIGNS or not _TAG_VALUE.match(value):
            raise JobInvalid(
                f"Job {job.name}: {field}={value!r} can't be a tag: take at most {TAG_SIGNS} "
                "letters, digits, spaces and + - = . _ : / @."
            )


def _check_schedule(job: Job, schedule: Schedule) -> None:
    try:
        parse_cron(schedule.cron)
    except JobInvalid as error:
        raise JobInvalid(f"Job {job.name}: {error}") from error
    known = available_timezones()  # empty where the system has no time zone database
    if known and schedule.timezone not in known:
        raise JobInvalid(
            f"Job {job.name}: Schedule(timezone={schedule.timezone!r}) is no time zone of the IANA "
            "database: write one like 'Europe/Berlin' or 'UTC'."
        )


def _check_upload(job: Job, upload: OnUpload, options: Options) -> None:
    for field, value in (("prefix", upload.prefix), ("suffix", upload.suffix)):
        if re.search(r"[*?\[\\\x00-\x1f]", value) or len(value.encode()) > PREFIX_BYTES:
            raise JobInvalid(
                f"Job {job.name}: OnUpload({field}={value!r}) must be the plain {field} of keys, "
                f"at most {PREFIX_BYTES} bytes, without '*', '?', '[' and backslashes."
            )
    if upload.prefix.startswith("/") or "://" in upload.prefix:
        raise JobInvalid(
            f"Job {job.name}: OnUpload(prefix={upload.prefix!r}) must be the beginning of keys in "
            "the bucket, without a scheme or a leading slash."
        )
    if options.uploads is not None and options.uploads != options.bucket:
        return
    taken = next((own for own in JobKeys(job.name).written() if overlap(own, upload.prefix)), None)
    if taken:
        raise JobInvalid(
            f"Job {job.name}: OnUpload(prefix={upload.prefix!r}) matches what the job writes itself "
            f"({taken}), so every run would start another: take a prefix like '{JobKeys(job.name).inputs}'."
        )


# ------------------------------------------------------------------------------------------------
# Jobs that share a bucket
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Deployed:
    """A job and the options it is deployed with."""

    job: Job
    options: Options


def check_together(deployed: Sequence[Deployed]) -> None:
    """Refuse jobs of one name, and jobs in one bucket that start each other in a circle.

    Raises:
        JobInvalid: names the jobs.
    """
    names = [one.job.name for one in deployed]
    for name in names:
        if names.count(name) > 1:
            raise JobInvalid(f"Two modules declare a job named {name!r}: rename one.")
    starts = {
        one.job.name: [other.job.name for other in deployed if _starts(one, other)]
        for one in deployed
    }
    for name in names:
        if circle := _circle(name, starts):
            raise JobInvalid(
                f"Jobs {' → '.join(circle)} start each other without end by their uploads: change "
                "the prefix of one."
            )


def overlap(output: str, prefix: str) -> bool:
    """Whether a key that begins with the one may begin with the other."""
    return output.startswith(prefix) or prefix.startswith(output)


def _starts(one: Deployed, other: Deployed) -> bool:
    """Whether what one job writes starts the other."""
    theirs = other.options.uploads or other.options.bucket
    if one.options.bucket is None or one.options.bucket != theirs:
        return False
    uploads = [trigger for trigger in other.job.triggers if isinstance(trigger, OnUpload)]
    return any(
        overlap(output, upload.prefix)
        for output in JobKeys(one.job.name).written()
        for upload in uploads
    )


def _circle(start: str, starts: dict[str, list[str]]) -> list[str]:
    """A way from a job back to itself, or nothing."""
    ways: list[list[str]] = [[start]]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        for following in starts[way[-1]]:
            if following == start:
                return [*way, start]
            if following not in seen:
                seen.add(following)
                ways.append([*way, following])
    return []


def schedules(job: Job) -> list[Schedule]:
    """The schedules among a job's triggers."""
    return [trigger for trigger in job.triggers if isinstance(trigger, Schedule)]


def uploads(triggers: Iterable[object]) -> list[OnUpload]:
    """The uploads among triggers."""
    return [trigger for trigger in triggers if isinstance(trigger, OnUpload)]

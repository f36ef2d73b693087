"""The probe: a small run of made-up objects through all that a deployed job has, and what is known
of its result beforehand.

It runs none of the job's own code. In its first wave the message of one shard is let die, so that
the dead letters and a second wave are seen to work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from coordinator.formats.jsonlines import JsonLines
from coordinator.formats.lines import Lines
from coordinator.job import Job
from coordinator.limits import Limits
from coordinator.model import Message, RunRecord
from coordinator.rules.transport import INLINE_ITEMS

PROBE = "probe"  # the source key of its runs, so that they have a pointer of their own
OBJECTS = (INLINE_ITEMS + 1, 3)  # one run through a Distributed Map, one through an inline one
DYING = "0"  # the shard whose message dies


def probe_of(job: Job) -> Job:
    """The job that a probe runs: a count of lines by reduce, within the limits that are deployed."""
    probe = Job(
        PROBE,
        Lines(),
        sink=JsonLines(),
        limits=Limits(
            shard_items=1,
            partitions=1,
            waves=3,
            memory_mb=job.limits.memory_mb,
            timeout_seconds=job.limits.timeout_seconds,
            concurrency=job.limits.concurrency,
            attempts=job.limits.attempts,
        ),
    )
    probe.map(_count)
    probe.combine(_add)
    probe.reduce(_tell)
    probe.name = job.name
    return probe


def asks_for_probe(event: object) -> bool:
    """Whether an execution's input asks for a probe."""
    return isinstance(event, dict) and PROBE in event


def is_probe(run: RunRecord) -> bool:
    """Whether a run is a probe."""
    return run.source_key == PROBE


def is_to_die(run: RunRecord, message: Message) -> bool:
    """Whether a message of a probe is left to die, as if its worker crashed every time."""
    first = message.stage == "map" and message.shard.id == DYING and message.wave == 1
    return is_probe(run) and first


def made_up(objects: int) -> Iterator[tuple[str, bytes]]:
    """The names and bodies of a probe's objects."""
    return ((f"{number:02}.txt", b"a line of the probe\n") for number in range(objects))


def expected(objects: int) -> Mapping[str, Any]:
    """The one record of a probe's result."""
    return {"lines": objects}


def _count(line: str) -> Iterator[tuple[str, int]]:
    yield "lines", 1


def _add(one: int, other: int) -> int:
    return one + other


def _tell(key: str, lines: int) -> dict[str, int]:
    return {key: lines}

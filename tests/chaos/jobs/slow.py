"""Values of every key in the order of the input, from records that take their time, in batches."""

from collections.abc import Iterator
from typing import Any

from coordinator import Job, Limits, Lines
from tests.chaos.simulator.hurt import pass_time

job = Job(name="slow", source=Lines(), limits=Limits(timeout_seconds=60))


@job.map_batch(size=2)
def keyed(lines: list[str]) -> Iterator[tuple[str, str]]:
    pass_time(13.0 * len(lines))
    for line in lines:
        key, _, value = line.partition(" ")
        yield key, value


@job.reduce
def collect(key: str, values: Iterator[Any]) -> dict[str, Any]:
    return {"key": key, "values": list(values)}

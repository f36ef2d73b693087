"""Numbers, doubled; one kind of record ends the process that maps it, another one is refused."""

from collections.abc import Iterator
from typing import Any

from coordinator import Job, JsonLines, Limits
from tests.chaos.simulator.hurt import die

job = Job(name="poison", source=JsonLines(), limits=Limits(tolerated=10, timeout_seconds=60))


@job.map
def double(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if record["number"] == "poison":
        die()
    yield {"number": record["number"] * 2, "twice": record["number"] + 0}

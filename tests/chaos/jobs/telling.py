"""Tells someone outside of every line, by its idempotency key."""

from collections.abc import Iterator

from coordinator import Context, Job, Lines
from tests.chaos.simulator.hurt import tell

job = Job(name="telling", source=Lines())


@job.map
def telling(line: str, context: Context) -> Iterator[str]:
    tell(context.idempotency_key)
    yield line

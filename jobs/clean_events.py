"""Events as an application logs them, made uniform: one shape, times in UTC, kinds in lower case.

A line that is no event goes to quarantine with its file, byte offset and reason. Up to one in a
hundred is tolerated; past that something is wrong with the log, and the run fails.
"""

from collections.abc import Iterator
from datetime import UTC
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, Field, StringConstraints

from coordinator import Job, JsonLines, Limits, Schedule


class Event(BaseModel):
    """What a line must hold; whatever else it holds is left out."""

    at: AwareDatetime
    user: int = Field(gt=0)
    kind: Annotated[str, StringConstraints(strip_whitespace=True, to_lower=True, min_length=1)]
    amount_cents: int = 0


job = Job(
    name="clean-events",
    source=JsonLines(Event),
    merge="parts",  # one result file for every shard, so that what reads them can be parallel too
    limits=Limits(tolerated=0.01),
    triggers=[Schedule(cron="0 6 * * ? *", timezone="Europe/Berlin")],
    owner="data-platform",
    cost_centre="analytics",
)


@job.map
def clean(event: Event) -> Iterator[Event]:
    yield event.model_copy(update={"at": event.at.astimezone(UTC)})

"""What starts runs on AWS besides people: the clock, and uploads."""

from __future__ import annotations

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class Schedule:
    """Start a run by the clock.

    `cron` is EventBridge Scheduler's: `minute hour day-of-month month day-of-week year`.
    """

    cron: str
    timezone: str = "UTC"


@dataclass(frozen=True, config=_STRICT)
class OnUpload:
    """Start a run for every object created below a prefix; input is that object alone."""

    prefix: str
    suffix: str = ""


Trigger = Schedule | OnUpload

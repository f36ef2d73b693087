"""What invocations are made of: requests, containers, the jobs in them, and what they are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from coordinator.loading import LoadedJob, load_job
from coordinator.rules.pacing import Pace
from tests.chaos.simulator.world import World


@dataclass(frozen=True, slots=True)
class Invocation:
    """One invocation that has ended: how long it took, and what it died of if it did."""

    function: str
    event: Any
    seconds: float
    dead: str | None


@dataclass(frozen=True, slots=True)
class Request:
    """A run that is asked for: who starts it again asks for the same."""

    run_id: str
    inputs: tuple[str, ...]
    logical_time: float = 1_000.0
    limits: Mapping[str, Any] = field(default_factory=dict)

    def as_input(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "inputs": list(self.inputs),
            "logical_time": self.logical_time,
            "limits": dict(self.limits),
        }


class EarlyPace(Pace):
    """The functions' own guard on the world's clock, which may also trip after some records."""

    records: int | None = None

    def tripped(self) -> bool:
        if self.records is not None:
            self.records -= 1
            if self.records < 0:
                return True
        return super().tripped()


@dataclass(eq=False, slots=True)
class Container:
    """What one container of a function keeps from one invocation to the next: the job that it has
    loaded, the records that it has seen, and a clock that may be wrong."""

    loaded: LoadedJob
    skew: float = 0.0
    seen: dict[Any, Any] = field(default_factory=dict)


class Context:
    """The context of an invocation."""

    def __init__(self, world: World, deadline_at: float) -> None:
        self._world = world
        self._deadline_at = deadline_at

    def get_remaining_time_in_millis(self) -> int:
        return int((self._deadline_at - self._world.now) * 1000)


def another_version(found: LoadedJob) -> LoadedJob:
    """The same job with a change that changes no output: its version is another."""
    changed = replace(found.program, version=f"{found.program.version}x")
    return replace(found, program=changed)


@cache
def loaded(job: str) -> LoadedJob:
    """A job by the path of its module; imported once a process."""
    return load_job(job)

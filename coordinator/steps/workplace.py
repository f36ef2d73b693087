"""What an attempt at a shard stands on, and what it has to commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from random import SystemRandom
from typing import Any, Protocol

from pydantic import BaseModel

from coordinator.errors import OutputInvalid, Retry
from coordinator.job import Job
from coordinator.keys import RunKeys
from coordinator.loading.program import Program
from coordinator.model import Receipt, RunRecord, Slice, Stage
from coordinator.rules.pacing import lanes_of_each, record_pause_seconds
from coordinator.rules.slices import Slices
from coordinator.state.runs import keys_of
from coordinator.store.ports import Inputs, Store


@dataclass(frozen=True, slots=True)
class RunPlace:
    """Where a run's notes and entries lie: all that is needed to bury a message."""

    store: Store
    run: RunRecord
    clock: Callable[[], float]

    @property
    def keys(self) -> RunKeys:
        return keys_of(self.run)


@dataclass(frozen=True, slots=True)
class Workplace(RunPlace):
    """Everything that the attempts of one run stand on. `pause` waits so many seconds, `jitter`
    gives random numbers in [0, 1)."""

    inputs: Inputs
    job: Job
    program: Program
    pause: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = SystemRandom().random

    @property
    def code_version(self) -> str:
        return self.program.version

    def insist(self, do: Callable[[], None], error: Retry) -> None:
        """Try what the job's code wants tried again, a few times.

        Raises:
            Retry: it did not help; or the job wants more time than a worker waits.
        """
        tries = 1
        while (wait := record_pause_seconds(tries, error.after, self.jitter())) is not None:
            self.pause(wait)
            try:
                do()
            except Retry as again:
                error = again
                tries += 1
            else:
                return
        raise error

    def lanes(self, stage: Stage) -> int:
        """In how many lanes an attempt at a stage reads, beside all others that run at a time."""
        workers = min(self.run.plans[stage].shards, self.job.limits.concurrency)
        return lanes_of_each(self.store.lanes, workers)

    @property
    def results_draft(self) -> str | None:
        """The draft that results lie under, once a stage has been drafted anew."""
        return self.run.plans["merge"].draft if self.run.redrafts else None


@dataclass(frozen=True, slots=True)
class Done:
    """What an attempt has to commit: with children, the shard was split.

    `first_refusal` says where the first record lies that was quarantined, and why.
    """

    receipt: Receipt
    covered: tuple[Slice, ...] = ()
    children: tuple[Slices, ...] = ()
    first_refusal: str = ""


class Guard(Protocol):
    """Says when a shard has to stop at the next record boundary."""

    def tripped(self) -> bool:
        """Whether it has to stop now.

        Raises:
            RunCancelled, Superseded: the shard's work is not wanted any more.
        """
        ...


class Unhurried:
    """A guard for what has no deadline."""

    def tripped(self) -> bool:
        return False


UNHURRIED = Unhurried()


def each_output(value: object, role: str) -> Iterator[Any]:
    """What the job's code returned that is no generator, as an iterator of outputs; None is
    nothing. `role` names the code.

    Raises:
        OutputInvalid: it is no collection of outputs.
    """
    if value is None:
        return iter(())
    if isinstance(value, (str, bytes, Mapping, BaseModel)) or not isinstance(value, Iterable):
        raise OutputInvalid(
            f"{role} must yield its outputs, or return an iterable of them, not {type(value).__name__}."
        )
    return iter(value)

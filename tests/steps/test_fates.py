"""What the job's own code says of a record: try it again, refuse it, stop the run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from coordinator import Context, Refuse, Retry, StopRun
from coordinator.errors import Fate, JobInvalid
from coordinator.formats.lines import Lines
from coordinator.job import Job
from coordinator.limits import Limits
from coordinator.rules.pacing import (
    RECORD_PAUSE_SECONDS,
    RECORD_TRIES,
    record_pause_seconds,
)
from coordinator.steps.attempts import (
    ASKED_SECONDS_MOST,
    Again,
    Answered,
    Failed,
    Verdict,
    attend,
)
from coordinator.steps.workplace import UNHURRIED
from coordinator.testing import run_job
from tests.steps.test_attempts import begun
from tests.support import World

FORMS = ("map", "map_batch")


class Service:
    """What a map calls: down as often as it is told, for one record."""

    def __init__(self, downs: int = 0, *, after: float = 0.0) -> None:
        self.downs = downs
        self.after = after
        self.calls: Counter[str] = Counter()

    def call(self, line: str) -> str:
        self.calls[line] += 1
        if line == "shaky" and self.calls[line] <= self.downs:
            raise Retry("it is busy", after=self.after)
        if line == "bad":
            raise Refuse("no such customer")
        if line == "end":
            raise StopRun("the month is closed")
        return line


def a_job(form: str, call: Callable[[str], str], **limits: Any) -> Job:
    job = Job("job", Lines(), limits=Limits(tolerated=100, **limits))
    if form == "map":
        job.map(lambda line: [call(line)])
    else:
        job.map_batch(size=2)(lambda lines: [call(line) for line in lines])
    return job


class Played:
    """A run of one shard, of which each attempt is made by hand; nothing waits."""

    def __init__(self, job: Job, body: str) -> None:
        self.world = World(job, {"in": body.encode()})
        self.paused: list[float] = []
        place, [self.message] = begun(self.world)
        self.place = replace(place, pause=self.paused.append, jitter=lambda: 0.5)

    def attempt(self, receives: int = 1) -> Verdict:
        """The verdict on a receive of the shard's message."""
        return attend(
            self.place,
            self.message,
            attempt=f"a{receives}",
            receives=receives,
            guard=UNHURRIED,
            jitter=lambda: 0.5,
        )


# ------------------------------------------------------------------------------------------------
# Again
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_record_is_tried_again_within_the_attempt_and_its_neighbours_are_not(form: str) -> None:
    service = Service(downs=2)
    played = Played(a_job(form, service.call), "one\ntwo\nshaky\nfour\nfive\n")

    verdict = played.attempt()

    assert isinstance(verdict, Answered)
    assert (verdict.answer.outcome, verdict.answer.records_in) == ("done", 5)
    assert service.calls["shaky"] == 3
    assert service.calls["one"] == service.calls["two"] == service.calls["five"] == 1
    assert played.paused == [1.0, 2.0]


@pytest.mark.parametrize("form", FORMS)
def test_what_is_done_is_kept_and_the_rest_goes_on_as_another_shard(form: str) -> None:
    service = Service(downs=10**6)
    played = Played(a_job(form, service.call), "one\ntwo\nshaky\nfour\n")

    verdict = played.attempt()

    assert isinstance(verdict, Answered)
    assert (verdict.answer.outcome, verdict.answer.records_in) == ("split", 2)
    assert service.calls["shaky"] == RECORD_TRIES


@pytest.mark.parametrize("form", FORMS)
def test_what_cannot_be_waited_for_is_left_to_the_queue(form: str) -> None:
    service = Service(downs=10**6, after=120.0)
    played = Played(a_job(form, service.call, attempts=3), "shaky\ntwo\n")

    first, last = played.attempt(1), played.attempt(3)

    assert isinstance(first, Again)
    assert (first.note.error, first.note.reason, first.note.fate) == (
        "Retry",
        "it is busy",
        Fate.RETRY,
    )
    assert first.delay_seconds == 120.0
    assert isinstance(last, Failed)
    assert played.paused == []
    assert service.calls == {"shaky": 2}


def test_a_message_waits_for_an_hour_at_most() -> None:
    played = Played(a_job("map", Service(downs=10**6, after=1e9).call), "shaky\n")

    verdict = played.attempt()

    assert isinstance(verdict, Again)
    assert verdict.delay_seconds == ASKED_SECONDS_MOST


def test_a_record_that_is_refused_in_the_end_is_refused_alone() -> None:
    calls: list[str] = []

    def call(line: str) -> str:
        calls.append(line)
        if line == "shaky":
            if calls.count("shaky") < 2:
                raise Retry
            raise Refuse("it is gone")
        return line

    for form in FORMS:
        calls.clear()
        verdict = Played(a_job(form, call), "one\nshaky\nthree\n").attempt()
        assert isinstance(verdict, Answered)
        assert (verdict.answer.records_in, verdict.answer.quarantined) == (3, 1)


def test_a_reduce_may_have_its_shard_tried_again() -> None:
    calls: list[str] = []

    def reduce(key: str, values: Iterator[int]) -> dict[str, int]:
        calls.append(key)
        if len(calls) == 1:
            raise Retry("busy")
        return {key: sum(values)}

    job = Job("job", Lines())
    job.map(lambda line: [(line, 1)])
    job.reduce(reduce)

    assert run_job(job, {"in": "a\na\n"}).records() == [{"a": 2}]
    assert calls == ["a", "a"]


def test_pauses_grow_and_are_as_long_as_is_asked() -> None:
    assert [record_pause_seconds(tries, 0.0, 0.5) for tries in range(1, 5)] == [1.0, 2.0, 4.0, None]
    assert record_pause_seconds(1, 3.0, 0.5) == 3.0
    assert record_pause_seconds(1, RECORD_PAUSE_SECONDS, 0.0) == RECORD_PAUSE_SECONDS
    assert record_pause_seconds(1, RECORD_PAUSE_SECONDS + 0.1, 0.0) is None


@pytest.mark.parametrize("after", [-1, math.nan, math.inf])
def test_a_time_that_makes_no_sense_is_said(after: float) -> None:
    with pytest.raises(ValueError, match="must be a number of seconds, 0 or more"):
        Retry(after=after)


# ------------------------------------------------------------------------------------------------
# Never
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_record_is_refused_with_the_reason_that_the_job_gives(form: str) -> None:
    outcome = run_job(a_job(form, Service().call), {"in": "one\nbad\nthree\n"})

    assert sorted(outcome.records()) == ["one", "three"]
    assert [each["reason"] for each in outcome.quarantine] == ["no such customer"]


@pytest.mark.parametrize("form", FORMS)
def test_a_job_ends_its_run_at_once_and_says_why(form: str) -> None:
    service = Service()
    with pytest.raises(StopRun, match="the month is closed"):
        run_job(a_job(form, service.call), {"in": "one\nend\n"})
    assert service.calls["end"] == 1


# ------------------------------------------------------------------------------------------------
# Before
# ------------------------------------------------------------------------------------------------


def test_what_setup_makes_is_made_once_a_process_and_found_in_the_context() -> None:
    made: list[object] = []
    found: list[object] = []
    job = Job("job", Lines(), limits=Limits(shard_items=1))

    @job.setup
    def connect() -> object:
        made.append(object())
        return made[-1]

    @job.map
    def look(line: str, context: Context) -> Iterator[str]:
        found.append(context.resource)
        yield line

    run_job(job, {f"in{number}": "a\nb\n" for number in range(5)})

    assert len(made) == 1
    assert found == made * 10


def test_a_setup_that_fails_is_tried_again_with_its_attempt() -> None:
    made: list[str] = []
    job = a_job("map_batch", str)

    @job.setup
    def connect() -> None:
        made.append("tried")
        if len(made) == 1:
            raise ConnectionError("not yet")

    played = Played(job, "one\n")
    first, second = played.attempt(1), played.attempt(2)

    assert isinstance(first, Again)
    assert "ConnectionError: not yet" in first.note.reason
    assert isinstance(second, Answered)
    assert len(made) == 2


def test_a_setup_takes_no_parameter() -> None:
    with pytest.raises(JobInvalid, match="setup `connect` must take 0 parameter"):

        @Job("job", Lines()).setup
        def connect(context: Context) -> None: ...

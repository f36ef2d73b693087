"""Waves after failures, on the real state machine: they wait, and what happens meanwhile counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.state import runs
from functions import wiring
from tests.cloud.account import Account
from tests.cloud.conftest import MakeCloud
from tests.cloud.harness import key_contains
from tests.cloud.test_faults import RUN, aws_error, fan_out, lines, states_entered, upper

__all__ = ["fan_out"]

WriteJob = Callable[..., Path]


@pytest.fixture
def cloud(make_cloud: MakeCloud, write_job: WriteJob) -> Account:
    """Three inputs, of which one can't be read; a run has five waves."""
    cloud = make_cloud(write_job(limits="waves=5"))
    cloud.give(lines(3))
    cloud.faults.refuse(
        "s3.GetObject",
        error=aws_error("SlowDown", 503, "GetObject"),
        match=key_contains("inputs/001.txt"),
    )
    return cloud


def at_pause(cloud: Account, number: int, act: Callable[[], object]) -> None:
    """Do something during a pause, the first or a later one."""
    cloud.on_pause = lambda: act() if len(cloud.records.pauses) == number else None


def test_what_recovers_during_a_pause_is_done_in_the_wave_after_it(
    cloud: Account, fan_out: str
) -> None:
    at_pause(cloud, 2, cloud.faults.clear)

    ended = cloud.run(RUN)

    assert ended.succeeded
    assert cloud.worked_on() == Counter({"0": 1, "1": 5 + 5 + 1, "2": 1})
    first, second = cloud.records.pauses
    assert 30 <= first <= 60
    assert 120 <= second <= 240
    visited = states_entered(cloud, ended.arn)
    assert visited.count("Pause") == visited.count("Paused") == 2
    assert cloud.result("r1") == upper(lines(3))


def test_a_run_that_is_cancelled_during_a_pause_does_no_more(cloud: Account) -> None:
    at_pause(cloud, 1, lambda: runs.cancel(wiring.store(), cloud.keys("r1")))

    ended = cloud.run(RUN)

    assert ended.error == "RunCancelled"
    assert cloud.worked_on()["1"] == 5 + 1  # the last message was dropped
    assert "is cancelled" in cloud.answers()[-1]["cause"]


def test_an_execution_that_is_stopped_during_a_pause_is_redriven_there(cloud: Account) -> None:
    started: list[str] = []
    at_pause(cloud, 1, lambda: cloud.stop(started[0]))
    started.append(cloud.start(RUN))
    assert cloud.wait(started[0]).status == "ABORTED"

    cloud.faults.clear()
    cloud.redrive(started[0])

    assert cloud.wait(started[0]).succeeded
    assert cloud.worked_on()["1"] == 5 + 1
    assert cloud.result("r1") == upper(lines(3))

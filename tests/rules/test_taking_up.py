"""What a person may ask of a run that exists, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.model import RunRecord
from coordinator.rules.starts import Start
from tests.rules.test_starts import HOW_TO, refusal, understood

RUN = RunRecord(
    job="job",
    run_id="r1",
    created=0.0,
    logical_time=7.0,
    owner="o",
    declaration={},
    inputs=("s3://in/a",),
    source_key="s3://in/a",
    limits={"waves": 3},
)


@pytest.mark.parametrize(
    ("asked", "redo", "limits"),
    [
        ({}, False, {"waves": 3}),
        ({"redo": "quarantined"}, True, {"waves": 3}),
        ({"limits": {"waves": 5}}, False, {"waves": 5}),
    ],
)
def test_a_run_is_taken_up_as_it_was_begun(
    asked: dict[str, Any], redo: bool, limits: dict[str, Any]
) -> None:
    start = understood({"run_id": "r1", **asked}, standing=lambda run_id: RUN)

    assert start == Start(
        run_id="r1",
        inputs=("s3://in/a",),
        logical_time=7.0,
        source_key="s3://in/a",
        redo=redo,
        limits=limits,
    )


@pytest.mark.parametrize("event", [{}, {"run_id": "r1"}, {"run_id": "r1", "inputs": ["s3://a/b"]}])
def test_only_a_run_that_exists_can_be_done_again(event: dict[str, Any]) -> None:
    said = refusal({**event, "redo": "quarantined"}, standing=lambda run_id: None)

    assert said == '"redo" takes up a run: name one that exists, by its run_id alone.'


def test_limits_that_make_no_sense_are_named_with_what_to_send() -> None:
    said = refusal({"limits": {"waves": 0}})

    assert said.startswith("limits.waves: Input should be greater than")
    assert HOW_TO in said


def test_of_limits_that_only_a_deployment_can_change_the_first_is_named() -> None:
    said = refusal({"limits": {"timeout_seconds": 9, "memory_mb": 9, "attempts": 9}})

    assert said == "limits.attempts is fixed when the job is deployed: change it there."

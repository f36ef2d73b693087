"""The numbers that functions, queues and state machine agree on, and how they hang together."""

from __future__ import annotations

import pytest
from hypothesis import example, given, strategies as st

from coordinator.limits import Limits
from coordinator.rules.pacing import BACKOFF_MOST_SECONDS, backoff_seconds
from coordinator.rules.transport import (
    INLINE_ITEMS,
    MAP_ITEMS,
    QUEUE_DAYS,
    child_timeout_seconds,
    open_children,
    receives,
    visibility_seconds,
)
from tests.support import examples

# What AWS allows: "Amazon SQS message quotas", "Step Functions service quotas".
VISIBILITY_MOST_SECONDS = 12 * 3600
RECEIVE_COUNT_MOST = 1000
RETENTION_MOST_SECONDS = 14 * 24 * 3600
MAP_CHILDREN_MOST = 10_000
INLINE_CHILDREN_MOST = 40

some_limits = st.builds(
    Limits,
    attempts=st.integers(1, 100),
    timeout_seconds=st.integers(1, 900),
    concurrency=st.integers(2, 10_000),
)


@pytest.mark.parametrize(("attempts", "times"), [(1, 5), (4, 5), (5, 5), (6, 6), (100, 100)])
def test_a_message_is_received_as_often_as_the_job_says_and_five_times_at_least(
    attempts: int, times: int
) -> None:
    assert receives(Limits(attempts=attempts)) == times


@pytest.mark.parametrize(("function_seconds", "seconds"), [(1, 61), (300, 360), (900, 960)])
def test_a_message_stays_hidden_for_a_minute_longer_than_its_function_may_run(
    function_seconds: int, seconds: int
) -> None:
    assert visibility_seconds(function_seconds) == seconds


@pytest.mark.parametrize(
    ("concurrency", "items", "children"),
    [
        (100, 10_000, 300),
        (100, 301, 300),
        (100, 300, 300),
        (100, 299, 299),
        (2, 41, 6),
        (2, 1, 1),
        (10_000, 10_000, 10_000),
    ],
)
def test_three_children_are_open_for_each_worker_and_no_more_than_there_are(
    concurrency: int, items: int, children: int
) -> None:
    assert open_children(Limits(concurrency=concurrency), items) == children


@pytest.mark.parametrize(
    ("attempts", "timeout_seconds", "seconds"),
    [
        pytest.param(5, 300, 21_600, id="six hours at least"),
        pytest.param(5, 360, 21_600, id="just as long"),
        pytest.param(5, 361, 21_630, id="then thirty times the longest try and its wait"),
        pytest.param(1, 900, 37_800, id="five receives at least"),
        pytest.param(10, 900, 75_600, id="ten of a quarter of an hour"),
        pytest.param(100, 900, 345_600, id="the longest of all"),
    ],
)
def test_a_child_waits_for_a_lost_answer_for_hours(
    attempts: int, timeout_seconds: int, seconds: int
) -> None:
    limits = Limits(attempts=attempts, timeout_seconds=timeout_seconds)

    assert child_timeout_seconds(limits) == seconds


@given(some_limits)
@example(Limits(attempts=100, timeout_seconds=900, concurrency=2))
@examples(200)
def test_a_child_outlasts_every_try_of_its_message_and_of_those_before_it(limits: Limits) -> None:
    """At the worst a worker's every open child takes all its tries, each to the last second. Only
    the queue may forget a message sooner."""
    a_try = visibility_seconds(limits.timeout_seconds) + BACKOFF_MOST_SECONDS
    all_tries = receives(limits) * a_try
    queued = -(-open_children(limits, MAP_ITEMS) // limits.concurrency)

    waits = child_timeout_seconds(limits)
    assert queued * all_tries < waits or waits == QUEUE_DAYS * 86_400


@given(some_limits)
@examples(100)
def test_a_message_is_hidden_for_longer_than_it_is_worked_on(limits: Limits) -> None:
    hidden = visibility_seconds(limits.timeout_seconds)

    assert limits.timeout_seconds < hidden <= VISIBILITY_MOST_SECONDS


@given(some_limits)
@examples(100)
def test_the_numbers_are_within_what_aws_allows(limits: Limits) -> None:
    assert receives(limits) <= RECEIVE_COUNT_MOST
    assert child_timeout_seconds(limits) < RETENTION_MOST_SECONDS
    assert 1 <= open_children(limits, 1) <= open_children(limits, MAP_ITEMS) <= MAP_CHILDREN_MOST


def test_the_longest_wait_between_two_tries_is_the_longest_backoff() -> None:
    assert BACKOFF_MOST_SECONDS == BACKOFF_MOST_SECONDS
    assert backoff_seconds(100, 1.0) == BACKOFF_MOST_SECONDS


def test_a_map_has_no_more_items_than_step_functions_runs_at_a_time() -> None:
    assert MAP_ITEMS <= MAP_CHILDREN_MOST
    assert 0 < INLINE_ITEMS <= INLINE_CHILDREN_MOST

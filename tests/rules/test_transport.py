"""The numbers that functions, queues and state machine agree on, and how they hang together."""

from __future__ import annotations

import heapq
from random import Random

import pytest
from hypothesis import example, given, strategies as st

from coordinator.limits import Limits
from coordinator.rules.pacing import BACKOFF_MOST_SECONDS, backoff_seconds
from coordinator.rules.transport import (
    INLINE_ITEMS,
    MAP_ITEMS,
    QUEUE_DAYS,
    child_timeout_seconds,
    lost_children,
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
    ("limits", "items", "seconds"),
    [
        pytest.param(Limits(), 1, 3600, id="an hour at least"),
        pytest.param(Limits(), 100, 3600, id="just as long, as many shards as workers"),
        pytest.param(Limits(), 300, 4500 + 1950, id="three for each worker"),
        pytest.param(Limits(), 10_000, 4500 + 1950, id="no more are open"),
        pytest.param(Limits(concurrency=2), 40, 4500 + 1950, id="however few the workers"),
        pytest.param(Limits(attempts=1), 300, 4500 + 1950, id="five receives at least"),
        pytest.param(Limits(timeout_seconds=1), 300, 3600, id="short tries"),
        pytest.param(Limits(timeout_seconds=900), 1, 45 + 4950, id="long tries"),
        pytest.param(Limits(timeout_seconds=900), 10_000, 13_500 + 4950, id="and many of them"),
        pytest.param(
            Limits(timeout_seconds=900, attempts=100), 10_000, 345_600, id="the longest of all"
        ),
    ],
)
def test_a_child_waits_for_its_answer_for_hours_and_no_more_than_it_may_take(
    limits: Limits, items: int, seconds: int
) -> None:
    assert child_timeout_seconds(limits, items) == seconds


@given(some_limits, st.integers(1, MAP_ITEMS), st.randoms(use_true_random=False))
@example(Limits(attempts=100, timeout_seconds=900, concurrency=2), MAP_ITEMS, Random(0))
@examples(100)
def test_no_child_gives_up_while_its_shard_has_its_workers_and_its_tries(
    limits: Limits, items: int, draw: Random
) -> None:
    """Every open child takes all its tries, each to the last second or to its death; whoever is
    visible first is received first. Only the queue may forget a message sooner."""
    workers, tries = limits.concurrency, receives(limits)
    free = [0.0] * workers
    open_at_once = min(open_children(limits, items), 60)  # of fewer workers, alike
    if open_at_once < open_children(limits, items):
        workers = max(1, workers * open_at_once // open_children(limits, items))
        free = [0.0] * workers
    waiting = [(0.0, number, 1) for number in range(open_at_once)]
    last = 0.0
    while waiting:
        visible, number, receive = heapq.heappop(waiting)
        begins = max(visible, heapq.heappop(free))
        heapq.heappush(free, begins + limits.timeout_seconds)
        dies = draw.random() < 0.5
        back = limits.timeout_seconds + backoff_seconds(receive, 1.0)
        back = visibility_seconds(limits.timeout_seconds) if dies else back
        if receive < tries:
            heapq.heappush(waiting, (begins + back, number, receive + 1))
        last = max(last, begins + back)

    waits = child_timeout_seconds(limits, items)
    assert last < waits or waits == QUEUE_DAYS * 86_400


@given(some_limits, st.integers(1, MAP_ITEMS))
@examples(100)
def test_a_wave_of_which_nothing_is_heard_ends_with_its_first_children(
    limits: Limits, items: int
) -> None:
    assert lost_children(limits, items) + 1 == open_children(limits, items)


@given(some_limits)
@examples(100)
def test_a_message_is_hidden_for_longer_than_it_is_worked_on(limits: Limits) -> None:
    hidden = visibility_seconds(limits.timeout_seconds)

    assert limits.timeout_seconds < hidden <= VISIBILITY_MOST_SECONDS


@given(some_limits)
@examples(100)
def test_the_numbers_are_within_what_aws_allows(limits: Limits) -> None:
    assert receives(limits) <= RECEIVE_COUNT_MOST
    assert child_timeout_seconds(limits, MAP_ITEMS) < RETENTION_MOST_SECONDS
    assert 1 <= open_children(limits, 1) <= open_children(limits, MAP_ITEMS) <= MAP_CHILDREN_MOST


def test_the_longest_wait_between_two_tries_is_the_longest_backoff() -> None:
    assert BACKOFF_MOST_SECONDS == BACKOFF_MOST_SECONDS
    assert backoff_seconds(100, 1.0) == BACKOFF_MOST_SECONDS


def test_a_map_has_no_more_items_than_step_functions_runs_at_a_time() -> None:
    assert MAP_ITEMS <= MAP_CHILDREN_MOST
    assert 0 < INLINE_ITEMS <= INLINE_CHILDREN_MOST

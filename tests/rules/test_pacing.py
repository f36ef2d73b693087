"""When a shard is far behind, has to stop or is tried again, and how what is left of it is cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, strategies as st

from coordinator.errors import RunCancelled
from coordinator.rules.pacing import (
    BACKOFF_MOST_SECONDS,
    FEWEST_CHILDREN,
    MOST_CHILDREN,
    PAUSE_MOST_SECONDS,
    Pace,
    backoff_seconds,
    is_skewed,
    lanes_of_each,
    pause_seconds,
    pieces,
)
from tests.support import examples

# ------------------------------------------------------------------------------------------------
# Far behind
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("elapsed", "seconds", "done", "shards", "skewed"),
    [
        pytest.param(8.0, [2.0], 5, 10, False, id="four medians are not more than four"),
        pytest.param(8.001, [2.0], 5, 10, True, id="more than four medians, half are done"),
        pytest.param(8.001, [2.0], 49, 100, False, id="less than half are done"),
        pytest.param(8.001, [2.0], 5, 11, False, id="just less than half of an odd number"),
        pytest.param(8.001, [2.0], 6, 11, True, id="just more than half of an odd number"),
        pytest.param(1e9, [], 10, 10, False, id="nothing is known of those done"),
        pytest.param(1e9, [1.0], 0, 2, False, id="none is done"),
        pytest.param(9.0, [1.0, 1.0, 2.0, 50.0, 90.0], 5, 6, True, id="the median, not the mean"),
        pytest.param(9.0, [1.0, 2.0, 3.0, 90.0], 4, 5, False, id="the middle of an even number"),
        pytest.param(10.001, [1.0, 2.0, 3.0, 90.0], 4, 5, True, id="more than four of the middle"),
        pytest.param(0.001, [0.0, 0.0], 2, 3, True, id="the others took no time"),
        pytest.param(0.0, [0.0, 0.0], 2, 3, False, id="nobody took any time"),
    ],
)
def test_a_shard_is_far_behind_when_half_are_done_and_it_took_four_times_their_median(
    elapsed: float, seconds: list[float], done: int, shards: int, skewed: bool
) -> None:
    assert is_skewed(elapsed, seconds, done, shards) is skewed


# ------------------------------------------------------------------------------------------------
# Children
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("done_bytes", "rest_bytes", "children"),
    [
        pytest.param(0, 1000, 100, id="nothing is done"),
        pytest.param(-1, 1000, 100, id="less than nothing"),
        pytest.param(100, 0, 4, id="nothing is left"),
        pytest.param(100, 1, 4, id="little is left"),
        pytest.param(100, 200, 4, id="each half of what is done"),
        pytest.param(100, 201, 5, id="one byte more: one child more"),
        pytest.param(100, 250, 5, id="up to the next half"),
        pytest.param(100, 251, 6, id="and one byte more"),
        pytest.param(100, 4950, 99, id="just less than the most"),
        pytest.param(100, 4951, 100, id="the most"),
        pytest.param(100, 5001, 100, id="and no more"),
        pytest.param(1, 10**15, 100, id="whatever is left"),
        pytest.param(3, 10, 7, id="rounded up"),
    ],
)
def test_a_rest_is_cut_so_that_a_child_takes_half_as_long_as_the_prefix(
    done_bytes: int, rest_bytes: int, children: int
) -> None:
    assert pieces(done_bytes, rest_bytes) == children


@given(st.integers(1, 10**12), st.integers(0, 10**12))
@examples(200)
def test_children_are_as_few_as_make_each_half_of_the_prefix_within_bounds(
    done_bytes: int, rest_bytes: int
) -> None:
    children = pieces(done_bytes, rest_bytes)

    assert FEWEST_CHILDREN <= children <= MOST_CHILDREN
    if children < MOST_CHILDREN:
        assert 2 * rest_bytes <= children * done_bytes
    if children > FEWEST_CHILDREN:
        assert 2 * rest_bytes > (children - 1) * done_bytes


# ------------------------------------------------------------------------------------------------
# Tried again
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("receives", "most_seconds"),
    [(0, 1.0), (1, 2.0), (2, 4.0), (5, 32.0), (8, 256.0), (9, 300.0), (16, 300.0), (17, 300.0)],
)
def test_a_backoff_is_jittered_between_nothing_and_a_bound_that_doubles(
    receives: int, most_seconds: float
) -> None:
    assert backoff_seconds(receives, 0.0) == 0.0
    assert backoff_seconds(receives, 0.5) == most_seconds / 2
    assert backoff_seconds(receives, 1.0) == most_seconds


@given(st.integers(0, 10**9), st.floats(0, 1))
@examples(200)
def test_no_backoff_is_longer_than_the_longest(receives: int, jitter: float) -> None:
    assert 0 <= backoff_seconds(receives, jitter) <= BACKOFF_MOST_SECONDS


# ------------------------------------------------------------------------------------------------
# The guard of a function that ends
# ------------------------------------------------------------------------------------------------

BEGAN = 5000.0


@dataclass
class Function:
    """A function with so many seconds left, its clock, and what it sees when it looks around."""

    remaining_seconds: float
    look: Callable[[float], bool] = lambda elapsed: False
    now: float = BEGAN
    looks: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pace = Pace(self.remaining_seconds, self._look, lambda: self.now)

    def _look(self, elapsed_seconds: float) -> bool:
        self.looks.append(elapsed_seconds)
        return self.look(elapsed_seconds)

    def tripped_at(self, elapsed_seconds: float) -> bool:
        self.now = BEGAN + elapsed_seconds
        return self.pace.tripped()


@pytest.mark.parametrize(
    ("remaining_seconds", "stops_at_seconds"),
    [
        pytest.param(10.0, 8.0, id="a fifth is kept"),
        pytest.param(50.0, 40.0, id="still less than a minute"),
        pytest.param(299.0, 239.2, id="just less than a minute"),
        pytest.param(300.0, 240.0, id="a minute"),
        pytest.param(301.0, 241.0, id="no more than a minute"),
        pytest.param(900.0, 840.0, id="the longest function"),
    ],
)
def test_a_shard_stops_when_only_the_reserve_is_left(
    remaining_seconds: float, stops_at_seconds: float
) -> None:
    function = Function(remaining_seconds)

    assert not function.tripped_at(0.0)
    assert not function.tripped_at(stops_at_seconds - 0.001)
    assert function.tripped_at(stops_at_seconds)
    assert function.tripped_at(stops_at_seconds + 1000.0)


@pytest.mark.parametrize("remaining_seconds", [0.0, -1.0])
def test_a_function_without_time_stops_at_once(remaining_seconds: float) -> None:
    assert Function(remaining_seconds).tripped_at(0.0)


def test_a_shard_looks_around_once_a_minute_and_not_in_the_first() -> None:
    function = Function(900.0)

    for seconds in (0.0, 30.0, 59.999, 60.0, 61.0, 119.999, 120.0, 120.0, 200.0, 259.0, 260.0):
        assert not function.tripped_at(seconds)

    assert function.looks == [60.0, 120.0, 200.0, 260.0]


def test_a_shard_of_less_than_a_minute_never_looks_around() -> None:
    function = Function(60.0)

    for seconds in range(60):
        function.tripped_at(float(seconds))

    assert function.looks == []


def test_a_shard_that_is_far_behind_stops_at_once_and_for_good() -> None:
    function = Function(900.0, look=lambda elapsed: 120.0 <= elapsed < 130.0)

    assert not function.tripped_at(60.0)
    assert function.tripped_at(120.0)
    assert function.tripped_at(120.001)
    assert function.tripped_at(300.0)


def test_what_a_look_raises_reaches_the_shard() -> None:
    def cancelled(elapsed: float) -> bool:
        raise RunCancelled("The run was cancelled.")

    function = Function(900.0, look=cancelled)
    assert not function.tripped_at(59.0)

    with pytest.raises(RunCancelled, match=r"The run was cancelled\."):
        function.tripped_at(60.0)


def test_the_time_is_counted_from_when_the_guard_was_made() -> None:
    function = Function(100.0, now=7.0)

    assert [function.tripped_at(at - BEGAN) for at in (86.999, 87.0)] == [False, True]


# ------------------------------------------------------------------------------------------------
# Pauses between waves
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waves", "passed", "jitter", "seconds"),
    [
        pytest.param(0, 0.0, 1.0, 0, id="nothing has failed"),
        pytest.param(1, 0.0, 1.0, 60, id="a minute after the first"),
        pytest.param(1, 0.0, 0.0, 30, id="half of it at least"),
        pytest.param(2, 0.0, 1.0, 240, id="four after the second"),
        pytest.param(3, 0.0, 1.0, 900, id="then a quarter of an hour"),
        pytest.param(10, 0.0, 1.0, 900, id="and no more"),
        pytest.param(10, 0.0, 0.0, 450, id="half of that at least"),
        pytest.param(1, 59.5, 1.0, 1, id="less what has passed, in whole seconds"),
        pytest.param(1, 0.5, 1.0, 60, id="not yet a second has passed"),
        pytest.param(1, 1.5, 1.0, 59, id="more than a second has passed"),
        pytest.param(1, 60.0, 1.0, 0, id="enough has passed"),
        pytest.param(1, 31.0, 0.0, 0, id="more than enough"),
        pytest.param(2, -600.0, 1.0, 240, id="a clock that is ahead adds nothing"),
    ],
)
def test_a_wave_after_failures_waits(
    waves: int, passed: float, jitter: float, seconds: int
) -> None:
    assert pause_seconds(waves, passed, jitter) == seconds


JITTERS = st.floats(0, 1)
PASSED = st.floats(-1e9, 1e9)


@given(st.integers(0, 10**6), PASSED, JITTERS)
@examples(200)
def test_a_pause_has_bounds_and_never_shrinks_from_wave_to_wave(
    waves: int, passed: float, jitter: float
) -> None:
    pause = pause_seconds(waves, passed, jitter)

    assert 0 <= pause <= PAUSE_MOST_SECONDS
    assert pause <= pause_seconds(waves + 1, passed, jitter)
    assert pause_seconds(waves + 1, 0.0, jitter) >= 30


@given(st.integers(1, 2), JITTERS, JITTERS)
@examples(50)
def test_whatever_the_jitter_the_second_pause_is_longer_than_the_first(
    waves: int, one: float, other: float
) -> None:
    assert pause_seconds(waves, 0.0, one) < pause_seconds(waves + 1, 0.0, other)


# ------------------------------------------------------------------------------------------------
# Reading beside others
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workers", "each"), [(0, 32), (1, 32), (5, 32), (6, 26), (100, 1), (160, 1), (10_000, 1)]
)
def test_all_workers_together_read_no_more_than_a_prefix_serves(workers: int, each: int) -> None:
    assert lanes_of_each(32, workers) == each
    assert lanes_of_each(1, workers) == 1

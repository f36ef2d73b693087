"""What a run has cost, and what one more shard is expected to: worked out here by hand."""

from __future__ import annotations

import pytest

from coordinator.model import Totals
from coordinator.rules.costs import Spent, expected_shard_dollars, lambda_dollars

# In millionths of a dollar, as docs/costs.md adds them up. A shard: two transitions, three requests
# to the queue, two puts, five gets and an invocation.
SHARD = 50.0 + 1.2 + 10.0 + 2.0 + 0.2
FAILURE = 0.8 + 0.2 + 10.0 + 2.0
PASS = 75.0 + 0.2 + 15.0 + 1.2
GB_SECOND = 13.3334


def spent(**given: float) -> Spent:
    nothing = dict.fromkeys(
        ("shards", "worker_seconds", "failures", "failed_seconds", "passes", "coordinator_seconds"),
        0,
    )
    return Spent(**{**nothing, "memory_mb": 2048, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "millionths"),
    [
        pytest.param({}, 0.0, id="nothing"),
        pytest.param({"shards": 3}, 3 * SHARD, id="shards"),
        pytest.param({"failures": 3}, 3 * FAILURE, id="failures"),
        pytest.param({"passes": 3}, 3 * PASS, id="passes"),
        pytest.param({"worker_seconds": 10.0}, 20 * GB_SECOND, id="seconds of workers"),
        pytest.param({"failed_seconds": 10.0}, 20 * GB_SECOND, id="seconds of failed attempts"),
        pytest.param(
            {"coordinator_seconds": 1024.0}, 1769 * GB_SECOND, id="seconds of the coordinator"
        ),
        pytest.param(
            {"shards": 1, "failures": 1, "passes": 1, "worker_seconds": 1.0, "failed_seconds": 2.0},
            SHARD + FAILURE + PASS + 6 * GB_SECOND,
            id="all of it",
        ),
    ],
)
def test_what_a_run_has_cost(given: dict[str, float], millionths: float) -> None:
    assert spent(**given).dollars() == pytest.approx(millionths / 1e6, rel=1e-9)


def test_a_second_of_a_function_is_paid_by_its_memory() -> None:
    assert lambda_dollars(3.0, 512) == pytest.approx(1.5 * GB_SECOND / 1e6, rel=1e-9)


def test_stages_add_up() -> None:
    stages = [
        Totals(shards=2, seconds=3.0, failures=4, failed_seconds=5.0),
        Totals(shards=20, seconds=30.0, failures=40, failed_seconds=50.0),
    ]

    found = Spent.of(iter(stages), passes=6, coordinator_seconds=7.0, memory_mb=8)

    assert found == Spent(
        shards=22,
        worker_seconds=33.0,
        failures=44,
        failed_seconds=55.0,
        passes=6,
        coordinator_seconds=7.0,
        memory_mb=8,
    )


def test_until_a_shard_is_done_the_next_may_take_all_of_its_time() -> None:
    expected = expected_shard_dollars(Totals(failures=9), 100, 1024)

    assert expected == pytest.approx((SHARD + 100 * GB_SECOND) / 1e6, rel=1e-9)


def test_then_it_is_expected_to_cost_what_the_others_did_with_their_failures() -> None:
    stage = Totals(shards=4, seconds=8.0, failures=2, failed_seconds=4.0)

    expected = expected_shard_dollars(stage, 100, 1024)

    assert expected == pytest.approx((SHARD + FAILURE / 2 + 3 * GB_SECOND) / 1e6, rel=1e-9)

"""The job flight-delays, run in memory on small inputs."""

from pathlib import Path

import pytest

from coordinator.errors import ToleranceExceeded
from coordinator.testing import run_job

JOB = Path(__file__).parents[2] / "jobs" / "flight_delays.py"
HEADER = "year,carrier,flight,dep_delay\n"
JANUARY = HEADER + "2013,UA,1545,2.00\n2013,UA,1714,4.00\n2013,AA,1141,-2.50\n"
FEBRUARY = HEADER + "2013,UA,1696,0\n2013,AA,707,\n"  # flight 707 was cancelled


def test_the_mean_is_taken_over_the_flights_that_left() -> None:
    outcome = run_job(JOB, {"january.csv": JANUARY, "february.csv": FEBRUARY})

    assert outcome.records() == [
        {"carrier": "AA", "flights": 1, "mean_delay_minutes": -2.5},
        {"carrier": "UA", "flights": 3, "mean_delay_minutes": 2.0},
    ]


@pytest.mark.parametrize("shard_bytes", [1, 10, 64])
def test_the_result_does_not_depend_on_how_the_files_are_cut(shard_bytes: int) -> None:
    rows = "".join(f"2013,{'UA' if n % 3 else 'AA'},{n},{n * 0.1:.1f}\n" for n in range(200))
    inputs = {"january.csv": JANUARY, "rest.csv": HEADER + rows}

    assert run_job(JOB, inputs, shard_bytes=shard_bytes).results == run_job(JOB, inputs).results


def test_one_bad_row_in_a_thousand_is_tolerated_and_named() -> None:
    rows = "2013,UA,1,5\n" * 1999
    outcome = run_job(JOB, {"flights.csv": HEADER + rows + "2013,UA,2,late\n"})

    (refused,) = outcome.quarantine
    assert outcome.records() == [{"carrier": "UA", "flights": 1999, "mean_delay_minutes": 5.0}]
    assert refused["offset"] == len(HEADER + rows)
    assert refused["reason"].startswith("dep_delay:")


def test_more_bad_rows_fail_the_run() -> None:
    with pytest.raises(ToleranceExceeded):
        run_job(JOB, {"flights.csv": HEADER + "2013,UA,1,5\n2013,UA,2,late\n"})

"""The job clean-events, run in memory on small inputs."""

from pathlib import Path

import pytest

from coordinator.errors import ToleranceExceeded
from coordinator.testing import run_job

JOB = Path(__file__).parents[2] / "jobs" / "clean_events.py"
GOOD = '{"at": "2026-11-01T09:30:00+01:00", "user": 7, "kind": " Login ", "shard": 3}\n'
CLEAN = {"at": "2026-11-01T08:30:00Z", "user": 7, "kind": "login", "amount_cents": 0}


def test_an_event_comes_out_in_one_shape() -> None:
    outcome = run_job(JOB, {"app.jsonl": GOOD})

    assert outcome.records() == [CLEAN]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"at": "2026-11-01T09:30:00+01:00", "user": 7, "kind": ""}', "kind: "),
        ('{"at": "2026-11-01T09:30:00", "user": 7, "kind": "login"}', "at: "),
        ('{"at": "2026-11-01T09:30:00Z", "user": 0, "kind": "login"}', "user: "),
        ('{"at": "2026-11-01T09:30:00Z", "user"', "record: "),
    ],
)
def test_what_is_no_event_is_quarantined_with_its_place(line: str, reason: str) -> None:
    before = GOOD * 150
    outcome = run_job(JOB, {"app.jsonl": f"{before}{line}\n{GOOD}"})

    (refused,) = outcome.quarantine
    assert outcome.records() == [CLEAN] * 151
    assert refused["offset"] == len(before)
    assert refused["reason"].startswith(reason)


def test_every_line_is_accounted_for() -> None:
    outcome = run_job(JOB, {"app.jsonl": GOOD * 300 + "\n" + "broken\n" + GOOD}, shard_bytes=1000)

    totals = outcome.manifest.stages["map"]
    assert (totals.records_in, totals.mapped, totals.quarantined, totals.blank) == (303, 301, 1, 1)


def test_a_log_that_is_mostly_broken_fails_the_run() -> None:
    with pytest.raises(ToleranceExceeded):
        run_job(JOB, {"app.jsonl": GOOD + "broken\n"})

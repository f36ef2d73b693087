"""What can't be processed is never dropped: it is quarantined, with its place and the reason."""

from collections.abc import Iterator

import pytest

from coordinator import Job, Limits, Lines
from coordinator.errors import ToleranceExceeded
from coordinator.testing import run_job


def halves_of_numbers(limits: Limits) -> Job:
    job = Job(name="halves", source=Lines(), limits=limits)

    @job.map
    def half(line: str) -> Iterator[float]:
        yield int(line) / 2

    return job


NUMBERS = {"numbers.txt": "1\ntwo\n3\n"}


def test_a_tolerated_number_of_bad_records_is_listed_beside_the_result() -> None:
    outcome = run_job(halves_of_numbers(Limits(tolerated=1)), NUMBERS)

    assert outcome.records() == [0.5, 1.5]
    assert outcome.quarantine == [
        {
            "key": "numbers.txt",
            "offset": 2,
            "reason": "ValueError: invalid literal for int() with base 10: 'two'",
        }
    ]


def test_what_is_tolerated_may_be_a_share_of_all_records() -> None:
    outcome = run_job(halves_of_numbers(Limits(tolerated=0.5)), NUMBERS)

    assert outcome.manifest.quarantined == 1


def test_by_default_one_bad_record_fails_the_run_and_nothing_is_published() -> None:
    with pytest.raises(ToleranceExceeded):
        run_job(halves_of_numbers(Limits()), NUMBERS)

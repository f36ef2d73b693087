"""The job wordcount, run in memory on small inputs."""

from pathlib import Path

import pytest

from coordinator.testing import run_job

JOB = Path(__file__).parents[2] / "jobs" / "wordcount.py"
TEXTS = {"one.txt": "to be or not to be\n", "two.txt": "be\n\nto  see\tit"}
COUNTS = {"to": 3, "be": 3, "or": 1, "not": 1, "see": 1, "it": 1}


def test_words_are_counted_over_all_files() -> None:
    outcome = run_job(JOB, TEXTS)

    assert {row["word"]: row["count"] for row in outcome.records()} == COUNTS


def test_words_come_out_sorted() -> None:
    outcome = run_job(JOB, TEXTS)

    assert [row["word"] for row in outcome.records()] == sorted(COUNTS)


@pytest.mark.parametrize("shard_bytes", [1, 3, 7, 20])
def test_the_result_does_not_depend_on_how_the_files_are_cut(shard_bytes: int) -> None:
    assert run_job(JOB, TEXTS, shard_bytes=shard_bytes).results == run_job(JOB, TEXTS).results

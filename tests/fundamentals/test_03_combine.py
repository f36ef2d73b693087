"""A combine folds the values of a key into one, early and often, so that little has to travel."""

from collections.abc import Iterator

from coordinator import Job, Lines
from coordinator.testing import run_job


def test_with_a_combine_the_reduce_is_given_the_one_value_that_is_left() -> None:
    job = Job(name="mean-length", source=Lines())

    @job.map
    def lengths(line: str) -> Iterator[tuple[str, list[int]]]:
        for word in line.split():
            yield word[0], [1, len(word)]

    @job.combine
    def add(one: list[int], other: list[int]) -> list[int]:
        return [one[0] + other[0], one[1] + other[1]]

    @job.reduce
    def mean(letter: str, total: list[int]) -> list[str | float]:
        words, letters = total
        return [letter, letters / words]

    outcome = run_job(job, {"words.txt": "an apple\nbig bananas\nart\n"})

    assert sorted(outcome.records()) == [["a", 10 / 3], ["b", 5.0]]

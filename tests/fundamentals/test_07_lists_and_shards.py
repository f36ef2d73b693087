"""For vectorised work a map may be given a list of records; for the tightest loops, a shard's."""

from collections.abc import Iterator

from coordinator import Job, Lines
from coordinator.testing import run_job

NUMBERS = {"numbers.txt": "1\n2\n3\n4\n5\n"}


def test_a_map_of_lists() -> None:
    job = Job(name="lists", source=Lines())

    @job.map_batch(size=2)
    def totals(numbers: list[str]) -> Iterator[int]:
        yield sum(map(int, numbers))

    assert run_job(job, NUMBERS).records() == [3, 7, 5]


def test_a_map_of_a_shards_records() -> None:
    job = Job(name="shards", source=Lines())

    @job.map_shard
    def running_totals(numbers: Iterator[str]) -> Iterator[int]:
        total = 0
        for number in numbers:
            total += int(number)
            yield total

    assert run_job(job, NUMBERS).records() == [1, 3, 6, 10, 15]

"""Inputs are cut into shards anywhere, also in the middle of a record. The result does not show it."""

from collections import Counter
from collections.abc import Iterator

import pytest

from coordinator import Job, Lines
from coordinator.testing import run_job

TEXT = "to be or not to be\r\nthat is the question: é 漢字\nlast line without an end"


@pytest.mark.parametrize("shard_bytes", [1, 2, 7, 20, 1000])
def test_the_result_is_the_same_to_the_byte_however_the_inputs_are_cut(shard_bytes: int) -> None:
    job = Job(name="wordcount", source=Lines())

    @job.map
    def words(line: str) -> Iterator[tuple[str, int]]:
        for word in line.split():
            yield word, 1

    @job.combine
    def add(one: int, other: int) -> int:
        return one + other

    @job.reduce
    def count(word: str, total: int) -> list[str | int]:
        return [word, total]

    whole = run_job(job, {"hamlet.txt": TEXT})
    cut = run_job(job, {"hamlet.txt": TEXT}, shard_bytes=shard_bytes)

    assert cut.results == whole.results
    assert dict(cut.records()) == Counter(TEXT.split())

"""Which record is refused, and where it is said to lie, when others are refused beside it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from coordinator.formats.jsonlines import JsonLines
from coordinator.formats.lines import Lines
from coordinator.job import Job
from coordinator.limits import Limits
from coordinator.testing import Outcome, run_job

# No JSON, a blank line, records; the offset of each line is ten times its number.
BODY = b"".join(
    line.ljust(9) + b"\n"
    for line in (b'{"n": 0}', b"no JSON", b'{"n": 2}', b"", b'{"n": 4}', b'{"n": 5}', b'{"n": 6}')
)
LONE = "\ud800"  # half a pair, which no key may be


def refused(outcome: Outcome) -> list[tuple[int, str]]:
    """Where each refused record lies, and the beginning of why."""
    return [(line["offset"], line["reason"].split(":")[0]) for line in outcome.quarantine]


def numbers(records: list[Any]) -> list[Any]:
    return [record["n"] for record in records]


def a_job(batch: int | None, *, keyed: bool = False) -> Job:
    """A map that refuses 4; if keyed, it yields 5 under a key that is none."""
    job = Job("job", JsonLines(), limits=Limits(tolerated=10))

    def mapped(records: Iterable[Any]) -> Iterable[Any]:
        for record in records:
            if record["n"] == 4:
                raise ValueError("four")
            key = LONE if record["n"] == 5 else "all"
            yield (key, record["n"]) if keyed else record

    if batch is None:
        job.map(lambda record: mapped([record]))
    else:
        job.map_batch(size=batch)(mapped)
    if keyed:
        job.reduce(lambda key, values: {"n": list(values)})
    return job


@pytest.mark.parametrize("batch", [None, 1, 2, 3, 100])
@pytest.mark.parametrize("shard_bytes", [None, 30, 10])
def test_a_record_that_the_map_refuses_is_named_where_it_lies(
    batch: int | None, shard_bytes: int | None
) -> None:
    outcome = run_job(a_job(batch), {"a": BODY}, shard_bytes=shard_bytes)

    assert [offset for offset, _ in refused(outcome)] == [10, 40]
    assert refused(outcome)[1] == (40, "ValueError")
    assert numbers(outcome.records()) == [0, 2, 5, 6]


@pytest.mark.parametrize("batch", [None, 1, 2, 3, 100])
@pytest.mark.parametrize("shard_bytes", [None, 30, 10])
def test_a_record_whose_output_can_not_cross_is_named_where_it_lies(
    batch: int | None, shard_bytes: int | None
) -> None:
    outcome = run_job(a_job(batch, keyed=True), {"a": BODY}, shard_bytes=shard_bytes)

    assert [offset for offset, _ in refused(outcome)] == [10, 40, 50]
    assert refused(outcome)[1] == (40, "ValueError")
    assert numbers(outcome.records()) == [[0, 2, 6]]


def test_a_list_is_mapped_as_a_whole_when_nothing_in_it_is_refused() -> None:
    sizes: list[int] = []
    job = Job("job", Lines())

    @job.map_batch(size=3)
    def lists(lines: list[str]) -> Iterable[str]:
        sizes.append(len(lines))
        return lines

    run_job(job, {"a": b"1\n2\n3\n4\n"})

    assert sizes == [3, 1]


def test_of_a_list_that_fails_each_record_is_tried_by_itself() -> None:
    tried: list[list[str]] = []
    job = Job("job", Lines(), limits=Limits(tolerated=1))

    @job.map_batch(size=3)
    def lists(lines: list[str]) -> Iterable[str]:
        tried.append(lines)
        if "2" in lines:
            raise ValueError("two")
        return lines

    outcome = run_job(job, {"a": b"1\n2\n3\n4\n"})

    assert tried == [["1", "2", "3"], ["1"], ["2"], ["3"], ["4"]]
    assert outcome.records() == ["1", "3", "4"]
    assert refused(outcome) == [(2, "ValueError")]

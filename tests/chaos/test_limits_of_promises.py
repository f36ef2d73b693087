"""What is not promised, shown as plainly as what is; and the way to have it all the same."""

from __future__ import annotations

import json
import math
import operator
from collections import Counter
from functools import reduce
from pathlib import Path

import pytest

from tests.chaos.faults import Case, all_cases_of
from tests.chaos.playing import Asked, Scenario
from tests.chaos.scenarios import OURS
from tests.chaos.simulator.cloud import Request
from tests.chaos.simulator.effects import Kind
from tests.chaos.simulator.watch import Expected

pytestmark = pytest.mark.chaos

LINES = [b"x 1e16\n", *[b"x 1.0\n"] * 11, b"x 0.1\n"]
NUMBERS = {"s3://in/1.txt": b"".join(LINES)}
FLOATS = [float(line.split()[1]) for line in LINES]
IN_ORDER = reduce(operator.add, FLOATS)
EXACT = math.fsum(FLOATS)


def played(
    job: str, result: bytes, *, after: int | None = None, objects: dict[str, bytes] = NUMBERS
) -> Scenario:
    """A job of ours, its result, and after how many records its guards trip."""
    sizes = {key: len(body) for key, body in objects.items()}
    records = sum(body.count(b"\n") for body in objects.values())
    name = job.replace("_", "-")
    expected = Expected({f"{name}.jsonl": result}, sizes, records)
    asked = Asked(Request("r1", ("s3://in/",)), expected)
    return Scenario(job, Path(OURS / f"{job}.py"), objects, (asked,), lambda guard: after)


def summed(value: float) -> bytes:
    return json.dumps({"key": "x", "sum": value}, separators=(",", ":")).encode() + b"\n"


def every(scenario: Scenario, *kinds: Kind) -> list[Case]:
    found = [case for case in all_cases_of(scenario) if case.kind in kinds]
    assert found
    return found


def test_a_map_that_writes_elsewhere_does_so_at_least_once_under_one_key_a_record() -> None:
    texts = {"s3://in/1.txt": b"a\nb\nc\n", "s3://in/2.txt": b"a\nb\n"}
    lines = b"".join(json.dumps(x).encode() + b"\n" for x in ["a", "b", "c", "a", "b"])
    scenario = played("telling", lines, after=1, objects=texts)
    once = set(scenario.play().cloud.world.told)
    assert len(once) == 5
    more_than_once = 0
    for case in every(scenario, Kind.CRASH_BEFORE, Kind.TWICE, Kind.TAKEN_OVER)[::5]:
        told = case.play().cloud.world.told
        assert set(told) == once, str(case)
        more_than_once += max(Counter(told).values()) > 1
    assert more_than_once, "otherwise more could be promised"


def test_a_sum_of_floats_is_the_same_under_faults_as_long_as_no_shard_is_split() -> None:
    scenario = played("float_sums", summed(IN_ORDER))
    kinds = (Kind.ERROR_BEFORE, Kind.CRASH_AFTER, Kind.TWICE, Kind.TAKEN_OVER)
    for case in every(scenario, *kinds)[::3]:
        case.play()


def test_a_sum_of_floats_depends_on_where_its_shard_is_split() -> None:
    with pytest.raises(AssertionError, match="another result"):
        played("float_sums", summed(IN_ORDER), after=5).play()


@pytest.mark.parametrize("job", ["fsum_sums", "fraction_sums"])
@pytest.mark.parametrize("after", [None, 2, 5])
def test_an_exact_sum_does_not(job: str, after: int | None) -> None:
    scenario = played(job, summed(EXACT), after=after)
    scenario.play()
    for case in every(scenario, Kind.CRASH_AFTER, Kind.TWICE)[::11]:
        case.play()

"""Sums of floats, exact: all values are collected, and math.fsum rounds once."""

import math
from collections.abc import Iterator

from coordinator import Job, Lines

job = Job(name="fsum-sums", source=Lines())


@job.map
def numbers(line: str) -> Iterator[tuple[str, float]]:
    key, number = line.split()
    yield key, float(number)


@job.reduce
def total(key: str, values: Iterator[float]) -> dict[str, str | float]:
    return {"key": key, "sum": math.fsum(values)}

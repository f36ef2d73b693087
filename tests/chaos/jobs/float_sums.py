"""Sums of floats, added as they come: the last digits depend on the order of adding."""

from collections.abc import Iterator

from coordinator import Job, Lines

job = Job(name="float-sums", source=Lines())


@job.map
def numbers(line: str) -> Iterator[tuple[str, float]]:
    key, number = line.split()
    yield key, float(number)


@job.combine
def add(one: float, other: float) -> float:
    return one + other


@job.reduce
def total(key: str, value: float) -> dict[str, str | float]:
    return {"key": key, "sum": value}

"""Sums of floats, exact and combined: every float is a fraction, and fractions add up exactly."""

from collections.abc import Iterator
from fractions import Fraction

from coordinator import Job, Lines

job = Job(name="fraction-sums", source=Lines())


@job.map
def numbers(line: str) -> Iterator[tuple[str, tuple[int, int]]]:
    key, number = line.split()
    yield key, float(number).as_integer_ratio()


@job.combine
def add(one: list[int], other: list[int]) -> tuple[int, int]:
    return (Fraction(*one) + Fraction(*other)).as_integer_ratio()


@job.reduce
def total(key: str, value: list[int]) -> dict[str, str | float]:
    return {"key": key, "sum": float(Fraction(*value))}

"""Sizes and times as people write and read them."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from coordinator.cli.arguments import parse_size
from coordinator.cli.output import show_bytes, show_seconds
from coordinator.errors import InputInvalid
from tests.support import examples


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("1048576", 1 << 20),
        ("64MiB", 64 << 20),
        ("64 mib", 64 << 20),
        ("500k", 500_000),
        ("1.5GB", 1_500_000_000),
        ("2Ki", 2048),
        ("7B", 7),
        ("1TiB", 1 << 40),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_a_size_may_be_written_as_people_write_it(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5.1", "MiB", "1 x", "inf", "nan", "0.2", "1e3"])
def test_what_is_no_size_is_refused_with_examples(text: str) -> None:
    with pytest.raises(InputInvalid, match="is no size: write a number of bytes"):
        parse_size(text)


def test_a_size_beyond_all_measure_is_still_a_number() -> None:
    assert parse_size("9" * 400) == int("9" * 400)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_000_000, "2.0 MB"), (10**16, "10000.0 TB")],
)
def test_bytes_are_shown_for_people(size: int, text: str) -> None:
    assert show_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.84, "0.8 s"), (59.9, "59.9 s"), (185, "3:05"), (3723, "1:02:03")]
)
def test_durations_are_shown_for_people(seconds: float, text: str) -> None:
    assert show_seconds(seconds) == text


@given(st.integers(1, 1 << 80), st.sampled_from(["", "k", "Ki", "MiB"]))
@examples(50)
def test_whole_numbers_are_never_rounded(number: int, unit: str) -> None:
    factor = {"": 1, "k": 1000, "Ki": 1024, "MiB": 1 << 20}[unit]

    assert parse_size(f"{number}{unit}") == number * factor

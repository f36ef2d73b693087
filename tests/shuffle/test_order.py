"""What is spilled, and that values of a key come out in the order in which they went in all the same."""

from __future__ import annotations

from coordinator.shuffle.gather import FAN_IN, Gather
from coordinator.shuffle.scatter import Scatter

VALUES = [f"{number:01000}" for number in range(400)]


def scattered(values: list[str], buffer_bytes: int) -> bytes:
    """The segment of a shard that yields these values, spilled on the way."""
    with Scatter(1, None, buffer_bytes) as scatter:
        for value in values:
            scatter.take([("key", value)])
            assert scatter.settle() == []
        assert scatter._spilled
        (segment,) = (b"".join(pieces) for pieces in scatter.segments())
    return segment


def settled(scatter: Scatter) -> Scatter:
    assert scatter.settle() == []
    return scatter


def gathered(segment: bytes, buffer_bytes: int) -> list[str]:
    with Gather(None, buffer_bytes) as gather:
        gather.take(segment.splitlines(keepends=True))
        ((key, values),) = ((key, list(found)) for key, found in gather.groups())
    assert key == "key"
    return values


def test_what_was_spilled_comes_before_what_was_not() -> None:
    segment = scattered(VALUES[:25], 10_000)

    assert gathered(segment, 1_000_000) == VALUES[:25]


def test_older_runs_come_before_newer_ones_though_they_were_merged() -> None:
    with Gather(None, 1_500) as gather:
        for value in VALUES:  # a shard each
            with Scatter(1, None, 1_000_000) as scatter:
                scatter.take([("key", value)])
                (segment,) = (b"".join(pieces) for pieces in settled(scatter).segments())
            gather.take(segment.splitlines(keepends=True))
        assert len(gather._levels) > 1
        assert all(len(level.runs) < FAN_IN for level in gather._levels)
        ((_, values),) = ((key, list(found)) for key, found in gather.groups())

    assert values == VALUES


def test_keys_weigh_what_they_are_though_their_values_weigh_nothing() -> None:
    with Scatter(1, lambda one, other: one + other, 100_000) as scatter:
        for number in range(200):
            scatter.take([(f"{number:0900}", 1)])
        assert settled(scatter)._spilled

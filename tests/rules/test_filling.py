"""Shards are filled to the byte, and a cut is widened no more than it has to be."""

from __future__ import annotations

import pytest

from coordinator.limits import Limits
from coordinator.rules.pacing import KILLED_ATTEMPTS, MARKED_RECEIVES
from coordinator.rules.sharding import Cut, count_shards, cuts, fit
from coordinator.rules.transport import receives


@pytest.mark.parametrize(
    ("sizes", "filled"),
    [
        ([4, 6, 1], [[4, 6], [1]]),
        ([4, 7, 3, 1], [[4], [7, 3], [1]]),
        ([6, 6, 4, 6], [[6], [6, 4], [6]]),
        ([10, 10], [[10], [10]]),
        ([0, 10, 0], [[0, 10], [0]]),
    ],
)
def test_objects_that_cannot_be_cut_fill_a_shard_to_its_last_byte(
    sizes: list[int], filled: list[list[int]]
) -> None:
    objects = [(None, size, False) for size in sizes]

    made = list(cuts(objects, Cut(10, 100)))

    assert [[stop - start for _, start, stop in shard] for shard in made] == filled


@pytest.mark.parametrize(("most", "factor"), [(100, 1), (99, 2), (50, 2), (49, 3), (1, 100)])
def test_a_cut_is_widened_no_more_than_it_has_to_be(most: int, factor: int) -> None:
    cut = Cut(10, 7)

    fitted = fit(cut, most, lambda wider: count_shards([(1000, True)], wider))

    assert fitted == Cut(10 * factor, 7 * factor)


def test_a_shard_is_given_up_before_its_message_is_a_dead_letter() -> None:
    """Two attempts that ended with nothing have marked themselves by the third receive."""
    assert receives(Limits(attempts=1)) >= MARKED_RECEIVES + KILLED_ATTEMPTS

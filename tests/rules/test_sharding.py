"""A snapshot is cut so that every byte of every object lies in exactly one slice."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from coordinator.errors import InputInvalid
from coordinator.formats.base import Source
from coordinator.formats.csv import Csv
from coordinator.formats.jsonlines import JsonLines
from coordinator.formats.lines import Lines
from coordinator.formats.objects import Objects
from coordinator.limits import MIB, Limits
from coordinator.model import Pinned
from coordinator.rules.coverage import check_coverage
from coordinator.rules.sharding import Cut, count_shards, cuts, first_cut, fit, partitions, shards
from tests.support import examples

SIZED = st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=25)
CUTS = st.builds(Cut, st.integers(1, 30), st.integers(1, 6))


def pinned_of(sized: list[tuple[int, bool]]) -> list[Pinned]:
    return [
        Pinned(key=f"{number:03d}" + ("" if cutting else ".gz"), size=size, etag="e")
        for number, (size, cutting) in enumerate(sized)
    ]


@given(SIZED, CUTS)
@examples(200)
def test_every_byte_of_every_object_lies_in_exactly_one_slice(
    sized: list[tuple[int, bool]], cut: Cut
) -> None:
    objects = pinned_of(sized)

    planned = list(shards(objects, cut, lambda key: Lines().cuts_bytes(key)))

    check_coverage(objects, (piece for slices in planned for piece in slices))
    assert sum(piece.stop - piece.start for slices in planned for piece in slices) == sum(
        size for size, _ in sized
    )


@given(SIZED, CUTS)
@examples(200)
def test_no_shard_is_over_its_size_but_for_an_object_that_cannot_be_cut(
    sized: list[tuple[int, bool]], cut: Cut
) -> None:
    for slices in shards(pinned_of(sized), cut, lambda key: Lines().cuts_bytes(key)):
        assert 1 <= len(slices) <= cut.shard_items
        size = sum(piece.stop - piece.start for piece in slices)
        assert size <= cut.shard_bytes or len(slices) == 1


@given(SIZED, CUTS)
@examples(200)
def test_shards_are_counted_from_the_sizes_alone(sized: list[tuple[int, bool]], cut: Cut) -> None:
    planned = list(shards(pinned_of(sized), cut, lambda key: Lines().cuts_bytes(key)))

    assert count_shards(sized, cut) == len(planned)


@given(SIZED.filter(bool), CUTS, st.integers(1, 5))
@examples(200)
def test_a_cut_is_widened_until_the_shards_are_few_enough(
    sized: list[tuple[int, bool]], cut: Cut, most: int
) -> None:
    fitted = fit(cut, most, lambda wider: count_shards(sized, wider))

    assert count_shards(sized, fitted) <= most
    assert fitted.shard_bytes % cut.shard_bytes == 0
    if count_shards(sized, cut) <= most:
        assert fitted == cut


def test_a_large_object_is_cut_where_its_shard_is_full() -> None:
    objects = [("a", 25, True), ("b", 10, True), ("c", 1, True)]

    assert list(cuts(objects, Cut(10, 100))) == [
        [("a", 0, 10)],
        [("a", 10, 20)],
        [("a", 20, 25), ("b", 0, 5)],
        [("b", 5, 10), ("c", 0, 1)],
    ]


def test_an_object_that_cannot_be_cut_opens_a_shard_when_it_does_not_fit() -> None:
    objects = [("a", 4, True), ("b", 8, False), ("c", 30, False), ("d", 1, True)]

    assert list(cuts(objects, Cut(10, 100))) == [
        [("a", 0, 4)],
        [("b", 0, 8)],
        [("c", 0, 30)],
        [("d", 0, 1)],
    ]


def test_an_empty_object_has_one_empty_range() -> None:
    assert list(cuts([("a", 0, True), ("b", 0, False)], Cut(10, 100))) == [
        [("a", 0, 0), ("b", 0, 0)]
    ]


def test_shards_are_closed_at_so_many_objects() -> None:
    objects = [(number, 1, True) for number in range(5)]

    assert [len(shard) for shard in cuts(objects, Cut(100, 2))] == [2, 2, 1]


@pytest.mark.parametrize(
    ("source", "key", "cutting"),
    [
        (Lines(), "a.txt", True),
        (JsonLines(), "a.jsonl", True),
        (Csv(multiline=False), "a.csv", True),
        (Csv(), "a.csv", False),
        (Objects(), "a.txt", False),
        (Lines(), "a.gz", False),
        (Lines(), "A.GZ", False),
        (JsonLines(), "a.bz2", False),
    ],
)
def test_what_is_cut_at_bytes(source: Source, key: str, cutting: bool) -> None:
    assert source.cuts_bytes(key) is cutting


@pytest.mark.parametrize("key", ["a.zst", "a.XZ", "a.zip"])
def test_a_compression_that_cannot_be_read_is_refused_by_name(key: str) -> None:
    with pytest.raises(InputInvalid, match=f"{key} can't be read as Lines"):
        Lines().cuts_bytes(key)


def test_objects_take_files_of_any_compression() -> None:
    assert Objects().cuts_bytes("a.zip") is False


def test_the_first_cut_keeps_every_lane_busy_to_the_end() -> None:
    limits = Limits(shard_bytes=16 * MIB)

    assert first_cut(limits, 96 * MIB, lanes=4, shard_bytes=None).shard_bytes == 4 * MIB
    assert first_cut(limits, 960_000 * MIB, lanes=4, shard_bytes=None).shard_bytes == 16 * MIB
    assert first_cut(limits, 1000, lanes=4, shard_bytes=None).shard_bytes == MIB
    assert first_cut(limits, 96 * MIB, lanes=None, shard_bytes=None).shard_bytes == 16 * MIB


def test_a_shard_size_that_was_asked_for_is_taken() -> None:
    assert first_cut(Limits(), 1 << 40, lanes=4, shard_bytes=7) == Cut(7, 100)


@given(st.integers(0, 1 << 50))
@examples(50)
def test_the_number_of_partitions_lies_within_its_bounds(total: int) -> None:
    limits = Limits(reduce_bytes=MIB, partitions=16)

    assert 1 <= partitions(total, limits) <= 16
    assert partitions(total, limits) <= partitions(total * 2, limits)

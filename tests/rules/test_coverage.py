"""The proof that every byte of every pinned object was read exactly once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from coordinator.errors import NotProven
from coordinator.model import Pinned, Slice
from coordinator.rules.coverage import check_coverage
from tests.support import cut_places, examples, slices_at


def by_records(pinned: Pinned, edges: list[int]) -> list[Slice]:
    stops = [*edges, -1]
    return [
        Slice.whole(pinned).model_copy(update={"unit": "records", "start": start, "stop": stop})
        for start, stop in zip([0, *edges], stops, strict=True)
    ]


@st.composite
def tilings(draw: st.DrawFn) -> tuple[list[Pinned], list[Slice]]:
    """Some objects, and slices that cover each exactly."""
    objects, slices = [], []
    for number in range(draw(st.integers(1, 4))):
        pinned = Pinned(key=f"k{number}", size=draw(st.integers(0, 20)), etag=f"e{number}")
        objects.append(pinned)
        if draw(st.booleans()):
            slices += slices_at(pinned, draw(cut_places(pinned.size)))
        else:
            edges = draw(st.lists(st.integers(1, 9), max_size=3, unique=True))
            slices += by_records(pinned, sorted(edges))
    return objects, slices


@given(tilings())
@examples(100)
def test_an_exact_tiling_is_proven(tiling: tuple[list[Pinned], list[Slice]]) -> None:
    check_coverage(*tiling)


@given(st.data(), tilings())
@examples(300)
def test_any_slice_lost_doubled_moved_or_of_another_version_is_found(
    data: st.DataObject, tiling: tuple[list[Pinned], list[Slice]]
) -> None:
    objects, slices = tiling
    place = data.draw(st.integers(0, len(slices) - 1))
    found = slices[place]
    changes: dict[str, list[Slice]] = {
        "lost": [],
        "doubled": [found, found],
        "begun late": [with_(found, start=found.start + 1)],
        "begun early": [with_(found, start=found.start - 1)],
        "ended late": [with_(found, stop=found.stop + 1)],
        "ended early": [with_(found, stop=found.stop - 1)],
        "of another version": [with_(found, etag="other")],
        "of another size": [with_(found, size=found.size + 1)],
        "of another key": [with_(found, key=found.key + "x")],
        "of a version id": [with_(found, version_id="v")],
        "read back and forth": [
            found,
            with_(found, start=found.stop, stop=found.start),
            found,
        ],
    }
    change = data.draw(st.sampled_from(sorted(changes)))
    if change == "ended early" and found.unit == "records" and found.stop == -1:
        return  # -2 is no place at all

    with pytest.raises(NotProven, match=f"{found.key[:2]}"):
        check_coverage(objects, [*slices[:place], *changes[change], *slices[place + 1 :]])


def with_(piece: Slice, **changes: Any) -> Slice:
    return piece.model_copy(update=changes)


ONE = Pinned(key="in", size=10, etag="e")


def test_a_gap_is_named_by_its_bytes() -> None:
    with pytest.raises(NotProven, match="in: bytes 3 to 5 were lost"):
        check_coverage([ONE], [Slice.of(ONE, 0, 3), Slice.of(ONE, 5, 10)])


def test_an_overlap_is_named_by_its_bytes() -> None:
    with pytest.raises(NotProven, match="in: bytes 3 to 5 were read twice"):
        check_coverage([ONE], [Slice.of(ONE, 0, 5), Slice.of(ONE, 3, 10)])


def test_a_lost_end_is_named() -> None:
    with pytest.raises(NotProven, match="in is not covered from 4 of 10 on"):
        check_coverage([ONE], [Slice.of(ONE, 0, 4)])


def test_an_object_that_nobody_pinned_is_named() -> None:
    with pytest.raises(
        NotProven, match=r"other: bytes \[0, 5\) were read twice, or were not pinned"
    ):
        check_coverage([ONE], [Slice.whole(ONE), Slice(key="other", size=5, etag="e", stop=5)])


def test_an_empty_object_must_be_accounted_for_too() -> None:
    empty = Pinned(key="in", size=0, etag="e")

    check_coverage([empty], [Slice.whole(empty)])
    with pytest.raises(NotProven, match="in is not covered from 0 of 0 on"):
        check_coverage([empty], [])


def test_bytes_and_record_numbers_do_not_make_up_one_cover() -> None:
    halves = [by_records(ONE, [5])[0], Slice.of(ONE, 5, 10)]

    with pytest.raises(NotProven, match="in"):
        check_coverage([ONE], halves)


def test_nothing_pinned_and_nothing_read_is_proven() -> None:
    check_coverage([], [])

"""The arithmetic of slices: cutting one in two, and making neighbours one again."""

from __future__ import annotations

import pytest

from coordinator.model import Pinned, Slice
from coordinator.rules.slices import cut_bytes, cut_slice, joined, slice_bytes, slice_weight

PINNED = Pinned(key="in", size=100, etag="e")


def in_bytes(start: int, stop: int) -> Slice:
    return Slice.of(PINNED, start, stop)


def records(start: int, stop: int) -> Slice:
    return in_bytes(start, stop).model_copy(update={"unit": "records"})


@pytest.mark.parametrize(
    ("piece", "size"),
    [
        (in_bytes(0, 100), 100),
        (in_bytes(10, 25), 15),
        (in_bytes(7, 7), 0),
        (records(0, 5), 100),
        (records(0, -1), 100),
        (records(1, -1), 0),
        (records(5, 9), 0),
    ],
)
def test_the_bytes_of_an_object_cut_by_records_count_with_its_first_slice(
    piece: Slice, size: int
) -> None:
    assert slice_bytes(piece) == size
    assert slice_weight(piece) == max(size, 1)


@pytest.mark.parametrize(
    ("offset", "head", "tail"),
    [
        (9, (), (in_bytes(10, 20),)),
        (10, (), (in_bytes(10, 20),)),
        (11, (in_bytes(10, 11),), (in_bytes(11, 20),)),
        (19, (in_bytes(10, 19),), (in_bytes(19, 20),)),
        (20, (in_bytes(10, 20),), ()),
        (21, (in_bytes(10, 20),), ()),
    ],
)
def test_a_slice_of_bytes_is_cut_before_the_record_at_an_offset(
    offset: int, head: tuple[Slice, ...], tail: tuple[Slice, ...]
) -> None:
    assert cut_slice(in_bytes(10, 20), offset, 99, bytewise=True) == (head, tail)


@pytest.mark.parametrize(
    ("piece", "ordinal", "head", "tail"),
    [
        (in_bytes(0, 100), 0, (), (in_bytes(0, 100),)),
        (in_bytes(0, 100), 1, (records(0, 1),), (records(1, -1),)),
        (in_bytes(0, 100), 7, (records(0, 7),), (records(7, -1),)),
        (records(3, -1), 3, (), (records(3, -1),)),
        (records(3, -1), 4, (records(3, 4),), (records(4, -1),)),
        (records(3, 9), 2, (), (records(3, 9),)),
        (records(3, 9), 5, (records(3, 5),), (records(5, 9),)),
    ],
)
def test_an_object_that_is_read_whole_is_cut_before_the_record_with_a_number(
    piece: Slice, ordinal: int, head: tuple[Slice, ...], tail: tuple[Slice, ...]
) -> None:
    assert cut_slice(piece, 50, ordinal, bytewise=False) == (head, tail)


@pytest.mark.parametrize(
    ("piece", "room", "cuttable", "cut"),
    [
        (in_bytes(10, 20), 4, True, (in_bytes(10, 14), in_bytes(14, 20))),
        (in_bytes(10, 20), 9, True, (in_bytes(10, 19), in_bytes(19, 20))),
        (in_bytes(10, 20), 10, True, (in_bytes(10, 20), None)),
        (in_bytes(10, 20), 11, True, (in_bytes(10, 20), None)),
        (in_bytes(10, 20), 0, True, (in_bytes(10, 11), in_bytes(11, 20))),
        (in_bytes(10, 20), 4, False, (in_bytes(10, 20), None)),
        (records(10, 20), 4, True, (records(10, 20), None)),
    ],
)
def test_the_first_bytes_of_a_slice_are_cut_off_where_it_can_be_cut(
    piece: Slice, room: int, cuttable: bool, cut: tuple[Slice, Slice | None]
) -> None:
    assert cut_bytes(piece, room, cuttable=cuttable) == cut


OTHER = in_bytes(20, 30).model_copy(update={"key": "other"})


@pytest.mark.parametrize(
    ("pieces", "made"),
    [
        ([], []),
        ([in_bytes(0, 10), in_bytes(10, 30), in_bytes(30, 31)], [in_bytes(0, 31)]),
        ([in_bytes(0, 10), in_bytes(11, 20)], [in_bytes(0, 10), in_bytes(11, 20)]),
        (
            [in_bytes(0, 10), in_bytes(20, 30), in_bytes(30, 40)],
            [in_bytes(0, 10), in_bytes(20, 40)],
        ),
        ([in_bytes(10, 20), in_bytes(0, 10)], [in_bytes(10, 20), in_bytes(0, 10)]),
        ([in_bytes(0, 20), OTHER], [in_bytes(0, 20), OTHER]),
        ([records(0, 4), records(4, 9)], [records(0, 9)]),
        ([records(0, 4), records(4, -1)], [in_bytes(0, 100)]),
        ([records(1, 4), records(4, -1)], [records(1, -1)]),
        ([records(0, 10), in_bytes(10, 20)], [records(0, 10), in_bytes(10, 20)]),
    ],
)
def test_slices_that_follow_each_other_are_made_one(pieces: list[Slice], made: list[Slice]) -> None:
    assert joined(pieces) == made

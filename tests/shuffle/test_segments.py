"""Segments: lines of compact JSON, none of them heavier than it may be, read again as they were."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from coordinator.shuffle.segments import LINE_BYTES, Segments
from coordinator.shuffle.values import ATOM_BYTES, Values

LISTS = Segments(Values(), lists=True)
FOLDED = Segments(Values(), lists=False)


def lines_of(
    segments: Segments, items: list[tuple[Any, Any]], *, most: int = 1000, tagged: bool = False
) -> list[bytes]:
    """The lines of items, of which so many weigh as much as a line may."""
    return list(segments.encode(items, LINE_BYTES // most, tagged=tagged))


def held_in(lines: list[bytes]) -> list[tuple[list[Any], list[Any]]]:
    """The keys and values of plain lines."""
    return [(keys, values) for keys, values in map(json.loads, lines)]


def test_a_line_is_compact_json_of_keys_and_of_their_values() -> None:
    assert lines_of(LISTS, [("é", [1, 2]), (7, ["漢"])]) == ['[["é",7],[[1,2],["漢"]]]\n'.encode()]
    assert lines_of(FOLDED, [("é", {"a": 1}), ((2, "b"), None)]) == [
        '[["é",[2,"b"]],[{"a":1},null]]\n'.encode()
    ]


def test_only_a_line_that_plain_json_cannot_tell_is_tagged() -> None:
    plain, told = [("a", [[1], "text"])], [("b", [(1,), Decimal("1.0")])]

    assert lines_of(LISTS, plain, tagged=True) == lines_of(LISTS, plain)
    assert lines_of(LISTS, told, tagged=True) == [b'~[["b"],[[["t",1],["n","1.0"]]]]\n']
    assert lines_of(FOLDED, [("b", (1,))], tagged=True) == [b'~[["b"],[["t",1]]]\n']
    assert lines_of(LISTS, plain, tagged=True) == lines_of(LISTS, plain)


def test_lines_are_decoded_to_what_they_were_made_of() -> None:
    values: list[Any] = [(1, (2,)), [], {"a": [Decimal(1)]}, 1 << 3000, None]
    for segments in (LISTS, FOLDED):
        held: list[Any] = [[value] for value in values] if segments is LISTS else values
        items = list(zip(["a", 1, (2, "b", (3,)), "~", (4,)], held, strict=True))

        lines = lines_of(segments, items, most=4, tagged=True)

        assert len(lines) > 1
        assert [item for line in lines for item in segments.decode(line)] == items


def test_what_was_told_by_tags_is_told_by_tags_when_it_is_written_again() -> None:
    values = Values()
    segments = Segments(values, lists=False)
    [plain] = lines_of(segments, [("a", [1])])
    [line] = lines_of(segments, [("a", (1,))], tagged=True)

    assert list(segments.decode(plain)) == [("a", [1])]
    assert not values.tagged
    assert list(segments.decode(line)) == [("a", (1,))]
    assert values.tagged


def test_a_line_with_more_keys_than_values_or_fewer_is_refused() -> None:
    for line in (b'[["a","b"],[1]]\n', b'[["a"],[1,2]]\n', b'~[["a"],[1,2]]\n'):
        with pytest.raises(ValueError, match=r"argument 2 is (longer|shorter)"):
            list(FOLDED.decode(line))


def test_a_line_is_full_when_its_keys_and_values_weigh_what_it_may() -> None:
    for most in (10, 11):
        found = held_in(lines_of(LISTS, [(n, [n]) for n in range(100)], most=most))

        assert [len(keys) + len(values) for keys, values in found] == [10] * 20
        assert [key for keys, _ in found for key in keys] == list(range(100))


# How many values there are of each key, and how they lie in lines of ten at most.
IN_LINES: list[tuple[list[int], list[list[int]]]] = [
    ([9], [[9]]),
    ([10], [[10]]),
    ([11], [[10], [1]]),
    ([25], [[10], [10], [5]]),
    ([3, 3, 3], [[3, 3], [3]]),
    ([3, 10, 3], [[3], [10], [3]]),
    ([10, 1, 1], [[10], [1, 1]]),
    ([4, 4, 1], [[4, 4], [1]]),
    ([0, 5], [[5]]),
]


def test_a_list_that_is_too_long_for_a_line_goes_on_in_the_next() -> None:
    for sizes, expected in IN_LINES:
        items = [(f"key {number}", list(range(size))) for number, size in enumerate(sizes)]

        found = held_in(lines_of(LISTS, items, most=10))

        assert [[len(piece) for piece in pieces] for _, pieces in found] == expected
        again: dict[str, list[int]] = {}
        for keys, pieces in found:
            for key, piece in zip(keys, pieces, strict=True):
                again.setdefault(key, []).extend(piece)
        assert again == {key: values for key, values in items if values}


def test_a_value_that_is_as_heavy_as_a_line_has_one_to_itself() -> None:
    for heaviest in (LINE_BYTES // 2 + 1, LINE_BYTES, 9 * LINE_BYTES):
        for segments, value in ((LISTS, [1]), (FOLDED, 1)):
            lines = list(segments.encode([("a", value), ("b", value)], heaviest, tagged=False))
            assert len(lines) == 2


def test_a_line_of_light_values_is_no_heavier_than_it_may_be() -> None:
    [(keys, [one]), *rest] = held_in(
        list(LISTS.encode([("a", [0] * 5000)], heaviest=0, tagged=False))
    )

    assert (keys, len(one)) == (["a"], LINE_BYTES // ATOM_BYTES)
    assert sum(len(values) for _, [values] in rest) == 5000 - len(one)


def test_a_line_holds_a_bounded_number_of_keys() -> None:
    for segments, value in ((LISTS, [1]), (FOLDED, 1)):
        lines = lines_of(segments, [(n, value) for n in range(2000)], most=LINE_BYTES)
        assert 3 < len(lines) < 6
        assert [key for keys, _ in held_in(lines) for key in keys] == list(range(2000))

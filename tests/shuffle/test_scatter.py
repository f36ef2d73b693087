"""What map yields: what waits is checked and folded in before it is too much, record by record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations, product
from sys import getsizeof
from typing import Any, ClassVar

import pytest

from coordinator.errors import StoreUnavailable, Unencodable
from coordinator.shuffle import scatter as scattering
from coordinator.shuffle.keys import Keys
from coordinator.shuffle.scatter import LONG_KEY, WAITING_BYTES, WAITING_PAIRS, Scatter
from coordinator.shuffle.segments import LINE_BYTES
from coordinator.shuffle.values import PLACE_BYTES, Values
from tests.shuffle.test_bounds import open_descriptors
from tests.shuffle.test_shuffle import add, gather, scatter, shuffle


def segments_in(scattered: Scatter) -> list[bytes]:
    return [b"".join(pieces) for pieces in scattered.segments()]


# ------------------------------------------------------------------------------------------------
# What waits
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1, 1.5])
def test_no_more_than_a_bounded_number_of_pairs_wait(value: Any) -> None:
    with Scatter(1, None, 1 << 30) as scattered:
        for _ in range(2):
            before = scattered.records
            for _ in range(WAITING_PAIRS):
                scattered.take([("key", value)])
            assert scattered.records == before

            scattered.take([("key", value)])
            assert scattered.records == before + WAITING_PAIRS + 1


LONG = "x" * LONG_KEY


def heavy() -> list[tuple[Any, Any, int]]:
    """Keys and values, and what the two weigh now: Python may keep a text's UTF-8 beside it."""
    return [
        ("key", "x" * 960, getsizeof("x" * 960)),
        ("key", 1 << 8000, getsizeof(1 << 8000)),
        (LONG, 1, getsizeof(1) + getsizeof(LONG)),
        (LONG, 1.5, 32 + getsizeof(LONG) - 32),
        ((LONG, "é"), 1, getsizeof(1) + Keys(Values()).weigh((2, LONG, "é"))),
    ]


def test_no_more_waits_than_weighs_a_bounded_number_of_bytes() -> None:
    for key, value, weight in heavy():
        weight += PLACE_BYTES
        with pytest.MonkeyPatch.context() as patch, Scatter(1, None, 1 << 30) as scattered:
            patch.setattr(scattering, "WAITING_BYTES", 20 * weight)
            for _ in range(3):
                before = scattered.records
                for _ in range(20):
                    scattered.take([(key, value)])
                assert scattered.records == before

                scattered.take([(key, value)])
                assert scattered.records == before + 21


def test_what_is_small_waits_in_great_numbers() -> None:
    with Scatter(1, None, 1 << 30) as scattered:
        for _ in range(1000):
            scattered.take([("x" * (LONG_KEY - 1), 1), ("é" * (LONG_KEY - 1), 2)])
            scattered.take([])
        assert scattered.records == 0


@pytest.mark.parametrize("others", [[], [("a", 1)], [("a", 1), ("b", 2)], [("a", 1)] * 9])
def test_what_is_large_is_weighed_wherever_it_stands_in_its_record(others: list[Any]) -> None:
    for large in (("c", "x" * (WAITING_BYTES // 8)), ("c" * (WAITING_BYTES // 8), 1)):
        for record in ([*others, large], [large, *others], [*others, large, *others]):
            with Scatter(1, None, 1 << 30) as scattered:
                for _ in range(8):
                    scattered.take(record)

                assert scattered.records == 8 * len(record)


def test_numbers_without_a_combine_are_held_until_they_are_too_many() -> None:
    with Scatter(1, None, 10_000) as scattered:
        for number in range(1000):
            scattered.take([("key", number)])
            assert scattered.settle() == []
            assert PLACE_BYTES * sum(map(len, scattered._table.held.values())) <= 10_000
        assert len(scattered._spilled) < 6
        segments = segments_in(scattered)

    assert gather(segments) == [("key", list(range(1000)))]


def test_lines_are_as_long_as_the_heaviest_value_in_them_allows() -> None:
    with Scatter(1, None, 500_000) as scattered:
        scattered.take([("a", "x" * 30_000), ("a", "y"), ("a", "x" * 30_000), ("a", "y")] * 5)
        assert scattered.settle() == []
        [heavy] = segments_in(scattered)
        scattered.take([("a", "x" * 600_000)])
        assert scattered.settle() == []
        scattered.take([("a", 1)] * 500)
        assert scattered.settle() == []
        [light] = segments_in(scattered)

    assert max(map(len, heavy.splitlines())) <= LINE_BYTES
    assert light.splitlines()[-1].count(b"1") == 500


def test_pairs_that_are_folded_wait_no_longer_than_others() -> None:
    with Scatter(1, add, 1 << 30) as scattered:
        for number in range(WAITING_PAIRS + 1):
            scattered.take([(f"key {number % 10}", 1)])
        assert scattered.records == WAITING_PAIRS + 1
        assert sum(scattered._table.held.values()) == WAITING_PAIRS + 1


def test_the_temporary_file_is_gone_at_the_end() -> None:
    before = open_descriptors()
    with Scatter(1, None, 1) as scattered:
        scattered.take([("key", "value")])
        assert scattered.settle() == []
        assert open_descriptors() == before + 1

    assert open_descriptors() == before


# ------------------------------------------------------------------------------------------------
# What is refused
# ------------------------------------------------------------------------------------------------

BAD: list[Any] = [("c", 1), ("\ud800", 1)]  # seen when it is settled


def test_records_are_numbered_from_the_last_time_on() -> None:
    with Scatter(1, None, 1 << 20) as scattered:
        for records, expected in (
            ([BAD, [("a", 1)], BAD], [0, 2]),
            ([], []),
            ([BAD], [0]),
            ([[("a", "text")], BAD, [("a", "text")], [("b", 2.5)], BAD], [1, 4]),
            ([BAD, [("a", "text")], [("a", 1)], BAD, [], BAD], [0, 3, 5]),
        ):
            for record in records:
                scattered.take(record)
            assert [number for number, _ in scattered.settle()] == expected
        segments = segments_in(scattered)

    assert gather(segments) == [("a", [1, "text", "text", "text", 1]), ("b", [2.5])]


def test_numbers_go_on_where_what_waits_is_folded_in_between() -> None:
    with pytest.MonkeyPatch.context() as patch, Scatter(1, None, 1 << 20) as scattered:
        patch.setattr(scattering, "WAITING_PAIRS", 3)
        for number in range(20):
            scattered.take(BAD if number % 5 == 0 else [("a", 1)])
        assert [number for number, _ in scattered.settle()] == [0, 5, 10, 15]


def test_a_record_that_is_refused_when_it_is_taken_changes_nothing_for_the_others() -> None:
    with Scatter(1, None, 1 << 20) as scattered:
        scattered.take([("a", 1)])
        with pytest.raises(Unencodable, match="a set can't cross"):
            scattered.take([("b", {1})])
        scattered.take(BAD)
        scattered.take([("c", 2)])
        assert [number for number, _ in scattered.settle()] == [1]
        segments = segments_in(scattered)

    assert gather(segments) == [("a", [1]), ("c", [2])]


def test_nothing_that_the_job_does_later_to_what_it_yielded_shows() -> None:
    buffer, pair, inner = ["first"], ["k", 1], {"n": 1}
    taken: list[Any] = [("list", buffer), ("dict", inner), pair, (("key", 1), 1), ("light", 1)]
    for record in permutations(taken):
        with Scatter(1, None, 1 << 20) as scattered:
            buffer[:], pair[1], inner["n"] = ["first"], 1, 1
            scattered.take(record)
            buffer[:], pair[1], inner["n"] = ["later"], 2, 2
            assert scattered.settle() == []
            found = dict(gather(segments_in(scattered)))

        assert found == {
            "list": [["first"]],
            "dict": [{"n": 1}],
            "k": [1],
            ("key", 1): [1],
            "light": [1],
        }


@dataclass
class Unhashable:
    """Can't be hashed for as long as it is down."""

    down: ClassVar[bool] = False

    def __hash__(self) -> int:
        if self.down:
            raise StoreUnavailable("later")
        return 1


def test_an_error_that_the_job_wants_retried_keeps_its_fate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    value = {Unhashable(): 1}
    monkeypatch.setattr(Unhashable, "down", True)

    with Scatter(1, None, 1 << 20, {"Unhashable": Unhashable}) as scattered:
        with pytest.raises(StoreUnavailable, match="later"):
            scattered.take([("a", value), ("b", 1)])
        assert scattered.settle() == []


class Raising:
    def __iter__(self) -> Iterator[Any]:
        raise KeyError("of the job")


def test_nothing_is_kept_of_a_record_that_yields_what_cannot_be_unpacked() -> None:
    what: list[Callable[[], Any]] = [lambda: (n // 0 for n in [1]), Raising, int, object, list]
    for bad in what:
        says = f"must yield \\(key, value\\), not {type(bad()).__name__}"
        with Scatter(1, None, 1 << 20) as scattered:
            for record in ([("a", 1), bad()], [bad(), ("b", 2)]):
                with pytest.raises(Unencodable, match=says):
                    scattered.take(record)
            scattered.take([("c", 3)])
            assert scattered.settle() == []
            segments = segments_in(scattered)

        assert gather(segments) == [("c", [3])]


# ------------------------------------------------------------------------------------------------
# What comes out
# ------------------------------------------------------------------------------------------------


def test_numbers_of_any_size_cross_beside_small_ones() -> None:
    sizes = (1 << 63, 1 << 1999, 1 << 2000, -(1 << 2000), 1 << 20_000, -(1 << 20_000))
    for large, combine in product(sizes, [None, add]):
        records: list[Any] = [[("a", large), ("b", 1)], [("c", 1)], [("d", 2.5)]]
        [groups] = shuffle([records], partitions=1, combine=combine)

        assert [value if combine else value[0] for _, value in groups] == [large, 1, 1, 2.5]


@pytest.mark.parametrize("buffer_bytes", [1, 500, 1 << 20])
@pytest.mark.parametrize("combine", [None, add])
def test_every_partition_has_its_keys_however_often_the_shard_was_spilled(
    buffer_bytes: int, combine: Any
) -> None:
    records: list[list[tuple[Any, Any]]] = [[(f"{n % 20}", n), (n % 7, 1)] for n in range(60)]

    segments = scatter(records, partitions=5, combine=combine, buffer_bytes=buffer_bytes)

    found = [gather([segment], combine=combine) for segment in segments]
    values = {f"{key}": [n for n in range(60) if n % 20 == key] for key in range(20)}
    numbers = {key: [1 for n in range(60) if n % 7 == key] for key in range(7)}
    expected: dict[Any, Any] = {**values, **numbers}
    if combine:
        expected = {key: sum(held) for key, held in expected.items()}
    assert {key: value for groups in found for key, value in groups} == expected
    assert sum(map(len, found)) == len(expected)
    assert all(found)

"""From map to reduce: the same groups, in the same order, as one dict on one machine would give."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given, strategies as st

from coordinator.errors import ReduceFailed, StoreUnavailable, Unencodable
from coordinator.model import Part
from coordinator.shuffle.gather import Gather
from coordinator.shuffle.keys import order, partition_of
from coordinator.shuffle.scatter import Scatter
from coordinator.shuffle.table import Combine
from tests.shuffle.exact import DECLARED, VALUES, exactly_equal
from tests.shuffle.test_keys import ANY_KEY, KEYS
from tests.support import examples

# Few enough to meet again, and all that there are.
MANY_KEYS = st.one_of(st.sampled_from(["a", "b", "é", "", 0, 1, ("a", 1)]), ANY_KEY)
Pairs = list[tuple[Any, Any]]
Shards = list[list[Pairs]]  # shards of records of pairs


def shards_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Shards]:
    pairs = st.lists(st.tuples(MANY_KEYS, values), max_size=4)
    return st.lists(st.lists(pairs, max_size=6), max_size=4)


def scatter(
    records: Sequence[Pairs],
    *,
    partitions: int,
    combine: Combine | None = None,
    buffer_bytes: int = 1 << 20,
    settle_every: int = 3,
) -> list[bytes]:
    """The segments of one shard."""
    with Scatter(partitions, combine, buffer_bytes, DECLARED) as scattered:
        for number, pairs in enumerate(records, 1):
            scattered.take(iter(pairs))
            if number % settle_every == 0:
                assert scattered.settle() == []
        assert scattered.settle() == []
        assert scattered.records == sum(map(len, records))
        return [b"".join(pieces) for pieces in scattered.segments()]


def gather(
    segments: Iterable[bytes], *, combine: Combine | None = None, buffer_bytes: int = 1 << 20
) -> list[tuple[Any, Any]]:
    with Gather(combine, buffer_bytes, DECLARED) as gathered:
        for segment in segments:
            gathered.take(segment.splitlines(keepends=True))
        groups = gathered.groups()
        return [(key, value if combine else list(value)) for key, value in groups]


def shuffle(
    shards: Shards,
    *,
    partitions: int,
    combine: Combine | None = None,
    map_buffer: int = 1 << 20,
    reduce_buffer: int = 1 << 20,
) -> list[list[tuple[Any, Any]]]:
    """The groups of every partition."""
    scattered = [
        scatter(records, partitions=partitions, combine=combine, buffer_bytes=map_buffer)
        for records in shards
    ]
    return [
        gather(
            (segments[partition] for segments in scattered),
            combine=combine,
            buffer_bytes=reduce_buffer,
        )
        for partition in range(partitions)
    ]


def in_one_dict(shards: Shards, combine: Combine | None) -> dict[Any, Any]:
    """What a plain loop gives: all values of a key in order, or their fold."""
    found: dict[Any, list[Any]] = {}
    for records in shards:
        for pairs in records:
            for key, value in pairs:
                found.setdefault(KEYS.encode(key), []).append(value)
    if combine is None:
        return found
    return {key: list(accumulate(values, combine))[-1] for key, values in found.items()}


def join(one: list[Any], other: list[Any]) -> list[Any]:
    """Associative, and any change of order shows."""
    return one + other


def add(one: int, other: int) -> int:
    return one + other


PARTITIONS = st.sampled_from([1, 2, 3, 7])
BUFFERS = st.sampled_from([1, 200, 1 << 20])  # the smallest spills all the time


def check(groups: list[list[tuple[Any, Any]]], expected: dict[Any, Any], partitions: int) -> None:
    """The groups of every partition are those expected, each exactly once, in order."""
    found = {KEYS.encode(key): value for groups_of_one in groups for key, value in groups_of_one}
    assert set(found) == set(expected)
    assert sum(map(len, groups)) == len(expected)
    assert all(exactly_equal(found[key], expected[key]) for key in expected)
    for partition, groups_of_one in enumerate(groups):
        keys = [KEYS.encode(key) for key, _ in groups_of_one]
        assert keys == sorted(keys, key=order)
        assert all(partition_of(key, partitions) == partition for key in keys)


@given(shards_of(VALUES), PARTITIONS, BUFFERS, BUFFERS)
@examples(50)
def test_all_values_of_a_key_come_together_in_the_order_they_were_yielded(
    shards: Shards, partitions: int, map_buffer: int, reduce_buffer: int
) -> None:
    groups = shuffle(
        shards, partitions=partitions, map_buffer=map_buffer, reduce_buffer=reduce_buffer
    )

    check(groups, in_one_dict(shards, None), partitions)


@given(shards_of(st.lists(VALUES, max_size=3)), PARTITIONS, BUFFERS, BUFFERS)
@examples(50)
def test_values_are_folded_in_the_order_they_were_yielded(
    shards: Shards, partitions: int, map_buffer: int, reduce_buffer: int
) -> None:
    groups = shuffle(
        shards,
        partitions=partitions,
        combine=join,
        map_buffer=map_buffer,
        reduce_buffer=reduce_buffer,
    )

    check(groups, in_one_dict(shards, join), partitions)


@given(shards_of(st.integers()), PARTITIONS, BUFFERS)
@examples(30)
def test_whole_numbers_are_folded_exactly_however_large(
    shards: Shards, partitions: int, buffer: int
) -> None:
    groups = shuffle(
        shards, partitions=partitions, combine=add, map_buffer=buffer, reduce_buffer=buffer
    )

    check(groups, in_one_dict(shards, add), partitions)


def test_keys_that_look_alike_are_different_keys() -> None:
    keys: list[Any] = ["1", 1, (1,), ("1",), "[1]", ((1,),), "", (), [1], True, 1.0, Decimal(1)]

    [groups] = shuffle([[[(key, "v")] for key in keys]], partitions=1)

    assert exactly_equal(
        [key for key, _ in groups],
        [1, "", "1", "[1]", (), (1,), ("1",), ((1,),), [1], True, 1.0, Decimal(1)],
    )


def test_equal_decimals_are_reduced_together() -> None:
    [groups] = shuffle([[[(Decimal("1.10"), 1)], [(Decimal("1.1"), 2)]]], partitions=1)

    assert exactly_equal(groups, [(Decimal("1.1"), [1, 2])])


NO_PAIRS: list[Any] = [
    *("ab", ("a",), ("a", 1, 2), [], None, 7, object()),
    *({"a": 1}, {"a": 0, "b": 1}, {0: "a", 1: 5}, {"a", 5}, frozenset({"a", 5}), b"ab"),
    *(OrderedDict(a=1, b=2), range(2), {"a": 0, 5: 1}.keys()),
]


@pytest.mark.parametrize("pair", NO_PAIRS, ids=lambda pair: f"{type(pair).__name__}")
@pytest.mark.parametrize("others", [[], [("b", 1)], [("b", "text")]])
def test_what_is_no_pair_of_two_is_refused(pair: Any, others: list[Any]) -> None:
    for pairs in ([*others, pair], [pair, *others], [iter(("a", 5)), pair]):
        with Scatter(2, None, 1000) as scattered:
            scattered.take([("a", 1)])
            assert refusals(scattered, [pairs, [("c", 3)]]) == [0]
            assert scattered.records == 2


def refusals(scattered: Scatter, records: Iterable[Iterable[Any]]) -> list[int]:
    """The numbers of the records that are refused, when they are taken or when they are settled;
    as map does, one that is refused when it is taken is not counted as taken."""
    scattered.settle()
    refused, taken = [], []
    for number, record in enumerate(records):
        try:
            scattered.take(record)
            taken.append(number)
        except Unencodable:
            refused.append(number)
    return sorted([*refused, *(taken[which] for which, _ in scattered.settle())])


@pytest.mark.parametrize("value", [{1}, [{1}], "\ud800", {"a": object()}, 1j])
@pytest.mark.parametrize("combine", [None, join])
def test_a_record_whose_value_cannot_cross_is_refused_whole_and_alone(
    value: Any, combine: Combine | None
) -> None:
    with Scatter(1, combine, 1000) as scattered:
        records = [[("a", [1])], [("b", [2]), ("c", value)], [("a", [3])]]
        assert refusals(scattered, records) == [1]
        segments = [b"".join(pieces) for pieces in scattered.segments()]

    assert [key for key, _ in gather(segments, combine=combine)] == ["a"]


@given(
    st.lists(
        st.lists(
            st.sampled_from(
                [
                    *(("a", 1), ("b", 2), ("c", "text"), ["d", 4], ("e", [5]), ("f", 1 << 90)),
                    *(("g", {1}), ("\ud800", 1), ("h", "\ud800"), {"a": 0, "b": 1}, (math.nan, 1)),
                ]
            ),
            max_size=3,
        ),
        max_size=9,
    ),
    st.sampled_from([None, 1, 60]),
)
@examples(300)
def test_of_any_records_those_that_cannot_cross_are_refused_by_their_number(
    records: list[list[Any]], early: int | None
) -> None:
    bad = [number for number, pairs in enumerate(records) if not all(map(can_cross, pairs))]
    good = [pairs for number, pairs in enumerate(records) if number not in bad]

    with pytest.MonkeyPatch.context() as patch, Scatter(1, None, 1 << 20) as scattered:
        if early:  # folded in between two settles too
            patch.setattr("coordinator.shuffle.scatter.WAITING_PAIRS", early)
            patch.setattr("coordinator.shuffle.scatter.WAITING_BYTES", early)
        assert refusals(scattered, records) == bad
        segments = [b"".join(pieces) for pieces in scattered.segments()]

    assert gather(segments) == gather(scatter(good, partitions=1))


def can_cross(pair: Any) -> bool:
    return type(pair) is not dict and (
        pair[0] in {"a", "b", "c", "d", "e", "f"} and pair[1] != "\ud800"
    )


def test_nothing_of_a_record_is_kept_whose_map_raises_half_way() -> None:
    def half() -> Iterable[tuple[str, int]]:
        yield "a", 1
        raise ValueError("half way")

    with Scatter(1, None, 1000) as scattered:
        scattered.take([("b", 2)])
        with pytest.raises(ValueError, match="half way"):
            scattered.take(half())
        assert scattered.settle() == []
        segments = [b"".join(pieces) for pieces in scattered.segments()]

    assert gather(segments) == [("b", [2])]


def raises(one: Any, other: Any) -> Any:
    raise ZeroDivisionError("no")


def raises_what_raises(one: Any, other: Any) -> Any:
    class Nameless(Exception):
        def __str__(self) -> str:
            raise ValueError("no name")

    raise Nameless


def gives_a_set(one: Any, other: Any) -> Any:
    return {1}


def gives_a_surrogate(one: Any, other: Any) -> Any:
    return ["\ud800"]


@pytest.mark.parametrize(
    ("combine", "says"),
    [
        (raises, "combine raised ZeroDivisionError: no"),
        (raises_what_raises, "combine raised Nameless"),
        (gives_a_set, "combine gave what it may not: a set can't cross to reduce"),
        (gives_a_surrogate, "combine gave what it may not: a str holds a lone surrogate"),
    ],
)
@pytest.mark.parametrize("value", [1, "text"])
def test_a_combine_that_fails_is_named_on_either_side(
    combine: Combine, says: str, value: Any
) -> None:
    with pytest.raises(ReduceFailed, match=says):
        scatter([[("a", value), ("a", value)]], partitions=1, combine=combine)
    apart = [scatter([[("a", value)]], partitions=1, combine=combine)[0] for _ in range(2)]
    for buffer_bytes in (1, 1 << 20):
        with pytest.raises(ReduceFailed, match=says):
            gather(apart, combine=combine, buffer_bytes=buffer_bytes)


def test_an_error_that_a_combine_wants_retried_keeps_its_fate() -> None:
    def unlucky(one: Any, other: Any) -> Any:
        raise StoreUnavailable("later")

    with pytest.raises(StoreUnavailable):
        scatter([[("a", 1), ("a", 1)]], partitions=1, combine=unlucky)


def test_a_combine_that_changes_its_arguments_changes_nothing_else() -> None:
    def extend(one: list[int], other: list[int]) -> list[int]:
        one.extend(other)
        return one

    shared = [1]
    [groups] = shuffle(
        [[[("a", shared), ("a", shared), ("b", shared)]]], partitions=1, combine=extend
    )

    assert groups == [("a", [1, 1]), ("b", [1])]
    assert shared == [1]


def test_values_that_are_not_looked_at_are_passed_over() -> None:
    segments = scatter([[("a", n), ("b", n)] for n in range(100)], partitions=1, buffer_bytes=1)

    with Gather(None, 1) as gathered:
        for segment in segments:
            gathered.take(segment.splitlines(keepends=True))
        assert [key for key, _ in gathered.groups()] == ["a", "b"]


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 1 << 32)), min_size=1, max_size=9))
@examples(30)
def test_segments_lie_end_to_end_in_a_part(segments: list[tuple[int, int]]) -> None:
    part = Part(key="p", size=0, sha256="", records=0, segments=tuple(segments))

    ranges = [part.segment(partition) for partition in range(len(segments))]

    assert [stop - start for start, stop in ranges] == [length for length, _ in segments]
    assert [start for start, _ in ranges] == [0, *(stop for _, stop in ranges[:-1])]

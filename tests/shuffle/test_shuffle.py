"""From map to reduce: the same groups, in the same order, as one dict on one machine would give."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.errors import OutputInvalid, ReduceFailed, StoreUnavailable
from coordinator.model import Part
from coordinator.shuffle.folds import Combine
from coordinator.shuffle.gather import Gather
from coordinator.shuffle.scatter import Scatter
from coordinator.shuffle.values import (
    canonical,
    canonical_key,
    encode_key,
    key_order,
    partition_of,
)
from tests.support import examples

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
KEYS = st.one_of(
    TEXT,
    st.sampled_from(["a", "b", "é", ""]),
    st.integers(),
    st.integers(0, 3),
    st.recursive(
        st.one_of(TEXT, st.integers()),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple)
        ),
        max_leaves=4,
    ),
)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        TEXT,
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=2).map(tuple),
        st.dictionaries(TEXT, inner, max_size=2),
    ),
    max_leaves=5,
)
Pairs = list[tuple[Any, Any]]
Shards = list[list[Pairs]]  # shards of records of pairs


def shards_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Shards]:
    pairs = st.lists(st.tuples(KEYS, values), max_size=4)
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
    with Scatter(partitions, combine, buffer_bytes) as scattered:
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
    with Gather(combine, buffer_bytes) as gathered:
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
                found.setdefault(as_key(key), []).append(json.loads(json.dumps(value)))
    if combine is None:
        return found
    return {key: list(accumulate(values, combine))[-1] for key, values in found.items()}


def as_key(key: Any) -> Any:
    return tuple(map(as_key, key)) if isinstance(key, (list, tuple)) else key


def join(one: list[Any], other: list[Any]) -> list[Any]:
    """Associative, and any change of order shows."""
    return one + other


def add(one: int, other: int) -> int:
    return one + other


PARTITIONS = st.sampled_from([1, 2, 3, 7])
BUFFERS = st.sampled_from([1, 200, 1 << 20])  # the smallest spills all the time


def check(groups: list[list[tuple[Any, Any]]], expected: dict[Any, Any], partitions: int) -> None:
    assert {key: value for found in groups for key, value in found} == expected
    assert sum(map(len, groups)) == len(expected)
    for partition, found in enumerate(groups):
        keys = [key for key, _ in found]
        assert keys == sorted(keys, key=key_order)
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


@given(VALUES)
@examples(200)
def test_a_value_is_the_same_whether_it_crossed_a_machine_or_not(value: Any) -> None:
    there = canonical(value)
    [(_, [across])] = gather(scatter([[("key", value)]], partitions=1))

    assert across == there == json.loads(json.dumps(value))
    assert repr(across) == repr(there)


def test_keys_that_look_alike_are_different_keys() -> None:
    keys: list[Any] = ["1", 1, (1,), ("1",), "[1]", ((1,),), "", ()]

    [groups] = shuffle([[[(key, "v")] for key in keys]], partitions=1)

    assert [key for key, _ in groups] == [1, "", "1", "[1]", (), (1,), ("1",), ((1,),)]


def test_a_list_as_key_is_a_tuple_where_it_is_reduced() -> None:
    [groups] = shuffle([[[(["a", 1], 1)], [(("a", 1), 2)]]], partitions=1)

    assert groups == [(("a", 1), [1, 2])]


def test_the_partition_of_a_key_is_fixed_for_ever() -> None:
    """It is part of what is written: CRC-32 of the key as JSON, modulo the partitions."""
    assert encode_key("é") == '"é"'.encode()
    assert partition_of("word", 256) == zlib.crc32(b'"word"') % 256
    assert partition_of(7, 256) == zlib.crc32(b"7") % 256
    assert partition_of(("a", 1), 256) == zlib.crc32(b'["a",1]') % 256


@pytest.mark.parametrize("key", [None, 1.5, True, b"bytes", {"a": 1}, ("a", None), object()])
def test_a_key_of_another_type_is_named(key: object) -> None:
    with pytest.raises(OutputInvalid, match="A key must be a str, an int or a list of these"):
        canonical_key(key)


@pytest.mark.parametrize("pair", ["ab", ("a",), ("a", 1, 2), None, 7, {"a": 1}, object()])
def test_what_is_no_pair_is_named(pair: object) -> None:
    with Scatter(2, None, 1000) as scattered:
        scattered.take([pair])
        with pytest.raises(OutputInvalid, match=r"must yield \(key, value\), not"):
            scattered.settle()


def test_a_value_of_a_type_without_encoding_is_named() -> None:
    with pytest.raises(OutputInvalid, match="set"):
        canonical({1, 2})


@pytest.mark.parametrize("value", [math.nan, math.inf, [math.nan], {"a": -math.inf}, "\ud800"])
@pytest.mark.parametrize("combine", [None, join])
def test_a_record_whose_value_has_no_encoding_is_refused_whole_and_alone(
    value: Any, combine: Combine | None
) -> None:
    with Scatter(1, combine, 1000) as scattered:
        scattered.take([("a", [1])])
        scattered.take([("b", [2]), ("c", value)])
        scattered.take([("a", [3])])
        refused = scattered.settle()
        segments = [b"".join(pieces) for pieces in scattered.segments()]

    assert [number for number, _ in refused] == [1]
    assert [key for key, _ in gather(segments, combine=combine)] == ["a"]


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


def gives_nan(one: Any, other: Any) -> Any:
    return math.nan


@pytest.mark.parametrize("combine", [raises, gives_nan])
@pytest.mark.parametrize("value", [1, "text"])
def test_a_combine_that_fails_is_named_on_either_side(combine: Combine, value: Any) -> None:
    with pytest.raises(ReduceFailed, match="combine raised"):
        scatter([[("a", value), ("a", value)]], partitions=1, combine=combine)
    apart = [scatter([[("a", value)]], partitions=1, combine=combine) for _ in range(2)]
    with pytest.raises(ReduceFailed, match="combine raised"):
        gather([segments[0] for segments in apart], combine=combine)


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


def held_weight(run: Callable[[Scatter], None]) -> int:
    with Scatter(4, None, 10_000) as scattered:
        most = 0
        for _ in range(50):
            run(scattered)
            scattered.settle()
            most = max(most, scattered._weight)
        return most


def test_what_a_shard_holds_is_spilled_when_it_is_too_much() -> None:
    most = held_weight(lambda scattered: scattered.take([("key", "x" * 1000)] * 5))

    assert most <= 10_000

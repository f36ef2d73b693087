"""Keys: of one type and value, and only these, are one key; reduce is given its canonical form."""

# ruff: noqa: DTZ001  datetimes without a zone are keys too

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import permutations
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, strategies as st
from pydantic_core import from_json

from coordinator.errors import Unencodable
from coordinator.shuffle.keys import Keys, encode_key, held_key, order, partition_of
from coordinator.shuffle.values import LEVELS, Values
from tests.shuffle.exact import (
    DECLARED,
    INTEGERS,
    MEMBERS,
    TEXT,
    ZONES,
    Access,
    Suit,
    exactly_equal,
)
from tests.shuffle.test_values import Numpyish, Pair, Text, Undeclared, Whole, Zone
from tests.support import examples

KEYS = Keys(Values(DECLARED))

ONE_KEY: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    INTEGERS,
    st.integers(0, 2),
    st.floats(allow_nan=False),
    st.sampled_from([0.0, -0.0, 1.0, Decimal(1), Decimal("1.0"), Decimal("1E+1"), Decimal(10)]),
    TEXT,
    st.binary(max_size=3),
    st.decimals(allow_nan=False),
    st.dates(),
    st.times(timezones=ZONES),
    st.datetimes(datetime(1000, 1, 1), datetime(3000, 1, 1), timezones=ZONES),  # type: ignore[arg-type]
    st.timedeltas(),
    st.uuids(),
    MEMBERS,
)
ANY_KEY = st.recursive(
    ONE_KEY,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple)),
    max_leaves=4,
)


def canonical(key: Any) -> Any:
    """The key that reduce is given."""
    held = KEYS.encode(key)
    again = held_key(from_json(encode_key(held))) if isinstance(held, tuple) else held
    assert again == held
    return KEYS.decode(again)


def same_key(one: Any, other: Any) -> bool:
    """Whether two keys are one, by another way of looking."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same_key, one, other))
    if isinstance(one, datetime) and (one.tzinfo is None or other.tzinfo is None):
        return (one.tzinfo, one, one.fold) == (other.tzinfo, other, other.fold)
    if isinstance(one, datetime):
        return one.astimezone(UTC) == other.astimezone(UTC)  # type: ignore[no-any-return]
    if isinstance(one, time):
        return exactly_equal(one, other)
    return bool(one == other)


# ------------------------------------------------------------------------------------------------
# Identity
# ------------------------------------------------------------------------------------------------


@given(ANY_KEY, ANY_KEY)
@examples(500)
def test_two_keys_are_one_if_their_types_and_values_are(one: Any, other: Any) -> None:
    held = KEYS.encode(one), KEYS.encode(other)

    assert (held[0] == held[1]) is same_key(one, other)
    assert (encode_key(held[0]) == encode_key(held[1])) is same_key(one, other)
    assert (order(held[0]) == order(held[1])) is same_key(one, other)


@given(ANY_KEY)
@examples(500)
def test_the_canonical_key_is_the_same_key(key: Any) -> None:
    found = canonical(key)

    assert same_key(found, key)
    assert exactly_equal(canonical(found), found)


@pytest.mark.parametrize(
    "key",
    [
        *(None, True, 7, -(1 << 90), 10**5000, 1.5, "é", b"\xff\0", ("a", [1, ()]), ["a", ("b",)]),
        *(Decimal("1.1"), Decimal("-Infinity"), date(2026, 1, 1), UUID(int=7), Suit.HEARTS),
        *(datetime(2026, 1, 1, fold=1), datetime(2026, 1, 1, tzinfo=UTC), timedelta(-1, 2, 3)),
        *(time(1, 2, fold=1), time(1, tzinfo=timezone(timedelta(hours=1), "there"))),
        *(Access.READ | Access.WRITE, Access(0), float("inf"), "\ud7ff\ue000"),
    ],
    ids=lambda key: type(key).__name__,
)
def test_a_key_is_given_to_reduce_as_it_was_yielded(key: Any) -> None:
    assert exactly_equal(canonical(key), key)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ([Decimal("1.10"), Decimal("1.1"), Decimal("1.1000")], Decimal("1.1")),
        ([Decimal("1E+2"), Decimal(100), Decimal("100.00")], Decimal(100)),
        ([Decimal("0E+5"), Decimal("-0.00"), Decimal(0)], Decimal(0)),
        ([Decimal("1E+29"), Decimal("1" + "0" * 29)], Decimal("1" + "0" * 29)),
        ([Decimal("1E+30"), Decimal("1" + "0" * 30)], Decimal("1E+30")),
        ([Decimal("12E+29"), Decimal("1.2E+30")], Decimal("1.2E+30")),
        ([0.0, -0.0], 0.0),
        (
            [
                datetime(2026, 7, 1, 12, tzinfo=UTC),
                datetime(2026, 7, 1, 14, tzinfo=ZoneInfo("Europe/Berlin")),
                datetime(2026, 7, 1, 13, tzinfo=timezone(timedelta(hours=1))),
            ],
            datetime(2026, 7, 1, 12, tzinfo=UTC),
        ),
        ([("a", Decimal("1.0")), ("a", Decimal(1))], ("a", Decimal(1))),
    ],
)
def test_equal_numbers_and_instants_are_one_key(keys: list[Any], expected: Any) -> None:
    for key in keys:
        assert exactly_equal(canonical(key), expected)


def test_a_decimal_that_is_a_whole_number_is_written_out_up_to_thirty_digits() -> None:
    for exponent in range(1, 30):
        written = Decimal("1" + "0" * exponent)
        assert exactly_equal(canonical(Decimal(f"1E+{exponent}")), written)
        assert exactly_equal(canonical(written), written)
    for whole, told in (("12E+28", "12" + "0" * 28), ("12E+29", "12E+29"), ("1E+30", "1E+30")):
        assert exactly_equal(canonical(Decimal(whole)), Decimal(told))


def test_a_decimal_keeps_all_of_its_digits_whatever_the_context() -> None:
    digits = Decimal("1." + "123456789" * 20 + "00")

    with localcontext(prec=3):
        assert str(canonical(digits)) == str(digits).rstrip("0")


def test_keys_that_look_alike_are_different_keys() -> None:
    keys = [1, True, 1.0, "1", Decimal(1), b"1", (1,), [1], ("1",), Suit.HEARTS, "h", None, "None"]

    assert len({KEYS.encode(key) for key in keys}) == len(keys)
    assert len({encode_key(KEYS.encode(key)) for key in keys}) == len(keys)


# ------------------------------------------------------------------------------------------------
# What is no key
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frozen:
    a: int = 1


def nested(levels: int) -> Any:
    key: Any = "a"
    for _ in range(levels):
        key = (key,)
    return key


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (float("nan"), "a key can't be NaN"),
        (Decimal("NaN"), "a key can't be a Decimal that is NaN"),
        (Decimal("sNaN"), "a key can't be a Decimal that is NaN"),
        ({"a": 1}, "a key can't be a dict: take text, numbers, dates, enums"),
        ({1}, "a key can't be a set"),
        (frozenset(), "a key can't be a frozenset"),
        (Counter(), "a key can't be a Counter"),
        (Pair(1, 2), "a key can't be a Pair"),
        (Text("a"), "a key can't be a Text"),
        (Whole(1), "a key can't be a Whole"),
        (Numpyish(1), "a key can't be a Numpyish"),
        (Fraction(1, 2), "a key can't be a Fraction"),
        (1j, "a key can't be a complex"),
        (Frozen(), "a key can't be a Frozen"),
        (object(), "a key can't be a object"),
        (Undeclared.A, "Undeclared is not declared"),
        ("\ud800", "lone surrogate"),
        (("a", ["\udfff"]), "lone surrogate"),
        (datetime(2026, 1, 1, tzinfo=Zone()), "a time zone of type Zone"),  # type: ignore[abstract]
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))), "outside of the years 1 to 9999"),
        (("a", {1}), "a key can't be a set"),
        (nested(LEVELS + 1), "a key is nested deeper than 100 levels"),
    ],
)
def test_what_is_no_key_is_refused_by_its_type(key: Any, says: str) -> None:
    with pytest.raises(Unencodable, match=says):
        KEYS.encode(key)


def test_a_key_that_holds_itself_is_refused() -> None:
    key: list[Any] = []
    key += [key, key]

    with pytest.raises(Unencodable, match="nested deeper"):
        KEYS.encode(key)
    assert canonical(nested(LEVELS)) == nested(LEVELS)


# ------------------------------------------------------------------------------------------------
# Partitions and order
# ------------------------------------------------------------------------------------------------


def test_a_decimal_is_one_key_whatever_the_context_says_of_capitals() -> None:
    with localcontext() as context:
        context.capitals = 0
        small = Keys(Values()).encode(Decimal("1E+40"))

    assert small == Keys(Values()).encode(Decimal("1E+40"))


def test_the_partition_of_a_key_is_fixed_for_ever() -> None:
    """It is part of what is written: CRC-32 of the encoded key, modulo the partitions."""
    assert encode_key("é") == '"é"'.encode()
    assert partition_of("word", 256) == zlib.crc32(b'"word"') % 256
    assert partition_of(7, 256) == zlib.crc32(b"7") % 256
    assert encode_key(KEYS.encode(("a", 1))) == b'[2,"a",1]'
    assert encode_key(KEYS.encode(["a", 1.0])) == b'[3,"a",[6,1.0]]'
    assert encode_key(KEYS.encode(Suit.HEARTS)) == b'[15,"Suit","HEARTS"]'
    assert encode_key(KEYS.encode(date(2026, 1, 1))) == b"[8,739617]"
    for sign in ("", "-"):
        decimal, hexadecimal = int(f"{sign}1") * ((1 << 2000) - 1), int(f"{sign}1") * (1 << 2000)
        assert encode_key(KEYS.encode(decimal)) == str(decimal).encode()
        assert encode_key(KEYS.encode(hexadecimal)) == f'[0,"{sign}0x1{"0" * 500}"]'.encode()


WRITTEN: list[tuple[Any, str]] = [
    (("é", b"\xff\0"), '[2,"é",[13,"ff00"]]'),
    (None, "[4]"),
    (True, "[5,1]"),
    (-1.5, "[6,-1.5]"),
    (Decimal("-1.5"), '[7,"-1.5"]'),
    (datetime(1970, 1, 1), "[9,0,0]"),
    (datetime(2026, 10, 25, 2, 30, 1, 7, fold=1), "[9,1792895401000007,1]"),
    (datetime(1970, 1, 1, tzinfo=UTC), "[10,0]"),
    (datetime(2026, 10, 25, 2, 30, 1, 7, tzinfo=UTC), "[10,1792895401000007]"),
    (time(1, 2, 3, 4, fold=1), "[11,3723000004,1]"),
    (time(1, tzinfo=UTC), '[11,3600000000,0,"utc"]'),
    (timedelta(1, 2, 3), "[12,86402000003]"),
    (UUID(int=255), '[14,"000000000000000000000000000000ff"]'),
]


def test_what_a_key_is_written_as_is_fixed_for_ever_and_read_again() -> None:
    """Its partition is the hash of this."""
    for key, written in WRITTEN:
        assert encode_key(KEYS.encode(key)) == written.encode()
        assert exactly_equal(canonical(key), key)


@given(st.lists(ANY_KEY, min_size=3, max_size=3))
@examples(300)
def test_the_order_of_keys_is_total(keys: list[Any]) -> None:
    held = [KEYS.encode(key) for key in keys]
    sorted_once = sorted(held, key=order)

    for shuffled in permutations(held):
        assert sorted(shuffled, key=order) == sorted_once


@given(st.data())
@examples(200)
def test_keys_of_one_type_sort_as_their_values_do(data: st.DataObject) -> None:
    kind = data.draw(
        st.sampled_from(
            [
                *(INTEGERS, TEXT, st.floats(allow_nan=False), st.decimals(allow_nan=False)),
                *(st.dates(), st.datetimes(), st.timedeltas(), st.binary(max_size=3), st.uuids()),
                st.datetimes(datetime(1000, 1, 1), timezones=st.just(UTC)),
                st.tuples(INTEGERS, TEXT),
                st.lists(INTEGERS, max_size=3),
            ]
        )
    )
    one, other = data.draw(kind), data.draw(kind)
    assume(one != other)

    assert (order(KEYS.encode(one)) < order(KEYS.encode(other))) is (one < other)  # type: ignore[operator]


def test_whole_numbers_come_first_then_text_then_lists_and_then_the_others() -> None:
    expected = [
        *(-(1 << 3000), -1, 5, 1 << 3000, "", "Z", "a", "é", "\uffff", "\U00010000"),
        *((), (1,), (1, "a"), ("a",), ((1,),), [], [2]),
        *(None, False, True, float("-inf"), -1.5, 0.0, Decimal("-1"), Decimal("1.5"), Decimal(10)),
        *(date(2026, 1, 1), datetime(2025, 1, 1), datetime(2024, 1, 1, tzinfo=UTC), time(1)),
        *(timedelta(1), b"a", UUID(int=1), Access.READ, Suit.HEARTS),
    ]
    held = [KEYS.encode(key) for key in expected]

    backwards = held[::-1]
    assert sorted(backwards, key=order) == held

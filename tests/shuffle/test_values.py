"""What reduce is given is exactly what map gave: the same values, of the same types."""

from __future__ import annotations

import io
import struct
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, StrEnum
from fractions import Fraction
from pathlib import PurePath
from sys import getsizeof
from typing import Any
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel

from coordinator.errors import LedgerBroken, Unencodable
from coordinator.limits import MIB
from coordinator.shuffle.gather import Gather
from coordinator.shuffle.scatter import Scatter
from coordinator.shuffle.values import LEVELS, MOST_BYTES, Values
from tests.shuffle.exact import (
    DECLARED,
    VALUES,
    Access,
    Box,
    Cell,
    Colour,
    Many,
    Point,
    Row,
    Strict,
    exactly_equal,
    point_with_more,
)
from tests.support import examples, memory_within


def across(
    values: list[Any],
    *,
    combine: Callable[[Any, Any], Any] | None = None,
    types: dict[str, type] = DECLARED,
    buffer_bytes: int = 1 << 20,
) -> Any:
    """What reduce is given of these values of one key."""
    with Scatter(1, combine, buffer_bytes, types) as scattered:
        for value in values:
            scattered.take([("key", value)])
        assert scattered.settle() == []
        segments = [b"".join(pieces) for pieces in scattered.segments()]
    with Gather(combine, buffer_bytes, types) as gathered:
        for segment in segments:
            gathered.take(segment.splitlines(keepends=True))
        [found] = [value if combine else list(value) for _, value in gathered.groups()]
    return found


@given(st.lists(VALUES, min_size=1, max_size=4), st.sampled_from([1, 1 << 20]))
@examples(400)
def test_a_value_is_given_to_reduce_exactly_as_map_gave_it(
    values: list[Any], buffer_bytes: int
) -> None:
    assert exactly_equal(across(values, buffer_bytes=buffer_bytes), values)


@given(VALUES, VALUES)
@examples(200)
def test_combine_is_given_exactly_what_map_and_combine_gave(one: Any, other: Any) -> None:
    seen: list[Any] = []

    def keep(left: Any, right: Any) -> Any:
        seen.append((left, right))
        return [left, right]

    found = across([one, other, one], combine=keep)

    assert exactly_equal(seen, [(one, other), ([one, other], one)])
    assert exactly_equal(found, [[one, other], one])


@given(VALUES)
@examples(200)
def test_what_is_held_shares_nothing_that_can_change_with_what_the_job_holds(value: Any) -> None:
    copied = Values(DECLARED).copy(value)

    assert exactly_equal(copied, value)
    assert not mutable_parts(copied) & mutable_parts(value)


def mutable_parts(value: Any) -> set[int]:
    """The ids of all that can change in a value."""
    if isinstance(value, dict):
        return {id(value)}.union(*(mutable_parts(part) for item in value.items() for part in item))
    if isinstance(value, (list, tuple)):
        own = {id(value)} if isinstance(value, list) else set()
        return own.union(*map(mutable_parts, value))
    if isinstance(value, BaseModel):
        state = [vars(value), value.__pydantic_extra__, value.__pydantic_private__]
        return {id(value)}.union(*map(mutable_parts, state))
    if isinstance(value, (Point, Box)):
        return {id(value)} | mutable_parts(vars(value))
    if isinstance(value, Cell):
        return mutable_parts(value.row) | mutable_parts(value.column)
    return set()


def test_decimals_add_up() -> None:
    def add(one: Decimal, other: Decimal) -> Decimal:
        return one + other

    assert repr(across([Decimal("1.10"), Decimal("2.20")], combine=add)) == "Decimal('3.30')"


def test_a_model_is_restored_without_its_validators() -> None:
    row = Row(name="a", number=1, more=[1])  # type: ignore[call-arg]
    row._note = ("kept",)
    assert row.number == 2

    [found] = across([row])

    assert found == row
    assert (found.number, found._note, found.more) == (2, ("kept",), [1])
    assert found.model_fields_set == {"name", "number", "more"}


def test_an_instance_is_restored_with_all_that_it_is_made_of() -> None:
    row = Row(name=("a",), number=1, more=[1])  # type: ignore[call-arg]
    values = [
        *(Point((1,), [2]), point_with_more(1, {"a": (2,)}), Cell((1,), Cell(2)), Box((1,))),
        *(row, Row.model_construct(name=1), Strict(value=(1,)), Many(root=[(1,)]), Point({})),
    ]
    for value in values:
        assert exactly_equal(across([value]), [value])
        assert exactly_equal(across([value], buffer_bytes=1), [value])


class Doubling:
    """A field whose setter is code of the job."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return 0 if instance is None else vars(instance)[self.name]

    def __set__(self, instance: object, value: int) -> None:
        vars(instance)[self.name] = 2 * value


@dataclass
class Doubled:
    x: Any = Doubling()


def test_no_setter_runs_when_an_instance_is_restored() -> None:
    value = Doubled(3)
    assert value.x == 6

    [found] = across([value], types={"Doubled": Doubled})

    assert found.x == 6


def test_a_value_that_looks_like_a_tag_is_itself() -> None:
    values = [["t", 1], ("t", 1), {"t": [1]}, ["@Row", 0], ["l"], "~", ["~"], [["t"]], {"@": ()}]

    assert exactly_equal(across(values), values)


def test_integers_of_any_size_are_restored() -> None:
    values = [10**4300, -(10**4301), (1 << 63) - 1, 1 << 63, -(1 << 63), 1 << 2000, 0, True]

    assert exactly_equal(across(values), values)


def test_integers_of_any_size_are_restored_wherever_they_are() -> None:
    for large in (10**4301, -(10**4301), 1 << 63, -(1 << 63)):
        for value in ([large], (1, large), {"a": large}, {large: [large]}, [[1.5, large]]):
            assert exactly_equal(across([value, [1]]), [value, [1]])


# ------------------------------------------------------------------------------------------------
# What can't cross
# ------------------------------------------------------------------------------------------------


class Undeclared(Enum):
    A = 1


class OfSets(Enum):
    A = frozenset({1})
    B = 2


class Loose(BaseModel):
    value: Any


@dataclass
class Upon(list[int]):
    size: int = 0


class Slotted(BaseModel):
    __slots__ = ("hidden",)
    value: int = 0


class Text(str):
    pass


class Whole(int):
    """As a numpy integer is: a number, but no `int`."""


class Numpyish:
    def __init__(self, value: int) -> None:
        self.value = value

    def __int__(self) -> int:
        return self.value

    __index__ = __int__


class Zone(tzinfo):
    def utcoffset(self, when: datetime | None) -> timedelta:
        return timedelta(0)


class Moment(datetime):
    pass


Pair = namedtuple("Pair", "a b")

# The smallest file of a time zone: one kind of time, called UTC.
TZIF = b"TZif" + bytes(16) + struct.pack(">6l", 0, 0, 0, 0, 1, 4) + bytes(6) + b"UTC\0"

REFUSED: dict[str, tuple[Any, str]] = {
    "a set": ({1}, "a set can't"),
    "a frozenset": (frozenset(), "a frozenset can't"),
    "a Counter": (Counter("ab"), "a Counter can't"),
    "a defaultdict": (defaultdict(int), "a defaultdict can't"),
    "an OrderedDict": (OrderedDict(), "a OrderedDict can't"),
    "a deque": (deque([1]), "a deque can't"),
    "a namedtuple": (Pair(1, 2), "a Pair can't"),
    "of str": (Text("x"), "a Text can't"),
    "of int": (Whole(7), "a Whole can't"),
    "numpy": (Numpyish(7), "a Numpyish can't"),
    "of datetime": (Moment(2026, 1, 1), "a Moment can't"),
    "a bytearray": (bytearray(b"x"), "a bytearray can't"),
    "a complex": (1j, "a complex can't"),
    "a range": (range(3), "a range can't"),
    "a fraction": (Fraction(1, 2), "a Fraction can't"),
    "a path": (PurePath("a"), "can't cross"),
    "an object": (object(), "a object can't"),
    "a function": (len, "a builtin_function_or_method can't"),
    "a class": (int, "a type can't"),
    "a generator": ((n for n in [1]), "a generator can't"),
    "a surrogate": ("\ud800", "a str holds a lone surrogate"),
    "a surrogate as name": ({"\ud800": 1}, "a str holds a lone surrogate"),
    "a surrogate as zone": (
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(0), "\ud800")),
        "a str holds a lone surrogate",
    ),
    "a zone of one's own": (datetime(2026, 1, 1, tzinfo=Zone()), "a time zone of type Zone"),  # type: ignore[abstract]
    "a zone from a file": (
        datetime(2026, 1, 1, tzinfo=ZoneInfo.from_file(io.BytesIO(TZIF), key="UTC")),
        "a ZoneInfo without a key",
    ),
    "an enum": (Undeclared.A, r"Undeclared is not declared: annotate combine or reduce with it"),
    "a model": (Loose(value=1), r"Loose is not declared: .* or name it in Job\(types=\.\.\.\)"),
    "an enum of sets": (OfSets.B, "a frozenset can't"),
    "a dataclass upon a list": (Upon(), "a Upon, which is built upon another type"),
    "a model with slots": (Slotted(), "a Slotted, which has slots"),
}
DECLARED_BADLY = {**DECLARED, **{kind.__name__: kind for kind in (OfSets, Upon, Slotted)}}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize(
    "wrapped",
    [
        lambda value: value,
        lambda value: [0, (value,)],
        lambda value: {"a": {"b": value}},
        lambda value: Point(value),
        lambda value: Cell(1, [value]),
        lambda value: Strict.model_construct(value=value),
        lambda value: row_noting(value),
    ],
)
def test_what_cannot_cross_is_refused_by_its_type(name: str, wrapped: Callable[[Any], Any]) -> None:
    value, says = REFUSED[name]

    with pytest.raises(Unencodable, match=says):
        Values(DECLARED_BADLY).copy(wrapped(value))


def test_an_enum_is_refused_whole_when_one_of_its_values_cannot_cross() -> None:
    values = Values(DECLARED_BADLY)

    for _ in range(2):
        with pytest.raises(Unencodable, match="a frozenset can't cross"):
            values.copy(OfSets.B)
    assert values.copy(Colour.RED) is Colour.RED


def row_noting(value: Any) -> Row:
    row = Row(name="a")
    row._note = value
    return row


def nested(levels: int, innermost: Any = 0) -> Any:
    value = innermost
    for level in range(levels):
        value = [value] if level % 2 else ({"a": value},)
    return value


def of(levels: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = Decimal(1)
    for _ in range(levels):
        value = wrap(value)
    return value


@pytest.mark.parametrize(
    "wrap",
    [
        lambda v: [v],
        lambda v: (v,),
        lambda v: {"a": v},
        lambda v: {1: v},
        lambda v: Point(v),
        lambda v: Cell(v),
        lambda v: Strict(value=v),
        lambda v: Many(v),
    ],
)
def test_values_are_nested_a_hundred_levels_deep_and_no_deeper(
    wrap: Callable[[Any], Any],
) -> None:
    deepest = of(LEVELS, wrap)

    assert repr(across([deepest])) == repr([deepest])
    with pytest.raises(Unencodable, match="nested deeper than 100 levels"):
        Values(DECLARED).copy(wrap(deepest))


def test_what_holds_itself_is_refused() -> None:
    values: list[Any] = []
    values += [1, values, values]
    named: dict[str, Any] = {}
    named["a"] = [named]
    point = Point(1)
    point.y = point

    for value in (values, named, point):
        with pytest.raises(Unencodable, match="nested deeper"):
            Values(DECLARED).copy(value)


def test_what_holds_a_list_again_and_again_is_refused_before_it_is_written_out() -> None:
    shared: Any = [0.0] * 1000
    for _ in range(9):
        shared = [shared] * 10
    with (
        Scatter(1, None, 1 * MIB) as scattered,
        memory_within(2 * MOST_BYTES),
        pytest.raises(Unencodable, match="a value takes more than 64 MiB"),
    ):
        scattered.take([("key", shared)])

    assert Values(most_bytes=100 * MIB).copy(values := [[0.0] * 100_000] * 20) == values


def test_a_member_that_its_enum_does_not_know_is_refused() -> None:
    class Open(StrEnum):
        A = "a"

        @classmethod
        def _missing_(cls, value: object) -> Any:
            member = str.__new__(cls, value)
            member._name_, member._value_ = "OTHER", str(value)
            return member

    with pytest.raises(Unencodable, match="a Open that is none of its members"):
        Values({"Open": Open}).copy(Open("b"))
    assert Values({"Open": Open}).copy(Open.A) is Open.A


def test_a_type_that_reduce_does_not_know_breaks_the_ledger() -> None:
    with Scatter(1, None, 1000, DECLARED) as scattered:
        scattered.take([("key", Colour.RED)])
        assert scattered.settle() == []
        [segment] = [b"".join(pieces) for pieces in scattered.segments()]

    with Gather(None, 1000) as gathered, pytest.raises(LedgerBroken, match="a Colour, which"):
        gathered.take([segment])


def test_members_of_a_flag_may_be_several() -> None:
    values = [Access.READ | Access.WRITE, Access(0), Access.READ]

    found = across([values])

    assert all(map(lambda one, other: one is other, found[0], values))


WRITTEN: list[tuple[Any, list[Any]]] = [
    (b"\xff" * 60, ["b", "/" * 80]),
    (b"", ["b", ""]),
    (Decimal("1.10"), ["n", "1.10"]),
    (date(2026, 1, 2), ["D", "2026-01-02"]),
    (time(1, 2, fold=1), ["h", "01:02:00", 1]),
    (datetime(2026, 1, 2, 3, tzinfo=UTC), ["T", "2026-01-02T03:00:00", 0, "utc"]),
    (timedelta(1, 2, 3), ["s", 1, 2, 3]),
    (UUID(int=255), ["u", "000000000000000000000000000000ff"]),
    (UUID(int=1, is_safe=SafeUUID.safe), ["u", "00000000000000000000000000000001", 0]),
]


def test_what_json_has_no_type_for_is_restored_from_what_it_is_written_as() -> None:
    for value, written in WRITTEN:
        assert Values().tree(value) == written
        assert exactly_equal(Values().restore(written), value)


def test_dates_and_times_keep_their_zones() -> None:
    zones = [None, UTC, timezone(timedelta(hours=2)), ZoneInfo("Europe/Berlin")]
    values = [datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zone) for zone in zones]
    values += [values[-1].replace(fold=0)]

    assert exactly_equal(across([*values, date(2026, 1, 1)]), [*values, date(2026, 1, 1)])


# ------------------------------------------------------------------------------------------------
# Weights
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "at_least"),
    [
        ([1 << 8_000_000], 1_000_000),
        ([1] * 1000, 8 * 1000),
        (("x" * 1000, ["y" * 1000]), 2000),
        ("é漢" * 1000, 4000),
        (b"x" * 5000, 5000),
        (Decimal("1" * 100_000), 40_000),
        ({"a" * 500: {1 << 8000: None}}, 1500),
        (Point("x" * 1000, Cell("y" * 1000)), 2000),
        (Row(name="x" * 1000, more="y" * 1000), 2000),  # type: ignore[call-arg]
    ],
)
def test_a_value_weighs_no_less_than_what_it_holds(value: Any, at_least: int) -> None:
    assert Values(DECLARED).weigh(value) >= at_least


def measured(value: Any) -> tuple[int, int]:
    """The least and the most that a value may weigh: what its atoms take, with a place for each;
    beside that something for each of them, and for each of what holds them."""
    if isinstance(value, Enum):
        return 0, 400
    if isinstance(value, BaseModel):
        parts = [vars(value), value.__pydantic_extra__ or {}, value.__pydantic_private__ or {}]
    elif isinstance(value, (Point, Cell, Box)):
        parts = [getattr(value, name) for name in value.__dataclass_fields__]
    elif isinstance(value, dict):
        parts = [*value, *value.values()]
    elif isinstance(value, (list, tuple)):
        parts = [*value]
    else:
        return getsizeof(value), getsizeof(value) + 42
    places = 8 * len(value) if isinstance(value, (dict, list, tuple)) else 0
    sums = [sum(sizes) for sizes in zip(*map(measured, parts), strict=True)] or [0, 0]
    if isinstance(value, dict):
        sums[1] -= 42 * len(value)  # a name has its place with its value
    return places + sums[0], sums[1] + (160 if places or not parts else 400)


def test_a_value_weighs_what_it_holds_and_little_more() -> None:
    values: list[Any] = [
        *("x" * 1000, "漢" * 1000, 1 << 8000, b"x" * 1000, Decimal("1" * 900), 7, None, 1.5),
        *(
            [1] * 100,
            [1.5] * 100,
            ["x" * 99] * 9,
            ("x" * 99, ["y" * 300]),
            [1 << 8000, 1.5] * 9,
            [],
            (),
        ),
        {"a" * 500: "b" * 500, "c": 1},
        {f"{n:0200}": n for n in range(20)},
        dict.fromkeys(range(100)),
        {1 << 8000: {1: (2.5, "x" * 500)}},
        {("x" * 500,): {"y": {"z": b"x" * 500}}},
        *(Point("x" * 500, Cell("y" * 500)), Box([1 << 8000]), Cell({"x": "y" * 900}, 1)),
        *(Row(name="x" * 500, number=1 << 8000), Many(root=["x" * 900]), [Colour.RED] * 10),
        [[["x" * 50] * 3] * 3] * 3,
    ]
    for value in values:
        least, most = measured(value)
        copying = Values(DECLARED)
        copied = copying.copy(value)

        assert least <= copying.weight <= most
        assert least <= copying.weigh(copied) <= most
        copying.copy(value)
        assert copying.weight >= 2 * least


def test_a_value_weighs_no_less_when_it_is_taken_than_when_it_is_held() -> None:
    for value in ("x", 1 << 90, None, b"x", Decimal(1), ["x", [None]], Point(1, Cell("x")), Box(1)):
        values = Values(DECLARED)
        assert values.weigh(values.copy(value)) == values.weight


def test_a_value_that_weighs_more_than_it_may_is_refused() -> None:
    light, heavy = [["x" * 1000] * 100] * 9, [["x" * 1000] * 100] * 11

    assert Values(most_bytes=1 * MIB).copy(light) == light
    for value in (heavy, {"a": heavy, "b": 1}, (heavy, "x"), [heavy, {}]):
        with pytest.raises(Unencodable, match="a value takes more than 1 MiB, with what it holds"):
            Values(most_bytes=1 * MIB).copy(value)

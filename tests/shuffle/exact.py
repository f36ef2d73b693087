"""Values of every supported type, and whether two of them are exactly the same."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from typing import Any, Generic, TypeVar
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, PrivateAttr, RootModel, field_validator

T = TypeVar("T")


class Colour(Enum):
    RED = "red"
    GREEN = ("g", 2)
    CRIMSON = "red"  # noqa: PIE796  another name of RED


class Suit(StrEnum):
    HEARTS = "h"
    TAG = "t"


class Level(IntEnum):
    LOW = 1
    HIGH = 1 << 70


class Access(Flag):
    READ = 1
    WRITE = 2
    EXECUTE = 4


@dataclass
class Point:
    x: Any
    y: Any = None
    sign: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self.sign = "made"


@dataclass(frozen=True, slots=True)
class Cell:
    row: Any
    column: Any = 0


@dataclass
class Box(Generic[T]):
    inner: T


class Row(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: Any
    number: Any = 0
    _note: Any = PrivateAttr(default="fresh")

    @field_validator("number")
    @classmethod
    def doubled(cls, value: Any) -> Any:
        return value * 2 if isinstance(value, int) else value


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    value: Any


class Many(RootModel[Any]):
    pass


DECLARED: dict[str, type] = {
    kind.__qualname__: kind
    for kind in (
        *(Colour, Suit, Level, Access),
        *(Point, Cell, Box, Row, Strict, Many),
    )
}

# ------------------------------------------------------------------------------------------------
# Strategies
# ------------------------------------------------------------------------------------------------

TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    st.sampled_from(["t", "l", "d", "i", "b", "n", "@Point", "@Row", "~", "é", "\u2028"]),
)
ZONES = st.one_of(
    st.none(),
    st.just(UTC),
    st.sampled_from([ZoneInfo("Europe/Berlin"), ZoneInfo("UTC"), ZoneInfo("America/New_York")]),
    st.timedeltas(min_value=timedelta(hours=-23), max_value=timedelta(hours=23)).map(timezone),
    st.just(timezone(timedelta(hours=1), "there")),
)
MEMBERS: st.SearchStrategy[Any] = st.sampled_from(
    [
        *Colour,
        *Suit,
        *Level,
        *Access,
        Access.READ | Access.EXECUTE,
        Access(0),
    ]
)
INTEGERS = st.one_of(
    st.integers(),
    st.integers(0, 5),
    st.integers(60, 20_000).map(lambda bits: (1 << bits) - 1),
    st.integers(60, 20_000).map(lambda bits: -(1 << bits)),
)
ATOMS: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    INTEGERS,
    st.floats(),
    st.sampled_from([0.0, -0.0, 1.0]),
    TEXT,
    st.binary(max_size=4),
    st.decimals(),
    st.sampled_from([Decimal("1.10"), Decimal("1.1"), Decimal("-0.00"), Decimal("sNaN12")]),
    st.dates(),
    st.times(timezones=ZONES),
    st.datetimes(timezones=ZONES),
    st.builds(lambda when, fold: when.replace(fold=fold), st.datetimes(), st.sampled_from([0, 1])),
    st.timedeltas(),
    st.uuids(),
    st.builds(lambda number: UUID(int=number, is_safe=SafeUUID.safe), st.integers(0, 9)),
    MEMBERS,
)
HASHABLE = st.recursive(
    ATOMS.filter(lambda atom: not (isinstance(atom, Decimal) and atom.is_snan())),
    lambda inner: st.one_of(st.lists(inner, max_size=3).map(tuple), st.builds(Cell, inner, inner)),
    max_leaves=3,
)


def point_with_more(x: Any, more: Any) -> Point:
    """A dataclass with an attribute that is no field."""
    point = Point(x)
    point.more = more  # type: ignore[attr-defined]
    return point


def row_with_note(name: Any, note: Any, extra: dict[str, Any]) -> Row:
    """A model with extra fields and a private attribute."""
    row = Row(name=name, number=1, **extra)
    row._note = note
    return row


VALUES: st.SearchStrategy[Any] = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(TEXT, inner, max_size=3),
        st.dictionaries(HASHABLE, inner, max_size=3),
        st.builds(Point, inner, inner),
        st.builds(point_with_more, inner, inner),
        st.builds(Cell, inner, inner),
        st.builds(Box[int], inner),
        st.builds(Row.model_construct, name=inner, number=inner),
        st.builds(row_with_note, inner, inner, st.dictionaries(st.just("more"), inner)),
        st.builds(lambda value: Strict(value=value), inner),
        st.builds(Many, inner),
    ),
    max_leaves=6,
)

# ------------------------------------------------------------------------------------------------
# The oracle
# ------------------------------------------------------------------------------------------------


def exactly_equal(one: Any, other: Any) -> bool:
    """Whether two values are the same in type, value and order, in all that they hold."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Enum):
        return one is other
    if isinstance(one, float):
        return struct.pack(">d", one) == struct.pack(">d", other) or one != one != other != other
    if isinstance(one, Decimal):
        return bool(one.as_tuple() == other.as_tuple())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(exactly_equal, one, other))
    if isinstance(one, dict):
        return exactly_equal(list(one.items()), list(other.items()))
    if isinstance(one, (datetime, time)):
        naive = one.replace(tzinfo=None), other.replace(tzinfo=None)
        return (
            naive[0] == naive[1] and one.fold == other.fold and same_zone(one.tzinfo, other.tzinfo)
        )
    if isinstance(one, UUID):
        return one == other and one.is_safe == other.is_safe  # type: ignore[no-any-return]
    if isinstance(one, BaseModel):
        return exactly_equal(state_of(one), state_of(other))
    if is_dataclass(one):
        named = [(item.name, item.name) for item in fields(one)]
        return exactly_equal(
            [getattr(one, name) for name, _ in named], [getattr(other, name) for name, _ in named]
        ) and exactly_equal(attributes(one), attributes(other))
    return bool(one == other)


def same_zone(one: Any, other: Any) -> bool:
    """Whether two time zones are the same, and of one name."""
    if isinstance(one, ZoneInfo):
        return one is other
    return type(one) is type(other) and repr(one) == repr(other)


def state_of(model: BaseModel) -> list[Any]:
    """All that a model is made of."""
    return [
        vars(model),
        sorted(model.model_fields_set),
        model.__pydantic_extra__,
        model.__pydantic_private__,
    ]


def attributes(value: Any) -> dict[str, Any]:
    """What is in the `__dict__` of an instance that has one."""
    found = dict(getattr(value, "__dict__", {}))
    found.pop("__orig_class__", None)
    return found

"""Keys as they cross from map to reduce: their encoded form, their partition and their order.

A text or a whole number is held as it is. Any other key is held as a tuple of its rank and what
tells it from others of its type, all of it what JSON has; so keys of different types are never
equal, though Python holds 1, True and 1.0 for the same. Equal numbers of one type, and aware
datetimes of one instant, have one form: the canonical key, which reduce is given.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from json import JSONEncoder
from json.encoder import encode_basestring
from math import isnan
from sys import getsizeof
from typing import Any
from uuid import UUID

from coordinator.errors import Unencodable
from coordinator.shuffle.scalars import MICROSECOND, decode_zone, encodable, encode_zone
from coordinator.shuffle.values import DECIMAL, LEAST_DECIMAL, LEVELS, Values

Key = str | int | tuple[Any, ...]

KEY_BYTES = 48  # of a key's place in a table
WRITTEN_OUT = 30  # digits up to which a Decimal that is a whole number has no exponent

# How types sort. Whole numbers and texts are held as they are, but for the largest numbers.
_INT, _STR, _TUPLE, _LIST, _NONE, _BOOL, _FLOAT, _DECIMAL = range(8)
_DATE, _DATETIME, _INSTANT, _TIME, _TIMEDELTA, _BYTES, _UUID, _ENUM = range(8, 16)

_JSON = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  for datetimes without a zone
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)


class Keys:
    """Encodes keys, and decodes them for reduce."""

    def __init__(self, values: Values) -> None:
        self.values = values

    def encode(self, key: Any, levels: int = LEVELS) -> Key:
        """A key as it is held.

        Raises:
            Unencodable: it is of a type that is no key, holds one, or has no canonical form.
        """
        kind = type(key)
        if kind is str:
            return key if key.isascii() else encodable(key)
        if kind is int:
            return key if LEAST_DECIMAL < key < DECIMAL else (_INT, hex(key))
        if kind is tuple or kind is list:
            if not levels:
                raise Unencodable(f"a key is nested deeper than {LEVELS} levels")
            rank = _TUPLE if kind is tuple else _LIST
            return (rank, *[self.encode(step, levels - 1) for step in key])
        if issubclass(kind, Enum):
            enum = self.values.kind_of(kind)
            return (_ENUM, enum.tag, *map(self.encode, enum.parts(key)))
        encode = _ENCODERS.get(kind)
        if encode is None:
            raise Unencodable(
                f"a key can't be a {kind.__name__}: take text, numbers, dates, enums, or a tuple or "
                "list of these"
            )
        return encode(key)

    def decode(self, key: Key) -> Any:
        """The canonical key."""
        if not isinstance(key, tuple):
            return key
        rank, *parts = key
        if rank == _TUPLE:
            return tuple(map(self.decode, parts))
        if rank == _LIST:
            return list(map(self.decode, parts))
        if rank == _ENUM:
            return self.values.make(parts[0], list(map(self.decode, parts[1:])))
        return _DECODERS[rank](*parts)

    def weigh(self, key: Key) -> int:
        """The memory of a key beyond its place in the table."""
        return self.values.weigh(key) if isinstance(key, tuple) else getsizeof(key)


def order(key: Key) -> tuple[Any, ...]:
    """How keys sort: whole numbers, text by code point, tuples and lists by their elements, then
    the other types, each by its own order."""
    if not isinstance(key, tuple):
        return (_INT if type(key) is int else _STR, key)
    rank, *parts = key
    if rank == _INT:
        return (_INT, int(parts[0], 16))
    if rank == _DECIMAL:
        return (_DECIMAL, Decimal(parts[0]))
    if rank in (_TUPLE, _LIST, _ENUM):
        return (rank, *map(order, parts))
    return key


def encode_key(key: Key) -> bytes:
    """The bytes of a key that its partition is the hash of."""
    return (encode_basestring(key) if type(key) is str else _JSON(key)).encode()


def partition_of(key: Key, partitions: int) -> int:
    """The partition of a key: CRC-32 of its encoded bytes, modulo their number."""
    return zlib.crc32(encode_key(key)) % partitions


def held_key(tree: Any) -> Key:
    """A key as it is held, from a line of a segment, where its tuples are lists."""
    return tuple(map(held_key, tree)) if type(tree) is list else tree


# ------------------------------------------------------------------------------------------------
# Keys that are no text, no whole number and no list
# ------------------------------------------------------------------------------------------------


def _float(value: float) -> Key:
    if isnan(value):
        raise Unencodable("a key can't be NaN, which equals nothing")
    return (_FLOAT, value or 0.0)


def _decimal(value: Decimal) -> Key:
    """Without zeros at its end; whole numbers of up to so many digits without an exponent."""
    if value.is_nan():
        raise Unencodable("a key can't be a Decimal that is NaN, which equals nothing")
    if not value:
        return (_DECIMAL, "0")
    if value.is_infinite():
        return (_DECIMAL, _told(value))
    sign, digits, exponent = value.as_tuple()
    text = "".join(map(str, digits))
    stripped = text.rstrip("0")
    exponent = int(exponent) + len(text) - len(stripped)
    if 0 < exponent <= WRITTEN_OUT - len(stripped):
        stripped += "0" * exponent
        exponent = 0
    return (_DECIMAL, _told(Decimal(f"{'-' * sign}{stripped}E{exponent}")))


def _told(value: Decimal) -> str:
    """A Decimal as text, whatever the job's context says of capitals."""
    return str(value).replace("e", "E")


def _datetime(value: datetime) -> Key:
    if value.tzinfo is None:
        return (_DATETIME, (value - _EPOCH) // MICROSECOND, value.fold)
    encode_zone(value.tzinfo)  # refuses what it must
    try:
        return (_INSTANT, (value.astimezone(UTC) - _EPOCH_UTC) // MICROSECOND)
    except OverflowError as error:
        raise Unencodable("a datetime lies outside of the years 1 to 9999 in UTC") from error


def _time(value: time) -> Key:
    since_midnight = timedelta(
        hours=value.hour,
        minutes=value.minute,
        seconds=value.second,
        microseconds=value.microsecond,
    )
    return (_TIME, since_midnight // MICROSECOND, value.fold, *encode_zone(value.tzinfo))


def _to_time(microseconds: int, fold: int, *zone: str) -> time:
    found = (_EPOCH + microseconds * MICROSECOND).time()
    return found.replace(fold=fold, tzinfo=decode_zone(zone))


_ENCODERS: dict[type, Callable[[Any], Key]] = {
    type(None): lambda key: (_NONE,),
    bool: lambda key: (_BOOL, int(key)),
    float: _float,
    Decimal: _decimal,
    date: lambda key: (_DATE, key.toordinal()),
    datetime: _datetime,
    time: _time,
    timedelta: lambda key: (_TIMEDELTA, key // MICROSECOND),
    bytes: lambda key: (_BYTES, key.hex()),
    UUID: lambda key: (_UUID, key.hex),
}
_DECODERS: dict[int, Callable[..., Any]] = {
    _INT: lambda digits: int(digits, 16),
    _NONE: lambda: None,
    _BOOL: bool,
    _FLOAT: float,
    _DECIMAL: Decimal,
    _DATE: date.fromordinal,
    _DATETIME: lambda since, fold: (_EPOCH + since * MICROSECOND).replace(fold=fold),
    _INSTANT: lambda since: _EPOCH_UTC + since * MICROSECOND,
    _TIME: _to_time,
    _TIMEDELTA: lambda microseconds: microseconds * MICROSECOND,
    _BYTES: bytes.fromhex,
    _UUID: UUID,
}

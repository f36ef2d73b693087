"""Values without parts that JSON has no type for: bytes, decimals, dates and times, UUIDs.

Each is encoded as a short list of what JSON has, from which exactly the same is restored.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

from coordinator.errors import Unencodable

MICROSECOND = timedelta(microseconds=1)

Parts = Sequence[Any]


def encodable(text: str) -> str:
    """The text itself.

    Raises:
        Unencodable: it holds a lone surrogate.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unencodable("a str holds a lone surrogate, which has no encoding") from None
    return text


def encode_zone(zone: tzinfo | None) -> list[str]:
    """A time zone as texts: UTC, a fixed offset in microseconds, or a ZoneInfo by its key.

    Raises:
        Unencodable: it is of another kind.
    """
    if zone is None:
        return []
    if zone is UTC:
        return ["utc"]
    if type(zone) is timezone:
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
        return ["offset", str(offset // MICROSECOND), *map(encodable, name)]
    if type(zone) is ZoneInfo:
        try:
            zone.__reduce__()  # raises for one that was read from a file of the job's own
            return ["zone", ZoneInfo(zone.key).key]
        except Exception as error:
            raise Unencodable("a ZoneInfo without a key can't cross to reduce") from error
    raise Unencodable(f"a time zone of type {type(zone).__name__} can't cross to reduce")


def decode_zone(parts: Parts) -> tzinfo | None:
    """The time zone that these texts stand for."""
    if not parts:
        return None
    kind, *rest = parts
    if kind == "utc":
        return UTC
    if kind == "zone":
        return ZoneInfo(rest[0])
    return timezone(int(rest[0]) * MICROSECOND, *rest[1:])


def _of_datetime(value: datetime) -> Parts:
    zone = encode_zone(value.tzinfo)
    return [value.replace(tzinfo=None).isoformat(), value.fold, *zone]


def _to_datetime(parts: Parts) -> datetime:
    text, fold, *zone = parts
    return datetime.fromisoformat(text).replace(fold=fold, tzinfo=decode_zone(zone))


def _of_time(value: time) -> Parts:
    zone = encode_zone(value.tzinfo)
    return [value.replace(tzinfo=None).isoformat(), value.fold, *zone]


def _to_time(parts: Parts) -> time:
    text, fold, *zone = parts
    return time.fromisoformat(text).replace(fold=fold, tzinfo=decode_zone(zone))


def _of_uuid(value: UUID) -> Parts:
    safe = value.is_safe
    return [value.hex] if safe is SafeUUID.unknown else [value.hex, safe.value]


def _to_uuid(parts: Parts) -> UUID:
    digits, *safe = parts
    return UUID(digits, is_safe=SafeUUID(safe[0])) if safe else UUID(digits)


@dataclass(frozen=True, slots=True)
class Scalar:
    """How values of one type are encoded: under which tag, as what, and back."""

    tag: str
    parts: Callable[[Any], Parts]
    make: Callable[[Parts], Any]


SCALARS: dict[type, Scalar] = {
    bytes: Scalar(
        "b",
        lambda value: [binascii.b2a_base64(value, newline=False).decode()],
        lambda parts: binascii.a2b_base64(parts[0]),
    ),
    Decimal: Scalar("n", lambda value: [str(value)], lambda parts: Decimal(parts[0])),
    date: Scalar(
        "D", lambda value: [value.isoformat()], lambda parts: date.fromisoformat(parts[0])
    ),
    time: Scalar("h", _of_time, _to_time),
    datetime: Scalar("T", _of_datetime, _to_datetime),
    timedelta: Scalar(
        "s",
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda parts: timedelta(*parts),
    ),
    UUID: Scalar("u", _of_uuid, _to_uuid),
}

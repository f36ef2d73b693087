"""Keys and values as they cross from map to reduce: their canonical forms, weights and order.

What map yields is encoded once; combine and reduce see only decoded values, so a job gives the
same result whether a value crossed a machine or not.
"""

from __future__ import annotations

import math
import zlib
from json.encoder import encode_basestring
from typing import Any

from pydantic_core import from_json

from coordinator.errors import OutputInvalid
from coordinator.formats.jsonlines import encode_json

Key = str | int | tuple[Any, ...]

KEY_BYTES = 96  # of a key's place in a table
_ATOMS = frozenset({int, bool, type(None)})


def canonical_key(key: Any) -> Key:
    """A key as it will be decoded; lists become tuples, so that it can be looked up.

    Raises:
        OutputInvalid: it is neither text, a whole number, nor a list of these.
        ValueError: a text in it has no encoding.
    """
    if type(key) is int:
        return key
    if type(key) is str:
        return _encodable(key)
    if isinstance(key, (tuple, list)):
        return tuple(canonical_key(step) for step in key)
    raise OutputInvalid(
        f"A key must be a str, an int or a list of these, not {type(key).__name__}."
    )


def canonical(value: Any) -> Any:
    """A value as it would be after a journey through JSON.

    Raises:
        OutputInvalid: its type has no encoding.
        ValueError: its value has none (NaN, a lone surrogate).
    """
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is str:
        return _encodable(value)
    if kind is float:
        if not math.isfinite(value):
            raise ValueError("a value is not a finite number")
        return value
    if kind is tuple or kind is list:
        return [canonical(item) for item in value]
    if kind is dict and all(type(name) is str for name in value):
        return {name: canonical(item) for name, item in value.items()}
    return from_json(encode_json(value))


def _encodable(text: str) -> str:
    """The text; UnicodeEncodeError, a ValueError, if it holds a lone surrogate."""
    if not text.isascii():
        text.encode()
    return text


def weight(value: Any) -> int:
    """Roughly the memory of a canonical value, in bytes; never less than its elements need."""
    if isinstance(value, str):
        return 56 + len(value)
    if isinstance(value, list):
        return 64 + sum(map(weight, value))
    if isinstance(value, dict):
        return 128 + sum(56 + len(name) + weight(item) for name, item in value.items())
    return 32


def key_weight(key: Key) -> int:
    """The memory of a key beyond its place in the table.

    Raises:
        OutputInvalid: it holds a lone surrogate.
    """
    if type(key) is not str:
        return 0
    if not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError:
            raise OutputInvalid("A key holds a lone surrogate, which has no encoding.") from None
    return len(key)


def encode_key(key: Key) -> bytes:
    """The bytes of a key that its partition is the hash of."""
    return encode_basestring(key).encode() if type(key) is str else encode_json(key)


def partition_of(key: Key, partitions: int) -> int:
    """The partition of a key: CRC-32 of its encoded bytes, modulo their number."""
    return zlib.crc32(encode_key(key)) % partitions


def key_order(key: Key) -> tuple[int, Any]:
    """How keys sort: whole numbers, text by code point, lists by their elements."""
    if type(key) is int:
        return (0, key)
    if type(key) is str:
        return (1, key)
    return (2, tuple(key_order(step) for step in key))  # type: ignore[union-attr]


def are_plain(pairs: list[Any]) -> bool:
    """Whether all are pairs of a text and a whole number, which are canonical as they are."""
    try:
        for key, value in pairs:
            if type(key) is not str or type(value) is not int:
                return False
    except (TypeError, ValueError):
        return False
    return True


def canonical_pair(pair: Any) -> tuple[Key, Any]:
    """A pair with its key and value as they will be decoded.

    Raises:
        OutputInvalid: it is no pair, or a key or value has a wrong type.
        ValueError: a value has no encoding.
    """
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise OutputInvalid(
            f"The map of a job with a reduce must yield (key, value), not {type(pair).__name__}."
        )
    return canonical_key(pair[0]), canonical(pair[1])

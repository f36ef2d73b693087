"""Segments: one partition of one map shard, as bytes.

A segment is a sequence of lines, each a JSON pair of equally long lists: keys and their values.
With a combine a value is the folded one, without it the list of all values so far. A part holds a
segment for every partition, one behind the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from pydantic_core import from_json

from coordinator.shuffle.values import Key, canonical_key

_PAIRS_A_LINE = 512


def encode_pairs(items: Iterable[tuple[Key, Any]]) -> Iterator[bytes]:
    """Pairs as the lines of a segment."""
    waiting = iter(items)
    while chunk := list(islice(waiting, _PAIRS_A_LINE)):
        keys, values = zip(*chunk, strict=True)
        yield json.dumps([keys, values], ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def decode_pairs(line: bytes) -> Iterator[tuple[Key, Any]]:
    """The pairs of a line of a segment."""
    keys, values = from_json(line)
    if list in set(map(type, keys)):
        keys = map(canonical_key, keys)
    return zip(keys, values, strict=True)

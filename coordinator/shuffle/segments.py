"""Segments: one partition of one map shard, as bytes.

A segment is a sequence of lines, each a JSON pair of equally long lists: keys and their values.
With a combine a value is the folded one, without it a list of values. A line that begins with
`~` holds its values tagged. Keys may come again in later lines: a line holds no more than
`LINE_BYTES` weigh, or a single value. A part holds a segment for every partition, one behind the
other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from json import JSONEncoder
from typing import Any

from pydantic_core import from_json

from coordinator.limits import KIB
from coordinator.shuffle.keys import Key, held_key
from coordinator.shuffle.values import ATOM_BYTES, Values

LINE_BYTES = 64 * KIB
_KEYS_A_LINE = 512
_TAGGED = b"~"
_JSON = JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode

Items = Iterable[tuple[Key, Any]]


class Segments:
    """Encodes and decodes the lines of segments. `lists`: values of a key come in lists."""

    def __init__(self, values: Values, *, lists: bool) -> None:
        self.values = values
        self.lists = lists

    def encode(self, items: Items, heaviest: int, *, tagged: bool) -> Iterator[bytes]:
        """Keys and what is held of each as lines. `heaviest` is what a single key or value weighs
        at most; `tagged` says that plain JSON may not tell them."""
        most = max(1, LINE_BYTES // max(heaviest, ATOM_BYTES))
        for keys, values in (_in_pieces if self.lists else _in_turn)(items, most):
            yield self._line(keys, values, tagged=tagged)

    def decode(self, line: bytes) -> Iterator[tuple[Key, Any]]:
        """The keys of a line, and their values."""
        tagged = line.startswith(_TAGGED)
        keys, values = from_json(line[1:] if tagged else line)
        if list in set(map(type, keys)):
            keys = map(held_key, keys)
        if tagged:
            self.values.tagged = True
            values = map(self.values.restore_all if self.lists else self.values.restore, values)
        return zip(keys, values, strict=True)

    def _line(self, keys: Sequence[Key], values: Sequence[Any], *, tagged: bool) -> bytes:
        if tagged:
            trees, needed = self.values.trees(values, lists=self.lists)
            if needed:
                return _TAGGED + _JSON([keys, trees]).encode() + b"\n"
        return _JSON([keys, values]).encode() + b"\n"


def _in_turn(items: Items, most: int) -> Iterator[tuple[Sequence[Key], Sequence[Any]]]:
    """Keys and their values for a line each."""
    waiting = iter(items)
    while chunk := list(islice(waiting, min(most, _KEYS_A_LINE))):
        keys, values = zip(*chunk, strict=True)
        yield keys, values


def _in_pieces(items: Items, most: int) -> Iterator[tuple[Sequence[Key], Sequence[Any]]]:
    """Keys and lists of their values for a line each; a list that is too long goes in pieces."""
    keys: list[Key] = []
    pieces: list[list[Any]] = []
    held = 0
    for key, values in items:
        for start in range(0, len(values), most):
            piece = values if len(values) <= most else values[start : start + most]
            if keys and (held + len(piece) >= most or len(keys) == _KEYS_A_LINE):
                yield keys, pieces
                keys, pieces, held = [], [], 0
            keys.append(key)
            pieces.append(piece)
            held += len(piece) + 1
    if keys:
        yield keys, pieces

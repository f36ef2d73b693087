"""Values as they cross from map to reduce: exactly as they were given, in value and in type.

What map yields is copied when it is taken, so that nothing that the job does to it later shows.
A line of a segment holds values as plain JSON where that tells all; otherwise tagged, where every
JSON array begins with a tag: `["t", 1, 2]` is a tuple, `["l", 1, 2]` a list. A text, a number or
an object of JSON is itself, so that nothing that a job yields can look like a tag.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from operator import countOf
from sys import getsizeof
from typing import Any

from coordinator.declared import can_be_declared
from coordinator.errors import LedgerBroken, Unencodable
from coordinator.limits import MIB
from coordinator.shuffle.instances import Kind, kind_of
from coordinator.shuffle.scalars import SCALARS, encodable

LEVELS = 100  # of nesting
MOST_BYTES = 64 * MIB  # that a value may weigh, unless a buffer is larger
LEAST_WORD, WORD = -(1 << 63), 1 << 63  # between them an integer fits into a machine word
# Python may be told to refuse decimal text of more than 640 digits: longer integers go in hex.
LEAST_DECIMAL, DECIMAL = -(1 << 2000), 1 << 2000

# What things take in memory.
ATOM_BYTES = 32  # a number
PLACE_BYTES = 8 + ATOM_BYTES  # a place in a list, and a number in it
LIST_BYTES, DICT_BYTES, INSTANCE_BYTES = 56, 120, 256

FIXED = frozenset({float, bool, type(None)})  # types whose values are all of one size
_NESTED = frozenset({list, dict})  # what is more than itself in a tree
_DECLARED = "@"  # what the tags of declared types begin with


class Values:
    """Copies, weighs, encodes and restores values. `types` are the job's declared ones by name;
    a value may weigh `most_bytes`, where what it holds twice counts twice.

    Since they were last reset, `weight` is what was copied weighs, and `tagged` says whether some
    of it may be more than plain JSON can tell.
    """

    def __init__(
        self, types: Mapping[str, type] | None = None, most_bytes: int = MOST_BYTES
    ) -> None:
        self.most_bytes = most_bytes
        self.weight = 0
        self.tagged = False
        self._needed = False  # whether a tree made since it was last reset has a tag that tells
        self._kinds: dict[type, Kind] = {
            declared: kind_of(tag, declared) for tag, declared in (types or {}).items()
        }
        self._by_tag = {kind.tag: kind for kind in self._kinds.values()}
        self._scalars_by_tag = {scalar.tag: scalar for scalar in SCALARS.values()}
        self._enums_seen: set[type] = set()

    # -- copying ---------------------------------------------------------------------------------

    def copy(self, value: Any, levels: int = LEVELS) -> Any:
        """The value as it will be decoded, sharing nothing with it that can change. Its weight is
        added to `weight`.

        Raises:
            Unencodable: it holds something of a type that can't cross, is nested too deeply, or
                weighs too much.
        """
        kind = type(value)
        if self.weight > self.most_bytes:
            raise Unencodable(
                f"a value takes more than {self.most_bytes // MIB} MiB, with what it holds several "
                "times: yield it in pieces, or raise `buffer_bytes`"
            )
        if kind is str:
            self.weight += getsizeof(value)
            return value if value.isascii() else encodable(value)
        if kind in FIXED:
            self.weight += ATOM_BYTES
            return value
        if kind is int:
            self.weight += getsizeof(value)
            if not LEAST_DECIMAL < value < DECIMAL:
                self.tagged = True
            return value
        if not levels and kind not in SCALARS:
            raise Unencodable(f"a value is nested deeper than {LEVELS} levels")
        levels -= 1
        if kind is list or kind is tuple:
            self.weight += LIST_BYTES + PLACE_BYTES * len(value)
            copied = [
                item
                if type(item) in FIXED or (type(item) is int and LEAST_WORD < item < WORD)
                else self.copy(item, levels)
                for item in value
            ]
            if kind is list:
                return copied
            self.tagged = True
            return tuple(copied)
        return self._copy_dict(value, levels) if kind is dict else self._copy_other(value, levels)

    def _copy_dict(self, value: dict[Any, Any], levels: int) -> dict[Any, Any]:
        self.weight += DICT_BYTES + PLACE_BYTES * len(value)
        copied = {}
        for name, item in value.items():
            if type(name) is not str:
                self.tagged = True
            kind = type(item)
            copied[self.copy(name, levels)] = (
                item
                if kind in FIXED or (kind is int and LEAST_WORD < item < WORD)
                else self.copy(item, levels)
            )
        return copied

    def _copy_other(self, value: Any, levels: int) -> Any:
        self.tagged = True
        kind = type(value)
        if scalar := SCALARS.get(kind):
            self.weight += ATOM_BYTES + getsizeof(value)
            scalar.parts(value)  # refuses what it must
            return value
        declared = self.kind_of(kind)
        self.weight += INSTANCE_BYTES
        return declared.make([self.copy(part, levels) for part in declared.parts(value)])

    def kind_of(self, kind: type) -> Kind:
        """How instances of a declared type cross.

        Raises:
            Unencodable: it is not declared, or an enum of values that can't cross.
        """
        declared = self._kinds.get(kind)
        if declared is None:
            raise unsupported(kind)
        if issubclass(kind, Enum) and kind not in self._enums_seen:
            for member in kind:
                self.copy(member._value_)
            self._enums_seen.add(kind)
        return declared

    # -- weighing --------------------------------------------------------------------------------

    def weigh(self, value: Any) -> int:
        """Roughly the memory of a copied value, in bytes; never less than its elements need."""
        kind = type(value)
        if kind is str or kind is int:
            return getsizeof(value)
        if kind in FIXED:
            return ATOM_BYTES
        if kind is list or kind is tuple:
            return LIST_BYTES + PLACE_BYTES * len(value) + self.weigh_all(value)
        if kind is dict:
            weight = DICT_BYTES + PLACE_BYTES * len(value)
            return weight + self.weigh_all(value) + self.weigh_all(value.values())
        if kind in SCALARS:
            return ATOM_BYTES + getsizeof(value)
        return INSTANCE_BYTES + self.weigh_all(self._kinds[kind].parts(value))

    def weigh_all(self, values: Iterable[Any]) -> int:
        """What values weigh besides a place for a number each."""
        weight = 0
        for value in values:
            kind = type(value)
            if kind is str or kind is int:
                weight += getsizeof(value)
            elif kind not in FIXED:
                weight += self.weigh(value)
        return weight

    # -- encoding --------------------------------------------------------------------------------

    def trees(self, values: Iterable[Any], *, lists: bool) -> tuple[list[Any], bool]:
        """Copied values (or lists of them) as JSON with tags, and whether plain JSON could not
        tell them."""
        self._needed = False
        if lists:
            return [[self.tree(item) for item in each] for each in values], self._needed
        return [self.tree(value) for value in values], self._needed

    def tree(self, value: Any) -> Any:
        """A copied value as JSON with tags."""
        kind = type(value)
        if kind is int:
            if LEAST_DECIMAL < value < DECIMAL:
                return value
            self._needed = True
            return ["i", hex(value)]
        if kind is str or kind in FIXED:
            return value
        if kind is list or kind is tuple:
            tree = [
                item
                if type(item) in FIXED or (type(item) is int and LEAST_WORD < item < WORD)
                else self.tree(item)
                for item in value
            ]
            if kind is list:
                return ["l", *tree]
            self._needed = True
            return ["t", *tree]
        if kind is dict and countOf(map(type, value), str) == len(value):
            return {name: self.tree(item) for name, item in value.items()}
        self._needed = True
        if kind is dict:
            return ["d", *(self.tree(part) for item in value.items() for part in item)]
        if scalar := SCALARS.get(kind):
            return [scalar.tag, *scalar.parts(value)]
        declared = self._kinds[kind]
        return [_DECLARED + declared.tag, *map(self.tree, declared.parts(value))]

    def restore(self, tree: Any) -> Any:
        """The value that a tree stands for.

        Raises:
            LedgerBroken: it names a type that the job does not declare.
        """
        if type(tree) is dict:
            return {
                name: self.restore(item) if type(item) in _NESTED else item
                for name, item in tree.items()
            }
        if type(tree) is not list:
            return tree
        tag: str
        tag, *parts = tree
        values = [self.restore(part) if type(part) in _NESTED else part for part in parts]
        if tag == "t":
            return tuple(values)
        if tag == "l":
            return values
        if tag == "d":
            return dict(zip(values[::2], values[1::2], strict=True))
        if tag == "i":
            return int(values[0], 16)
        if scalar := self._scalars_by_tag.get(tag):
            return scalar.make(values)
        return self.make(tag.removeprefix(_DECLARED), values)

    def make(self, tag: str, parts: Sequence[Any]) -> Any:
        """An instance of a declared type.

        Raises:
            LedgerBroken: the job does not declare it.
        """
        declared = self._by_tag.get(tag)
        if declared is None:
            raise LedgerBroken(
                f"A part holds a {tag}, which the job does not declare: it was written by other "
                "code. Start a new run id."
            )
        return declared.make(parts)

    def restore_all(self, trees: Iterable[Any]) -> list[Any]:
        """The values that these trees stand for."""
        return [self.restore(tree) for tree in trees]


def are_words(values: list[int]) -> bool:
    """Whether all of these fit into a machine word."""
    return not values or (max(values) < WORD and min(values) > LEAST_WORD)


def is_decimal(value: Any) -> bool:
    """Whether plain JSON can tell a value, where it is an integer."""
    return type(value) is not int or LEAST_DECIMAL < value < DECIMAL


def unsupported(kind: type) -> Unencodable:
    """Why nothing of a type can cross, and what can be done about it."""
    if can_be_declared(kind):
        return Unencodable(
            f"{kind.__name__} is not declared: annotate combine or reduce with it, or name it in "
            "Job(types=...)"
        )
    return Unencodable(f"a {kind.__name__} can't cross to reduce")

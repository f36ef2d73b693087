"""Instances of the types that a job declares: taken apart and put together again as they were.

No code of the job runs for it: no `__init__`, no validator. What an instance is made of is all of
its state, not its fields alone; whatever of it can't cross is refused by those who encode it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum, Flag
from itertools import chain
from typing import Any, Protocol, cast

from pydantic import BaseModel, RootModel

from coordinator.errors import Unencodable


class Kind(Protocol):
    """How instances of one declared type are taken apart, and put together again."""

    @property
    def tag(self) -> str: ...

    def parts(self, value: Any) -> Sequence[Any]: ...

    def make(self, parts: Sequence[Any]) -> Any: ...


def kind_of(tag: str, declared: type) -> Kind:
    """How instances of a declared type cross."""
    if issubclass(declared, Enum):
        return _Members(tag, declared)
    return _Models(tag, declared) if issubclass(declared, BaseModel) else _Instances(tag, declared)


class _Members:
    """Of an enum: by name; those of a flag, which may be several at once, by value."""

    def __init__(self, tag: str, enum: type[Enum]) -> None:
        self.tag = tag
        self.enum = enum
        self.by_value = issubclass(enum, Flag)

    def parts(self, value: Enum) -> Sequence[Any]:
        member = [value._value_ if self.by_value else value._name_]
        if self.make(member) is not value:
            raise Unencodable(f"a {self.enum.__name__} that is none of its members can't cross")
        return member

    def make(self, parts: Sequence[Any]) -> Enum:
        if self.by_value:
            return self.enum(parts[0])
        member = self.enum.__members__.get(parts[0])
        return cast("Enum", member)


class _Instances:
    """Of a dataclass: what is in its `__dict__`, then what is in its slots."""

    def __init__(self, tag: str, declared: type) -> None:
        self.tag = tag
        self.declared = declared

    def parts(self, value: object) -> Sequence[Any]:
        state: Any = object.__getstate__(value)
        named, slots = state if isinstance(state, tuple) else (state, None)
        named = {name: item for name, item in (named or {}).items() if name != "__orig_class__"}
        return [len(named), *_flat(named), *_flat(slots or {})]

    def make(self, parts: Sequence[Any]) -> object:
        waiting = iter(parts)
        instance = bare(self.declared)
        if count := next(waiting):
            vars(instance).update(_named(waiting, count))
        for name in waiting:
            object.__setattr__(instance, name, next(waiting))
        return instance


class _Models:
    """Of a model: its fields, extra fields, the names of the fields set, private attributes."""

    def __init__(self, tag: str, declared: type[BaseModel]) -> None:
        self.tag = tag
        self.declared = declared
        self.base: type[BaseModel] = RootModel if issubclass(declared, RootModel) else BaseModel
        own = declared.__mro__[: declared.__mro__.index(self.base)]
        self.slotted = any(vars(base).get("__slots__") for base in own)

    def parts(self, value: BaseModel) -> Sequence[Any]:
        if self.slotted:
            raise Unencodable(f"a {self.declared.__name__}, which has slots, can't cross to reduce")
        state = cast("dict[str, Any]", self.base.__getstate__(value))
        fields_set = sorted(state["__pydantic_fields_set__"])
        fields = state["__dict__"]
        return [
            *(len(fields), *_flat(fields)),
            *(len(fields_set), *fields_set),
            *_counted(state.get("__pydantic_extra__")),
            *_counted(state.get("__pydantic_private__")),
        ]

    def make(self, parts: Sequence[Any]) -> BaseModel:
        waiting = iter(parts)
        fields = _named(waiting, next(waiting))
        state: dict[str, Any] = {
            "__dict__": fields,
            "__pydantic_fields_set__": {next(waiting) for _ in range(next(waiting))},
        }
        for name in ("__pydantic_extra__", "__pydantic_private__"):
            count = next(waiting)
            state[name] = None if count is None else _named(waiting, count)
        instance = cast("BaseModel", bare(self.declared))
        self.base.__setstate__(instance, state)
        return instance


def bare(declared: type) -> object:
    """An instance of a declared type with nothing in it.

    Raises:
        Unencodable: it is built upon another type, such as a list, whose contents would be lost.
    """
    try:
        return object.__new__(declared)
    except TypeError as error:
        raise Unencodable(
            f"a {declared.__name__}, which is built upon another type, can't cross to reduce"
        ) from error


def _flat(state: Mapping[str, Any]) -> Iterator[Any]:
    return chain.from_iterable(state.items())


def _counted(state: Mapping[str, Any] | None) -> Sequence[Any]:
    return [None] if state is None else [len(state), *_flat(state)]


def _named(waiting: Iterator[Any], count: int) -> dict[str, Any]:
    return {next(waiting): next(waiting) for _ in range(count)}

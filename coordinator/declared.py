"""The types that a job declares its keys and values to be made of: enums, dataclasses, models.

What crosses from map to reduce names these and no others: nothing is imported by a name that is
found in data.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from types import SimpleNamespace
from typing import Any, Literal, get_args, get_origin, get_type_hints, is_typeddict

from pydantic import BaseModel


def can_be_declared(kind: object) -> bool:
    """Whether it is an enum with members, a dataclass or a model."""
    if not isinstance(kind, type):
        return False
    if issubclass(kind, Enum):
        return bool(kind.__members__)
    return dataclasses.is_dataclass(kind) or (
        issubclass(kind, BaseModel) and kind.__module__.partition(".")[0] != "pydantic"
    )


def types_in(annotations: Iterable[Any]) -> list[type]:
    """The types that annotations name, also within others and in the fields of those found."""
    found: dict[type, None] = {}
    seen: set[int] = set()
    held = list(annotations)  # keeps them alive, so that an id stays the id of one
    for annotation in held:
        if id(annotation) not in seen:
            seen.add(id(annotation))
            held += _within(annotation)
            if can_be_declared(annotation):
                found[annotation] = None
    return list(found)


def annotations_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function's parameters and of its `return`. One that can't be looked up
    is left out: it may be meant for type checkers only."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    if not inspect.isroutine(function):
        function = type(function).__call__
    return _looked_up(function, getattr(function, "__globals__", {}), {})


def _within(annotation: Any) -> Iterator[Any]:
    """What an annotation is made of."""
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    if origin is Literal:
        yield from map(type, arguments)
        return
    if origin is not None:
        yield origin
        for argument in arguments:
            yield from argument if isinstance(argument, list) else [argument]
    for name in ("__supertype__", "__bound__", "__value__"):  # NewType, TypeVar, a `type` statement
        if not isinstance(annotation, type) and (meant := getattr(annotation, name, None)):
            yield meant
    yield from getattr(annotation, "__constraints__", ())
    if isinstance(annotation, type):
        yield from _fields_of(annotation)


def _fields_of(kind: type) -> Iterator[Any]:
    """The annotations of a type's fields, and the types of an enum's values."""
    if issubclass(kind, Enum):
        yield from (type(member._value_) for member in kind)
    elif issubclass(kind, BaseModel):
        yield from (field.annotation for field in kind.model_fields.values())
        if generic := kind.__pydantic_generic_metadata__["origin"]:
            yield generic
    for base in kind.__mro__:
        if can_be_declared(base) or is_typeddict(base):
            module = sys.modules.get(base.__module__)
            yield from _looked_up(base, vars(module) if module else {}, vars(base)).values()


def _looked_up(
    owner: Callable[..., object], names: Mapping[str, Any], own_names: Mapping[str, Any]
) -> dict[str, Any]:
    """The annotations of a function or of a class itself, each looked up alone."""
    found: dict[str, Any] = {}
    try:
        annotations = inspect.get_annotations(owner)
    except (NameError, TypeError, ValueError):
        return found
    for name, annotation in annotations.items():
        holder: Any = SimpleNamespace(__annotations__={name: annotation})
        try:
            found[name] = get_type_hints(holder, dict(names), dict(own_names))[name]
        except Exception:  # noqa: BLE001, S112  whatever evaluating it raises
            continue
    return found

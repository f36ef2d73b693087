"""Folding values of a key into one by the job's combine, in order, on both sides of the shuffle."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from coordinator.errors import FanfoldError, ReduceFailed
from coordinator.shuffle.values import KEY_BYTES, Key, canonical, key_weight
from coordinator.shuffle.values import weight as weight_of

Combine = Callable[[Any, Any], Any]

_ABSENT = object()


def fold_into(held: dict[Key, Any], pairs: Iterable[tuple[Key, Any]], combine: Combine) -> int:
    """Fold canonical pairs into a table, in order; gives the memory that it grew by.

    Raises:
        ReduceFailed: the job's combine raised, or gave what has no encoding.
        OutputInvalid: a key holds a lone surrogate.
    """
    before_or_absent = held.get
    weight = 0
    fresh = []
    try:
        for key, value in pairs:
            before = before_or_absent(key, _ABSENT)
            if before is _ABSENT:
                fresh.append(key)
            else:
                value = combine(before, value)
            if type(value) is not int:
                if before is not _ABSENT:
                    value = folded(value)
                weight += weight_of(value)
            held[key] = value
    except Exception as error:
        raise _combine_failed(error) from error
    return weight + len(fresh) * KEY_BYTES + sum(map(key_weight, fresh))


def fold(combine: Combine, left: Any, right: Any) -> Any:
    """Two decoded values of one key, as the job's combine makes them one.

    Raises:
        ReduceFailed: it raised, or gave what has no encoding.
    """
    try:
        value = combine(left, right)
    except Exception as error:
        raise _combine_failed(error) from error
    return value if type(value) is int else folded(value)


def folded(value: Any) -> Any:
    """What a combine gave, as it will be decoded.

    Raises:
        ReduceFailed: it has no encoding.
    """
    try:
        return canonical(value)
    except ValueError as error:
        raise _combine_failed(error) from error


def _combine_failed(error: Exception) -> Exception:
    """The error of the tree for what a combine raised."""
    if isinstance(error, FanfoldError):
        return error
    return ReduceFailed(f"combine raised {type(error).__name__}: {error}")

"""The proof of completeness: every byte of every pinned object in exactly one slice. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from coordinator.errors import NotProven
from coordinator.model import Pinned, Slice


def check_coverage(objects: Iterable[Pinned], covered: Iterable[Slice]) -> None:
    """Hold the slices that entries account for against the snapshot, both in key order.

    An object is covered by byte ranges that follow each other from its first byte to its last, or
    by ranges of record numbers that follow each other from 0 to its end.

    Raises:
        NotProven: naming the object, and the byte or record where coverage breaks.
    """
    slices = iter(covered)
    waiting = next(slices, None)
    for pinned in objects:
        place, unit, at_end = 0, None, False
        while waiting is not None and waiting.key == pinned.key:
            if waiting.pinned != pinned:
                raise NotProven(f"{pinned.key} was read in another version than was pinned.")
            if at_end or waiting.unit != (unit or waiting.unit) or _runs_back(waiting):
                raise NotProven(_surplus(waiting))
            if waiting.start != place:
                raise NotProven(_break(pinned, waiting, place))
            place, unit = waiting.stop, waiting.unit
            at_end = place == (pinned.size if unit == "bytes" else -1)
            waiting = next(slices, None)
        if not at_end:
            raise NotProven(f"{pinned.key} is not covered from {place} of {pinned.size} on.")
    if waiting is not None:
        raise NotProven(_surplus(waiting))


def _runs_back(found: Slice) -> bool:
    to_the_end = found.unit == "records" and found.stop == -1
    return found.stop < found.start and not to_the_end


def _surplus(found: Slice) -> str:
    return f"{found.key}: {found.unit} [{found.start}, {found.stop}) were read twice, or were not pinned."


def _break(pinned: Pinned, found: Slice, place: int) -> str:
    kind = "lost" if found.start > place else "read twice"
    low, high = sorted((found.start, place))
    return f"{pinned.key}: {found.unit} {low} to {high} were {kind}."

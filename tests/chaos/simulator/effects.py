"""Effects, and what may go wrong with them: the kinds of faults, and the scripts that say when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Kind(StrEnum):
    """What goes wrong at an effect."""

    ERROR_BEFORE = "error before"
    ERROR_AFTER = "error after"
    UNKNOWN = "outcome unknown, not done"
    OWN_REFUSAL = "refused because of its own first try"
    CRASH_BEFORE = "crash before"
    CRASH_AFTER = "crash after"
    THROTTLED = "throttled thrice"
    DELAYED = "delayed past the deadline"
    TWICE = "message delivered twice"
    OUT_OF_ORDER = "message delivered out of order"
    TAKEN_OVER = "stopped and taken over, the old one going on beside"
    TAKEN_OVER_LATE = "stopped and taken over, the old one going on last"
    CANCELLED = "cancelled, and taken up again"
    OVERTAKEN = "invoked a second time, and held until that has ended"
    IN_TURNS = "invoked a second time, both going on in turns"


THROTTLES = 3


@dataclass(frozen=True, slots=True)
class Effect:
    """One effect. `actor` is a function's name, or the service that acts."""

    number: int
    actor: str
    operation: str
    target: str

    def __str__(self) -> str:
        return f"#{self.number} {self.actor}: {self.operation} {self.target}"


class Script(Protocol):
    """Says what goes wrong, effect by effect."""

    def at(self, effect: Effect) -> Kind | None: ...


class Undisturbed:
    """Nothing goes wrong."""

    def at(self, effect: Effect) -> Kind | None:
        return None


@dataclass(slots=True)
class OneFault:
    """One fault at one effect. Being throttled lasts for three tries of the same effect."""

    number: int
    kind: Kind
    struck: Effect | None = None
    _left: int = THROTTLES

    def at(self, effect: Effect) -> Kind | None:
        if effect.number == self.number:
            self.struck = effect
            self._left -= 1
            return self.kind
        first = self.struck
        if (
            self.kind is Kind.THROTTLED
            and first is not None
            and self._left > 0
            and (effect.operation, effect.target) == (first.operation, first.target)
        ):
            self._left -= 1
            return self.kind
        return None


@dataclass(frozen=True, slots=True)
class Trouble:
    """The errors that an effect's caller sees: when it was not done, and when its answer was lost."""

    before: Callable[[], Exception]
    after: Callable[[], Exception]
    refused: Callable[[], Exception] | None = None

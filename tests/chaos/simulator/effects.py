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
    REPAIRED = "damaged by hand, and repaired"
    LOOKED_AFTER = "verified and cleaned"
    REDONE = "asked to redo what was quarantined"
    REDONE_AFTERWARDS = "stopped, and asked to redo what was quarantined"
    LEFT_FOR_A_DAY = "stopped, cleaned the next day and taken up meanwhile"
    LEFT_FOR_A_MONTH = "stopped, and taken up almost a month later"
    EXPIRED = "stopped, and taken up when all of it has expired"
    INPUT_CREATED = "an input created"
    INPUT_OVERWRITTEN = "an input overwritten"
    INPUT_DELETED = "an input deleted"
    DEPLOYED = "the job deployed anew"
    CLOCK_JUMPED = "the container's clock jumps by ten minutes"
    LATE = "arrives ten hours late"
    LATE_TAKEN_OVER = "taken over, and arrives ten hours late"
    LATE_CLEANED = "arrives when the run has been cleaned away"
    LOST = "message lost"
    DENIED = "denied"
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
class DeniedOnce:
    """The first effect of a sort is denied, whatever else goes wrong elsewhere."""

    applies: Callable[[Effect], bool]
    inner: Script
    done: bool = False

    def at(self, effect: Effect) -> Kind | None:
        kind = self.inner.at(effect)
        if kind is None and not self.done and self.applies(effect):
            self.done = True
            return Kind.DENIED
        return kind


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
    denied: Callable[[], Exception] | None = None

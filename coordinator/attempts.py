"""One attempt at a message, and what becomes of it: answered, tried again, or failed for good.

Every transport (worker processes, Lambda, the simulator) hands its messages to `attend`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from coordinator import ledger
from coordinator.errors import AttemptFailed, FanfoldError, Fate
from coordinator.keys import RunKeys
from coordinator.mapping import Guard, reason_of
from coordinator.model import Answer, Message, Note
from coordinator.planning import read_shard
from coordinator.store import Store
from coordinator.work import Place, perform

# From this receive on an attempt says that it begins; so many that ended with nothing at all, and
# the shard has killed its workers. Receives alone prove nothing: a throttle uses them up too.
MARKED_RECEIVES = 2
KILLED_ATTEMPTS = 2
BACKOFF_SECONDS = 1.0
BACKOFF_MOST_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Answered:
    """The shard has an entry."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class Again:
    """The message goes back to the queue, to be seen again after a delay."""

    note: Note
    delay_seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """Nothing more is tried in this wave; the note says why."""

    note: Note


Verdict = Answered | Again | Failed


class Desk(Protocol):
    """The part of a `Place` that notes are written at."""

    @property
    def store(self) -> Store: ...

    @property
    def keys(self) -> RunKeys: ...

    @property
    def clock(self) -> Callable[[], float]: ...


def attend(
    place: Place,
    message: Message,
    *,
    attempt: str,
    receives: int,
    guard: Guard,
    spread: Callable[[], float],
) -> Verdict:
    """Try a message once.

    Args:
        receives: how often it has been received, this time included.
        spread: random numbers in [0, 1), for the jitter of the backoff.
    """
    began = place.clock()
    try:
        answer = perform(
            place,
            message,
            attempt=attempt,
            guard=guard,
            begin=lambda: _begin(place, message, attempt, receives),
        )
        return Answered(answer)
    except FanfoldError as caught:
        error = caught
    except Exception as caught:  # noqa: BLE001  whatever breaks an attempt is noted
        error = AttemptFailed(f"The attempt broke off with {reason_of(caught)}.")
        error.__cause__ = caught
    note = note_of(
        error, message, attempt=attempt, receives=receives, at=place.clock(), began=began
    )
    note = keep_note(place, message, note)
    if error.fate is Fate.RETRY and receives < place.job.limits.attempts:
        return Again(note, backoff_seconds(receives, spread()))
    return Failed(note)


def _begin(place: Place, message: Message, attempt: str, receives: int) -> bool:
    """Leave a mark that an attempt begins; tells whether earlier ones died of this shard."""
    if receives < MARKED_RECEIVES:
        return False
    keys, shard = place.keys, message.shard.id
    before = ledger.find_note(place.store, keys, message.stage, shard, message.wave)
    if before is None:
        before = Note(
            shard=shard,
            stage=message.stage,
            wave=message.wave,
            attempt=attempt,
            receives=receives,
            failures=0,
            error=AttemptFailed.__name__,
            reason="An attempt has begun.",
            fate=AttemptFailed.fate,
            at=place.clock(),
        )
    mark = before.model_copy(update={"unfinished": before.unfinished + 1})
    ledger.write_note(place.store, keys, mark)
    return before.unfinished >= KILLED_ATTEMPTS


def note_of(
    error: FanfoldError, message: Message, *, attempt: str, receives: int, at: float, began: float
) -> Note:
    """The note of a failed attempt."""
    return Note(
        shard=message.shard.id,
        stage=message.stage,
        wave=message.wave,
        attempt=attempt,
        receives=receives,
        error=error.name,
        reason=str(error),
        fate=error.fate,
        at=at,
        seconds=round(max(at - began, 0.0), 6),
    )


def bury(
    place: Desk, message: Message, *, receives: int, reason: str, seconds: float = 0.0
) -> Note:
    """Note a message received too often without an outcome, and give it up for this wave."""
    now = place.clock()
    error = AttemptFailed(
        f"Shard {message.shard.id} was tried {receives} times without an outcome. {reason}"
    )
    note = note_of(error, message, attempt="", receives=receives, at=now, began=now - seconds)
    return keep_note(place, message, note)


def keep_note(place: Desk, message: Message, note: Note) -> Note:
    """Write a note, counting those before it in this wave. Notes only explain: one that can't be
    written is let go."""
    with suppress(FanfoldError):
        note = note.model_copy(update={"reads": what_it_reads(place, message)})
        before = ledger.find_note(place.store, place.keys, note.stage, note.shard, note.wave)
        if before is not None:
            marked = int(note.receives >= MARKED_RECEIVES)
            note = note.model_copy(
                update={
                    "failures": before.failures + 1,
                    "unfinished": max(before.unfinished - marked, 0),
                    "seconds": before.seconds + note.seconds,
                }
            )
        ledger.write_note(place.store, place.keys, note)
    return note


def what_it_reads(place: Desk, message: Message) -> str:
    """What a shard reads, in words: its first object and how many more, or its partition. Nothing
    where its description can't be read, which may be what failed."""
    try:
        shard = read_shard(place.store, place.keys, message.stage, message.shard)
    except FanfoldError:
        return ""
    if shard.partition is not None:
        return f"partition {shard.partition}"
    keys = list(dict.fromkeys(piece.key for piece in shard.slices)) or [
        part.key for part in shard.parts
    ]
    more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    return f"{keys[0]}{more}" if keys else "nothing"


def backoff_seconds(receives: int, spread: float) -> float:
    """Exponential backoff with full jitter.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return float(spread * min(BACKOFF_MOST_SECONDS, BACKOFF_SECONDS * 2 ** min(receives, 16)))

"""Attempts: one try at a message, and what becomes of it: answered, tried again, or failed for good.

Every transport (worker processes, Lambda, the simulator) hands its messages to `attend`, and those
that no attempt brought to an end to `bury`. The entry is the commit; all after it can be repeated.
An attempt that finds an entry answers with it; one that loses the race for it leaves parts that
nothing names.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from coordinator.errors import (
    AttemptFailed,
    FanfoldError,
    Fate,
    MapFailed,
    Retry,
    ToleranceExceeded,
    message_of,
    reason_of,
)
from coordinator.limits import Limits
from coordinator.model import (
    Answer,
    Counts,
    Document,
    Entry,
    Message,
    Note,
    Receipt,
    Shard,
    ShardRef,
    Stage,
)
from coordinator.rules.decide import unwanted
from coordinator.rules.pacing import KILLED_ATTEMPTS, MARKED_RECEIVES, backoff_seconds
from coordinator.state import ledger, notes
from coordinator.state.plans import read_shard
from coordinator.state.runs import check_code
from coordinator.steps.map import map_shard
from coordinator.steps.merge import merge_shard
from coordinator.steps.reduce import reduce_shard
from coordinator.steps.split import walk
from coordinator.steps.workplace import UNHURRIED, Done, Guard, RunPlace, Workplace

ATTEMPT_HOURS = 12
ASKED_SECONDS_MOST = 3600.0  # that a job can have a message wait in its queue
CREEPING_SPLITS = 12  # of a shard's last child, that gave a record each
SPLITS_MOST = 100  # of a shard's last child: its id is part of names
KEY_LETTERS = 40


# ------------------------------------------------------------------------------------------------
# What becomes of a message
# ------------------------------------------------------------------------------------------------


class Answered(Document):
    """The shard has an entry."""

    verdict: Literal["answered"] = "answered"
    answer: Answer


class Again(Document):
    """The message goes back to the queue, to be seen again after a delay."""

    verdict: Literal["again"] = "again"
    note: Note
    delay_seconds: float


class Failed(Document):
    """Nothing more is tried in this wave; the note says why."""

    verdict: Literal["failed"] = "failed"
    note: Note


class Unwanted(Document):
    """Nobody wants the shard any more; nothing was done."""

    verdict: Literal["unwanted"] = "unwanted"
    reason: str


Verdict = Annotated[Answered | Again | Failed | Unwanted, Field(discriminator="verdict")]


def attend(
    place: Workplace,
    message: Message,
    *,
    attempt: str,
    receives: int,
    guard: Guard,
    jitter: Callable[[], float],
) -> Verdict:
    """Try a message once.

    Args:
        receives: how often it has been received, this time included.
        jitter: random numbers in [0, 1), for the jitter of the backoff.
    """
    if (reason := unwanted(place.run, message)) is not None:
        return Unwanted(reason=reason)
    began = place.clock()
    try:
        answer = perform(
            place,
            message,
            attempt=attempt,
            guard=guard,
            begin=lambda: _begin(place, message, attempt, receives),
        )
        return Answered(answer=answer)
    except FanfoldError as caught:
        error = caught
    except Exception as caught:  # noqa: BLE001  whatever breaks an attempt is noted
        error = AttemptFailed(f"The attempt broke off with {reason_of(caught)}.")
    note = note_of(
        error, message, attempt=attempt, receives=receives, at=place.clock(), began=began
    )
    note = keep_note(place, message, note)
    if error.fate is Fate.RETRY and receives < place.job.limits.attempts:
        asked = min(error.after, ASKED_SECONDS_MOST) if isinstance(error, Retry) else 0.0
        return Again(note=note, delay_seconds=max(asked, backoff_seconds(receives, jitter())))
    return Failed(note=note)


def _begin(place: Workplace, message: Message, attempt: str, receives: int) -> bool:
    """Leave a mark that an attempt begins; tells whether earlier ones died of this shard."""
    if receives < MARKED_RECEIVES:
        return False
    keys, shard = place.keys, message.shard.id
    before = notes.find_note(place.store, keys, message.stage, shard, message.wave)
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
    notes.write_note(place.store, keys, mark)
    return before.unfinished >= KILLED_ATTEMPTS


def bury(
    place: RunPlace, message: Message, *, receives: int, reason: str, timeout_seconds: float = 0.0
) -> Answered | Failed | Unwanted:
    """What becomes of a message that was received too often without an outcome: it is noted and
    given up for this wave, unless its shard has an entry all the same, or nobody wants it. Tries
    that left no note are charged `timeout_seconds` each."""
    standing = ledger.find(place.store, place.keys, message.stage, message.shard.id)
    if standing is not None:
        return Answered(answer=answer_of(standing))
    if (unasked := unwanted(place.run, message)) is not None:
        return Unwanted(reason=unasked)
    now = place.clock()
    error = AttemptFailed(
        f"Shard {message.shard.id} was tried {receives} times without an outcome. {reason}"
    )
    note = note_of(error, message, attempt="", receives=receives, at=now, began=now)
    return Failed(note=keep_note(place, message, note, lost_seconds=timeout_seconds))


# ------------------------------------------------------------------------------------------------
# One attempt
# ------------------------------------------------------------------------------------------------


def perform(
    place: Workplace,
    message: Message,
    *,
    attempt: str,
    guard: Guard,
    begin: Callable[[], bool] = lambda: False,
) -> Answer:
    """Do a shard, unless it has an entry already, and commit it.

    Args:
        attempt: random; names the parts of this attempt.
        guard: trips when the shard has to stop at a record boundary and split off its rest.
        begin: asked before any work is done; tells whether earlier attempts died of this shard.

    Raises:
        FanfoldError: with the fate of the shard; nothing was committed.
    """
    keys, stage, shard_id = place.keys, message.stage, message.shard.id
    standing = ledger.find(place.store, keys, stage, shard_id)
    if standing is None:
        check_code(place.run, place.code_version)
        shard = read_shard(place.store, message.shard)
        began = place.clock()
        done = _dissect(place, shard, attempt) if begin() else None
        if done is None:
            done = _execute(place, message.stage, shard, attempt, guard)
            check_split(shard, done)
        seconds = max(place.clock() - began, 0.0)  # a clock that was set back
        if seconds > ATTEMPT_HOURS * 3600:
            raise AttemptFailed(
                f"The attempt took more than {ATTEMPT_HOURS} hours and does not commit."
            )
        check_refusals(done, place.job.limits)
        place.program.check()
        standing = ledger.commit(place.store, keys, _entry(message.shard, stage, done, seconds))
    return answer_of(standing)


def check_split(shard: Shard, done: Done) -> None:
    """Refuse to split a shard on and on. Every child of an object that can't be cut reads it from
    its start, until that takes all the time there is and each comes a single record further.

    Raises:
        MapFailed: it would be.
    """
    depth = shard.id.count(".")
    creeps = depth >= CREEPING_SPLITS and done.receipt.records_in <= 1
    if done.children and (creeps or depth >= SPLITS_MOST):
        read = done.receipt.records_in
        raise MapFailed(
            f"Shard {shard.id[:KEY_LETTERS]} was split {depth} times, and is stopped again after {read} "
            f"record{'s' * (read != 1)}: a worker's time is too short to read {shard.slices[0].key} up to "
            "there and go on. Raise `timeout_seconds`, take smaller shards, or let it be cut: not "
            "compressed, and a Csv with multiline=False."
        )


def check_refusals(done: Done, limits: Limits) -> None:
    """Commit nothing of a shard that alone refuses more than the whole run tolerates, so that
    mending the code, or the input, mends the run. A share of all records is not known yet.

    Raises:
        ToleranceExceeded: it does.
    """
    refused = done.receipt.quarantined
    if isinstance(limits.tolerated, int) and refused > limits.tolerated:
        raise ToleranceExceeded(
            f"{refused} {'record was' if refused == 1 else 'records were'} refused, and the job "
            f"tolerates {limits.tolerated}. The first: {done.first_refusal.rstrip('.')}. Mend the "
            "job or the input, or raise `tolerated`, and take the run up again."
        )


def answer_of(entry: Entry) -> Answer:
    """What is said of a shard that has an entry."""
    counts = {name: getattr(entry.receipt, name) for name in Counts.model_fields}
    return Answer(shard=entry.shard, outcome=entry.outcome, attempt=entry.receipt.attempt, **counts)


def _entry(ref: ShardRef, stage: Stage, done: Done, seconds: float) -> Entry:
    receipt = done.receipt.model_copy(
        update={"seconds": round(seconds, 6), "peak_memory_bytes": peak_memory_bytes()}
    )
    return Entry(
        shard=ref.id,
        stage=stage,
        outcome="split" if done.children else "done",
        digest=ref.digest,
        receipt=receipt,
        covered=done.covered,
        children=done.children,
    )


def _execute(place: Workplace, stage: Stage, shard: Shard, attempt: str, guard: Guard) -> Done:
    if stage == "map":
        return map_shard(place, shard, attempt, guard)
    if stage == "reduce":
        return reduce_shard(place, shard, attempt)
    return merge_shard(place, shard, attempt)


def peak_memory_bytes() -> int:
    """The most memory that this process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# ------------------------------------------------------------------------------------------------
# A shard that kills its workers
# ------------------------------------------------------------------------------------------------


def _dissect(place: Workplace, shard: Shard, attempt: str) -> Done | None:
    """Take apart a shard that kills its workers, running no code of the job's: cut it into
    children, or, when one record is left, quarantine that. None where there is nothing to cut."""
    job = place.job
    if not shard.slices or not job.splittable:
        return None
    source = job.source.without_model()
    reader = source.reader(place.inputs, job.limits.record_bytes, place.run.plans["map"].header)
    walked = walk(job, reader, shard.slices)
    if walked.children:
        return Done(
            Receipt(attempt=attempt, code_version=place.code_version), children=walked.children
        )
    if not walked.records:
        return None
    refusing = job.with_map(_refuse_killer)
    refusing.source = source
    return map_shard(replace(place, job=refusing), shard, attempt, UNHURRIED)


def _refuse_killer(record: object) -> Iterator[object]:
    raise PoisonRecord("it killed its worker")


class PoisonRecord(ValueError):
    """A record that ended every process that mapped it."""


# ------------------------------------------------------------------------------------------------
# Notes
# ------------------------------------------------------------------------------------------------


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
        reason=message_of(error),
        fate=error.fate,
        at=at,
        seconds=round(max(at - began, 0.0), 6),
    )


def keep_note(
    place: RunPlace, message: Message, note: Note, *, lost_seconds: float | None = None
) -> Note:
    """Write a note, counting those before it in this wave. Notes only explain: one that can't be
    written is let go. With `lost_seconds` it is the last of its wave, and every receive that no
    failure accounts for is counted, and charged so many seconds."""
    with suppress(FanfoldError):
        note = note.model_copy(update={"reads": _what_it_reads(place, message)})
        before = notes.find_note(place.store, place.keys, note.stage, note.shard, note.wave)
        failures = before.failures if before else 0
        seconds = note.seconds + (before.seconds if before else 0.0)
        unfinished = before.unfinished if before else 0
        if lost_seconds is not None:
            lost = max(note.receives - failures, 1)
            failures, seconds, unfinished = failures + lost, seconds + lost * lost_seconds, 0
        else:
            failures += 1
            unfinished = max(unfinished - int(note.receives >= MARKED_RECEIVES), 0)
        note = note.model_copy(
            update={"failures": failures, "unfinished": unfinished, "seconds": seconds}
        )
        notes.write_note(place.store, place.keys, note)
    return note


def _what_it_reads(place: RunPlace, message: Message) -> str:
    """What a shard reads, in words: its first object and how many more, or its partition. Nothing
    where its description can't be read, which may be what failed."""
    try:
        shard = read_shard(place.store, message.shard)
    except FanfoldError:
        return ""
    if shard.partition is not None:
        return f"partition {shard.partition}"
    keys = list(dict.fromkeys(piece.key for piece in shard.slices)) or [
        part.key for part in shard.parts
    ]
    more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    return f"{keys[0]}{more}" if keys else "nothing"

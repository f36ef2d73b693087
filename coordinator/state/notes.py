"""Notes: why attempts failed. They explain; they decide nothing but who is tried again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from typing import NamedTuple

from coordinator.errors import KeyMissing
from coordinator.keys import RunKeys, shard_and_wave_of_note
from coordinator.model import Note, Stage
from coordinator.rules.decide import Failure
from coordinator.store.ports import Store
from coordinator.store.prefetch import bodies


def write_note(store: Store, keys: RunKeys, note: Note) -> None:
    """Keep the latest note of a shard in a wave."""
    with store.writer(keys.note(note.stage, note.shard, note.wave)) as writer:
        writer.write(note.encode())
        writer.close()


def find_note(store: Store, keys: RunKeys, stage: Stage, shard: str, wave: int) -> Note | None:
    """The note of a shard in a wave, if there is one."""
    key = keys.note(stage, shard, wave)
    try:
        return Note.decode(store.get(key).body, where=store.url(key))
    except KeyMissing:
        return None


class Failures(NamedTuple):
    """What the notes of a stage tell.

    `by_shard` are the failures of the shards that are not done, `notes` counts the notes that tell
    of a failure. `attempts` are all that failed or crashed, of done shards too, and `seconds` what
    they are charged: as measured, or a whole timeout for one that ended with nothing.
    """

    by_shard: dict[str, list[Failure]]
    notes: int
    attempts: int
    seconds: float


def read_failures(
    store: Store, keys: RunKeys, stage: Stage, done: Container[str], timeout_seconds: float
) -> Failures:
    """The notes of a stage."""
    listed = (stat for stat in store.list(keys.notes(stage)) if shard_and_wave_of_note(stat.key))
    by_shard: dict[str, list[Failure]] = {}
    unfinished: Counter[str] = Counter()
    count = attempts = 0
    seconds = 0.0
    for key, body in bodies(store, listed):
        note = Note.decode(body, where=store.url(key))
        attempts += note.failures
        seconds += note.seconds
        unfinished[note.shard] += note.unfinished
        if not note.failures:
            continue  # an attempt has begun, and nothing is known to have gone wrong
        count += 1
        if note.shard not in done:
            failure = Failure(note.wave, note.fate, note.error, note.reason, note.reads, note.at)
            by_shard.setdefault(note.shard, []).append(failure)
    # the attempt that a done shard ended with left its mark, too
    lost = sum(max(marks - (shard in done), 0) for shard, marks in unfinished.items())
    return Failures(by_shard, count, attempts + lost, seconds + lost * timeout_seconds)

"""Notes: why attempts failed. They explain; they decide nothing but who is tried again."""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from coordinator.errors import KeyMissing
from coordinator.keys import RunKeys, shard_and_wave_of_note
from coordinator.model import Note, Stage
from coordinator.rules.decide import Failure
from coordinator.store.ports import Store


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
    """What the notes of a stage tell: the failures of the shards asked for, how many notes there
    are in all, and the worker seconds that the failures took."""

    by_shard: dict[str, list[Failure]]
    notes: int
    seconds: float


def read_failures(store: Store, keys: RunKeys, stage: Stage, done: Container[str]) -> Failures:
    """The notes of a stage, of the shards that are not done."""
    found = [stat.key for stat in store.list(keys.notes(stage))]
    wanted = [key for key in found if shard_and_wave_of_note(key)[0] not in done]
    notes: dict[str, list[Failure]] = {}
    seconds = 0.0
    for key, body in store.get_many(wanted):
        note = Note.decode(body, where=store.url(key))
        seconds += note.seconds
        if not note.failures:
            continue  # an attempt has begun, and nothing is known to have gone wrong
        notes.setdefault(note.shard, []).append(
            Failure(
                wave=note.wave,
                fate=note.fate,
                error=note.error,
                reason=note.reason,
                reads=note.reads,
            )
        )
    return Failures(notes, len(found), seconds)

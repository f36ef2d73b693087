"""Notes: which shards failed, how often, and what that is charged."""

from __future__ import annotations

from typing import Any

from coordinator.errors import Fate
from coordinator.keys import RunKeys
from coordinator.model import Note
from coordinator.rules.decide import Failure
from coordinator.state.notes import Failures, find_note, read_failures, write_note
from coordinator.store.memory import MemoryStore

KEYS = RunKeys("job", "r1", (("map", "d"),))


def note(shard: str, wave: int, **fields: Any) -> Note:
    given = {"attempt": "a", "receives": 1, "error": "E", "reason": "R.", "fate": Fate.RETRY}
    return Note.model_validate(
        {**given, "shard": shard, "stage": "map", "wave": wave, "at": 1.0} | fields
    )


def failures(store: MemoryStore, *done: str) -> Failures:
    return read_failures(store, KEYS, "map", set(done), 60.0)


def test_the_latest_note_of_a_wave_stays() -> None:
    store = MemoryStore()
    write_note(store, KEYS, note("0", 1, reason="First."))
    write_note(store, KEYS, note("0", 1, reason="Second."))

    assert find_note(store, KEYS, "map", "0", 1) == note("0", 1, reason="Second.")
    assert find_note(store, KEYS, "map", "0", 2) is None
    assert failures(store).notes == 1


def test_the_failures_of_a_shard_are_told_as_long_as_it_is_not_done() -> None:
    store = MemoryStore()
    write_note(store, KEYS, note("0", 1, failures=2, seconds=1.5, reads="in/a"))
    write_note(store, KEYS, note("0", 2, fate=Fate.SHARD, reason="Other.", seconds=0.5))
    write_note(store, KEYS, note("1", 1, failures=3, seconds=4.0))
    store.create(KEYS.notes("map") + "readme.txt", b"not ours")

    told = failures(store, "1")

    assert told.by_shard == {
        "0": [
            Failure(1, Fate.RETRY, "E", "R.", "in/a", at=1.0),
            Failure(2, Fate.SHARD, "E", "Other.", at=1.0),
        ]
    }
    assert (told.notes, told.attempts, told.seconds) == (3, 6, 6.0)
    assert set(failures(store).by_shard) == {"0", "1"}
    assert failures(MemoryStore()) == Failures({}, 0, 0, 0.0)


def test_an_attempt_that_began_and_ended_with_nothing_is_charged_a_whole_timeout() -> None:
    store = MemoryStore()
    write_note(store, KEYS, note("0", 1, failures=0, unfinished=2))

    assert failures(store) == Failures({}, 0, 2, 120.0)
    # one of the two is the attempt that it is done by
    assert failures(store, "0") == Failures({}, 0, 1, 60.0)

    write_note(store, KEYS, note("0", 2, failures=1, unfinished=1, seconds=2.0))
    told = failures(store, "0")
    assert (told.notes, told.attempts, told.seconds) == (1, 3, 122.0)


def test_a_done_shard_without_marks_takes_nothing_off() -> None:
    store = MemoryStore()
    write_note(store, KEYS, note("0", 1, failures=1, unfinished=0, seconds=2.0))
    write_note(store, KEYS, note("1", 1, failures=0, unfinished=1))

    assert failures(store, "0").attempts == 2
    assert failures(store, "0").seconds == 62.0

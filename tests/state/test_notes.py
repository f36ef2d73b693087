"""What notes tell of a stage: who failed, how many attempts ended with nothing, what they cost."""

from __future__ import annotations

from coordinator.errors import Fate
from coordinator.keys import RunKeys
from coordinator.model import Note
from coordinator.rules.decide import Failure
from coordinator.state.notes import Failures, read_failures, write_note
from coordinator.store.memory import MemoryStore

KEYS = RunKeys("job", "r1", (("map", "d1"),))
TIMEOUT_SECONDS = 60.0


def a_note(
    shard: str, wave: int = 1, *, failures: int = 1, unfinished: int = 0, seconds: float = 0.0
) -> Note:
    return Note(
        shard=shard,
        stage="map",
        wave=wave,
        attempt="a",
        receives=1,
        failures=failures,
        unfinished=unfinished,
        error="AttemptFailed",
        reason=f"Wave {wave}.",
        fate=Fate.RETRY,
        at=0.0,
        seconds=seconds,
        reads="in/a",
    )


def failures_of(*notes: Note, done: tuple[str, ...] = ()) -> Failures:
    store = MemoryStore()
    for note in notes:
        write_note(store, KEYS, note)
    return read_failures(store, KEYS, "map", done, TIMEOUT_SECONDS)


def failure(wave: int) -> Failure:
    return Failure(wave, Fate.RETRY, "AttemptFailed", f"Wave {wave}.", "in/a")


def test_without_notes_nothing_has_failed() -> None:
    assert failures_of() == Failures({}, 0, 0, 0.0)


def test_every_wave_of_a_shard_has_its_failure() -> None:
    found = failures_of(a_note("1"), a_note("1", 2), a_note("2.0", 2))

    assert found.by_shard == {"1": [failure(1), failure(2)], "2.0": [failure(2)]}
    assert found.notes == 3


def test_a_shard_that_is_done_has_no_failure_but_what_it_cost_is_known() -> None:
    found = failures_of(a_note("1", failures=3, seconds=7.5), a_note("2"), done=("1",))

    assert found.by_shard == {"2": [failure(1)]}
    assert (found.notes, found.attempts, found.seconds) == (2, 4, 7.5)


def test_an_attempt_that_has_begun_is_no_failure() -> None:
    found = failures_of(a_note("1", failures=0, unfinished=1))

    assert (found.by_shard, found.notes) == ({}, 0)


def test_an_attempt_that_ended_with_nothing_is_charged_a_whole_timeout() -> None:
    found = failures_of(a_note("1", failures=2, unfinished=3, seconds=5.0))

    assert (found.attempts, found.seconds) == (2 + 3, 5.0 + 3 * TIMEOUT_SECONDS)


def test_the_attempt_that_a_done_shard_ended_with_is_none_that_failed() -> None:
    found = failures_of(
        a_note("1", failures=0, unfinished=1),
        a_note("2", failures=0, unfinished=2),
        a_note("2", 2, failures=0, unfinished=1),
        done=("1", "2"),
    )

    assert (found.attempts, found.seconds) == (2, 2 * TIMEOUT_SECONDS)


def test_what_is_no_note_is_passed_over() -> None:
    store = MemoryStore()
    write_note(store, KEYS, a_note("1"))
    for name in ("1.json.bak", "readme", "x.1.json"):
        store.create(f"{KEYS.notes('map')}{name}", b"{}")

    found = read_failures(store, KEYS, "map", (), TIMEOUT_SECONDS)

    assert (list(found.by_shard), found.notes) == (["1"], 1)

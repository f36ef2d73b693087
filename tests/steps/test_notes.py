"""Notes: what they count of a wave's attempts, and what they say that a shard reads."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest

from coordinator.errors import RetryableError
from coordinator.formats.lines import Lines
from coordinator.limits import Limits
from coordinator.loading.program import Program
from coordinator.model import Message, Note
from coordinator.state import notes
from coordinator.steps.attempts import Again, Failed, bury
from coordinator.steps.workplace import Workplace
from tests.steps.test_attempts import Killed, begun, failing, following, try_once
from tests.support import World, a_job, words


def noted(place: Workplace, message: Message) -> Note:
    """The note of a message's wave."""
    found = notes.find_note(place.store, place.keys, message.stage, message.shard.id, message.wave)
    assert found is not None
    return found


def struggling(*ends: BaseException) -> tuple[Workplace, Message]:
    """A shard whose attempts end in turn as they are told to, each after a quarter of a second."""
    coming = iter(ends)

    def fail(line: str) -> None:
        raise next(coming)

    job = a_job(Lines(), limits=Limits(attempts=9))
    job.map_function = fail
    place, [message] = begun(World(job, {"a": b"x\n"}))
    times = count(0.0, 0.125)  # it is asked when an attempt begins, at its start, and at its end
    return replace(place, clock=lambda: next(times)), message


AGAIN = RetryableError("Try later.")


# ------------------------------------------------------------------------------------------------
# What they count
# ------------------------------------------------------------------------------------------------


def test_the_seconds_of_a_waves_failures_add_up() -> None:
    place, message = struggling(AGAIN, AGAIN, AGAIN)

    for receives in (1, 2, 3):
        try_once(place, message, "a", receives=receives)

    note = noted(place, message)
    assert note.failures == 3
    assert 3 * 0.25 <= note.seconds <= 3 * 0.5


def test_a_failure_takes_the_time_to_its_end_and_none_if_the_clock_is_set_back() -> None:
    for ended, seconds in [(4.0, 0.0), (10.25, 0.25), (11.23456789, 1.234568)]:
        place, [message] = begun(failing(AGAIN))
        times = iter([10.0, 10.0, ended])
        try_once(replace(place, clock=times.__next__), message, "a")
        assert noted(place, message).seconds == seconds


def test_an_attempt_that_has_only_begun_is_no_failure() -> None:
    place, message = struggling(Killed(), AGAIN)

    with pytest.raises(Killed):
        try_once(place, message, "a", receives=2)
    begins = noted(place, message)
    try_once(place, message, "b", receives=3)
    ends = noted(place, message)

    assert (begins.failures, begins.unfinished) == (0, 1)
    assert (begins.attempt, begins.receives, begins.reason) == ("a", 2, "An attempt has begun.")
    assert (ends.failures, ends.unfinished) == (1, 1)
    assert (ends.attempt, ends.receives, ends.reason) == ("b", 3, "Try later.")


def test_a_failure_before_any_work_has_no_mark_to_take_back() -> None:
    place, message = struggling()

    verdict = try_once(replace(place, program=Program("other")), message, "a", receives=2)

    assert isinstance(verdict, Failed)
    assert (verdict.note.failures, verdict.note.unfinished) == (1, 0)


def test_a_burial_counts_every_receive_that_no_failure_accounts_for() -> None:
    place, message = struggling(AGAIN, AGAIN, Killed())
    for receives in (1, 2):
        try_once(place, message, "a", receives=receives)
    with pytest.raises(Killed):
        try_once(place, message, "a", receives=3)
    before = noted(place, message)

    verdict = bury(place, message, receives=5, reason="It died.", timeout_seconds=2.0)

    assert isinstance(verdict, Failed)
    assert verdict.note == noted(place, message)
    assert (verdict.note.failures, verdict.note.unfinished) == (5, 0)
    assert verdict.note.seconds == before.seconds + 3 * 2.0


def test_a_burial_counts_one_try_even_if_failures_account_for_all() -> None:
    place, message = struggling(AGAIN, AGAIN)
    for receives in (1, 2):
        try_once(place, message, "a", receives=receives)
    before = noted(place, message)

    bury(place, message, receives=2, reason="It died.", timeout_seconds=2.0)

    after = noted(place, message)
    assert (after.failures, after.seconds) == (3, before.seconds + 2.0)


def test_a_burial_is_charged_nothing_where_a_try_has_no_end() -> None:
    place, message = struggling()

    verdict = bury(place, message, receives=5, reason="It died.")

    assert isinstance(verdict, Failed)
    assert (verdict.note.failures, verdict.note.seconds) == (5, 0.0)


# ------------------------------------------------------------------------------------------------
# What a shard reads
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bodies", "reads"),
    [
        ({"a": b"x\n"}, "a"),
        ({"a": b"x\n", "b": b"x\n"}, "a and 1 more"),
        ({"a": b"x\n", "b": b"x\n", "c": b"x\n"}, "a and 2 more"),
    ],
)
def test_a_note_names_the_first_object_and_how_many_more(
    bodies: dict[str, bytes], reads: str
) -> None:
    job = a_job(Lines())
    job.map_function = failing(AGAIN).job.map_function
    place, [message] = begun(World(job, bodies))

    verdict = try_once(place, message, "a")

    assert isinstance(verdict, Again)
    assert verdict.note.reads == reads


def test_a_note_of_a_later_stage_names_the_partition_or_the_first_part() -> None:
    world = World(words(), {"a": b"to be or not to be\n"}, shard_bytes=20)
    place, maps = begun(world)
    place, reduces = following(place, maps)
    reduced = bury(place, reduces[0], receives=5, reason="It died.")
    place, [merge] = following(place, reduces)
    merged = bury(place, merge, receives=5, reason="It died.")

    assert isinstance(reduced, Failed)
    assert reduced.note.reads == "partition 0"
    assert isinstance(merged, Failed)
    assert merged.note.reads.startswith(f"{world.keys.parts('reduce')}0-of-0")

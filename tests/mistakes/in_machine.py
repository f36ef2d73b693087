"""Mistakes in coordinator/machine."""

from __future__ import annotations

from tests.mistakes.making import Mistake

CREW = "coordinator/machine/crew.py"
WORKER = "coordinator/machine/worker.py"
QUEUE = "coordinator/machine/queue.py"
LOCAL = "coordinator/machine/local.py"

MISTAKES = (
    Mistake(
        "messages behind a dead worker are lost",
        CREW,
        "        wave.ready.extendleft(each for each in reversed(hand.held) if wave.wants(each))\n",
        "",
        (
            "tests/machine/test_crew.py::test_messages_queued_behind_a_dead_worker_come_next_and_their_receives_do_not_grow",
        ),
    ),
    Mistake(
        "messages behind a dead worker count as received",
        CREW,
        "wave.ready.extendleft(each for each in reversed(hand.held) if wave.wants(each))",
        "wave.ready.extendleft(\n"
        "            each.received_again() for each in reversed(hand.held) if wave.wants(each)\n        )",
        (
            "tests/machine/test_crew.py::test_messages_queued_behind_a_dead_worker_come_next_and_their_receives_do_not_grow",
        ),
    ),
    Mistake(
        "a message that comes again is received for the first time",
        WORKER,
        'update={"receives": self.receives + 1}',
        'update={"receives": self.receives}',
        ("tests/machine/test_queue.py",),
        shared=True,
    ),
    Mistake(
        "a message that kills its workers is never buried",
        CREW,
        "if delivery.receives < self.receives:",
        "if delivery.receives < self.receives * 1000:",
        (
            "tests/machine/test_crew.py::test_a_message_received_too_often_is_buried_with_how_its_worker_died",
        ),
    ),
    Mistake(
        "a worker that dies beside another at its shard uses up a receive",
        CREW,
        "if wave.wants(suspect) and not elsewhere:",
        "if wave.wants(suspect):",
        (
            "tests/machine/test_crew.py::test_a_worker_that_dies_while_another_is_at_the_same_shard_costs_no_receive",
        ),
    ),
    Mistake(
        "what is said late of a shard that is done is heard",
        CREW,
        "            if wave.wants(delivery):\n                self._take(line, delivery, wave, now)\n",
        "            self._take(line, delivery, wave, now)\n",
        (
            "tests/machine/test_crew.py::test_a_straggler_that_can_not_be_split_is_begun_a_second_time_and_no_more",
            "tests/machine/test_crew.py::test_of_two_attempts_the_first_entry_wins_and_the_late_answer_is_not_heard",
        ),
    ),
    Mistake(
        "workers that can't start are started for ever",
        CREW,
        "            self._futile_starts += 1\n",
        "            self._futile_starts = 1\n",
        (
            "tests/machine/test_crew.py::test_workers_that_die_before_they_answer_anything_end_the_wave",
        ),
    ),
    Mistake(
        "a worker without progress is waited for",
        CREW,
        "        hand.still_seconds += elapsed\n",
        "",
        (
            "tests/machine/test_stuck_workers.py::test_a_worker_without_progress_is_stopped_and_its_message_received_again",
        ),
    ),
    Mistake(
        "a shard that takes long is not split",
        CREW,
        "now - hand.began > working_seconds(self.timeout_seconds) and self._can_split(hand)",
        "now - hand.began > self.timeout_seconds * 1e6 and self._can_split(hand)",
        (
            "tests/machine/test_stuck_workers.py::test_a_shard_that_takes_long_in_all_is_split_and_none_of_it_is_done_twice",
        ),
    ),
    Mistake(
        "a delayed message comes back though its shard is done",
        QUEUE,
        "            if self.wants(delivery):\n                self.ready.append(delivery)\n",
        "            self.ready.append(delivery)\n",
        ("tests/machine/test_queue.py",),
    ),
    Mistake(
        "a delayed message comes back at once",
        QUEUE,
        "while self._delayed and self._delayed[0][0] <= now:",
        "while self._delayed:",
        ("tests/machine/test_queue.py",),
    ),
    Mistake(
        "a wave goes on after an error that is fatal to the run",
        LOCAL,
        "if isinstance(verdict, Failed) and verdict.note.fate is Fate.RUN:",
        "if isinstance(verdict, Failed) and verdict.note.fate is Fate.SHARD:",
        ("tests/machine/test_in_memory.py::test_of_a_wave_that_can_not_help_no_more_is_begun",),
    ),
    Mistake(
        "a wave goes on though more is quarantined than is tolerated",
        LOCAL,
        "            self.quarantined += verdict.answer.quarantined\n",
        "",
        ("tests/machine/test_in_memory.py::test_of_a_wave_that_can_not_help_no_more_is_begun",),
    ),
)

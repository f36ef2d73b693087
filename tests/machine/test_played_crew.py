"""The crew of one machine, with workers that the test plays, in a time that passes at once.

What is sent to whom, who is told to split, and who is ended: to the look at which it happens.
"""

from __future__ import annotations

import heapq
import os
import selectors
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from coordinator.errors import AttemptFailed, Fate, RunCancelled
from coordinator.limits import Limits
from coordinator.machine import crew as crew_module
from coordinator.machine.crew import ProcessCrew
from coordinator.machine.hand import Hand
from coordinator.machine.worker import STAND_SIGNAL, VERDICT, Delivery, Setup
from coordinator.model import Answer, Message, Note, RunRecord, ShardRef
from coordinator.steps.attempts import Again, Answered, Failed, Verdict
from coordinator.store.memory import MemoryStore

USUAL_LOOK_SECONDS = crew_module.ROUND_SECONDS
LOOK_SECONDS = 0.125  # between two looks; exact in binary, so that times add up
STAND, SPLIT, KILL, TERM = STAND_SIGNAL, signal.SIGUSR1, signal.SIGKILL, signal.SIGTERM
BEGINNING = 1000.0

Behaviour = Callable[["Worker", Delivery], None]


class Worker:
    """A worker process as its crew sees it, and what the test has it do.

    `signals` are what it was sent and when, counted from the beginning.
    """

    def __init__(self, stage: Stage, number: int) -> None:
        self.stage = stage
        self.number = number
        self.status: int | None = None
        self.deaf = False  # heeds no SIGTERM
        self.signals: list[tuple[float, int]] = []
        self.held: deque[Delivery] = deque()
        self.most = 0  # that it ever held
        self._at_work = False
        self._unread = b""
        self._deliveries, deliveries = os.pipe()
        answers, self._answers = os.pipe()
        os.set_blocking(self._deliveries, False)
        os.set_blocking(answers, False)
        self.hand = Hand(self, deliveries, answers)  # type: ignore[arg-type]

    # As a process ---------------------------------------------------------------------------------

    def poll(self) -> int | None:
        return self.status

    def wait(self, timeout: float) -> int:
        if self.status is None:
            self.stage.now += max(timeout, 0.0)
            raise subprocess.TimeoutExpired("worker", timeout)
        return self.status

    def send_signal(self, number: int) -> None:
        self.signals.append((self.stage.passed, number))
        if number == KILL or (number == TERM and not self.deaf):
            self.end(-number)

    def terminate(self) -> None:
        self.send_signal(TERM)

    def kill(self) -> None:
        if self.status is None:
            self.send_signal(KILL)

    # As played ------------------------------------------------------------------------------------

    def end(self, status: int) -> None:
        """It has ended, and its ends of the pipes are closed."""
        self.status = status
        os.close(self._deliveries)
        os.close(self._answers)

    def say(self, line: bytes = b"") -> None:
        if self.status is None:
            os.write(self._answers, line + b"\n")

    def beat(self, seconds: float) -> None:
        """Give a sign of progress every so many seconds."""
        self.say()
        if self.status is None:
            self.stage.after(seconds, lambda: self.beat(seconds))

    def receive(self) -> None:
        """Take what was sent, and begin the first of it."""
        if self.status is not None:
            return
        with suppress(BlockingIOError):
            self._unread += os.read(self._deliveries, 1 << 20)
        *lines, self._unread = self._unread.split(b"\n")
        self.held.extend(Delivery.model_validate_json(line) for line in lines)
        self.most = max(self.most, len(self.held))
        if self.held and not self._at_work:
            self._at_work = True
            self.stage.begin(self, self.held[0])

    def give(self, verdict: Verdict) -> None:
        """Answer the message in front."""
        if self.status is None:
            self.held.popleft()
            self._at_work = False
            self.say(VERDICT.dump_json(verdict))


class Stage:
    """A crew, its workers, and the time. A shard takes a second, unless `plays` says otherwise:
    what befalls the attempts at it, in turn, the last of them for ever."""

    def __init__(self) -> None:
        self.now = BEGINNING
        self.workers: list[Worker] = []
        self.begun: list[tuple[float, str, int]] = []  # when, which shard, which worker
        self.heard: list[Verdict] = []
        self.lost: list[str] = []
        self.plays: dict[str, list[Behaviour]] = {}
        self.cancelled: Callable[[], bool] = lambda: False
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._selector: Any = selectors.SelectSelector()

    @property
    def passed(self) -> float:
        return self.now - BEGINNING

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), what))

    def begin(self, worker: Worker, delivery: Delivery) -> None:
        shard = delivery.message.shard.id
        self.begun.append((self.passed, shard, worker.number))
        plays = self.plays.get(shard, [takes(1.0)])
        (plays.pop(0) if len(plays) > 1 else plays[0])(worker, delivery)

    def hire(self, setup: Setup) -> Hand:
        self.workers.append(Worker(self, len(self.workers)))
        return self.workers[-1].hand

    # As the crew's selector -----------------------------------------------------------------------

    def register(self, *of: Any) -> None:
        self._selector.register(*of)

    def unregister(self, fd: int) -> None:
        self._selector.unregister(fd)

    def close(self) -> None:
        self._selector.close()

    def select(self, timeout: float) -> Any:
        assert timeout > 0, "the crew waits for nothing"
        for worker in self.workers:
            worker.receive()
        if ready := self._selector.select(0):
            return ready
        until = self.now + timeout
        assert until < BEGINNING + 10_000, "the wave never ends"
        if self._events and self._events[0][0] <= until:
            self.now, _, what = heapq.heappop(self._events)
            what()
            return []
        self.now = until
        return []

    # As the test ----------------------------------------------------------------------------------

    def crew(self, workers: int, *, splittable: bool = True, **limits: Any) -> ProcessCrew:
        return ProcessCrew(
            Setup(root="/", job_path="job.py", run_id="r1", limits=Limits(**limits)),
            MemoryStore(),
            workers,
            clock=lambda: self.now,
            splittable=splittable,
            is_cancelled=lambda: self.cancelled(),
            lost=lambda message, reason: self.lost.append(f"{message.shard.id}: {reason}"),
        )

    def work(self, crew: ProcessCrew, messages: Sequence[Message]) -> None:
        with crew:
            crew.work(RUN, messages, self.heard.append)

    def signals(self, *numbers: int) -> list[tuple[float, int, int]]:
        """When which worker was sent which of these signals."""
        return sorted(
            (when, worker.number, number)
            for worker in self.workers
            for when, number in worker.signals
            if number in numbers
        )


RUN = RunRecord(
    job="job", run_id="r1", created=0.0, logical_time=0.0, owner="me", declaration={}, inputs=()
)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    stage = Stage()
    clock = SimpleNamespace(monotonic=lambda: stage.now)
    polling = SimpleNamespace(DefaultSelector=lambda: stage, EVENT_READ=selectors.EVENT_READ)
    monkeypatch.setattr(crew_module, "time", clock)
    monkeypatch.setattr(crew_module, "selectors", polling)
    monkeypatch.setattr(crew_module, "ROUND_SECONDS", LOOK_SECONDS)
    monkeypatch.setattr(Hand, "hire", stage.hire)
    yield stage
    for worker in stage.workers:
        if worker.status is None:
            worker.end(0)


def messages(*shards: str, stage: Any = "map") -> list[Message]:
    return [
        Message(
            job="job",
            run_id="r1",
            stage=stage,
            draft="d",
            wave=1,
            epoch=1,
            shard=ShardRef(id=shard, key="plan", digest="d"),
        )
        for shard in shards
    ]


def numbered(shards: int) -> list[Message]:
    return messages(*map(str, range(shards)))


def takes(seconds: float) -> Behaviour:
    """It is at work for so long, and answers."""

    def play(worker: Worker, delivery: Delivery) -> None:
        answer = Answer(shard=delivery.message.shard.id, outcome="done", seconds=seconds)
        worker.say()
        worker.stage.after(seconds, lambda: worker.give(Answered(answer=answer)))

    return play


def beats_on(worker: Worker, delivery: Delivery) -> None:
    """It makes progress, and comes to no end."""
    worker.beat(0.5)


def stands_still(worker: Worker, delivery: Delivery) -> None:
    """It says that it is ready, and nothing more."""
    worker.say()


def never_starts(worker: Worker, delivery: Delivery) -> None:
    """It says nothing at all."""


def is_split(seconds: float) -> Behaviour:
    """It is at work for so long with signs of progress, and answers."""

    def play(worker: Worker, delivery: Delivery) -> None:
        takes(seconds)(worker, delivery)
        worker.beat(0.5)

    return play


def dies(worker: Worker, delivery: Delivery) -> None:
    worker.say()
    worker.stage.after(0.25, lambda: worker.end(-KILL))


def note_of(delivery: Delivery) -> Note:
    message = delivery.message
    return Note(
        shard=message.shard.id,
        stage=message.stage,
        wave=message.wave,
        attempt="a",
        receives=delivery.receives,
        error="AttemptFailed",
        reason="No.",
        fate=Fate.RETRY,
        at=0.0,
    )


# ------------------------------------------------------------------------------------------------
# Workers without progress
# ------------------------------------------------------------------------------------------------


def test_a_worker_that_stands_still_says_where_and_is_killed_a_moment_later(stage: Stage) -> None:
    """After the job's timeout, and twice the time between two signs, for one on its way."""
    stage.plays["0"] = [stands_still, takes(1.0)]

    stage.work(stage.crew(1, timeout_seconds=10), numbered(1))

    assert stage.signals(STAND, KILL) == [(10.625, 0, STAND), (10.875, 0, KILL)]
    assert stage.lost == [
        "0: its worker was stopped: no progress for 10 s, the job's timeout_seconds"
    ]
    assert len(stage.heard) == 1


def test_a_sign_of_progress_begins_the_timeout_anew(stage: Stage) -> None:
    def goes_on_once(worker: Worker, delivery: Delivery) -> None:
        worker.say()
        stage.after(10.0, worker.say)

    stage.plays["0"] = [goes_on_once, takes(1.0)]

    stage.work(stage.crew(1, timeout_seconds=10), numbered(1))

    assert stage.signals(STAND, KILL) == [(20.625, 0, STAND), (20.875, 0, KILL)]


def test_a_worker_that_goes_on_when_it_is_asked_where_it_stands_is_not_killed(
    stage: Stage,
) -> None:
    def wakes(worker: Worker, delivery: Delivery) -> None:
        worker.say()
        stage.after(10.75, worker.say)
        stage.after(15.0, lambda: takes(0.0)(worker, delivery))

    stage.plays["0"] = [wakes]

    stage.work(stage.crew(1, timeout_seconds=10), numbered(1))

    assert stage.signals(STAND, KILL) == [(10.625, 0, STAND)]
    assert stage.lost == []


def test_a_worker_that_goes_on_and_dies_later_is_not_said_to_have_been_stopped(
    stage: Stage,
) -> None:
    def wakes(worker: Worker, delivery: Delivery) -> None:
        worker.say()
        stage.after(10.75, worker.say)
        stage.after(11.0, lambda: worker.end(7))

    stage.plays["0"] = [wakes, takes(1.0)]

    stage.work(stage.crew(1, timeout_seconds=10), numbered(1))

    assert stage.lost == ["0: its worker ended with exit code 7"]


@pytest.mark.parametrize(("timeout_seconds", "patience"), [(10, 60), (100, 100)])
def test_a_worker_has_a_minute_at_least_until_it_is_ready(
    stage: Stage, timeout_seconds: int, patience: int
) -> None:
    stage.plays["0"] = [never_starts, takes(1.0)]

    stage.work(stage.crew(1, timeout_seconds=timeout_seconds), numbered(1))

    assert stage.signals(STAND, KILL) == [
        (patience + 0.625, 0, STAND),
        (patience + 0.875, 0, KILL),
    ]
    assert stage.lost == [
        f"0: its worker was stopped: it was not ready for work after {patience} s"
    ]


def test_time_in_which_the_crew_itself_was_stopped_counts_for_two_seconds(stage: Stage) -> None:
    stage.plays["0"] = [stands_still, takes(1.0)]

    def sleep() -> None:
        stage.now += 1000.0

    stage.after(5.0, sleep)

    stage.work(stage.crew(1, timeout_seconds=10), numbered(1))

    assert stage.signals(STAND, KILL) == [(1008.75, 0, STAND), (1009.0, 0, KILL)]


def test_an_idle_worker_may_stand_still(stage: Stage) -> None:
    stage.plays["0"] = [is_split(50.0)]

    stage.work(stage.crew(2, timeout_seconds=10, attempts=1), messages("0", stage="reduce"))

    assert stage.signals(STAND, KILL) == []


# ------------------------------------------------------------------------------------------------
# Shards that take long
# ------------------------------------------------------------------------------------------------


def test_a_worker_is_told_to_split_a_shard_that_takes_most_of_the_timeout(stage: Stage) -> None:
    """Once a shard, and with the next one again: four fifths of the timeout after it began."""
    stage.plays["0"] = stage.plays["1"] = [is_split(9.0)]

    stage.work(stage.crew(1, timeout_seconds=10), numbered(2))

    assert stage.signals(SPLIT) == [(8.125, 0, SPLIT), (17.125, 0, SPLIT)]


@pytest.mark.parametrize(("of", "splittable"), [("reduce", True), ("merge", True), ("map", False)])
def test_nobody_is_told_to_split_what_cannot_be_split(
    stage: Stage, of: str, splittable: bool
) -> None:
    stage.plays["0"] = [is_split(20.0)]

    stage.work(stage.crew(1, splittable=splittable, timeout_seconds=10), messages("0", stage=of))

    assert stage.signals(SPLIT) == []


def test_a_worker_that_is_not_ready_yet_is_not_told_to_split(stage: Stage) -> None:
    """It would not heed the signal yet, and end of it."""

    def starts_late(worker: Worker, delivery: Delivery) -> None:
        stage.after(20.0, lambda: takes(1.0)(worker, delivery))

    stage.plays["0"] = [starts_late]

    stage.work(stage.crew(1, timeout_seconds=10), numbered(1))

    assert stage.signals(SPLIT) == [(20.125, 0, SPLIT)]


# ------------------------------------------------------------------------------------------------
# Stragglers
# ------------------------------------------------------------------------------------------------


def test_a_straggler_is_told_to_split_after_two_seconds_and_then_begun_again(
    stage: Stage,
) -> None:
    stage.plays["0"] = [beats_on, takes(1.0)]
    stage.plays["1"] = [takes(0.25)]

    stage.work(stage.crew(2), numbered(2))

    assert stage.signals(SPLIT) == [(2.125, 0, SPLIT)]
    assert stage.begun == [(0.0, "0", 0), (0.0, "1", 1), (2.25, "0", 1)]
    assert len(stage.heard) == 2


def test_a_shard_is_no_straggler_before_it_took_several_times_as_long_as_the_others(
    stage: Stage,
) -> None:
    stage.plays["0"] = [is_split(7.5)]
    stage.plays["1"] = [takes(2.0)]

    stage.work(stage.crew(2), numbered(2))

    assert stage.signals(SPLIT) == []
    assert len(stage.begun) == 2


def test_no_shard_is_a_straggler_before_half_of_all_are_done(stage: Stage) -> None:
    stage.plays["0"] = stage.plays["1"] = [is_split(9.0)]
    stage.plays["2"] = [takes(0.25)]

    stage.work(stage.crew(3), numbered(3))

    assert stage.signals(SPLIT) == []
    assert len(stage.begun) == 3


def test_of_two_stragglers_the_one_begun_first_is_helped_first(stage: Stage) -> None:
    """The one in front of the other's worker is younger: it is begun after a brief one."""
    stage.plays["0"] = [takes(0.5)]
    stage.plays["1"] = [beats_on, takes(1.0)]
    stage.plays["2"] = [takes(0.25)]
    stage.plays["3"] = [takes(0.5)]
    stage.plays["4"] = [beats_on, takes(1.0)]

    stage.work(stage.crew(3, splittable=False), numbered(5))

    assert stage.begun[4:] == [(0.5, "4", 0), (2.125, "1", 2), (3.25, "4", 2)]
    assert len(stage.heard) == 5


def test_messages_behind_a_straggler_are_handed_to_others_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew_module, "BRIEF_SECONDS", 1e6)
    stage.plays["0"] = [beats_on, takes(1.0)]

    stage.work(stage.crew(2, splittable=False), numbered(12))

    assert sorted((shard for _, shard, _ in stage.begun), key=int) == [
        *("0", "0"),
        *map(str, range(1, 12)),
    ]
    assert {shard for when, shard, _ in stage.begun if when > 9.0} >= {"1", "2"}
    assert len(stage.heard) == 12


# ------------------------------------------------------------------------------------------------
# Feeding
# ------------------------------------------------------------------------------------------------


def test_a_worker_is_handed_one_message_at_a_time_until_some_dozens_were_brief(
    stage: Stage,
) -> None:
    ahead: list[int] = []

    def play(worker: Worker, delivery: Delivery) -> None:
        if len(worker.held) > 1:
            ahead.append(len(stage.heard))
        takes(0.04)(worker, delivery)

    for number in range(300):
        stage.plays[str(number)] = [play]

    stage.work(stage.crew(1), numbered(300))

    assert 30 < ahead[0] < 39
    assert stage.workers[0].most == 16
    assert [shard for _, shard, _ in stage.begun] == [str(number) for number in range(300)]


def test_shards_of_a_tenth_of_a_second_are_handed_out_one_at_a_time(stage: Stage) -> None:
    for number in range(100):
        stage.plays[str(number)] = [takes(0.1)]

    stage.work(stage.crew(1), numbered(100))

    assert stage.workers[0].most == 1


def test_what_is_left_of_a_wave_is_shared_among_all_workers(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is handed half of its share at most, so that those that are done take the rest."""
    monkeypatch.setattr(crew_module, "BRIEF_SECONDS", 1e6)

    stage.work(stage.crew(2), numbered(12))

    assert [worker.most for worker in stage.workers] == [3, 2]
    assert stage.passed == 6.0


def test_a_failed_message_comes_back_when_its_delay_is_over(stage: Stage) -> None:
    def fails(worker: Worker, delivery: Delivery) -> None:
        worker.give(Again(note=note_of(delivery), delay_seconds=30.0))

    stage.plays["0"] = [fails, takes(1.0)]
    stage.plays["1"] = [takes(1.0)]

    stage.work(stage.crew(1), numbered(2))

    assert stage.begun == [(0.0, "0", 0), (0.0, "1", 0), (30.0, "0", 0)]
    assert [verdict.verdict for verdict in stage.heard] == ["again", "answered", "answered"]


def test_only_shards_that_are_done_count_for_how_long_one_takes(stage: Stage) -> None:
    """A failed one tells nothing of how far behind another is."""

    def fails(worker: Worker, delivery: Delivery) -> None:
        worker.give(Failed(note=note_of(delivery)))

    stage.plays["0"] = [is_split(9.0)]
    stage.plays["1"] = [fails]

    stage.work(stage.crew(2), numbered(2))

    assert stage.signals(SPLIT) == []


# ------------------------------------------------------------------------------------------------
# Workers that die
# ------------------------------------------------------------------------------------------------


def test_what_a_dead_worker_had_not_begun_is_done_next_and_in_order(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew_module, "BRIEF_SECONDS", 1e6)
    stage.plays["0"] = [dies, takes(1.0)]

    stage.work(stage.crew(1), numbered(8))

    assert [shard for _, shard, _ in stage.begun] == ["0", *"1234567", "0"]
    assert stage.lost == ["0: its worker was killed by SIGKILL"]
    assert len(stage.heard) == 8


def test_the_death_of_an_idle_worker_costs_nothing(stage: Stage) -> None:
    stage.plays["0"] = [is_split(5.0)]
    stage.after(1.0, lambda: stage.workers[1].end(3))

    stage.work(stage.crew(2), messages("0", stage="reduce"))

    assert stage.lost == []
    assert len(stage.workers) == 3
    assert stage.begun == [(0.0, "0", 0)]


def test_workers_that_die_before_they_are_ready_end_the_wave_after_some(stage: Stage) -> None:
    """Three times as many as a message is received."""

    def stillborn(worker: Worker, delivery: Delivery) -> None:
        stage.after(0.25, lambda: worker.end(1))

    for number in range(100):
        stage.plays[str(number)] = [stillborn]

    with pytest.raises(AttemptFailed, match="before they are ready for work"):
        stage.work(stage.crew(1, attempts=7), numbered(100))

    assert len(stage.begun) == 3 * 7


def test_an_answer_shows_that_workers_can_start(stage: Stage) -> None:
    """After it, as many may die as at the beginning."""

    def stillborn(worker: Worker, delivery: Delivery) -> None:
        stage.after(0.25, lambda: worker.end(1))

    for number in range(100):
        stage.plays[str(number)] = [stillborn]
    stage.plays["10"] = [takes(1.0)]

    with pytest.raises(AttemptFailed, match="before they are ready for work"):
        stage.work(stage.crew(1), numbered(100))

    assert len(stage.begun) == 10 + 1 + 1 + 15


# ------------------------------------------------------------------------------------------------
# Its end
# ------------------------------------------------------------------------------------------------


def test_workers_that_heed_no_signal_are_killed_after_five_seconds_in_all(stage: Stage) -> None:
    crew = stage.crew(3)
    for worker in stage.workers[:2]:
        worker.deaf = True

    crew.close()

    assert stage.signals(TERM) == [(0.0, number, TERM) for number in range(3)]
    assert stage.signals(KILL) == [(5.0, number, KILL) for number in range(2)]


def test_a_worker_that_can_not_be_started_ends_those_that_were(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hire(setup: Setup) -> Hand:
        if len(stage.workers) == 2:
            raise OSError("no more processes")
        return stage.hire(setup)

    monkeypatch.setattr(Hand, "hire", hire)

    with pytest.raises(OSError, match="no more processes"):
        stage.crew(3)

    assert [worker.status for worker in stage.workers] == [-TERM, -TERM]


def test_a_cancelled_run_is_noticed_at_the_next_look(stage: Stage) -> None:
    stage.plays["0"] = [beats_on]
    stage.cancelled = lambda: stage.passed > 3.0

    with pytest.raises(RunCancelled):
        stage.work(stage.crew(1), numbered(1))

    assert stage.passed == 3.125


def test_a_closed_crew_has_let_go_of_its_pipes(stage: Stage) -> None:
    crew = stage.crew(2)
    pipes = [fd for hand in crew._hands for fd in (hand.deliveries_fd, hand.answers_fd)]

    crew.close()

    for fd in pipes:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_a_crew_that_waits_looks_around_once_or_twice_a_second(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew_module, "ROUND_SECONDS", USUAL_LOOK_SECONDS)
    stage.plays["0"] = [is_split(20.0)]
    looks: list[float] = []

    def look() -> bool:
        looks.append(stage.passed)
        return False

    stage.cancelled = look

    stage.work(stage.crew(1), numbered(1))

    assert 20 <= len(looks) <= 40

"""What a crew leaves behind of itself and of its workers, and how it goes on when one ends."""

from __future__ import annotations

import time
from typing import Any

import pytest

from coordinator.limits import Limits
from coordinator.machine import crew as crew_module
from coordinator.machine.crew import ProcessCrew
from coordinator.machine.worker import Delivery, Setup
from coordinator.model import Answer
from coordinator.steps.attempts import Answered
from coordinator.store.memory import MemoryStore
from tests.machine.test_hands import open_files
from tests.machine.test_played_crew import (
    KILL,
    LOOK_SECONDS,
    SPLIT,
    Stage,
    Worker,
    beats_on,
    dies,
    is_split,
    messages,
    numbered,
    stage,
    takes,
)

__all__ = ["stage"]


def test_a_crew_that_is_closed_has_nothing_open() -> None:
    before = open_files()

    with ProcessCrew(
        Setup(root="/", job_path="job.py", run_id="r1", limits=Limits()),
        MemoryStore(),
        0,
        clock=time.time,
        splittable=True,
        is_cancelled=lambda: False,
    ):
        pass

    assert open_files() == before


def test_a_crew_may_be_closed_again(stage: Stage) -> None:
    crew = stage.crew(2)

    crew.close()
    crew.close()

    assert all(worker.status is not None for worker in stage.workers)


def test_of_a_worker_that_died_no_pipe_stays_open(stage: Stage) -> None:
    """Another has taken its place."""
    stage.plays["0"] = [is_split(5.0)]
    counted: list[int] = []
    for seconds in (1.0, 4.0):
        stage.after(seconds, lambda: counted.append(len(open_files())))
    stage.after(2.0, lambda: stage.workers[1].end(3))

    stage.work(stage.crew(2), numbered(1))

    assert len(stage.workers) == 3
    assert counted[0] == counted[1]


# A few more of its moments -------------------------------------------------------------------------


def test_what_a_dead_worker_was_at_is_begun_again_at_once(stage: Stage) -> None:
    stage.plays["0"] = [dies, takes(1.0)]

    stage.work(stage.crew(1), numbered(1))

    assert stage.begun == [(0.0, "0", 0), (0.25, "0", 1)]


def test_a_worker_whose_pipes_a_child_holds_open_is_dead_and_its_last_answer_counts(
    stage: Stage,
) -> None:
    """No end of its answers is seen."""

    def ends_unseen(worker: Worker, delivery: Delivery) -> None:
        takes(0.5)(worker, delivery)
        stage.after(1.0, lambda: setattr(worker, "status", 9))

    def ends_with_an_answer(worker: Worker, delivery: Delivery) -> None:
        def end() -> None:
            worker.give(Answered(answer=Answer(shard="1", outcome="done")))
            worker.status = 9

        worker.say()
        stage.after(LOOK_SECONDS, end)

    stage.plays["0"] = [ends_unseen]
    stage.plays["1"] = [ends_with_an_answer]
    stage.plays["2"] = [takes(5.0)]

    stage.work(stage.crew(3), messages("0", "1", "2", stage="reduce"))

    assert len(stage.workers) == 5
    assert len(stage.heard) == 3
    assert stage.lost == []
    for worker in stage.workers[:2]:
        worker.end(9)


def test_every_message_that_is_handed_out_ahead_has_all_its_time(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins when the one before it is answered."""
    monkeypatch.setattr(crew_module, "BRIEF_SECONDS", 1e6)
    for number in range(8):
        stage.plays[str(number)] = [is_split(5.0)]

    stage.work(stage.crew(1, timeout_seconds=10), numbered(8))

    assert stage.workers[0].most > 1
    assert stage.signals(SPLIT) == []


def test_of_stragglers_that_are_seen_together_the_first_begun_is_helped_first(
    stage: Stage,
) -> None:
    stage.plays["0"] = [takes(0.5)]
    stage.plays["1"] = [beats_on, takes(1.0)]
    stage.plays["2"] = [takes(0.25)]
    stage.plays["3"] = [is_split(4.75)]
    stage.plays["4"] = [beats_on, takes(1.0)]

    stage.work(stage.crew(3, splittable=False), numbered(5))

    assert [shard for _, shard, _ in stage.begun[5:]] == ["1", "4"]


def test_few_messages_are_handed_out_one_at_a_time_though_shards_are_brief(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew_module, "BRIEF_SECONDS", 1e6)

    stage.work(stage.crew(2), numbered(5))

    assert [worker.most for worker in stage.workers] == [1, 1]


def test_shards_that_are_not_brief_are_handed_out_one_at_a_time(stage: Stage) -> None:
    stage.work(stage.crew(2), numbered(9))

    assert [worker.most for worker in stage.workers] == [1, 1]
    assert stage.passed == 5.0


def test_a_closed_crew_has_waited_for_those_that_it_killed(stage: Stage) -> None:
    crew = stage.crew(1)
    [worker] = stage.workers
    worker.deaf = True
    waited: list[int | None] = []
    wait = worker.wait

    def waiting(timeout: float) -> int:
        waited.append(worker.status)
        return wait(timeout)

    played: Any = worker
    played.wait = waiting

    crew.close()

    assert waited == [None, -KILL]

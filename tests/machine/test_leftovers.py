"""What a crew leaves behind of itself and of its workers: nothing."""

from __future__ import annotations

import time

from coordinator.limits import Limits
from coordinator.machine.crew import ProcessCrew
from coordinator.machine.worker import Setup
from coordinator.store.memory import MemoryStore
from tests.machine.test_hands import open_files
from tests.machine.test_played_crew import Stage, is_split, numbered, stage

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

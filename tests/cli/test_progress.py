"""What a person sees while a run goes on."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from coordinator.cli.progress import LINE_SECONDS, Progress
from coordinator.errors import Fate
from coordinator.model import Answer, Message, Note, ShardRef
from coordinator.steps.attempts import Again, Answered, Failed
from tests.support import World, words


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def note(fate: Fate) -> Note:
    return Note(
        shard="3",
        stage="map",
        wave=1,
        attempt="a",
        receives=1,
        error="MapFailed",
        reason="Because.",
        fate=fate,
        at=0.0,
    )


def watched(*, terminal: bool) -> tuple[Progress, Clock, io.StringIO]:
    screen, clock = io.StringIO(), Clock()
    console = Console(file=screen, force_terminal=terminal, width=200)
    return Progress(console, clock), clock, screen


def shown(progress: Progress) -> str:
    text = io.StringIO()
    Console(file=text, width=200).print(progress)
    return text.getvalue()


def test_in_a_pipe_a_run_is_told_in_plain_lines() -> None:
    progress, clock, screen = watched(terminal=False)
    run = World(words(), {"a": b"x\n"}).run().run
    with progress:
        progress.planning()
        progress.wave(run, "map", 1, 1)
        progress.heard(
            Answered(answer=Answer(shard="0", outcome="done", records_in=5, bytes_in=1000))
        )
        clock.now += LINE_SECONDS
        progress.heard(
            Answered(answer=Answer(shard="0", outcome="done", records_in=2000, bytes_in=1000))
        )
        progress.heard(Again(note=note(Fate.RETRY), delay_seconds=1.0))
        progress.heard(Failed(note=note(Fate.SHARD)))
        progress.publishing()

    lines = screen.getvalue().splitlines()
    assert lines == [
        "plan: listing the inputs",
        "map: 1 of 1 shards to do (wave 1)",
        "map: 2/1 shards  2,005 records  2.0 kB  400 B/s",
        "map: shard 3 is tried again: Because.",
        "map: shard 3 failed: MapFailed: Because.",
        "publish: proving that nothing is missing or doubled",
    ]
    assert "\x1b" not in screen.getvalue()


def test_on_a_terminal_stage_shards_records_rate_and_time_left_are_shown() -> None:
    progress, clock, _ = watched(terminal=True)
    run = World(words(), {str(n): b"x\n" for n in range(4)}, shard_bytes=1).run().run
    with progress:
        progress.wave(run, "map", 1, 8)
        clock.now = 10.0
        progress.heard(
            Answered(
                answer=Answer(
                    shard="0", outcome="done", records_in=7, bytes_in=50_000, quarantined=2
                )
            )
        )
        progress.heard(Again(note=note(Fate.RETRY), delay_seconds=1.0))

        line = shown(progress)

    for part in ("map", "1/8 shards", "7 records", "50.0 kB", "5.0 kB/s", "1:10 left"):
        assert part in line
    assert "1 retry  2 quarantined" in line


def test_the_time_left_is_told_from_what_was_done_now_and_not_before() -> None:
    progress, clock, _ = watched(terminal=True)
    run = World(words(), {str(n): b"x\n" for n in range(4)}, shard_bytes=1).run().run
    progress.wave(run, "map", 2, 3)
    clock.now = 10.0

    progress.heard(Answered(answer=Answer(shard="7", outcome="done")))

    assert "6/8 shards" in shown(progress)
    assert "20.0 s left" in shown(progress)


def test_the_children_of_a_split_are_counted() -> None:
    progress, _, _ = watched(terminal=True)
    run = World(words(), {"a": b"x\n"}).run().run
    progress.wave(run, "map", 1, 1)

    progress.heard(Answered(answer=Answer(shard="0", outcome="split")))

    assert "0/2 shards" in shown(progress)


@pytest.mark.parametrize(("width", "told"), [(80, 4), (60, 3), (40, 2)])
def test_it_takes_two_lines_whatever_the_numbers_and_leaves_out_what_matters_least(
    width: int, told: int
) -> None:
    progress, clock, _ = watched(terminal=True)
    run = World(words(), {str(n): b"x\n" for n in range(4)}, shard_bytes=1).run().run
    progress.wave(run, "map", 1, 8)
    clock.now = 7200.0
    progress.heard(
        Answered(
            answer=Answer(
                shard="0", outcome="done", records_in=10**8, bytes_in=10**13, quarantined=10**5
            )
        )
    )
    for _ in range(1000):
        progress.heard(Again(note=note(Fate.RETRY), delay_seconds=1.0))
    progress.heard(Failed(note=note(Fate.SHARD)))

    screen = io.StringIO()
    Console(file=screen, width=width).print(progress)

    first, second = screen.getvalue().splitlines()
    assert max(len(first), len(second)) <= width
    if width >= 60:
        assert "1/8 shards  14:00:00 left  2:00:00" in first
    sums = ["1 failed", "100,000 quarantined", "100,000,000 records", "1,000 retries"]
    assert all(part in second for part in sums[:told])
    assert "…" not in second


@pytest.mark.parametrize("variable", ["TERM", "NO_COLOR"])
def test_a_terminal_that_is_dumb_or_wants_no_colours_gets_plain_lines(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(variable, "dumb")
    progress, clock, screen = watched(terminal=True)
    run = World(words(), {"a": b"x\n"}).run().run
    with progress:
        progress.planning()
        progress.wave(run, "map", 1, 1)
        clock.now += LINE_SECONDS
        progress.heard(Answered(answer=Answer(shard="0", outcome="done", records_in=5)))

    assert screen.getvalue().splitlines() == [
        "plan: listing the inputs",
        "map: 1 of 1 shards to do (wave 1)",
        "map: 1/1 shards  5 records  0 B",
    ]


def test_what_is_told_between_times_is_broken_between_words_on_a_terminal() -> None:
    screen = io.StringIO()
    progress = Progress(Console(file=screen, force_terminal=True, width=40))
    long = note(Fate.RETRY).model_copy(update={"reason": "One reason or another, who knows."})

    with progress:
        progress.heard(Again(note=long, delay_seconds=1.0))

    assert "map: shard 3 is tried again: One reason \nor another" in screen.getvalue()


def test_a_message_that_is_received_again_is_told_of_with_the_reason() -> None:
    progress, _, screen = watched(terminal=False)
    ref = ShardRef(id="3", key="plan", digest="d")
    message = Message(job="job", run_id="r1", stage="map", draft="d", wave=1, epoch=1, shard=ref)

    progress.lost(message, "its worker was killed by SIGKILL")

    assert screen.getvalue() == (
        "map: shard 3 is received again: its worker was killed by SIGKILL\n"
    )


def test_it_remembers_whether_the_run_is_begun_and_whether_its_job_has_to_be_mended() -> None:
    progress, _, _ = watched(terminal=False)
    assert not progress.begun

    progress.claimed(World(words(), {"a": b"x\n"}).run().run)
    progress.heard(Failed(note=note(Fate.RETRY)))
    assert (progress.begun, progress.hopeless) == (True, False)

    progress.heard(Failed(note=note(Fate.SHARD)))
    assert progress.hopeless

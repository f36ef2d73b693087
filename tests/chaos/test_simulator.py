"""The simulator itself: a fault does what its name says, and nothing else."""

from __future__ import annotations

import pytest

from tests.chaos.simulator.effects import THROTTLES, Kind, OneFault, Trouble
from tests.chaos.simulator.queue import Letter, Queue
from tests.chaos.simulator.world import EPOCH, Process, World

pytestmark = pytest.mark.chaos

LIMIT_SECONDS = 100.0


class Busy(Exception):
    """It did not take place."""


class Lost(Exception):
    """It took place, and nobody was told."""


TROUBLE = Trouble(Busy, Lost, Lost)


class Diary:
    """A process that writes down three things, and what became of it."""

    def __init__(self, kind: Kind | None, at: int = 2, tries: int = 1) -> None:
        self.world = World(OneFault(at, kind) if kind else None)
        self.lines: list[tuple[str, float]] = []
        self.errors: list[str] = []
        self.tries = tries
        self.ended: Process | None = None
        self.world.spawn("work", self.write, self.over, limit_seconds=LIMIT_SECONDS)
        self.world.run()
        assert self.world.idle

    def write(self) -> str:
        for line in "abc":
            for _ in range(self.tries):
                try:
                    self.world.effect("write", line, lambda line=line: self.note(line), TROUBLE)  # type: ignore[misc]
                    break
                except (Busy, Lost) as error:
                    self.errors.append(type(error).__name__)
        return "done"

    def note(self, line: str) -> None:
        self.lines.append((line, self.world.now - EPOCH))

    def over(self, process: Process) -> None:
        assert self.ended is None
        self.ended = process

    @property
    def text(self) -> str:
        return "".join(line for line, _ in self.lines)

    @property
    def death(self) -> str | None:
        assert self.ended is not None
        return self.ended.dead


@pytest.mark.parametrize(
    ("kind", "text", "errors", "death"),
    [
        (None, "abc", [], None),
        (Kind.ERROR_BEFORE, "ac", ["Busy"], None),
        (Kind.ERROR_AFTER, "abc", ["Lost"], None),
        (Kind.UNKNOWN, "ac", ["Lost"], None),
        (Kind.OWN_REFUSAL, "abc", ["Lost"], None),
        (Kind.CRASH_BEFORE, "a", [], "Runtime.ExitError"),
        (Kind.CRASH_AFTER, "ab", [], "Runtime.ExitError"),
        (Kind.DELAYED, "ab", [], "Sandbox.Timedout"),
    ],
)
def test_a_fault_does_what_its_name_says(
    kind: Kind | None, text: str, errors: list[str], death: str | None
) -> None:
    diary = Diary(kind)
    assert (diary.text, diary.errors, diary.death) == (text, errors, death)


def test_what_is_delayed_takes_place_when_its_sender_is_dead() -> None:
    _, (line, when) = Diary(Kind.DELAYED).lines
    assert line == "b"
    assert when > LIMIT_SECONDS


def test_throttling_lasts_for_three_tries() -> None:
    diary = Diary(Kind.THROTTLED, tries=5)
    assert diary.text == "abc"
    assert diary.errors == ["Busy"] * THROTTLES


def test_processes_take_turns_at_every_effect() -> None:
    world = World()
    said: list[str] = []

    def talk(name: str) -> None:
        for _ in range(3):
            world.effect("say", name, lambda: said.append(name), TROUBLE)

    for name in "xy":
        world.spawn("work", lambda name=name: talk(name), lambda _: None, limit_seconds=9)  # type: ignore[misc]
    world.run()
    assert said == list("xyxyxy")


def test_a_process_that_is_ended_leaves_no_thread_waiting() -> None:
    world = World()
    unwound: list[bool] = []

    def wait() -> None:
        try:
            world.sleep(1e9)
        finally:
            unwound.append(True)

    world.spawn("work", wait, lambda _: None, limit_seconds=1e9)
    world.at(EPOCH + 1, world.end)
    world.run()
    assert unwound == [True]


def test_a_message_comes_back_until_it_is_dead() -> None:
    world = World()
    seen: list[tuple[str, int, float]] = []

    def fail(function: str, letter: Letter, ended: object, delay: float) -> None:
        seen.append((function, letter.receives, world.now - EPOCH))

    dead = Queue(world, "bury", invoke=fail, visibility_seconds=10, most_receives=0, lanes=9)
    queue = Queue(
        world,
        "work",
        invoke=fail,
        visibility_seconds=10,
        most_receives=3,
        dead_letters=dead,
        lanes=9,
    )
    queue.send("{}", "0")
    world.run(effects=4)
    assert [(function, receives) for function, receives, _ in seen] == [
        ("work", 1),
        ("work", 2),
        ("work", 3),
        ("bury", 1),
    ]
    assert [round(when) for _, _, when in seen] == [0, 10, 20, 30]
    assert not queue.letters

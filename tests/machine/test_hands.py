"""One worker process as its crew has it: how it is started, read, written to, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coordinator.limits import Limits
from coordinator.machine.hand import Hand
from coordinator.machine.worker import Setup
from tests.processes import wait_until

SETUP = Setup(root="/", job_path="job.py", run_id="r1", limits=Limits())
# What stands for the interpreter gets "-P -m <module> <deliveries> <answers> <crew>".
TOLD = """\
#!/bin/sh
cat >/dev/fd/$5
echo "$3 $6 $PYTHONHASHSEED" >/dev/fd/$5
read -r first </dev/fd/$4
echo "$first" >/dev/fd/$5
echo shown
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Hand]]:
    """Starts a shell script as a worker."""
    started: list[Hand] = []

    def start(script: str) -> Hand:
        path = tmp_path / "python"
        path.write_text(script)
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))
        started.append(Hand.hire(SETUP))
        return started[-1]

    yield start
    for hand in started:
        hand.process.kill()
        hand.process.wait()
        hand.close_pipes()


def open_files() -> set[int]:
    """The descriptors that this process has open."""
    found = set()
    for fd in range(256):
        try:
            os.fstat(fd)
        except OSError:
            continue
        found.add(fd)
    return found


def read_all(hand: Hand) -> list[bytes]:
    """Every line until it closes its pipe."""
    found: list[bytes] = []

    def closed() -> bool:
        lines = hand.read()
        found.extend(lines or [])
        return lines is None

    wait_until(closed)
    return found


# How it is started --------------------------------------------------------------------------------


def test_a_worker_is_told_where_it_works_and_reads_nothing_of_what_is_typed(
    start: Callable[[str], Hand],
) -> None:
    typed, typing = os.pipe()
    os.write(typing, b"typed\n")
    os.close(typing)
    usual = os.dup(0)
    os.dup2(typed, 0)
    try:
        found = read_all(start(TOLD))
    finally:
        os.dup2(usual, 0)
        os.close(usual)
        os.close(typed)

    assert found == [
        f"coordinator.machine.worker {os.getpid()} 0".encode(),
        SETUP.encode(),
    ]


def test_what_a_worker_prints_goes_where_messages_go(
    start: Callable[[str], Hand], capfd: pytest.CaptureFixture[str]
) -> None:
    read_all(start(TOLD))

    out, err = capfd.readouterr()
    assert (out, err) == ("", "shown\n")


def test_a_worker_takes_two_pipes_and_gives_them_back(start: Callable[[str], Hand]) -> None:
    before = open_files()

    hand = start("#!/bin/sh\nexec sleep 1000\n")

    assert open_files() - before == {hand.deliveries_fd, hand.answers_fd}
    assert hand.read() == []  # it waits for nothing


def test_a_worker_that_can_not_be_started_leaves_no_pipe_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    before = open_files()

    with pytest.raises(FileNotFoundError):
        Hand.hire(SETUP)

    assert open_files() == before


def test_ctrl_c_reaches_a_crew_that_has_started_a_worker(start: Callable[[str], Hand]) -> None:
    start("#!/bin/sh\nexec sleep 1000\n")

    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


# What passes between them -------------------------------------------------------------------------


@pytest.fixture
def pipes() -> Iterator[tuple[Hand, int, int]]:
    """A hand without a process, and the ends of its pipes that a worker would have."""
    theirs, deliveries = os.pipe()
    answers, giving = os.pipe()
    os.set_blocking(answers, False)
    hand = Hand(None, deliveries, answers)  # type: ignore[arg-type]
    yield hand, theirs, giving
    for fd in (theirs, deliveries, answers, giving):
        try:
            os.close(fd)
        except OSError:
            continue


def test_lines_that_arrive_in_pieces_are_read_whole(pipes: tuple[Hand, int, int]) -> None:
    hand, _, giving = pipes
    read = []
    for piece in (b"\n", b"on", b"e\ntwo\n\nthr", b"ee\n", b"\n"):
        os.write(giving, piece)
        read.append(hand.read())

    assert read == [[], [], [b"one", b"two"], [b"three"], []]
    assert hand.read() == []


def test_a_worker_is_ready_once_it_has_said_anything(pipes: tuple[Hand, int, int]) -> None:
    hand, _, giving = pipes
    hand.read()
    assert not hand.ready

    os.write(giving, b"\n")
    hand.read()

    assert hand.ready


def test_of_a_worker_that_is_gone_nothing_more_is_read(pipes: tuple[Hand, int, int]) -> None:
    hand, _, giving = pipes
    os.write(giving, b"one\n")
    os.close(giving)

    assert hand.read() == [b"one"]
    assert hand.read() is None


def test_lines_to_a_worker_that_is_gone_are_not_sent(pipes: tuple[Hand, int, int]) -> None:
    hand, theirs, _ = pipes
    assert hand.write(b"one\n") is True
    os.close(theirs)

    assert hand.write(b"two\n") is False


# Its end ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 0", "ended with exit code 0"),
        ("exit 1", "ended with exit code 1"),
        ("kill -HUP $$", "was killed by SIGHUP"),
        ("kill -TERM $$", "was killed by SIGTERM"),
    ],
)
def test_how_a_worker_ended_is_said_in_words(
    start: Callable[[str], Hand], script: str, words: str
) -> None:
    assert start(f"#!/bin/sh\n{script}\n").end(100.0) == words


class Unending:
    """A process that nothing ends."""

    def __init__(self) -> None:
        self.waited: list[float] = []
        self.kills = 0

    def wait(self, timeout: float) -> int:
        self.waited.append(timeout)
        raise subprocess.TimeoutExpired("worker", timeout)

    def kill(self) -> None:
        self.kills += 1


class Gone(Unending):
    """A process that ended by a signal that has no name."""

    def wait(self, timeout: float) -> int:
        return -99


def test_a_signal_without_a_name_is_told_by_its_number() -> None:
    assert Hand(Gone(), 0, 0).end(1.0) == "was killed by signal 99"  # type: ignore[arg-type]


def test_a_worker_that_does_not_end_in_time_is_killed(start: Callable[[str], Hand]) -> None:
    hand = start("#!/bin/sh\nexec sleep 1000\n")

    assert hand.end(0.01) == "was killed by SIGKILL"


@pytest.mark.parametrize(("patience", "then"), [(5.0, 5.0), (0.0, 1.0)])
def test_a_worker_that_not_even_that_ends_is_left_to_itself_soon(
    patience: float, then: float
) -> None:
    process = Unending()
    hand = Hand(process, 0, 0)  # type: ignore[arg-type]

    assert hand.end(patience) == "did not end when it was killed"

    assert process.waited == [patience, then]
    assert process.kills > 0


def test_why_a_worker_was_stopped_comes_before_how_it_ended() -> None:
    for process in (Unending(), Gone()):
        hand = Hand(process, 0, 0, stopped="was stopped")  # type: ignore[arg-type]
        assert hand.end(1.0) == "was stopped"

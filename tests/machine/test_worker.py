"""What a worker process makes of its messages, and what it says, in the process of the test."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from coordinator.errors import FanfoldError, Fate, RetryableError
from coordinator.machine import worker
from coordinator.machine.hand import Hand
from coordinator.machine.pulse import Hurry, Pulse
from coordinator.machine.worker import (
    ABANDONED,
    JOB_FILE,
    VERDICT,
    Answers,
    Delivery,
    Setup,
    serve,
)
from coordinator.model import Message
from coordinator.state import runs
from coordinator.steps.attempts import Answered, Failed, Unwanted, Verdict
from tests.machine.test_crew import MakeSite, Site, make_site, of_wave
from tests.processes import PATIENCE_SECONDS, wait_until

__all__ = ["make_site"]

READY = None  # an empty line


@pytest.fixture
def site(make_site: MakeSite, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A run of four shards; what a worker does to its process is undone."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv(JOB_FILE, "")
    return make_site("a", "b", "c", "d\nd")


def said_by(
    site: Site, lines: Callable[[Hurry], Iterator[bytes]], hurry: Hurry | None = None
) -> list[Verdict | None]:
    """What a worker says that is sent these lines."""
    pulse = Pulse()
    reading, writing = os.pipe()
    hurry = hurry or Hurry(pulse)
    serve(lines(hurry), Answers(writing), hurry, pulse)
    os.close(writing)
    with os.fdopen(reading, "rb") as answers:
        found = answers.read().split(b"\n")
    assert found.pop() == b""
    return [VERDICT.validate_json(line) if line else READY for line in found]


def setup_of(site: Site) -> bytes:
    path = str(site.folder / "obedient.py")
    setup = Setup(
        root=site.store.root, job_path=path, run_id=site.run.run_id, limits=site.job.limits
    )
    return setup.encode() + b"\n"


def line_of(message: Message, receives: int = 1) -> bytes:
    return Delivery(message=message, receives=receives).encode() + b"\n"


def test_a_worker_says_that_it_is_ready_and_answers_every_message(site: Site) -> None:
    def lines(hurry: Hurry) -> Iterator[bytes]:
        yield setup_of(site)
        yield from map(line_of, site.messages)

    ready, *verdicts = said_by(site, lines)

    assert ready is READY
    shards = [each.answer.shard for each in verdicts if isinstance(each, Answered)]
    assert shards == ["0", "1", "2", "3"]
    assert all(site.entry(shard) is not None for shard in shards)


def test_a_worker_that_is_told_nothing_says_nothing(site: Site) -> None:
    assert said_by(site, lambda hurry: iter([])) == []


def test_a_worker_reads_the_run_anew_for_every_wave_and_not_for_every_message(site: Site) -> None:
    first, second, *third = site.messages

    def lines(hurry: Hurry) -> Iterator[bytes]:
        yield setup_of(site)
        yield line_of(first)
        runs.cancel(site.store, site.keys)
        yield line_of(second)
        yield from map(line_of, of_wave(third, 2))

    found = said_by(site, lines)

    kinds = [type(each) for each in found]
    assert kinds == [type(READY), Answered, Answered, type(READY), Unwanted, Unwanted]


def test_a_shard_is_not_split_because_the_one_before_it_was_to_be(site: Site) -> None:
    def lines(hurry: Hurry) -> Iterator[bytes]:
        yield setup_of(site)
        yield line_of(site.messages[0])
        hurry.trip()
        yield line_of(site.messages[3])

    said_by(site, lines)

    entry = site.entry("3")
    assert entry is not None
    assert (entry.outcome, entry.receipt.records_in) == ("done", 2)


def test_a_job_that_can_not_be_imported_any_more_fails_every_message(site: Site) -> None:
    def lines(hurry: Hurry) -> Iterator[bytes]:
        yield setup_of(site)
        yield line_of(site.messages[0])
        (site.folder / "obedient.py").write_text("job = None\n")
        yield from (line_of(message, 3) for message in of_wave(site.messages[1:], 2))

    _, _, *failed = said_by(site, lines)

    notes = [each.note for each in failed if isinstance(each, Failed)]
    assert [note.shard for note in notes] == ["1", "2", "3"]
    assert {(note.error, note.fate, note.receives) for note in notes} == {
        ("JobInvalid", Fate.RUN, 3)
    }
    assert {(note.attempt, note.seconds) for note in notes} == {("", 0.0)}


def test_a_store_that_does_not_answer_ends_the_worker_and_not_the_run(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The crew has the message received again."""

    def read(*of: object) -> None:
        raise RetryableError("Not now.")

    monkeypatch.setattr(runs, "read", read)

    def lines(hurry: Hurry) -> Iterator[bytes]:
        yield setup_of(site)
        yield line_of(site.messages[0])

    with pytest.raises(FanfoldError, match="Not now"):
        said_by(site, lines)


def test_a_job_may_import_what_lies_beside_it_and_finds_its_own_file(site: Site) -> None:
    before = list(sys.path)

    def lines(hurry: Hurry) -> Iterator[bytes]:
        yield setup_of(site)
        yield line_of(site.messages[0])
        yield from map(line_of, of_wave(site.messages[1:], 2))

    said_by(site, lines)

    assert sys.path == [*before, str(site.folder)]
    assert Path(os.environ[JOB_FILE]) == site.folder / "obedient.py"


def test_a_worker_seldom_looks_for_garbage_among_what_a_map_makes() -> None:
    usual = gc.get_threshold()
    try:
        worker.spare_collector()

        assert gc.get_freeze_count() > 1000
        assert gc.get_threshold()[0] > 10 * usual[0]
    finally:
        gc.unfreeze()
        gc.set_threshold(*usual)


# ------------------------------------------------------------------------------------------------
# What it tells between its answers
# ------------------------------------------------------------------------------------------------


class Gone(BaseException):
    """The process has ended, with this exit code."""


Tell = Callable[..., tuple[list[float], list[int]]]


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch) -> Tell:
    """Has a worker tell of its progress until its crew is gone, which lives for ten sleeps of it.

    Gives how long each sleep was, and after how many there was a sign. `beats` are the sleeps in
    which there is progress; `broken`, that nobody reads.
    """

    def tell(beats: Collection[int], *, broken: bool = False) -> tuple[list[float], list[int]]:
        pulse = Pulse()
        slept: list[float] = []
        signs: list[int] = []

        class Heard(Answers):
            def give(self, line: bytes = b"") -> None:
                if broken:
                    raise BrokenPipeError
                signs.append(len(slept))

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) in beats:
                pulse.beat()
                pulse.beat()

        def leave(code: int) -> None:
            raise Gone(code)

        system = SimpleNamespace(getppid=lambda: 7 if len(slept) < 10 else 1, _exit=leave)
        monkeypatch.setattr(worker, "os", system)
        monkeypatch.setattr(worker, "time", SimpleNamespace(sleep=sleep))
        with pytest.raises(Gone) as gone:
            worker._tell(pulse, Heard(-1), crew=7)
        assert gone.value.args == (ABANDONED,)
        return slept, signs

    return tell


def test_progress_is_told_four_times_a_second_and_only_while_there_is_any(tell: Tell) -> None:
    slept, signs = tell(beats={2, 3, 7})

    assert slept == [0.25] * 10
    assert signs == [2, 3, 7]


def test_a_worker_ends_when_nobody_reads_what_it_tells(tell: Tell) -> None:
    slept, _ = tell(beats={1, 2, 3, 4}, broken=True)

    assert len(slept) == 1


# ------------------------------------------------------------------------------------------------
# Its end, as a process
# ------------------------------------------------------------------------------------------------


@contextmanager
def hired(site: Site) -> Iterator[Hand]:
    """A worker that has answered a message."""
    hand = Hand.hire(Setup.model_validate_json(setup_of(site)))
    hand.write(line_of(site.messages[0]))
    lines: list[bytes] = []

    def answered() -> bool:
        lines.extend(hand.read() or [])
        return len(lines) == 1

    wait_until(answered)
    try:
        yield hand
    finally:
        hand.process.kill()
        hand.process.wait()


def test_a_worker_ends_well_when_its_crew_sends_nothing_more(site: Site) -> None:
    with hired(site) as hand:
        hand.close_pipes()

        assert hand.end(PATIENCE_SECONDS) == "ended with exit code 0"


def test_a_worker_that_is_told_to_end_does(site: Site) -> None:
    with hired(site) as hand:
        hand.process.terminate()

        assert hand.end(PATIENCE_SECONDS) == "ended with exit code 143"


def test_a_worker_that_is_told_to_end_is_told_once() -> None:
    """Its process group may be told, and it by its crew."""
    usual = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(worker.Ended):
            worker._end()

        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, usual)


def test_a_worker_whose_answer_nobody_reads_ends_quietly(
    site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    with hired(site) as hand:
        os.close(hand.answers_fd)
        hand.write(line_of(site.messages[1]))

        assert hand.end(PATIENCE_SECONDS) == f"ended with exit code {ABANDONED}"
    assert capfd.readouterr().err == ""


def test_a_worker_that_does_not_understand_a_message_says_so(
    site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    with hired(site) as hand:
        hand.write(b"hello\n")

        assert hand.end(PATIENCE_SECONDS) == "ended with exit code 1"
    assert "ValidationError" in capfd.readouterr().err

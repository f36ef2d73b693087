"""The crew of one machine: real worker processes that die, fail, lag behind and are ended.

A job does what its input says. The test's own part is played whenever the crew looks around, in
the crew's thread: whoever has to wait does so at a gate, or until the crew has looked again.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from coordinator.errors import AttemptFailed, Fate, RunCancelled, ToleranceExceeded
from coordinator.job import Job
from coordinator.keys import RunKeys
from coordinator.loading import load_job
from coordinator.machine import crew as crew_module
from coordinator.machine.crew import FUTILE_STARTS, ProcessCrew
from coordinator.machine.queue import WaveQueue
from coordinator.machine.worker import Setup
from coordinator.model import Entry, Message, Note, RunRecord
from coordinator.rules import transport
from coordinator.state import ledger, notes, runs
from coordinator.steps.attempts import Again, Answered, Failed, Verdict
from coordinator.steps.plan import plan
from coordinator.steps.reconcile import FanOut, reconcile
from coordinator.store.file.inputs import FileInputs
from coordinator.store.file.store import FileStore
from tests.machine.test_processes import is_running
from tests.processes import PATIENCE_SECONDS, Gates, wait_until

NEVER_SECONDS = 1e6
LOOK_SECONDS = 0.01
LOOKS = 30  # so many are enough for a crew to do what it must not

# A line is a name and what befalls the attempts at it: in `slow wait:1 kill:2`, the first waits
# at the gate `slow`, and the first and the second kill their worker.
OBEDIENT_JOB = """\
import os
import random
import signal
import sys
import time
from pathlib import Path

from coordinator import Job, Lines, RetryableError
from coordinator.errors import MapFailed

job = Job(name="obedient", source=Lines())
GATES = Path(os.environ["FANFOLD_TEST_GATES"])
PARENT = os.getppid()


def begin(name):
    with open(GATES / "log", "a") as log:
        log.write(f"{name}\\n")
    with open(GATES / f"{name}.tally", "ab", buffering=0) as tally:
        tally.write(b".")
        return tally.tell()


def wait_while(condition):
    while condition():
        if os.getppid() != PARENT:
            os._exit(3)
        time.sleep(0.002)


def wait(name):
    half = GATES / f"{name}.{os.getpid()}"
    half.write_text(str(os.getpid()))
    half.rename(GATES / f"{name}.reached")
    wait_while((GATES / f"{name}.closed").exists)


def told(name):
    wait_while(lambda: not (GATES / "told").exists())


def deafen(name):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def kill(name):
    os.kill(os.getpid(), signal.SIGKILL)


def leave(name):
    os._exit(3)


def again(name):
    raise RetryableError(f"{name} is not ready.")


def fail(name):
    raise MapFailed(f"{name} makes no sense.")


def say(name):
    print(f"{name} says hello", flush=True)


def obey(line):
    name, *orders = line.split()
    attempt = begin(name)
    for order in orders:
        verb, times = order.split(":")
        if attempt <= int(times):
            globals()[verb](name)
    yield line


@job.FORM
def words(given):
    for line in [given] if isinstance(given, str) else given:
        yield from obey(line)


if sys.argv[0].endswith("worker.py"):
    if "FANFOLD_TEST_STILLBORN" in os.environ:
        begin("stillborn")
        os._exit(7)
    random.random = lambda: float(os.environ.get("FANFOLD_TEST_JITTER", "0"))
    split = signal.getsignal(signal.SIGUSR1)

    def tell(*of):
        split(*of)
        (GATES / "told").touch()

    signal.signal(signal.SIGUSR1, tell)
"""


@dataclass
class Site:
    """A planned run, the messages of its first wave, and what was heard of them."""

    folder: Path
    gates: Gates
    job: Job
    store: FileStore
    run: RunRecord
    messages: list[Message]
    heard: list[Verdict] = field(default_factory=list)

    def crew(self, workers: int = 1, look: Callable[[], bool] = lambda: False) -> ProcessCrew:
        setup = Setup(
            root=self.store.root,
            job_path=str(self.folder / "obedient.py"),
            run_id=self.run.run_id,
            limits=self.job.limits,
        )
        return ProcessCrew(
            setup,
            self.store,
            workers,
            clock=time.time,
            splittable=self.job.splittable,
            is_cancelled=look,
        )

    def work(self, crew: ProcessCrew, messages: Sequence[Message] | None = None) -> None:
        crew.work(self.run, self.messages if messages is None else messages, self.heard.append)

    def outcomes(self) -> Counter[tuple[str, str]]:
        """What was heard: shard and verdict, and how often."""
        return Counter((shard_of(verdict), verdict.verdict) for verdict in self.heard)

    def unheard(self) -> list[str]:
        """The shards that nothing was heard of."""
        heard = {shard_of(verdict) for verdict in self.heard}
        return [each.shard.id for each in self.messages if each.shard.id not in heard]

    def tries(self, name: str) -> int:
        """How many attempts have begun at a line."""
        return self.gates.passed().count(name)

    def reached(self, name: str) -> bool:
        return (self.gates.folder / f"{name}.reached").exists()

    def worker_at(self, name: str) -> int:
        """The process that stands, or stood, at a gate."""
        return int((self.gates.folder / f"{name}.reached").read_text())

    def entry(self, shard: str) -> Entry | None:
        return ledger.find(self.store, self.keys, "map", shard)

    def note(self, shard: str, wave: int | None = None) -> Note | None:
        return notes.find_note(self.store, self.keys, "map", shard, wave or self.messages[0].wave)

    @property
    def keys(self) -> RunKeys:
        return runs.keys_of(self.run)


def shard_of(verdict: Verdict) -> str:
    assert not isinstance(verdict, Answered) or verdict.answer.shard
    if isinstance(verdict, Answered):
        return verdict.answer.shard
    assert isinstance(verdict, Again | Failed)
    return verdict.note.shard


def answered(*shards: str) -> Counter[tuple[str, str]]:
    return Counter((shard, "answered") for shard in shards)


def of_wave(messages: Sequence[Message], wave: int) -> list[Message]:
    return [message.model_copy(update={"wave": wave}) for message in messages]


MakeSite = Callable[..., Site]


@pytest.fixture
def make_site(tmp_path: Path, gates: Gates, monkeypatch: pytest.MonkeyPatch) -> MakeSite:
    """Makes a run with a shard for each text; the job's form and limits may be given.

    The crew looks around all the time, and helps nobody unless a test has it do so. A message is
    received as often as there are attempts, not five times at least.
    """
    monkeypatch.setattr(transport, "RECEIVES_AT_LEAST", 1)
    monkeypatch.setenv("FANFOLD_TEST_GATES", str(gates.folder))
    monkeypatch.setattr(crew_module, "ROUND_SECONDS", LOOK_SECONDS)
    monkeypatch.setattr(crew_module, "STRAGGLER_SECONDS", NEVER_SECONDS)

    def make(*shards: str, form: str = "map", **limits: int) -> Site:
        path = tmp_path / "obedient.py"
        path.write_text(OBEDIENT_JOB.replace("FORM", form))
        (tmp_path / "in").mkdir()
        for number, text in enumerate(shards):
            (tmp_path / "in" / f"{number:03}.txt").write_text(f"{text}\n")
        loaded = load_job(str(path))
        job, code = loaded.job, loaded.program.version
        job = job.with_limits(job.limits.model_copy(update={"shard_items": 1, **limits}))
        store = FileStore(tmp_path / "out")
        claimed = runs.claim(
            store,
            runs.Claim(
                keys=RunKeys(job.name, "r1"),
                owner="test",
                code_version=code,
                declaration=job.declaration(),
                inputs=(str(tmp_path / "in"),),
                logical_time=0.0,
                waves=job.limits.waves,
            ),
            now=time.time(),
            is_live=lambda owner: False,
        )
        planned = plan(
            store, FileInputs(), job, claimed, draft="d1", code_version=code, clock=time.time
        )
        ahead = reconcile(store, job, planned, draft="d2", code_version=code, clock=time.time)
        assert isinstance(ahead, FanOut)
        assert len(ahead.shards) == len(shards)
        return Site(tmp_path, gates, job, store, ahead.dispatched(store), ahead.messages())

    return make


def until(condition: Callable[[], bool]) -> Iterator[None]:
    """Look again until it is so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        yield


def playing(play: Iterator[None]) -> Callable[[], bool]:
    """What a crew asks when it looks around: the test's part goes on, and nobody cancels."""

    def look() -> bool:
        next(play, None)
        return False

    return look


# ------------------------------------------------------------------------------------------------
# Workers that die
# ------------------------------------------------------------------------------------------------


def test_the_message_that_a_dead_worker_was_at_is_received_again(make_site: MakeSite) -> None:
    site = make_site("a", "b kill:1", "c")

    with site.crew(workers=2) as crew:
        site.work(crew)

    assert site.outcomes() == answered("0", "1", "2")
    assert [site.tries(name) for name in "abc"] == [1, 2, 1]
    note = site.note("1")
    assert note is not None
    assert (note.receives, note.reason) == (2, "An attempt has begun.")


def test_messages_queued_behind_a_dead_worker_come_next_and_their_receives_do_not_grow(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew_module, "BRIEF_SECONDS", NEVER_SECONDS)
    site = make_site("a kill:2", "b", "c", "d leave:1", "e", "f", "g", "h", "i", "j", "k", "l")

    with site.crew(workers=1) as crew:
        site.work(crew)

    assert site.outcomes() == answered(*(message.shard.id for message in site.messages))
    assert site.gates.passed() == [*"abcdefghijkl", *"ada"]
    noted = {shard_id for shard_id in map(str, range(12)) if site.note(shard_id)}
    assert noted == {"0", "3"}  # whoever is received a second time leaves a mark


@pytest.mark.parametrize(
    ("order", "end"),
    [("kill", "was killed by SIGKILL"), ("leave", "ended with exit code 3")],
)
def test_a_message_received_too_often_is_buried_with_how_its_worker_died(
    make_site: MakeSite, order: str, end: str
) -> None:
    site = make_site("a", f"b {order}:9", "c", attempts=2)

    with site.crew() as crew:
        site.work(crew)

    assert site.outcomes() == {**answered("0", "2"), ("1", "failed"): 1}
    [failed] = [verdict for verdict in site.heard if isinstance(verdict, Failed)]
    assert failed.note.reason == (
        f"Shard 1 was tried 2 times without an outcome. Its worker {end}."
    )
    assert (failed.note.error, failed.note.fate) == ("AttemptFailed", Fate.RETRY)
    assert (failed.note.receives, site.tries("b")) == (2, 2)
    assert site.note("1") == failed.note
    assert site.entry("1") is None


def test_a_message_whose_shard_has_an_entry_is_answered_though_its_workers_die(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site("a", "b", attempts=1)
    with site.crew() as crew:
        site.work(crew)
    before, site.heard = site.heard, []

    monkeypatch.setenv("FANFOLD_TEST_STILLBORN", "1")
    with site.crew() as crew:
        site.work(crew)

    assert site.tries("stillborn") == 2
    assert site.heard == before
    assert site.outcomes() == answered("0", "1")


def test_workers_that_die_before_they_answer_anything_end_the_wave(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(*"abcdef", attempts=1)
    monkeypatch.setenv("FANFOLD_TEST_STILLBORN", "1")

    with site.crew() as crew, pytest.raises(AttemptFailed) as caught:
        site.work(crew)

    assert str(caught.value) == (
        "Workers keep ending before they are ready for work (ended with exit code 7)."
    )
    assert site.tries("stillborn") == FUTILE_STARTS


def test_the_more_attempts_the_more_workers_may_die_before_an_answer(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew_module, "FUTILE_STARTS", 1)
    site = make_site(*"abcdef", attempts=2)
    monkeypatch.setenv("FANFOLD_TEST_STILLBORN", "1")

    with site.crew() as crew, pytest.raises(AttemptFailed):
        site.work(crew)

    assert site.tries("stillborn") == 2


def test_an_answer_shows_that_workers_can_start(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew_module, "FUTILE_STARTS", 2)
    site = make_site("a kill:9", "good", "b kill:9", "c kill:9", "well", attempts=1)

    with site.crew() as crew:
        site.work(crew)

    failed = Counter({(shard, "failed"): 1 for shard in ("0", "2", "3")})
    assert site.outcomes() == answered("1", "4") + failed


def test_a_worker_that_dies_between_two_waves_is_replaced(make_site: MakeSite) -> None:
    site = make_site("a wait:1", "b", "c")

    with site.crew() as crew:
        site.work(crew, site.messages[:1])
        worker = site.worker_at("a")
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: not is_running(worker))
        site.work(crew, of_wave(site.messages[1:], 2))

    assert site.outcomes() == answered("0", "1", "2")
    assert [site.tries(name) for name in "abc"] == [1, 1, 1]


# ------------------------------------------------------------------------------------------------
# Verdicts
# ------------------------------------------------------------------------------------------------


def test_every_verdict_is_heard_once(make_site: MakeSite) -> None:
    site = make_site("a", "b again:1", "c again:9", "d fail:1", "e", attempts=3)

    with site.crew(workers=2) as crew:
        site.work(crew)

    assert site.outcomes() == {
        ("0", "answered"): 1,
        ("1", "again"): 1,
        ("1", "answered"): 1,
        ("2", "again"): 2,
        ("2", "failed"): 1,
        ("3", "failed"): 1,
        ("4", "answered"): 1,
    }
    of_c = [each.note for each in site.heard if isinstance(each, Again | Failed)]
    assert [note.receives for note in of_c if note.shard == "2"] == [1, 2, 3]
    assert [note.receives for note in of_c if note.shard == "3"] == [1]
    assert [site.tries(name) for name in "abcde"] == [1, 2, 3, 1, 1]


def test_a_message_that_failed_comes_back_when_its_delay_is_over_and_holds_nobody_up(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FANFOLD_TEST_JITTER", "0.1")
    site = make_site("a again:1", "b", "c")
    times: list[float] = []

    def hear(verdict: Verdict) -> None:
        site.heard.append(verdict)
        times.append(time.monotonic())

    with site.crew() as crew:
        crew.work(site.run, site.messages, hear)

    again, *_ = site.heard
    assert isinstance(again, Again)
    assert again.delay_seconds == pytest.approx(0.2)
    assert [shard_of(verdict) for verdict in site.heard] == ["0", "1", "2", "0"]
    assert times[-1] - times[0] > 0.15


def test_what_is_heard_may_end_the_wave(make_site: MakeSite) -> None:
    site = make_site(*"abcd")

    def hear(verdict: Verdict) -> None:
        site.heard.append(verdict)
        if len(site.heard) == 2:
            raise ToleranceExceeded("Enough.")

    with site.crew() as crew, pytest.raises(ToleranceExceeded, match="Enough"):
        crew.work(site.run, site.messages, hear)

    assert site.outcomes() == answered("0", "1")


def test_a_wave_without_messages_is_over_at_once(make_site: MakeSite) -> None:
    site = make_site("a")

    with site.crew(workers=0) as crew:
        site.work(crew, [])

    assert site.heard == []


def test_what_a_job_prints_is_shown_and_is_no_answer(
    make_site: MakeSite, capfd: pytest.CaptureFixture[str]
) -> None:
    site = make_site("a say:1", "b say:1")

    with site.crew() as crew:
        site.work(crew)

    assert site.outcomes() == answered("0", "1")
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == ["a says hello", "b says hello"]


# ------------------------------------------------------------------------------------------------
# How far ahead workers are fed
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("brief_seconds", "behind"),
    [
        pytest.param(NEVER_SECONDS, ["0", "1", "2", "3", "4"], id="brief: several at a time"),
        pytest.param(0.0, ["0"], id="long: one at a time"),
    ],
)
def test_messages_wait_behind_a_shard_only_while_shards_are_brief(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch, brief_seconds: float, behind: list[str]
) -> None:
    """One of two workers is held at the first shard; the other does all that it is handed."""
    monkeypatch.setattr(crew_module, "BRIEF_SECONDS", brief_seconds)
    site = make_site("a wait:1", *"bcdefghijklmnopqrst")
    site.gates.close("a")
    found: list[str] = []

    def play() -> Iterator[None]:
        yield from until(lambda: len(site.heard) >= len(site.messages) - len(behind))
        found.extend(site.unheard())
        site.gates.open("a")

    with site.crew(2, playing(play())) as crew:
        site.work(crew)

    assert found == behind
    assert site.outcomes() == answered(*(message.shard.id for message in site.messages))


def test_shards_are_taken_for_long_until_some_were_brief(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew_module, "ROUND_SECONDS", 0.0)
    monkeypatch.setattr(crew_module, "BRIEF_SECONDS", 0.5)
    site = make_site(*(f"n{number}" for number in range(60)))
    seen: list[tuple[int, int]] = []

    def look() -> bool:
        seen.append((len(site.heard), max(len(hand.held) for hand in crew._hands)))
        return False

    with site.crew(1, look) as crew:
        site.work(crew)

    assert max(held for heard, held in seen if heard <= 5) == 1
    assert max(held for heard, held in seen if heard > 5) > 1
    assert max(held for _, held in seen) <= 16


# ------------------------------------------------------------------------------------------------
# Stragglers
# ------------------------------------------------------------------------------------------------


def test_a_straggler_is_told_to_split_when_a_worker_is_idle(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told before it could be doubled; the crew is kept from that for however long it
    takes to stop. What the worker does next is whole again."""
    monkeypatch.setattr(WaveQueue, "double", lambda queue, delivery: False)
    site = make_site("a\nslow wait:1 told:1\nrest\nrest", "b", "c", "d", "e\nf", "g\nh")

    def play() -> Iterator[None]:
        yield from until(lambda: site.reached("slow") and len(site.heard) == 3)
        monkeypatch.setattr(crew_module, "STRAGGLER_SECONDS", 0.0)

    with site.crew(2, playing(play())) as crew:
        site.work(crew, site.messages[:4])
        monkeypatch.setattr(crew_module, "STRAGGLER_SECONDS", NEVER_SECONDS)
        site.work(crew, of_wave(site.messages[4:], 2))

    assert site.outcomes() == answered("0", "1", "2", "3", "4", "5")
    entries = [site.entry(shard) for shard in ("0", "4", "5")]
    assert [entry and entry.outcome for entry in entries] == ["split", "done", "done"]
    assert [entry and entry.receipt.records_in for entry in entries] == [2, 2, 2]
    assert [site.tries(name) for name in ("a", "slow", "rest")] == [1, 1, 0]


def test_a_straggler_that_was_told_and_does_not_stop_is_begun_a_second_time(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site("slow wait:1\nrest", "b", "c", "d")
    site.gates.close("slow")

    def play() -> Iterator[None]:
        yield from until(lambda: site.reached("slow") and len(site.heard) == 3)
        monkeypatch.setattr(crew_module, "STRAGGLER_SECONDS", 0.0)

    with site.crew(2, playing(play())) as crew:
        site.work(crew)
        site.gates.open("slow")

    assert (site.gates.folder / "told").exists()
    assert site.outcomes() == answered("0", "1", "2", "3")
    assert (site.tries("slow"), site.tries("rest")) == (2, 1)
    entry = site.entry("0")
    assert entry is not None
    assert entry.outcome == "done"


def test_a_straggler_that_can_not_be_split_is_begun_a_second_time_and_no_more(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site("slow wait:9", "b", "c", "d", form="map_shard")
    site.gates.close("slow")

    def play() -> Iterator[None]:
        yield from until(lambda: site.reached("slow") and len(site.heard) == 3)
        monkeypatch.setattr(crew_module, "STRAGGLER_SECONDS", 0.0)
        yield from until(lambda: site.tries("slow") > 1)
        for _ in range(LOOKS):
            yield
        site.gates.open("slow")

    with site.crew(3, playing(play())) as crew:
        site.work(crew)

    assert site.tries("slow") == 2
    assert not (site.gates.folder / "told").exists()
    assert site.outcomes() == answered("0", "1", "2", "3")


def test_nobody_is_told_to_split_while_all_are_at_work(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew_module, "STRAGGLER_SECONDS", 0.0)
    site = make_site("slow wait:1\nrest", "b", "c", "held wait:1\nrest")
    site.gates.close("slow", "held")

    def play() -> Iterator[None]:
        yield from until(lambda: site.reached("slow") and site.reached("held"))
        for _ in range(LOOKS):
            yield
        monkeypatch.setattr(crew_module, "STRAGGLER_SECONDS", NEVER_SECONDS)
        site.gates.open("slow")
        site.gates.open("held")

    with site.crew(2, playing(play())) as crew:
        site.work(crew)

    assert not (site.gates.folder / "told").exists()
    assert [site.tries(name) for name in ("slow", "held", "rest")] == [1, 1, 2]
    assert site.outcomes() == answered("0", "1", "2", "3")


def test_of_two_attempts_the_first_entry_wins_and_the_late_answer_is_not_heard(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempt is held beyond its wave. In the next one, the other worker is held, so
    that the late one has to answer before the wave can end."""
    site = make_site("slow wait:1", "b", "c", "held wait:1", "late", form="map_shard")
    site.gates.close("slow", "held")
    first, second = site.messages[:3], of_wave(site.messages[3:], 2)

    def play() -> Iterator[None]:
        yield from until(lambda: site.reached("slow") and len(site.heard) == 2)
        monkeypatch.setattr(crew_module, "STRAGGLER_SECONDS", 0.0)
        yield from until(lambda: len(site.heard) == 3)
        monkeypatch.setattr(crew_module, "STRAGGLER_SECONDS", NEVER_SECONDS)
        yield from until(lambda: site.reached("held"))
        site.gates.open("slow")
        yield from until(lambda: len(site.heard) == 4)
        site.gates.open("held")

    with site.crew(2, playing(play())) as crew:
        site.work(crew, first)
        winner = site.entry("0")
        site.work(crew, second)

    assert site.tries("slow") == 2
    assert winner is not None
    assert site.entry("0") == winner
    assert site.outcomes() == answered("0", "1", "2", "3", "4")
    [heard] = [each for each in site.heard if shard_of(each) == "0"]
    assert isinstance(heard, Answered)
    assert heard.answer.attempt == winner.receipt.attempt
    assert shard_of(site.heard[3]) == "4"


def test_a_worker_that_dies_while_another_is_at_the_same_shard_costs_no_receive(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site("slow wait:2", "b", "c", "d", form="map_shard", attempts=1)
    site.gates.close("slow")
    died: list[int] = []

    def play() -> Iterator[None]:
        yield from until(lambda: site.reached("slow") and len(site.heard) == 3)
        died.append(site.worker_at("slow"))
        monkeypatch.setattr(crew_module, "STRAGGLER_SECONDS", 0.0)
        yield from until(lambda: site.worker_at("slow") != died[0])
        os.kill(died[0], signal.SIGKILL)
        yield from until(lambda: not is_running(died[0]))
        for _ in range(LOOKS):
            yield
        site.gates.open("slow")

    with site.crew(2, playing(play())) as crew:
        site.work(crew)

    assert len(died) == 1
    assert site.outcomes() == answered("0", "1", "2", "3")
    assert site.tries("slow") == 2


def test_a_worker_that_dies_at_a_shard_that_is_done_takes_nothing_with_it(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its attempt was begun a second time, in a wave that is over: nobody waits for it."""
    site = make_site("slow wait:1", "b", "c", "held wait:1", "next", form="map_shard", attempts=1)
    site.gates.close("slow", "held")
    first, second = site.messages[:3], of_wave(site.messages[3:], 2)

    def play() -> Iterator[None]:
        yield from until(lambda: site.reached("slow") and len(site.heard) == 2)
        monkeypatch.setattr(crew_module, "STRAGGLER_SECONDS", 0.0)
        yield from until(lambda: len(site.heard) == 3)
        monkeypatch.setattr(crew_module, "STRAGGLER_SECONDS", NEVER_SECONDS)
        yield from until(lambda: site.reached("held"))
        os.kill(site.worker_at("slow"), signal.SIGKILL)
        yield from until(lambda: site.tries("next") == 1)
        for _ in range(LOOKS):
            yield
        site.gates.open("held")

    with site.crew(2, playing(play())) as crew:
        site.work(crew, first)
        site.work(crew, second)

    assert site.outcomes() == answered("0", "1", "2", "3", "4")
    assert site.tries("slow") == 2


# ------------------------------------------------------------------------------------------------
# Cancelled, and closed
# ------------------------------------------------------------------------------------------------


def test_a_cancelled_run_ends_its_wave_and_the_rest_is_done_when_it_is_taken_up(
    make_site: MakeSite,
) -> None:
    site = make_site("a", "b wait:1", "c")
    site.gates.close("b")

    with (
        pytest.raises(RunCancelled, match="The same run id takes it up again"),
        site.crew(1, lambda: site.reached("b")) as crew,
    ):
        site.work(crew)

    assert site.outcomes() == answered("0")
    assert [site.entry(shard) is not None for shard in "012"] == [True, False, False]
    assert not is_running(site.worker_at("b"))
    site.gates.open("b")
    with site.crew() as crew:
        site.work(crew, of_wave(site.messages[1:], 2))
    assert site.outcomes() == answered("0", "1", "2")


def test_closing_ends_all_workers_whatever_they_are_at(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is at work, one idle, one just starting; nothing half-done is visible."""
    monkeypatch.setattr(crew_module, "CLOSE_SECONDS", PATIENCE_SECONDS)
    site = make_site("a wait:1", "b", form="map_shard")
    site.gates.close("a")

    def ends() -> bool:
        return site.reached("a") and len(site.heard) == 1

    with site.crew(2, ends) as crew:
        with pytest.raises(RunCancelled):
            site.work(crew)
        crew._hire()
        workers = [hand.process.pid for hand in crew._hands]
        assert len(workers) == 3
        assert all(map(is_running, workers))

    assert not any(map(is_running, workers))
    assert site.entry("0") is None


def test_a_worker_that_will_not_end_is_killed_when_its_grace_is_over(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew_module, "CLOSE_SECONDS", 0.05)
    site = make_site("a deafen:1 wait:1")
    site.gates.close("a")

    with pytest.raises(RunCancelled), site.crew(1, lambda: site.reached("a")) as crew:
        site.work(crew)

    assert not is_running(site.worker_at("a"))
    assert site.entry("0") is None


def test_an_error_in_the_block_ends_the_workers_too(make_site: MakeSite) -> None:
    site = make_site("a")

    crew = site.crew(2)
    workers = [hand.process.pid for hand in crew._hands]

    with pytest.raises(ToleranceExceeded), crew:
        raise ToleranceExceeded("Enough.")

    assert len(workers) == 2
    assert not any(map(is_running, workers))


# -- who helps, and what costs a receive -------------------------------------------------------------


def test_messages_behind_a_straggler_are_done_by_idle_workers(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew_module, "BRIEF_SECONDS", NEVER_SECONDS)
    site = make_site("slow wait:1", *"bcdefghijkl", form="map_shard")
    site.gates.close("slow")

    def play() -> Iterator[None]:
        yield from until(lambda: site.reached("slow") and len(site.heard) == 9)
        monkeypatch.setattr(crew_module, "STRAGGLER_SECONDS", 0.0)
        yield from until(lambda: not site.unheard())

    with site.crew(2, playing(play())) as crew:
        site.work(crew)

    assert site.outcomes() == answered(*(str(number) for number in range(12)))


def test_a_message_that_never_reached_a_worker_costs_no_receive(make_site: MakeSite) -> None:
    site = make_site("a wait:1", "b", attempts=1)
    with site.crew() as crew:
        site.work(crew, site.messages[:1])
        worker = site.worker_at("a")
        os.kill(worker, signal.SIGKILL)
        os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)  # all of its threads are gone
        site.work(crew, of_wave(site.messages[1:], 2))

    assert site.outcomes() == answered("0", "1")


def test_shards_that_kill_their_workers_end_no_run_whose_workers_can_start(
    make_site: MakeSite,
) -> None:
    site = make_site("a kill:9", "b kill:9", "c kill:9", "good", attempts=1)

    with site.crew() as crew:
        site.work(crew)

    assert site.outcomes() == answered("3") + Counter((each, "failed") for each in "012")

"""Workers that get no further: they are ended, and their shards are done all the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.formats.lines import Lines
from coordinator.job import Job
from coordinator.machine.pulse import BeatingInputs, BeatingStore, Hurry, Pulse, beating
from coordinator.machine.worker import ABANDONED
from tests.machine.test_processes import is_running
from tests.processes import Gates, Room, kill, wait_until

pytestmark = pytest.mark.timeout(300)

# A line names what befalls the first attempt at it; every later one just gives the line.
STUCK_JOB = """\
import os
import re
import time
from pathlib import Path

from coordinator import Job, Limits, Lines

job = Job(name="stuck", source=Lines(), limits=Limits(timeout_seconds=1, tolerated=1))
GATES = Path(os.environ["FANFOLD_TEST_GATES"])


def sleep():
    while True:
        time.sleep(1000)


def hold():  # no other thread runs while this does
    re.match("(a+)+$", "a" * 64 + "b")


def leave_a_child():
    if os.fork():
        os._exit(9)
    for fd in (0, 1, 2):  # the pipes to the crew stay open
        os.close(fd)
    while (GATES / "child.closed").exists():
        time.sleep(0.005)
    os._exit(0)


def begin(line):
    with open(GATES / "log", "a") as log:
        log.write(f"{line}\\n")
    half = GATES / f"{line}.{os.getpid()}"
    half.write_text(str(os.getpid()))
    half.rename(GATES / f"{line}.reached")


@job.map
def each(line):
    name, _, when = line.partition(" ")
    first = not (GATES / f"{name}.reached").exists()
    begin(name)
    if name in globals() and (first or when == "always"):
        globals()[name]()
    yield name
"""


@pytest.fixture
def stuck(room: Room) -> Room:
    (room.folder / "stuck.py").write_text(STUCK_JOB)
    room.job = "stuck.py"
    for path in (room.folder / "in").iterdir():
        path.unlink()
    return room


def give(room: Room, *lines: str) -> None:
    (room.folder / "in" / "a.txt").write_text("".join(f"{line}\n" for line in lines))


def lines_of(room: Room, run_id: str = "r1", job: str = "stuck") -> list[str]:
    return [json.loads(line) for line in room.result(run_id, job).splitlines()]


# ------------------------------------------------------------------------------------------------
# No progress
# ------------------------------------------------------------------------------------------------


def test_a_worker_without_progress_is_stopped_and_its_message_received_again(
    stuck: Room, gates: Gates
) -> None:
    give(stuck, "one", "hold", "two")

    ended = stuck.run("r1")

    assert ended.code == 0, ended.err
    assert lines_of(stuck) == ["one", "hold", "two"]
    assert gates.passed().count("hold") > 1
    assert (
        "map: shard 0 is received again: its worker was stopped: no progress for 1 s, "
        "the job's timeout_seconds\n"
    ) in ended.err
    assert "in hold\n" in ended.err  # where it stood


def test_a_record_at_which_every_worker_stands_still_is_quarantined(
    stuck: Room, gates: Gates
) -> None:
    give(stuck, "sleep always")

    ended = stuck.run("r1", "--json")

    assert ended.code == 0, ended.err
    assert (ended.json["records_out"], ended.json["quarantined"]) == (0, 1)


def test_a_shard_that_takes_long_in_all_is_split_and_none_of_it_is_done_twice(
    stuck: Room, gates: Gates
) -> None:
    """It waits at its second record until it has been told to split."""
    job = STUCK_JOB.replace("timeout_seconds=1", "timeout_seconds=3").replace(
        "@job.map",
        """
import signal
split = signal.getsignal(signal.SIGUSR1)


def tell(*of):
    split(*of)
    (GATES / "told").touch()


if callable(split):
    signal.signal(signal.SIGUSR1, tell)


def wait():
    while not (GATES / "told").exists():
        time.sleep(0.005)


@job.map""",
    )
    (stuck.folder / "stuck.py").write_text(job)
    give(stuck, "one", "wait", "two", "three")

    ended = stuck.run("r1")

    assert ended.code == 0, ended.err
    assert lines_of(stuck) == ["one", "wait", "two", "three"]
    assert sorted(gates.passed()) == ["one", "three", "two", "wait"]
    assert {"0", "0.0"} <= stuck.entries(job="stuck")
    assert "received again" not in ended.err


SLOW_REDUCE = """\
import time
from coordinator import Job, Limits, Lines

job = Job(name="stuck", source=Lines(), limits=Limits(timeout_seconds=2))

@job.map
def words(line):
    yield from ((word, 1) for word in line.split())

@job.reduce
def count(word, values):
    time.sleep(0.3)
    return word
"""


def test_a_reduce_that_takes_long_in_all_makes_progress_with_every_key(stuck: Room) -> None:
    (stuck.folder / "stuck.py").write_text(SLOW_REDUCE)
    give(stuck, "a b c d e f g h i j k l m n")

    ended = stuck.run("r1")

    assert ended.code == 0, ended.err
    assert lines_of(stuck) == list("abcdefghijklmn")
    assert "received again" not in ended.err


# ------------------------------------------------------------------------------------------------
# What is a sign of progress
# ------------------------------------------------------------------------------------------------


def beats_of(pulse: Pulse) -> int:
    """The signs since the last time."""
    beats, pulse.beats = pulse.beats, 0
    return beats


def test_every_record_that_asks_the_guard_is_a_sign() -> None:
    pulse = Pulse()
    hurry = Hurry(pulse)

    assert not hurry.tripped()
    hurry.trip()
    assert hurry.tripped()
    hurry.reset()
    assert not hurry.tripped()

    assert beats_of(pulse) == 3


def test_a_map_of_shards_gives_a_sign_for_every_record_and_output() -> None:
    pulse = Pulse()
    job = Job("job", Lines())
    seen = []

    @job.map_shard
    def doubled(records):  # type: ignore[no-untyped-def]
        for record in records:
            seen.append(beats_of(pulse))
            yield record
            yield record

    outputs = list(beating(job, pulse).function()(iter("ab")))

    assert outputs == ["a", "a", "b", "b"]
    assert seen == [2, 3]  # the call and the record; two outputs and the next record
    assert beats_of(pulse) == 2
    assert job.function() is doubled


def test_a_map_of_lists_gives_a_sign_for_every_list() -> None:
    pulse = Pulse()
    job = Job("job", Lines())

    @job.map_batch(size=2)
    def same(records):  # type: ignore[no-untyped-def]
        return records

    assert beating(job, pulse).function()(["a", "b"]) == ["a", "b"]

    assert beats_of(pulse) == 1


def test_a_reduce_gives_a_sign_for_every_key_value_and_output() -> None:
    pulse = Pulse()
    job = Job("job", Lines())
    job.map(lambda line: [(line, 1)])

    @job.reduce
    def each(key, values):  # type: ignore[no-untyped-def]
        yield from values

    reduce = beating(job, pulse).reduce_function
    assert reduce is not None
    assert list(reduce("a", iter([1, 2, 3]))) == [1, 2, 3]

    assert beats_of(pulse) == 1 + 3 + 3


def test_a_reduce_of_folded_values_gets_them_as_they_are() -> None:
    pulse = Pulse()
    job = Job("job", Lines())
    job.map(lambda line: [(line, [1])])
    job.combine(lambda one, other: one + other)
    job.reduce(lambda key, total: total)

    reduce = beating(job, pulse).reduce_function
    assert reduce is not None
    assert reduce("a", [1, 1]) == [1, 1]

    assert beats_of(pulse) == 1


def test_every_piece_read_or_written_is_a_sign(tmp_path: Path) -> None:
    pulse = Pulse()
    store = BeatingStore(tmp_path, pulse)

    with store.writer("a") as writer:
        writer.write(b"abc")
        writer.write(b"def")
        assert beats_of(pulse) == 2
        writer.close()
    assert beats_of(pulse) == 1
    assert store.get("a").body == b"abcdef"
    assert store.get_range("a", 1, 2) == b"b"
    assert beats_of(pulse) == 2
    stream = store.open("a")
    assert (stream.read(3), stream.read(3), stream.read(3)) == (b"abc", b"def", b"")
    stream.close()
    assert beats_of(pulse) == 3


def test_every_piece_of_an_input_is_a_sign(tmp_path: Path) -> None:
    pulse = Pulse()
    path = tmp_path / "a"
    path.write_bytes(b"abcdef")
    inputs = BeatingInputs(pulse)
    [pinned] = next(iter(inputs.pages([str(path)]))).objects

    stream = inputs.open(pinned, 0, 6)
    assert stream.read(4) == b"abcd"
    stream.close()

    assert beats_of(pulse) == 1


# ------------------------------------------------------------------------------------------------
# Workers whose end is not seen, and workers without a crew
# ------------------------------------------------------------------------------------------------


def test_a_worker_is_dead_though_a_child_of_it_holds_its_pipes_open(
    stuck: Room, gates: Gates
) -> None:
    gates.close("child")
    give(stuck, "one", "leave_a_child", "two")

    ended = stuck.run("r1")

    gates.open("child")
    assert ended.code == 0, ended.err
    assert lines_of(stuck) == ["one", "leave_a_child", "two"]
    assert "its worker ended with exit code 9\n" in ended.err


def test_what_the_job_starts_does_not_get_the_pipes_of_its_worker(stuck: Room) -> None:
    (stuck.folder / "stuck.py").write_text(
        "import os, sys\n"
        "from coordinator import Job, Lines\n"
        'job = Job(name="stuck", source=Lines())\n'
        "@job.map\n"
        "def each(line):\n"
        "    yield [os.get_inheritable(int(fd)) for fd in sys.argv[1:3]]\n"
    )
    give(stuck, "one")

    assert stuck.run("r1").code == 0
    assert [*lines_of(stuck)] == [[False, False]]  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(
    "how",
    [
        "sleep",
        pytest.param(
            "hold", marks=pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help")
        ),
    ],
)
def test_workers_end_soon_when_their_crew_is_killed(stuck: Room, gates: Gates, how: str) -> None:
    job = STUCK_JOB.replace("timeout_seconds=1", "timeout_seconds=900")
    (stuck.folder / "stuck.py").write_text(job)
    give(stuck, how)
    process = stuck.start_run("r1")
    worker = gates.wait_reached(how, process)

    kill(process)

    wait_until(lambda: not is_running(worker))


def test_a_worker_sees_by_itself_that_its_crew_is_gone() -> None:
    """Where the kernel does not tell it."""
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os\n"
            "from coordinator.machine.pulse import Pulse\n"
            "from coordinator.machine.worker import Answers, _tell\n"
            "_tell(Pulse(), Answers(1), os.getpid())\n",
        ],
        check=False,
        env=dict(os.environ),
    )

    assert ended.returncode == ABANDONED

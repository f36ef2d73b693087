"""Runs of real processes, killed at any moment: nothing is lost, doubled or done twice."""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections import Counter
from pathlib import Path

import pytest

from coordinator.testing import run_job
from tests.machine.conftest import LINES
from tests.processes import Gates, Room, finish, kill, wait_until

pytestmark = pytest.mark.timeout(300)
A_LINE_A_SHARD = ("--shard-bytes", str(len(LINES[0])))


def undisturbed(room: Room) -> bytes:
    """What the run gives when nothing happens to it."""
    inputs = {path.name: path.read_bytes() for path in (room.folder / "in").iterdir()}
    return run_job(room.folder / "gated.py", inputs).results["gated.jsonl"]


def test_a_run_killed_again_and_again_ends_as_an_undisturbed_one(room: Room, gates: Gates) -> None:
    """Killed at its first shard, between two files, at its last shard, and while it reduces."""
    moments = ["line00", "line08", "line11", "reduce-not"]
    gates.close(*moments)

    for moment in moments:
        before = room.versions()
        process = room.start_run("r1", *A_LINE_A_SHARD)
        gates.wait_reached(moment, process)
        kill(process)
        assert before.items() <= room.versions().items()
        gates.open(moment)
    before = room.versions()
    ended = room.run("r1", *A_LINE_A_SHARD)

    assert ended.code == 0, ended.err
    assert before.items() <= room.versions().items()
    assert room.result() == undisturbed(room)
    assert room.call("verify", "out/gated/runs/r1").code == 0
    # Only the line that a kill interrupted was mapped again, once for each kill.
    mapped = Counter(name for name in gates.passed() if name.startswith("line"))
    assert mapped == {line.split()[0]: 2 if line.split()[0] in moments else 1 for line in LINES}


@pytest.mark.parametrize("entries", [1, 25])
def test_a_run_of_two_workers_killed_after_some_entries_ends_as_an_undisturbed_one(
    room: Room, entries: int
) -> None:
    for number in range(60):
        (room.folder / "in" / f"{number}.txt").write_text(f"w{number} to be\n")
    process = room.start_run("r1", "--shard-items", "1", "--workers", "2")
    wait_until(lambda: len(room.entries()) >= entries or process.poll() is not None)
    kill(process)
    committed = room.versions()

    ended = room.run("r1", "--shard-items", "1")

    assert ended.code == 0, ended.err
    assert committed.items() <= room.versions().items()
    assert room.result() == undisturbed(room)
    assert room.call("verify", "out/gated/runs/r1").code == 0


def test_a_worker_that_is_killed_is_replaced_and_the_run_ends(room: Room, gates: Gates) -> None:
    gates.close("line03")
    process = room.start_run("r1", *A_LINE_A_SHARD)
    worker = gates.wait_reached("line03", process)
    (gates.folder / "line03.reached").unlink()

    os.kill(worker, signal.SIGKILL)

    second = gates.wait_reached("line03", process)
    gates.open("line03")
    ended = finish(process)
    assert ended.code == 0, ended.err
    assert second != worker
    assert room.result() == undisturbed(room)


POISON_JOB = """\
import os
from coordinator import Job, Limits, Lines

job = Job(name="deadly", source=Lines(), limits=Limits(tolerated=1, attempts=5))

@job.map
def words(line):
    if line == "poison":
        os.kill(os.getpid(), 9)
    yield line
"""


@pytest.mark.parametrize("attempts", [1, 5])
def test_a_record_that_kills_every_worker_is_quarantined_and_the_rest_is_done(
    room: Room, attempts: int
) -> None:
    """However few attempts there are: they bound failures that are tried again, not deaths."""
    (room.folder / "deadly.py").write_text(POISON_JOB.replace("attempts=5", f"attempts={attempts}"))
    (room.folder / "in" / "c.txt").write_text("fine\npoison\nfine too\n")
    room.job = "deadly.py"

    ended = room.run("r1", "--json")

    assert ended.code == 0, ended.err
    assert (ended.json["records_out"], ended.json["quarantined"]) == (14, 1)
    manifest = json.loads(Path(ended.json["manifest"]).read_text())
    line = json.loads((room.output / manifest["quarantine"]["key"]).read_text())
    assert line["key"] == str(room.folder / "in" / "c.txt")
    assert line["offset"] == 5
    assert "killed its worker" in line["reason"]
    assert "map: shard 0 is received again: its worker was killed by SIGKILL\n" in ended.err


def test_workers_that_cannot_start_end_the_run_and_are_named(room: Room) -> None:
    (room.folder / "stillborn.py").write_text(
        "import os, sys\n"
        "if 'coordinator.cli' not in sys.modules: os._exit(7)\n"
        + POISON_JOB.replace("deadly", "stillborn").replace("tolerated=1", "waves=1")
    )
    room.job = "stillborn.py"

    ended = room.run("r1")

    assert ended.code == 1
    assert "exit code 7" in ended.err
    assert "Traceback" not in ended.err


def test_a_second_process_finds_the_run_busy_and_changes_nothing(room: Room, gates: Gates) -> None:
    gates.close("line05")
    first = room.start_run("r1", *A_LINE_A_SHARD)
    gates.wait_reached("line05", first)
    before = room.versions()

    second = room.run("r1", *A_LINE_A_SHARD)

    assert second.code == 2
    assert "still running" in second.err
    assert "take the run up" not in second.err
    assert room.versions() == before
    gates.open("line05")
    assert finish(first).code == 0
    assert room.result() == undisturbed(room)


def test_two_that_start_at_once_give_one_result(room: Room, gates: Gates) -> None:
    both = [room.start_run("r1", "--json") for _ in range(2)]
    ended = [finish(process) for process in both]

    assert {one.code for one in ended} <= {0, 2}
    assert 0 in {one.code for one in ended}
    for one in ended:
        assert one.json["status"] == "published" if one.code == 0 else "RunBusy" in one.out
    assert room.result() == undisturbed(room)
    assert len([name for name in gates.passed() if name == "line00"]) == 1


def test_an_interrupt_ends_cleanly_and_the_command_it_prints_takes_the_run_up(
    room: Room, gates: Gates
) -> None:
    gates.close("line06")
    process = room.start(
        "run",
        "gated.py",
        "in",
        "-o",
        "out",
        "--workers",
        "1",
        *A_LINE_A_SHARD,
    )
    worker = gates.wait_reached("line06", process)

    process.send_signal(signal.SIGINT)
    ended = finish(process)

    assert ended.code == 130
    assert "Traceback" not in ended.err
    wait_until(lambda: not is_running(worker))
    [command] = [line.strip() for line in ended.err.splitlines() if line.startswith("  fanfold ")]
    assert "--run-id" in command
    gates.open("line06")
    done = len(gates.passed())

    again = room.call(*shlex.split(command)[1:])

    assert again.code == 0, again.err
    [run] = (room.output / "gated" / "runs").iterdir()
    assert room.result(run.name) == undisturbed(room)
    assert gates.passed()[done] == "line06"


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/status")
    return not (status.exists() and "State:\tZ" in status.read_text())


def test_an_input_changed_between_two_tries_stops_the_run(room: Room, gates: Gates) -> None:
    gates.close("line09")
    process = room.start_run("r1", *A_LINE_A_SHARD)
    gates.wait_reached("line09", process)
    kill(process)
    gates.open("line09")
    source = room.folder / "in" / "b.txt"
    source.write_text(source.read_text().upper())

    ended = room.run("r1", *A_LINE_A_SHARD, "--json")

    assert ended.code == 1
    assert ended.json["error"] == "InputChanged"
    assert str(source) in ended.json["message"]
    assert not (room.output / "gated" / "latest.json").exists()


def test_an_input_deleted_between_two_tries_stops_the_run(room: Room, gates: Gates) -> None:
    gates.close("line09")
    process = room.start_run("r1", *A_LINE_A_SHARD)
    gates.wait_reached("line09", process)
    kill(process)
    gates.open("line09")
    (room.folder / "in" / "b.txt").unlink()

    ended = room.run("r1", *A_LINE_A_SHARD)

    assert ended.code == 1
    assert "b.txt' was deleted under the run" in ended.err
    assert not (room.output / "gated" / "latest.json").exists()


def test_an_output_that_is_full_is_named_and_the_run_goes_on_when_there_is_room(
    room: Room,
) -> None:
    many = "".join(f"word{number} " for number in range(20_000))
    (room.folder / "in" / "c.txt").write_text(f"line12 {many}\n")
    full = room.start(
        *("run", "gated.py", "in", "--output", "out", "--run-id", "r1", "--workers", "1"),
        preexec_fn=limit_files,
    )
    ended = finish(full)

    assert ended.code == 1
    assert "can't be written (File too large). Make room, then run the same command" in ended.err
    assert "Traceback" not in ended.err
    assert not (room.output / "gated" / "latest.json").exists()

    assert room.run("r1").code == 0
    assert room.result() == undisturbed(room)


def limit_files() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

"""Runs that are told to end: in good order at first, at once the second time, quietly at any time."""

from __future__ import annotations

import json
import os
import sched
import shlex
import signal
import subprocess
import sys

import pytest

import coordinator
from tests.machine.conftest import LINES
from tests.machine.test_processes import A_LINE_A_SHARD, is_running, undisturbed
from tests.processes import Gates, Room, finish, heed_interrupts, run_arguments

pytestmark = pytest.mark.timeout(300)


def test_sigterm_ends_the_run_and_its_workers_and_names_what_takes_the_run_up(
    room: Room, gates: Gates
) -> None:
    gates.close("line06")
    process = room.start_run("r1", *A_LINE_A_SHARD)
    worker = gates.wait_reached("line06", process)

    process.send_signal(signal.SIGTERM)
    ended = finish(process)

    assert ended.code == 143
    assert not is_running(worker)
    *_, said, lead, command = ended.err.splitlines()
    assert said == "fanfold: Stopped by SIGTERM. The run id r1 takes the run up again."
    assert lead == "To take the run up again:"
    gates.open("line06")
    done = len(gates.passed())
    again = room.call(*shlex.split(command)[1:])
    assert again.code == 0, again.err
    assert room.result() == undisturbed(room)
    assert gates.passed()[done] == "line06"


def test_sighup_ends_the_run_and_is_one_object_for_a_program(room: Room, gates: Gates) -> None:
    gates.close("line00")
    process = room.start_run("r1", "--json")
    worker = gates.wait_reached("line00", process)

    process.send_signal(signal.SIGHUP)
    ended = finish(process)

    assert ended.code == 129
    assert not is_running(worker)
    assert ended.json == {
        "status": "interrupted",
        "error": "Interrupted",
        "message": "Stopped by SIGHUP. The run id r1 takes the run up again.",
        "run_id": "r1",
    }


def start_patiently(room: Room) -> subprocess.Popen[str]:
    """Start the command as one that gives its workers all the time they want to end."""
    (room.folder / "patient.py").write_text(PATIENT)
    arguments = run_arguments(room.job, "r1")
    process = subprocess.Popen(
        [sys.executable, "patient.py", *arguments],
        cwd=room.folder,
        env={**os.environ, **room.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    room.started.append(process)
    return process


PATIENT = """\
import sys
from coordinator.cli import main
from coordinator.machine import crew

crew.CLOSE_SECONDS = 1000.0
sys.argv[0] = "fanfold"
main()
"""
DEAF_JOB = """\
import os
import signal
import time
from pathlib import Path

from coordinator import Job, Lines

job = Job(name="gated", source=Lines())
GATES = Path(os.environ["FANFOLD_TEST_GATES"])


def put(name):
    half = GATES / f"{name}.writing"
    half.write_text(str(os.getpid()))
    half.rename(GATES / f"{name}.reached")


@job.map
def each(line):
    signal.signal(signal.SIGTERM, lambda *of: put("asked"))
    put("deaf")
    while True:
        time.sleep(0.005)
"""


def test_a_second_signal_ends_all_at_once(room: Room, gates: Gates) -> None:
    """Its workers would be waited for: they heed no signal, and have a grace of a quarter hour."""
    (room.folder / "gated.py").write_text(DEAF_JOB)
    process = start_patiently(room)
    worker = gates.wait_reached("deaf", process)
    process.send_signal(signal.SIGINT)
    gates.wait_reached("asked", process)

    process.send_signal(signal.SIGINT)
    ended = finish(process)

    assert ended.code == 130
    assert not is_running(worker)
    assert "Stopped by Ctrl-C. The run id r1" in ended.err
    assert "Traceback" not in ended.err


INTERRUPT_AT = """\
import os
import signal
import sys

WORKER = "coordinator.machine.worker" in sys.orig_argv


class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ.get("FANFOLD_TEST_AT") and not WORKER:
            os.kill(os.getpid(), signal.SIGINT)


sys.meta_path.insert(0, Interrupt())
if WORKER and "FANFOLD_TEST_WORKERS" in os.environ:
    os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.fixture
def interrupting(room: Room) -> Room:
    """A room in which Ctrl-C comes while something is imported."""
    site = room.folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(INTERRUPT_AT)
    path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
    room.environment = {**room.environment, "PYTHONPATH": path}
    return room


@pytest.mark.parametrize("module", ["typer", "coordinator.cli.running", "helper"])
def test_ctrl_c_while_the_command_starts_is_no_traceback(interrupting: Room, module: str) -> None:
    """While the command imports what it needs, and while it imports the job."""
    room = interrupting
    job = room.folder / "gated.py"
    job.write_text(f"import helper\n{job.read_text()}")
    room.environment = {**room.environment, "FANFOLD_TEST_AT": module}

    ended = room.run("r1")

    assert (ended.code, ended.err, ended.out) == (130, "fanfold: Stopped by Ctrl-C.\n", "")
    assert not room.output.exists()


def test_ctrl_c_while_the_command_starts_is_one_object_for_a_program(interrupting: Room) -> None:
    room = interrupting
    room.environment = {**room.environment, "FANFOLD_TEST_AT": "coordinator.cli.commands"}

    ended = room.run("r1", "--json")

    assert ended.code == 130
    assert ended.json == {
        "status": "interrupted",
        "error": "Interrupted",
        "message": "Stopped by Ctrl-C.",
    }
    assert ended.err == ""


def test_ctrl_c_does_not_reach_workers_that_are_just_starting(interrupting: Room) -> None:
    room = interrupting
    room.environment = {**room.environment, "FANFOLD_TEST_WORKERS": "1"}

    ended = room.run("r1")

    assert ended.code == 0, ended.err
    assert "KeyboardInterrupt" not in ended.err
    assert "received again" not in ended.err


def test_a_signal_that_its_starter_ignores_does_not_end_a_run(room: Room, gates: Gates) -> None:
    def as_nohup_does() -> None:
        heed_interrupts()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    gates.close("line03")
    process = room.start_run("r1", *A_LINE_A_SHARD, preexec_fn=as_nohup_does)
    gates.wait_reached("line03", process)

    process.send_signal(signal.SIGHUP)
    gates.open("line03")

    assert finish(process).code == 0
    assert room.result() == undisturbed(room)


# ------------------------------------------------------------------------------------------------
# What the job's code finds in a worker
# ------------------------------------------------------------------------------------------------

SET = "{word for line in lines for word in line.split()}"
SETS_JOB = f"""\
from coordinator import Job, Lines

job = Job(name="gated", source=Lines())

@job.map_shard
def each(lines):
    yield list({SET})
"""


def test_sets_have_one_order_in_all_workers(room: Room) -> None:
    (room.folder / "gated.py").write_text(SETS_JOB)

    ended = room.run("r1")

    assert ended.code == 0, ended.err
    order = subprocess.run(
        [sys.executable, "-c", f"import json; lines = {LINES}; print(json.dumps(list({SET})))"],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        check=True,
    )
    assert json.loads(room.result()) == json.loads(order.stdout)


IMPORTING_JOB = """\
from coordinator import Job, Lines

job = Job(name="gated", source=Lines())


def twice(word):
    import helper

    return helper.twice(word)


def origins():
    import sched

    import coordinator

    return [sched.__file__, coordinator.__file__]


@job.map
def each(line):
    import multiprocessing

    import helper

    yield helper.twice(line.split()[0])
    yield origins()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        yield pool.apply(twice, (line.split()[0],))
        yield pool.apply(origins)
"""


def test_a_job_imports_what_lies_beside_it_at_any_time_and_nothing_of_it_hides_a_module(
    room: Room,
) -> None:
    """In workers and in the processes that they spawn; there is a `sched` of our own nobody asked
    for, and a `coordinator`."""
    (room.folder / "gated.py").write_text(IMPORTING_JOB)
    (room.folder / "helper.py").write_text("def twice(word):\n    return word + word\n")
    for name in ("sched", "coordinator", "pickle", "queue"):
        (room.folder / f"{name}.py").write_text("raise ImportError('taken for a module')\n")
    for path in (room.folder / "in").iterdir():
        path.unlink()
    (room.folder / "in" / "a.txt").write_text("word\n")

    ended = room.run("r1")

    assert ended.code == 0, ended.err
    records = [json.loads(line) for line in room.result().splitlines()]
    origins = [sched.__file__, coordinator.__file__]
    assert records == ["wordword", origins, "wordword", origins]

"""Real runs of the command, in processes that can be held at a gate, stopped and killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FANFOLD = str(Path(sys.executable).with_name("fanfold"))
PATIENCE_SECONDS = 100.0


def heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# A map that waits wherever a test has closed a gate, and ends when its parent does.
GATED_JOB = """\
import os
import time
from pathlib import Path

from coordinator import Job, Limits, Lines

job = Job(name="gated", source=Lines(), limits=Limits(tolerated=5, reduce_bytes=50))
GATES = os.environ.get("FANFOLD_TEST_GATES")
PARENT = os.getppid()


def pass_gate(name):
    if not GATES:
        return
    with open(f"{GATES}/log", "a") as log:
        log.write(f"{name}\\n")
    closed, reached = Path(GATES, f"{name}.closed"), Path(GATES, f"{name}.reached")
    while closed.exists():
        if not reached.exists():
            half = Path(GATES, f"{name}.writing")
            half.write_text(str(os.getpid()))
            half.rename(reached)
        if os.getppid() != PARENT:
            os._exit(3)
        time.sleep(0.005)


@job.map
def words(line):
    pass_gate(line.split()[0])
    for word in line.split():
        yield word, 1


@job.combine
def add(one, other):
    return one + other


@job.reduce
def count(word, total):
    pass_gate(f"reduce-{word}")
    return {"word": word, "count": total}
"""


@dataclass(frozen=True)
class Ended:
    """A command that has ended: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout."""
        found: dict[str, Any] = json.loads(self.out)
        assert self.out.count("\n") == 1
        return found


@dataclass
class Gates:
    """Places in a job where it waits for the test."""

    folder: Path

    def close(self, *names: str) -> None:
        for name in names:
            (self.folder / f"{name}.closed").touch()

    def open(self, name: str) -> None:
        (self.folder / f"{name}.closed").unlink()

    def wait_reached(self, name: str, process: subprocess.Popen[str]) -> int:
        """Wait until a worker stands at the gate; gives its process id."""
        reached = self.folder / f"{name}.reached"
        wait_until(lambda: reached.exists() or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        return int(reached.read_text())

    def passed(self) -> list[str]:
        """Every gate that was come to, in order, repeats too."""
        log = self.folder / "log"
        return log.read_text().split("\n")[:-1] if log.exists() else []

    @property
    def environment(self) -> dict[str, str]:
        return {"FANFOLD_TEST_GATES": str(self.folder)}


@dataclass
class Room:
    """A folder with a job, inputs and an output, and the command run in it."""

    folder: Path
    job: str = "gated.py"
    environment: Mapping[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def output(self) -> Path:
        return self.folder / "out"

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start the command as a terminal does: Ctrl-C reaches it, even where the tests
        themselves run in a shell's background and ignore it."""
        options.setdefault("preexec_fn", heed_interrupts)
        process = subprocess.Popen(
            [FANFOLD, *arguments],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        self.started.append(process)
        return process

    def start_run(self, run_id: str = "r1", *more: str, **options: Any) -> subprocess.Popen[str]:
        return self.start(*run_arguments(self.job, run_id, *more), **options)

    def run(self, run_id: str = "r1", *more: str) -> Ended:
        return finish(self.start_run(run_id, *more))

    def call(self, *arguments: str) -> Ended:
        return finish(self.start(*arguments))

    def result(self, run_id: str = "r1", job: str = "gated") -> bytes:
        return (self.output / job / "results" / run_id / f"{job}.jsonl").read_bytes()

    def entries(self, stage: str = "map", run_id: str = "r1", job: str = "gated") -> set[str]:
        folder = self.output / job / "runs" / run_id / stage
        return {path.stem for path in folder.glob("*/ledger/*.json")}

    def versions(self, run_id: str = "r1", job: str = "gated") -> dict[str, tuple[int, int]]:
        """Every entry of a run, with what changes when a file is written anew."""
        root = self.output / job / "runs" / run_id
        found = sorted(root.glob("*/*/ledger/*.json"))
        return {
            str(path.relative_to(root)): (path.stat().st_mtime_ns, path.stat().st_ino)
            for path in found
        }

    def end_all(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()


def run_arguments(job: str, run_id: str, *more: str) -> Sequence[str]:
    return ("run", job, "in", "--output", "out", "--run-id", run_id, "--workers", "1", *more)


def finish(process: subprocess.Popen[str]) -> Ended:
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    return Ended(process.returncode, out, err)


def kill(process: subprocess.Popen[str]) -> None:
    """kill -9 of the command alone: its workers are left to themselves."""
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=PATIENCE_SECONDS)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.002)

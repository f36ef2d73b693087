"""Running a command, and what it took: wall clock, processor time and peak memory of its tree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

REPOSITORY = Path(__file__).parents[1]
LAUNCHER = Path(__file__).with_name("launch.py")
SAMPLE_SECONDS = 0.2
MB = 1_000_000

# The arguments of a command that may write to the given folder.
Command = Callable[[Path], Sequence[str]]


class CommandFailed(RuntimeError):
    """A benchmarked command ended with an error."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run of a command took. `cpu_seconds` is user and system time of all its processes,
    `peak_bytes` the most memory that they held together."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


def run(command: Sequence[str]) -> Sample:
    """Run a command to its end.

    Raises:
        CommandFailed: with what it said.
    """
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(LAUNCHER), *command],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with _Memory(process.pid) as memory:
        report, said = process.communicate()
    if process.returncode:
        raise CommandFailed(f"{' '.join(command)}\n{said[-2000:]}")
    taken = json.loads(report)
    peak = max(memory.peak_bytes, taken["largest_bytes"])
    return Sample(taken["wall_seconds"], taken["cpu_seconds"], peak)


def interleaved(commands: Sequence[Command], runs: int, room: Path) -> list[Sample]:
    """The medians of several runs of each command, taken in turns: A B A B. What else the machine
    does meets all of them alike.

    Every run has an empty folder of its own below `room`. None is removed in between: file systems
    (ext4) are slow at making files for half a minute after many were removed.
    """
    samples: list[list[Sample]] = [[] for _ in commands]
    for _ in range(runs):
        for command, taken in zip(commands, samples, strict=True):
            taken.append(run(command(Path(tempfile.mkdtemp(dir=room)))))
    return [_median(taken) for taken in samples]


def _median(samples: Sequence[Sample]) -> Sample:
    return Sample(
        median(sample.wall_seconds for sample in samples),
        median(sample.cpu_seconds for sample in samples),
        max(sample.peak_bytes for sample in samples),
    )


class _Memory(threading.Thread):
    """Watches the memory of a process and all below it. Pages that processes share count once,
    where the system tells (Linux)."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self._root = psutil.Process(pid)
        self._ended = threading.Event()

    def __enter__(self) -> _Memory:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            with suppress(psutil.Error):
                tree = self._root.children(recursive=True)
                self.peak_bytes = max(self.peak_bytes, sum(map(_held_bytes, tree)))


def _held_bytes(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        held = process.memory_full_info()
        return int(getattr(held, "pss", held.rss))
    return 0

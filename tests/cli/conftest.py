"""The command, run in this process in a folder with a small job."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from coordinator.cli import main
from tests.processes import Ended

COPY_JOB = """\
from coordinator import Job, Limits, Lines, Text

job = Job(name="copy", source=Lines(), sink=Text(), limits=Limits(tolerated=1))

@job.map
def each(line):
    if line.startswith("bad"):
        raise ValueError("a bad line")
    yield line
"""


@dataclass
class Shell:
    """The command, run in this process in a folder of its own."""

    folder: Path
    capture: pytest.CaptureFixture[str]
    patch: pytest.MonkeyPatch

    def call(self, *arguments: str) -> Ended:
        self.patch.setattr(sys, "argv", ["fanfold", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self.capture.readouterr()
        code = ended.value.code
        assert "Traceback" not in err
        return Ended(code if isinstance(code, int) else 0, out, err)

    def run(self, *arguments: str, job: str = "copy.py") -> Ended:
        return self.call("run", job, "--workers", "1", "--output", "out", *arguments)

    def write(self, name: str, text: str = "one\n") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def result(self, run_id: str) -> str:
        return (self.folder / "out/copy/results" / run_id / "copy.txt").read_text()


@pytest.fixture
def shell(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Shell:
    monkeypatch.chdir(tmp_path)
    shell = Shell(tmp_path, capfd, monkeypatch)
    shell.write("copy.py", COPY_JOB)
    return shell

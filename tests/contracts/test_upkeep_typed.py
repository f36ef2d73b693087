"""The commands that look after runs as they are typed, on a run in a folder: locks and what is said."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.cli import main
from coordinator.cli.endings import FAILED, REFUSED
from coordinator.keys import RunKeys
from coordinator.store.file.store import FileStore
from tests.contracts.upkeep_rows import COMMANDS, DAY, Command, on_every

JOB = """\
from coordinator import Job, Limits, Lines, Text

job = Job(name="copy", source=Lines(), sink=Text(), limits=Limits(tolerated=1))

@job.map
def each(line):
    if line.startswith("bad"):
        raise ValueError("a bad line")
    yield line
"""
KEYS = RunKeys("copy", "r1")
Say = Callable[[Command], tuple[int, str]]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run three days old that refused more than its job tolerates, and with what a
    stage that was drafted anew has left behind."""
    folder = tmp_path_factory.mktemp("begun")
    (folder / "copy.py").write_text(JOB)
    (folder / "in.txt").write_text("one\nbad 1\nbad 2\ntwo\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        begin = ["run", "copy.py", "in.txt", "--workers", "1", "--output", "out", "--run-id", "r1"]
        with pytest.raises(SystemExit, match=str(FAILED)):
            main(begin)
        left = FileStore("out").writer(f"{KEYS.root}map/old-draft/parts/0-left.jsonl")
        left.write(b"left behind")
        left.close()
    then = time.time() - 3 * DAY
    for path in (folder / "out").rglob("*"):
        os.utime(path, (then, then))
    shutil.copytree(folder / "out", folder / "as it was")
    return folder


@pytest.fixture
def say(begun: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Say:
    """Types a command in that folder, on the run as it was; gives the exit code and what was
    said."""
    monkeypatch.chdir(begun)
    shutil.rmtree("out")
    shutil.copytree("as it was", "out")

    def type_in(command: Command) -> tuple[int, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(command.typed("out", f"out/{KEYS.root}"))
        said = "".join(capfd.readouterr())
        assert "Traceback" not in said
        assert "defect of Fanfold" not in said
        return (ended.value.code if isinstance(ended.value.code, int) else 0), said

    return type_in


def tree() -> dict[str, tuple[bytes, int]]:
    """All files of the output, locks apart, with their bytes and times."""
    files = (path for path in Path("out").rglob("*") if path.is_file())
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in files
        if path.parent.name != "holds" and path.name != "lock"
    }


@on_every([row for row in COMMANDS if row.locked])
def test_a_run_that_a_living_process_holds_is_left_alone(command: Command, say: Say) -> None:
    before = tree()
    with FileStore("out").hold(KEYS.run):
        code, said = say(command)
        assert tree() == before
    # clean has other runs to go on with; the others have nothing to do
    assert (code, "r1/run.json is in the hands" in said) == (
        (0, False) if command.name == "clean" else (2, True)
    )

    say(command)
    if command.name != "repair":  # which finds nothing broken
        assert tree() != before


@on_every([row for row in COMMANDS if not row.writes])
def test_a_command_that_only_looks_leaves_files_and_what_was_killed_as_they_are(
    command: Command, say: Say
) -> None:
    killed = Path("out/.fanfold/temporaries/killed")
    killed.parent.mkdir(parents=True, exist_ok=True)
    killed.touch()
    os.utime(killed, (0, 0))
    before = tree()

    say(command)

    assert str(killed) in before
    assert tree() == before


@on_every()
@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\xff\x00", b'{"job":"copy"}'])
def test_a_damaged_record_is_said_by_name(command: Command, say: Say, body: bytes) -> None:
    path = Path("out") / KEYS.run
    path.write_bytes(body)
    then = time.time() - 3 * DAY
    os.utime(path, (then, then))

    code, said = say(command)

    assert code == (REFUSED if command.name.startswith("run") else FAILED)
    assert "copy/runs/r1/run.json" in said or command.name == "verify"
    assert path.read_bytes() == body

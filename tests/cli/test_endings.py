"""How commands end: exit codes, one object for programs, and advice that can help."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator import errors
from coordinator.cli import upkeep
from coordinator.cli.endings import ending_of
from coordinator.cli.failures import advice, first_refusal
from coordinator.cli.signals import Signals, Stopped
from coordinator.errors import (
    AttemptFailed,
    FanfoldError,
    InputChanged,
    JobInvalid,
    LedgerBroken,
    NoInput,
    NotProven,
    OutputUnwritable,
    RunBusy,
    RunCancelled,
    RunExpired,
    RunMismatch,
    ShardsFailed,
    StoreUnavailable,
    ToleranceExceeded,
    UsageError,
)
from coordinator.keys import RunKeys
from coordinator.store.memory import MemoryStore
from infra.advice import DeploymentFailed
from tests.cli.conftest import COPY_JOB, Shell
from tests.processes import FANFOLD, Ended

PAGE = Path(__file__).parents[2] / "docs" / "running.md"
ROW = re.compile(r"^\| (.*) \|$", re.MULTILINE)


def rows_below(heading: str) -> dict[str, list[str]]:
    """The table of a page that begins with this cell: its first cells, and the others."""
    rows = [[cell.strip() for cell in row.split(" | ")] for row in ROW.findall(PAGE.read_text())]
    start = next(number for number, row in enumerate(rows) if row[0] == heading)
    found: dict[str, list[str]] = {}
    for row in rows[start + 1 :]:
        if len(row) != len(rows[start]):
            break
        found[row[0]] = row[1:]
    return found


# ------------------------------------------------------------------------------------------------
# Exit codes
# ------------------------------------------------------------------------------------------------


def as_published(shell: Shell) -> Ended:
    """r1 is published, r2 failed; r3 has a `run.json` that nobody can read."""
    shell.write("a.txt")
    shell.write("bad.txt", "bad 1\nbad 2\n")
    ended = shell.run("a.txt", "--run-id", "r1")
    assert shell.run("bad.txt", "--run-id", "r2").code == 1
    path = shell.write("out/copy/runs/r3/run.json", "{")
    os.utime(path, (0, 0))
    return ended


CASES: dict[str, dict[int, list[tuple[str, ...]]]] = {
    "run": {
        0: [("run", "copy.py", "a.txt", "-o", "out", "--run-id", "r1")],
        1: [("run", "copy.py", "bad.txt", "-o", "out", "--run-id", "r2", "--workers", "1")],
        2: [
            ("run", "copy.py", "none.txt", "--workers", "1"),
            ("run", "copy.py", "a.txt", "-o", "out", "--run-id", "r2", "--workers", "1"),
            ("run", "copy.py", "bad.txt", "-o", "out", "--run-id", "r3"),
            ("run", "copy.py", "a.txt", "-o", "a.txt"),
        ],
    },
    "verify": {
        0: [("verify", "out/copy/runs/r1")],
        1: [("verify", "out/copy/runs/r2"), ("verify", "out/copy/runs/r3")],
        2: [("verify", "out"), ("verify", "out/copy/runs/r4"), ("verify",)],
    },
    "cancel": {
        0: [("cancel", "out/copy/runs/r2")],
        1: [("cancel", "out/copy/runs/r3")],
        2: [("cancel", "out/copy/runs/r1"), ("cancel", "nowhere")],
    },
    "repair": {
        0: [("repair", "out/copy/runs/r2")],
        1: [("repair", "out/copy/runs/r3")],
        2: [("repair", "out/copy/runs/r1"), ("repair", "")],
    },
    "clean": {
        0: [("clean", "out", "--job", "other"), ("clean", ".", "--dry-run")],
        1: [("clean", "out"), ("clean", "out", "--dry-run")],
        2: [("clean", "nowhere"), ("clean", "out", "--job", "A B"), ("clean", "out", "--job", "")],
    },
    "new": {
        0: [("new", "fresh")],
        1: [("new", "other", "--folder", "a.txt")],
        2: [("new", "fresh"), ("new", "A B"), ("new", "other", "--folder", "")],
    },
}


def test_every_command_ends_as_the_page_says(shell: Shell) -> None:
    assert as_published(shell).code == 0
    table = rows_below("command")
    assert {name.strip("`") for name in table} == {
        *CASES,
        "deploy`, `probe`, `grants`, `diff`, `destroy`, `bootstrap",
    }

    found = {
        arguments: shell.call(*arguments)
        for cases in CASES.values()
        for each in cases.values()
        for arguments in each
        if arguments != ("new", "fresh")
    }

    expected = {
        arguments: code
        for cases in CASES.values()
        for code, each in cases.items()
        for arguments in each
        if arguments != ("new", "fresh")
    }
    assert {arguments: ended.code for arguments, ended in found.items()} == expected
    assert [shell.call("new", "fresh").code for _ in range(2)] == [0, 2]
    for ended in found.values():
        said = ended.err.splitlines()
        assert ended.code == 0 or any(line.startswith(("fanfold: ", "copy r3: ")) for line in said)


def test_commands_of_a_deployment_end_as_the_page_says(shell: Shell) -> None:
    assert shell.call("deploy", "none").code == 2
    assert shell.call("bootstrap", "--no-such").code == 2
    assert ending_of(DeploymentFailed("No."), Signals()).code == 1


def every_error() -> Iterator[type[FanfoldError]]:
    waiting: list[type[FanfoldError]] = [FanfoldError]
    while waiting:
        known = waiting.pop()
        if known.__module__ == errors.__name__:
            yield known
        waiting.extend(known.__subclasses__())


def test_every_error_has_its_exit_code() -> None:
    refused = {
        error.__name__ for error in every_error() if ending_of(error("No."), Signals()).code == 2
    }

    assert refused == {
        *("UsageError", "JobInvalid", "NoInput", "InputInvalid"),
        *("RunBusy", "RunExpired", "RunMismatch"),
    }


@pytest.mark.parametrize(("begun", "code", "status"), [(False, 2, "refused"), (True, 1, "failed")])
def test_of_a_run_it_counts_whether_it_was_begun(begun: bool, code: int, status: str) -> None:
    for error in [*(error("No.") for error in every_error()), OSError(errno.EIO, "No")]:
        ending = ending_of(error, Signals(), begun=begun)

        assert (ending.code, ending.status) == (code, status)


def test_a_defect_is_one_line_and_no_refusal() -> None:
    ending = ending_of(ZeroDivisionError("by zero"), Signals(), begun=False)

    assert ending.code == 1
    assert ending.as_text() == (
        "fanfold: ZeroDivisionError: by zero. This is a defect of Fanfold; --debug shows where it "
        "lies."
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_commands_as_the_page_says(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    names = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}
    before = signal.signal(number, signal.SIG_DFL)
    monkeypatch.setattr(upkeep, "verify_command", lambda *of, **more: os.kill(os.getpid(), number))
    try:
        plain, as_json = shell.call("verify", "x"), shell.call("verify", "x", "--json")
    finally:
        signal.signal(number, before)

    assert plain.code == as_json.code == 128 + number
    assert plain.err == f"fanfold: Stopped by {names[number]}.\n"
    assert as_json.json["status"] == "interrupted"
    status, meaning = rows_below("exit code")[str(plain.code)]
    assert status == "`interrupted`"
    assert names[number] in meaning


def test_the_page_names_every_exit_code() -> None:
    table = rows_below("exit code")

    assert set(table) == {"0", "1", "2", "130", "143", "129"}
    assert "`failed`" in table["1"][0]
    assert "`refused`" in table["2"][0]


def test_a_second_signal_ends_what_was_waited_for_and_a_disregarded_one_nothing() -> None:
    killed: list[bool] = []
    signals = Signals()
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM,)}
    try:
        with signals:
            signals.at_once = lambda: killed.append(True)
            for _ in range(2):
                with pytest.raises(Stopped):
                    os.kill(os.getpid(), signal.SIGTERM)
            assert killed == [True]
            signals.disregard()
            os.kill(os.getpid(), signal.SIGTERM)
        assert killed == [True]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# ------------------------------------------------------------------------------------------------
# One object for programs
# ------------------------------------------------------------------------------------------------

NOISY_JOB = (
    "import os\n"
    "print('noise at import', flush=True)\n"
    "os.system('echo noise of a child')\n"
    f"{COPY_JOB.replace('yield line', 'print(1); yield line')}"
)


def test_what_a_job_prints_anywhere_does_not_spoil_the_object(shell: Shell) -> None:
    shell.write("a.txt")
    shell.write("copy.py", NOISY_JOB)

    good = shell.run("a.txt", "--run-id", "r1", "--json")
    again = shell.run("a.txt", "--run-id", "r1")
    refused = shell.run("a.txt", "--run-id", "r1", "--shard-bytes", "1", "--json")

    assert good.json["status"] == "published"
    assert "noise" not in again.out
    assert refused.json["error"] == "RunMismatch"
    for ended in (good, again, refused):
        assert "noise at import" in ended.err
        assert "noise of a child" in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--json"),
        ("run", "copy.py", "a.txt", "--json", "--no-such"),
        ("run", "copy.py", "a.txt", "--workers", "many", "--json"),
        ("verify", "--json"),
        ("nonsense", "--json"),
        ("new", "x", "--json"),
    ],
)
def test_a_command_that_is_typed_wrong_is_one_object_too(
    shell: Shell, arguments: tuple[str, ...]
) -> None:
    ended = shell.call(*arguments)

    assert ended.code == 2
    assert (ended.json["status"], ended.json["error"]) == ("refused", "UsageError")
    assert "--help" in ended.json["message"]
    assert ended.err == ""


def test_a_file_that_is_named_like_the_option_is_an_input(shell: Shell) -> None:
    ended = shell.run("--", "--json")

    assert ended.code == 2
    assert ended.out == ""
    assert "No input matches" in ended.err


# ------------------------------------------------------------------------------------------------
# Reasons and advice
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "hopeless", "lead"),
    [
        (Stopped(), False, "To take the run up again:"),
        (OSError(errno.ENOSPC, "full"), False, "To take the run up again:"),
        (OutputUnwritable("full"), False, "To take the run up again:"),
        (StoreUnavailable("throttled"), False, "To take the run up again:"),
        (RunCancelled("cancelled"), False, "To take the run up again:"),
        (AttemptFailed("died"), False, "To take the run up again:"),
        (ShardsFailed("died"), False, "To take the run up again:"),
        (ShardsFailed("raised"), True, "Mend the job first; then take the run up again:"),
        (ToleranceExceeded("many"), False, "Mend the job first; then take the run up again:"),
        (JobInvalid("import"), False, "Mend the job first; then take the run up again:"),
        (RunMismatch("other"), False, ""),
        (RunExpired("old"), False, ""),
        (RunBusy("busy"), False, ""),
        (NoInput("none"), False, ""),
        (UsageError("none"), False, ""),
        (InputChanged("changed"), False, ""),
        (LedgerBroken("broken"), False, ""),
        (NotProven("hole"), False, ""),
        (ZeroDivisionError("defect"), False, ""),
    ],
)
def test_advice_is_given_where_it_can_help(error: BaseException, hopeless: bool, lead: str) -> None:
    expected = f"{lead}\n  fanfold run x" if lead else ""

    assert advice(error, "fanfold run x", hopeless=hopeless) == expected


def test_a_job_that_raises_for_a_shard_has_to_be_mended_first(shell: Shell) -> None:
    source = shell.write("a.txt")
    shell.write(
        "copy.py",
        COPY_JOB.replace(
            "    yield line",
            "    from coordinator.errors import MapFailed\n"
            "    raise MapFailed('It makes no sense.')\n    yield line",
        ),
    )

    ended = shell.run("a.txt", "--run-id", "r1")

    assert ended.code == 1
    *_, said, lead, command = ended.err.splitlines()
    assert "MapFailed: It makes no sense." in said
    assert str(source) in said
    assert lead == "Mend the job first; then take the run up again:"
    assert command == "  fanfold run copy.py --workers 1 --output out a.txt --run-id r1"


def test_the_first_refusal_of_a_run_that_has_none_is_nothing() -> None:
    assert first_refusal(MemoryStore(), RunKeys("job", "r1")) == ""


def test_a_job_that_only_workers_can_not_import_is_named(shell: Shell) -> None:
    shell.write("a.txt")
    only = (
        "import sys\nif 'coordinator.cli' not in sys.modules:\n    raise ValueError('not here')\n"
    )
    shell.write("copy.py", f"{only}{COPY_JOB}")

    ended = shell.run("a.txt", "--json")

    assert ended.code == 1
    assert ended.json["error"] == "JobInvalid"
    assert "copy.py, line 3 can't be imported: ValueError: not here" in ended.json["message"]


# ------------------------------------------------------------------------------------------------
# Options of a run that is taken up again
# ------------------------------------------------------------------------------------------------


def test_options_that_are_left_out_are_those_the_run_was_begun_with(shell: Shell) -> None:
    for name in ("a", "b", "c"):
        shell.write(f"in/{name}.txt", "bad\nfine\n")
    options = ("--shard-items", "1", "--shard-bytes", "5")
    assert shell.run("in", "--run-id", "r1", *options).code == 1
    shell.write("copy.py", COPY_JOB.replace("tolerated=1", "tolerated=3"))

    other = shell.run("in", "--run-id", "r1", "--shard-items", "2")
    assert other.code == 2
    assert "was begun with --shard-items 1. Take a new run id" in other.err
    again = shell.run("in", "--run-id", "r1", "--json")

    assert again.code == 0, again.err
    assert again.json["quarantined"] == 3
    record = json.loads((shell.folder / "out/copy/runs/r1/run.json").read_text())
    assert record["limits"] == {"shard_items": 1}
    assert record["declaration"]["limits"]["shard_items"] == 1
    assert record["hints"]["shard_bytes"] == 5


# ------------------------------------------------------------------------------------------------
# Odd names and places
# ------------------------------------------------------------------------------------------------

NOT_UTF8 = os.fsdecode(b"\xff")


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "copy.py", f"{NOT_UTF8}.txt"),
        ("run", f"{NOT_UTF8}.py", "a.txt"),
        ("run", "copy.py", "a.txt", "--output", f"out{NOT_UTF8}"),
        ("run", "copy.py", "a.txt", "--run-id", NOT_UTF8),
        ("verify", f"out{NOT_UTF8}/copy/runs/r1"),
        ("clean", NOT_UTF8),
        ("new", NOT_UTF8),
    ],
)
def test_a_name_that_is_no_utf8_is_refused(shell: Shell, arguments: tuple[str, ...]) -> None:
    ended = shell.call(*arguments)
    as_json = shell.call(*arguments, "--json")

    assert ended.code == as_json.code == 2
    assert "is not UTF-8. Rename it." in ended.err
    assert r"\xff" in ended.err
    assert as_json.json["message"] in ended.err


def test_a_folder_whose_name_is_no_utf8_is_refused(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shell.folder / NOT_UTF8
    folder.mkdir()
    shell.write("a.txt")
    monkeypatch.chdir(folder)

    here = shell.call("run", "../copy.py", "../a.txt")
    found = shell.call("run", "../copy.py", "../*/a.txt", "-o", str(shell.folder / "out"))

    assert here.code == found.code == 2
    assert "is not UTF-8. Rename it." in here.err
    assert "is not UTF-8. Rename it." in found.err or "No input matches" in found.err


def test_a_place_that_can_not_be_read_is_named(shell: Shell) -> None:
    shell.write("a.txt")
    (shell.folder / "loop").symlink_to("loop")

    for arguments, code in [
        (("run", "copy.py", "a.txt", "-o", "loop"), 2),
        (("run", "copy.py", "loop", "--workers", "1"), 2),
        (("verify", "loop/copy/runs/r1"), 1),
        (("cancel", "loop/copy/runs/r1"), 1),
        (("clean", "loop/x"), 2),
        (("new", "x", "--folder", "loop/x"), 1),
    ]:
        ended = shell.call(*arguments)
        assert ended.code == code
        assert "loop" in ended.err
        assert len(ended.err.splitlines()) == 1


def test_a_full_folder_of_temporary_files_is_named() -> None:
    ending = ending_of(OSError(errno.ENOSPC, "No space left on device"), Signals())

    assert ending.code == 1
    assert (
        f"Make room in {tempfile.gettempdir()}, or name another folder in TMPDIR" in ending.message
    )


def test_a_folder_that_is_gone_under_a_command_is_told(shell: Shell) -> None:
    job = shell.folder / "copy.py"
    gone = shell.folder / "gone"
    gone.mkdir()
    shell.patch.chdir(gone)
    gone.rmdir()

    ended = shell.call("run", str(job), "a.txt")
    shell.patch.chdir(shell.folder)

    assert ended.code == 2
    assert ended.err == (
        "fanfold: The folder that this was started in is gone. Change to one that is there.\n"
    )


def test_too_many_open_files_are_told_with_the_limit_to_raise() -> None:
    ending = ending_of(OSError(errno.EMFILE, "Too many open files"), Signals())
    assert ending.message.startswith("Too many open files. Raise the limit")


def test_a_path_that_the_system_refuses_is_named() -> None:
    ending = ending_of(PermissionError(errno.EACCES, "Permission denied", "/x/y"), Signals())

    assert ending.message == "/x/y: Permission denied."


# ------------------------------------------------------------------------------------------------
# Standard output that takes nothing
# ------------------------------------------------------------------------------------------------


def in_shell(shell: Shell, command: str) -> Ended:
    """A command line in a process of its own, with the redirections of a shell."""
    done = subprocess.run(
        ["sh", "-c", command.replace("fanfold", FANFOLD)],
        cwd=shell.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def full() -> str:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    return "/dev/full"


@pytest.mark.parametrize("arguments", ["--version", "--help", "verify nowhere --json"])
def test_a_full_standard_output_is_said(shell: Shell, full: str, arguments: str) -> None:
    ended = in_shell(shell, f"fanfold {arguments} > {full}")

    assert ended.code in (1, 2)
    assert "fanfold: Standard output can't be written (No space left on device)." in ended.err
    assert "Traceback" not in ended.err
    assert "Exception ignored" not in ended.err


def test_a_run_is_published_though_nothing_of_it_can_be_shown(shell: Shell, full: str) -> None:
    shell.write("a.txt")
    run = "fanfold run copy.py a.txt -o out --workers 1 --run-id"

    silent = in_shell(shell, f"{run} r1 --json 2> {full}")
    without_streams = in_shell(shell, f"{run} r2 --json <&- >&- 2>&-")

    assert (silent.code, without_streams.code) == (0, 1)
    assert silent.json["status"] == "published"
    assert shell.result("r1") == shell.result("r2") == "one\n"

    to_full = in_shell(shell, f"{run} r1 --json > {full}")
    closed = in_shell(shell, f"{run} r1 >&-")
    assert (to_full.code, closed.code) == (1, 1)
    assert "Standard output can't be written (No space left on device)." in to_full.err
    assert "Standard output is closed" in closed.err
    for ended in (to_full, closed):
        assert "Run r1 is published all the same: " in ended.err


def test_a_reader_that_has_gone_is_no_error_to_speak_of(shell: Shell) -> None:
    ended = in_shell(shell, "(fanfold --help; echo code $? >&2) | true")

    assert ended.err in ("code 0\n", "code 1\n")


# ------------------------------------------------------------------------------------------------
# Looking after runs
# ------------------------------------------------------------------------------------------------


def test_a_run_that_can_not_be_read_does_not_keep_others_from_being_cleaned(shell: Shell) -> None:
    shell.write("a.txt")
    for run_id in ("r1", "r2", "r3"):
        assert shell.run("a.txt", "--run-id", run_id).code == 0
    (shell.folder / "out/copy/runs/r1/run.json").write_text("{")
    for path in (shell.folder / "out/copy/runs").rglob("*"):
        os.utime(path, (0, 0))

    ended = shell.call("clean", "out")

    assert ended.code == 1
    assert ended.err.startswith("copy r1: ")
    assert [line.split(":")[0] for line in ended.out.splitlines()[:-1]] == ["copy r2", "copy r3"]


def test_a_traceback_is_shown_when_it_is_asked_for(
    shell: Shell, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*of: object, **more: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(upkeep, "verify_command", broken)
    from coordinator.cli import main

    found = []
    for debug in ([], ["--debug"]):
        monkeypatch.setattr(sys, "argv", ["fanfold", "verify", "x", *debug])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 1
        found.append(capfd.readouterr().err)

    plain, debugged = found
    assert "Traceback" not in plain
    assert plain.startswith("fanfold: ZeroDivisionError: by zero. This is a defect")
    assert "Traceback" in debugged
    assert debugged.endswith(plain)

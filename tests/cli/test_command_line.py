"""What a person meets on the command line: exit codes, one line that helps, and odd names."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import COPY_JOB, Shell

# ------------------------------------------------------------------------------------------------
# A run that ends well
# ------------------------------------------------------------------------------------------------


def test_json_is_one_object_with_everything_a_script_needs(shell: Shell) -> None:
    shell.write("a.txt", "one\nbad\nthree\n")

    ended = shell.run("a.txt", "--run-id", "r1", "--json")

    assert ended.code == 0
    assert ended.json.keys() == {
        *("run_id", "status", "results", "manifest", "records_in", "records_out"),
        *("quarantined", "shards", "waves", "seconds"),
    }
    assert (ended.json["run_id"], ended.json["status"]) == ("r1", "published")
    assert (ended.json["records_in"], ended.json["records_out"]) == (3, 2)
    assert ended.json["quarantined"] == 1
    assert [Path(result).read_text() for result in ended.json["results"]] == ["one\nthree\n"]
    assert Path(ended.json["manifest"]).is_file()


def test_a_run_ends_with_a_table_and_the_path_of_its_result(shell: Shell) -> None:
    shell.write("a.txt")

    ended = shell.run("a.txt", "--run-id", "r1")

    assert ended.code == 0
    assert ended.out.splitlines()[-1] == str(shell.folder / "out/copy/results/r1/copy.txt")
    assert "1 in, 1 out" in ended.out


def test_a_published_run_says_so_and_is_left_alone(shell: Shell) -> None:
    shell.write("a.txt")
    assert shell.run("a.txt", "--run-id", "r1").code == 0
    before = files_below(shell.folder / "out")

    again = shell.run("a.txt", "--run-id", "r1")
    as_json = shell.run("a.txt", "--run-id", "r1", "--json")

    assert again.code == as_json.code == 0
    assert "was published before" in again.out
    assert as_json.json["status"] == "published"
    assert files_below(shell.folder / "out") == before


# ------------------------------------------------------------------------------------------------
# A run whose quarantined records are tried again
# ------------------------------------------------------------------------------------------------


def test_what_a_wrong_map_has_quarantined_is_done_again_and_nothing_else(shell: Shell) -> None:
    share = COPY_JOB.replace("tolerated=1", "tolerated=0.3, shard_bytes=8")
    logged = share.replace("each(line):", "each(line):\n    print('mapped', line)")
    shell.write("copy.py", logged)
    shell.write("a.txt", "one\nthree\nbad\nfive\nbad\nnine\n")
    failed = shell.run("a.txt", "--run-id", "r1")
    assert failed.code == 1
    assert "2 records were quarantined and the job tolerates 30.00% of 6" in failed.err
    assert f"The first is {shell.folder}/a.txt at 10: ValueError: a bad line (" in failed.err

    shell.write("copy.py", logged.replace('startswith("bad")', 'startswith("worse")'))
    as_before = shell.run("a.txt", "--run-id", "r1")
    redone = shell.run("a.txt", "--run-id", "r1", "--redo", "quarantined")

    assert as_before.code == 1
    assert redone.code == 0, redone.err
    assert shell.result("r1/" + result_folder(shell)) == "one\nthree\nbad\nfive\nbad\nnine\n"
    mapped = [line for line in redone.err.splitlines() if line.startswith("mapped")]
    assert "mapped bad" in mapped
    assert "mapped one" not in mapped
    assert shell.call("verify", "out/copy/runs/r1").code == 0


def result_folder(shell: Shell) -> str:
    """Below the run's results: the draft, of a run that was drafted anew."""
    [folder] = (shell.folder / "out/copy/results/r1").iterdir()
    return folder.name


def test_only_a_run_that_was_begun_and_is_not_published_can_be_redone(shell: Shell) -> None:
    shell.write("a.txt")
    fresh = shell.run("a.txt", "--run-id", "r1", "--redo", "quarantined")
    assert shell.run("a.txt", "--run-id", "r1").code == 0
    published = shell.run("a.txt", "--run-id", "r1", "--redo", "quarantined")
    other = shell.run("a.txt", "--run-id", "r1", "--redo", "everything")

    assert (fresh.code, published.code, other.code) == (2, 2, 2)
    assert "takes up a run that was begun" in fresh.err
    assert "Run r1 of job copy is published: what it quarantined stays so" in published.err


def files_below(folder: Path) -> dict[str, int]:
    return {
        str(path): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and ".fanfold" not in path.parts
    }


def test_the_newest_result_is_found_by_its_pointer(shell: Shell) -> None:
    shell.write("a.txt")
    for run_id in ("r1", "r2"):
        assert shell.run("a.txt", "--run-id", run_id).code == 0

    latest = json.loads((shell.folder / "out/copy/latest.json").read_text())

    assert latest["run_id"] == "r2"
    assert (shell.folder / "out" / latest["manifest"]).is_file()


def test_a_run_is_proven_by_what_is_published_when_all_else_has_expired(shell: Shell) -> None:
    shell.write("a.txt")
    assert shell.run("a.txt", "--run-id", "r1").code == 0
    shutil.rmtree(shell.folder / "out/copy/runs")

    for folder in ("runs", "published"):
        proven = shell.call("verify", f"out/copy/{folder}/r1")
        assert proven.code == 0, proven.err
        assert "Run r1 of job copy is proven" in proven.out

    (shell.folder / "out/copy/results/r1/copy.txt").write_text("other\n")
    assert shell.call("verify", "out/copy/published/r1").code == 1


def test_a_proven_run_and_a_damaged_one(shell: Shell) -> None:
    shell.write("a.txt")
    shell.run("a.txt", "--run-id", "r1")

    proven = shell.call("verify", "out/copy/runs/r1")
    assert proven.code == 0
    assert "is proven: 1 objects, 4 bytes" in proven.out
    assert shell.call("verify", "out/copy/runs/r1", "--json").json["status"] == "proven"

    result = shell.folder / "out/copy/results/r1/copy.txt"
    result.write_text("two\n")
    damaged = shell.call("verify", "out/copy/runs/r1")
    assert damaged.code == 1
    assert damaged.out == f"{result}: the file's checksum differs\n"
    as_json = shell.call("verify", "out/copy/runs/r1", "--json")
    assert as_json.code == 1
    assert as_json.json["findings"] == [
        {"where": str(result), "problem": "the file's checksum differs"}
    ]


def test_a_new_job_runs_and_so_does_its_test(shell: Shell) -> None:
    made = shell.call("new", "my-sales")
    assert made.code == 0

    shell.write("events.jsonl", '{"kind": "sale", "amount": 2}\n')
    ended = shell.call("run", "my_sales", "events.jsonl", "--workers", "1", "--json")
    assert ended.code == 0
    assert pytest.main(["-q", "-p", "no:cacheprovider", "tests/jobs/test_my_sales.py"]) == 0

    again = shell.call("new", "my-sales")
    assert again.code == 2
    assert "exists already" in again.err


# ------------------------------------------------------------------------------------------------
# Refused before anything is begun: exit code 2
# ------------------------------------------------------------------------------------------------


def refused(shell: Shell, *arguments: str, job: str = "copy.py") -> str:
    """Run what must be refused; gives the one line that says why, and sees that nothing began."""
    ended = shell.run(*arguments, job=job)
    as_json = shell.run(*arguments, "--json", job=job)

    assert ended.code == as_json.code == 2
    assert ended.out == ""
    assert as_json.json["status"] == "refused"
    assert not [path for path in files_below(shell.folder / "out") if path.endswith("run.json")]
    [line] = ended.err.splitlines()
    assert as_json.json["message"] in line
    return line


@pytest.mark.parametrize("pattern", ["none.txt", "none/*.txt", "**/*.none", "empty"])
def test_no_input_is_said(shell: Shell, pattern: str) -> None:
    (shell.folder / "empty").mkdir()

    assert "No input matches" in refused(shell, pattern)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import nothing_like_it\n", "line 1 can't be imported: ModuleNotFoundError"),
        (COPY_JOB.replace("tolerated=1", "tolerated=-1"), r"line 3: Limits(tolerated"),
        (COPY_JOB.replace("Lines()", "Text()"), "line 3: Job copy: source must be"),
        (COPY_JOB.replace('"copy"', '"Copy"'), "line 3: Job name 'Copy' can't be used"),
        (COPY_JOB.replace("def each(line)", "def each()"), "must take 1 or 2 parameter(s)"),
        ("", "declares no Job"),
    ],
)
def test_a_job_that_is_wrong_is_named_with_file_and_fix(shell: Shell, text: str, says: str) -> None:
    shell.write("a.txt")
    shell.write("copy.py", text)

    line = refused(shell, "a.txt")

    assert says in line
    assert "copy.py" in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a.txt", "--run-id", "../x"], "Run id '../x' can't be used"),
        (["a.txt", "--run-id", "a\n"], "can't be used"),
        (["a.txt", "--shard-bytes", "lots"], "'lots' is no size"),
        (["a.txt", "--shard-bytes", "0"], "'0' is no size"),
        (["s3://bucket/x"], "deploy the job to read S3"),
        ([""], "Invalid value for 'INPUT...': it is empty"),
        (["a.txt", ""], "Invalid value for 'INPUT...': it is empty"),
        (["a.txt", "--run-id", ""], "Invalid value for '--run-id': it is empty"),
        (["a.txt", "--shard-bytes="], "Invalid value for '--shard-bytes': it is empty"),
        (["a.txt", "--output", ""], "Invalid value for '--output' / '-o': it is empty"),
        (["a.txt", "--shard-items", "0"], "Invalid value for '--shard-items'"),
        (["a.txt", "--no-such-option"], "No such option: --no-such-option"),
        ([], "Missing argument 'INPUT...'. See fanfold run --help."),
        (["a.zst"], "a.zst can't be read as Lines"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named(
    shell: Shell, arguments: list[str], says: str
) -> None:
    shell.write("a.txt")
    shell.write("a.zst")

    assert says in refused(shell, *arguments)


def test_an_unknown_job_is_answered_with_those_there_are(shell: Shell) -> None:
    shell.write("jobs/one.py", COPY_JOB)

    assert "(there: one)" in refused(shell, "a.txt", job="two")


@pytest.mark.parametrize("folder", ["nowhere", "out", "out/copy/runs", "out/copy/runs/none"])
def test_a_folder_that_is_no_run_cannot_be_verified(shell: Shell, folder: str) -> None:
    ended = shell.call("verify", folder)

    assert ended.code == 2
    assert "is no run: give" in ended.err


def test_the_same_id_for_other_work_is_refused(shell: Shell) -> None:
    shell.write("a.txt")
    shell.write("b.txt")
    assert shell.run("a.txt", "--run-id", "r1").code == 0

    for arguments, says in [
        (["b.txt"], "begun over other inputs"),
        (["a.txt", "b.txt"], "begun over other inputs"),
        (["a.txt", "--shard-bytes", "1"], "begun with another shard size"),
        (["a.txt", "--shard-items", "1"], "was begun with --shard-items 100"),
    ]:
        ended = shell.run(*arguments, "--run-id", "r1")
        assert ended.code == 2
        assert says in ended.err
    shell.write("copy.py", COPY_JOB.replace("sink=Text()", "merge='parts'"))
    ended = shell.run("a.txt", "--run-id", "r1")
    assert ended.code == 2
    assert "another declaration (differing: merge, sink)" in ended.err
    assert "take the run up" not in ended.err


# ------------------------------------------------------------------------------------------------
# A run that fails: exit code 1, and the command that takes it up
# ------------------------------------------------------------------------------------------------


def test_more_bad_records_than_tolerated_fail_the_run(shell: Shell) -> None:
    shell.write("a.txt", "one\nbad 1\nbad 2\n")

    ended = shell.run("a.txt", "--run-id", "r1")

    assert ended.code == 1
    assert "2 records were refused, and the job tolerates 1" in ended.err
    assert f"{shell.folder}/a.txt at 4: ValueError: a bad line" in ended.err
    *_, lead, command = ended.err.splitlines()
    assert lead == "Mend the job first; then take the run up again:"
    assert command == "  fanfold run copy.py --workers 1 --output out a.txt --run-id r1"
    assert not (shell.folder / "out/copy/latest.json").exists()
    as_json = shell.run("a.txt", "--run-id", "r1", "--json").json
    assert (as_json["error"], as_json["run_id"]) == ("ToleranceExceeded", "r1")

    shell.write("copy.py", COPY_JOB.replace("tolerated=1", "tolerated=2"))
    assert shell.run("a.txt", "--run-id", "r1").code == 0
    assert shell.result("r1") == "one\n"


def test_results_of_a_wrong_type_are_named(shell: Shell) -> None:
    shell.write("a.txt", "one\ntwo\nthree\n")
    shell.write("copy.py", COPY_JOB.replace("yield line", "yield {'line': line}"))

    ended = shell.run("a.txt")

    assert ended.code == 1
    assert "Unencodable: A Text sink takes str, not dict" in ended.err
    assert not (shell.folder / "out/copy/latest.json").exists()


@pytest.mark.parametrize("obstacle", ["out", "out/copy", "out/copy/runs", "out/.fanfold"])
def test_a_file_where_the_output_must_go_is_named(shell: Shell, obstacle: str) -> None:
    shell.write("a.txt")
    shell.write(obstacle, "in the way")

    ended = shell.run("a.txt", "--run-id", "r1")

    assert ended.code == 2
    assert "can't be written" in ended.err
    (shell.folder / obstacle).unlink()
    assert shell.run("a.txt", "--run-id", "r1").code == 0


def test_a_map_that_changes_its_own_input_is_found_out(shell: Shell) -> None:
    source = shell.write("a.txt", "one\ntwo\n")
    shell.write("copy.py", COPY_JOB.replace("yield line", f"open({str(source)!r}, 'a').write('x')"))

    ended = shell.run("a.txt", "--json")

    assert ended.code == 1
    assert ended.json["error"] == "InputChanged"
    assert str(source) in ended.json["message"]


def test_a_job_that_prints_does_not_spoil_the_json(shell: Shell) -> None:
    shell.write("a.txt")
    shell.write("copy.py", COPY_JOB.replace("yield line", "print('noise'); yield line"))

    ended = shell.run("a.txt", "--json")

    assert ended.json["records_out"] == 1
    assert "noise" in ended.err


# ------------------------------------------------------------------------------------------------
# Names
# ------------------------------------------------------------------------------------------------

ODD_NAMES = [
    "with space.txt",
    "-leading dash",
    "new\nline",
    "tab\t",
    "é",
    "e\u0301",
    "漢字",
    "[brackets]*?",
    ".hidden",
    "...",
    "quo'te\"",
    "back\\slash",
    "%s{}$HOME",
]


def test_files_with_any_names_are_read(shell: Shell) -> None:
    for name in ODD_NAMES:
        shell.write(f"in/{name}", f"{name!r}\n")

    ended = shell.run("in", "--run-id", "r1")

    assert ended.code == 0
    assert sorted(shell.result("r1").splitlines()) == sorted(map(repr, ODD_NAMES))
    assert shell.call("verify", "out/copy/runs/r1").code == 0


def test_files_with_odd_names_can_be_named(shell: Shell) -> None:
    for name in ("-f", "[a]", "a b"):
        shell.write(name, f"{name}\n")

    ended = shell.run("--run-id", "r1", "--", "-f", "[a]", "a b")

    assert ended.code == 0
    assert shell.result("r1") == "-f\n[a]\na b\n"


def test_a_file_named_twice_is_read_once(shell: Shell) -> None:
    shell.write("in/a.txt")

    absolute = f"{shell.folder}/in/../in/a.txt"
    ended = shell.run("in", "in/a.txt", "in/*.txt", "./in/../in/a.txt", absolute, "--json")

    assert ended.json["records_in"] == 1


def test_links_are_followed_and_dots_mean_what_they_mean_to_the_system(shell: Shell) -> None:
    shell.write("deep/er/inner.txt", "inner\n")
    shell.write("deep/beside.txt", "beside\n")
    shell.write("beside.txt", "wrong\n")
    (shell.folder / "link").symlink_to("deep/er")
    (shell.folder / "link.txt").symlink_to("deep/beside.txt")

    assert shell.run("link", "--run-id", "r1").code == 0
    assert shell.run("link.txt", "--run-id", "r2").code == 0
    assert shell.run("link/../beside.txt", "--run-id", "r3").code == 0

    assert shell.result("r1") == "inner\n"
    assert shell.result("r2") == "beside\n"
    assert shell.result("r3") == "beside\n"


def test_what_cannot_be_read_as_a_file_is_refused_by_name(shell: Shell) -> None:
    shell.write("in/a.txt")
    os.mkfifo(shell.folder / "in" / "pipe")
    assert "in/pipe' is no regular file" in shell.run("in").err
    (shell.folder / "in" / "pipe").unlink()

    (shell.folder / "in" / "dangling").symlink_to("nowhere")
    ended = shell.run("in")
    assert ended.code == 2
    assert "in/dangling' is a symbolic link to nothing" in ended.err
    (shell.folder / "in" / "dangling").unlink()

    (shell.folder / "in" / "loop").symlink_to(".")
    assert "in/loop leads back into a folder that it lies in" in shell.run("in").err
    (shell.folder / "in" / "loop").unlink()

    Path(os.fsdecode(os.fsencode(shell.folder / "in") + b"/\xff")).write_text("x")
    ended = shell.run("in")
    assert ended.code == 2
    assert "not UTF-8" in ended.err


def test_the_output_is_never_its_own_input(shell: Shell) -> None:
    shell.write("a.txt")

    assert shell.run(".", "--run-id", "r1").code == 0
    assert shell.run(".", "--run-id", "r2").code == 0

    assert shell.result("r1") == shell.result("r2")


BLOB_JOB = """\
from coordinator import Blob, Job, Lines, Objects

job = Job(name="copy", source=Lines(), sink=Objects())

@job.map
def each(line):
    yield Blob(eval(line), b"body")
"""


@pytest.mark.parametrize("name", ["../../../escape", "a/../../escape"])
def test_a_result_never_escapes_the_output(shell: Shell, name: str) -> None:
    shell.write("names.txt", f"{name!r}\n")
    shell.write("copy.py", BLOB_JOB)

    ended = shell.run("names.txt")

    assert ended.code == 1
    assert "Unencodable" in ended.err
    assert not list(shell.folder.parent.rglob("escape"))


def test_results_may_have_any_other_names(shell: Shell) -> None:
    names = ["with space", "-dash", "a/b/c.txt", "漢字", "...", "a/..."]
    shell.write("names.txt", "".join(f"{name!r}\n" for name in names))
    shell.write("copy.py", BLOB_JOB)

    ended = shell.run("names.txt", "--run-id", "r1")

    assert ended.code == 0
    folder = shell.folder / "out/copy/results/r1"
    assert sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
    ) == (sorted(names))


@pytest.mark.parametrize("names", [["A", "a"], ["a", "a/b"], ["same", "same"]])
def test_results_that_cannot_lie_beside_each_other_are_named(
    shell: Shell, names: list[str]
) -> None:
    shell.write("names.txt", "".join(f"{name!r}\n" for name in names))
    shell.write("copy.py", BLOB_JOB)

    ended = shell.run("names.txt")

    assert ended.code == 1
    assert "name" in ended.err
    assert not (shell.folder / "out/copy/latest.json").exists()


def test_an_output_folder_may_have_any_name(shell: Shell) -> None:
    shell.write("a.txt")

    ended = shell.call(
        "run", "copy.py", "a.txt", "--workers", "1", "--output", "-o u\nt/é", "--json"
    )

    assert ended.code == 0
    assert Path(ended.json["results"][0]).is_file()


def test_an_output_that_was_moved_is_still_proven(shell: Shell) -> None:
    shell.write("a.txt")
    shell.run("a.txt", "--run-id", "r1")

    shutil.move(shell.folder / "out", shell.folder / "elsewhere")

    assert shell.call("verify", "elsewhere/copy/runs/r1").code == 0

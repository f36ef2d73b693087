"""A job that can't be loaded is named with its file, its line and the fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.errors import JobInvalid
from coordinator.loading import find_job, job_names, load_job

GOOD = """\
from coordinator import Job, Lines
job = Job(name="good", source=Lines())
@job.map
def each(line):
    yield line
"""


def write(folder: Path, text: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_job_is_found_by_its_path(tmp_path: Path) -> None:
    loaded = load_job(str(write(tmp_path, GOOD)))

    assert loaded.job.name == "good"
    assert loaded.path == tmp_path / "mine.py"


def test_a_job_is_found_by_its_name_in_the_folder_of_jobs(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "flight_delays.py")

    assert load_job("flight_delays", tmp_path).job.name == "good"
    assert load_job("flight-delays", tmp_path).job.name == "good"


def test_the_version_of_the_code_changes_with_the_file(tmp_path: Path) -> None:
    before = load_job(str(write(tmp_path, GOOD))).program.version
    same = load_job(str(write(tmp_path, GOOD))).program.version
    after = load_job(str(write(tmp_path, GOOD + "# more\n"))).program.version

    assert before == same
    assert before != after


def test_a_job_may_import_what_lies_beside_it(tmp_path: Path) -> None:
    write(tmp_path, "WORD = 'helped'\n", "fanfold_test_helper.py")

    loaded = load_job(str(write(tmp_path, "from fanfold_test_helper import WORD\n" + GOOD)))

    assert loaded.job.name == "good"


def test_an_unknown_name_is_answered_with_those_there_are(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "one.py")
    write(tmp_path, GOOD, "two.py")
    write(tmp_path, "", "_helper.py")

    with pytest.raises(JobInvalid, match=r"no job 'three' in .*\(there: one, two\)"):
        load_job("three", tmp_path)
    assert job_names(tmp_path) == ["one", "two"]


@pytest.mark.parametrize("reference", ["../one", "a/b", "/etc", "a\0b"])
def test_a_name_is_no_path(reference: str, tmp_path: Path) -> None:
    with pytest.raises(JobInvalid, match=r"give a name in .* or a path that ends in \.py"):
        find_job(reference, tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobInvalid, match=r"no file .*none\.py"):
        load_job(str(tmp_path / "none.py"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import os\nimport nothing_like_it\n", r"mine\.py, line 2 can't be imported: ModuleNot"),
        ("x = 1\ny = = 2\n", r"mine\.py, line 2 can't be imported: SyntaxError"),
        ("\n\n1 / 0\n", r"mine\.py, line 3 can't be imported: ZeroDivisionError: division"),
        ("raise SystemExit(3)\n", r"mine\.py, line 1 can't be imported: SystemExit: 3"),
        (
            "from coordinator import Job, Lines\n\njob = Job(name='No', source=Lines())\n",
            r"mine\.py, line 3: Job name 'No' can't be used: take lower case",
        ),
        (
            "from coordinator import Job, Lines, Limits\n"
            "job = Job(name='a', source=Lines(), limits=Limits(shard_bytes=0))\n",
            r"mine\.py, line 2: Limits\(shard_bytes=0\): Input should be greater than or equal to 1",
        ),
        (
            "from coordinator import Csv, Job\njob = Job(name='a', source=Csv(delimiter=';;'))\n",
            r"mine\.py, line 2: Csv\(delimiter=';;'\): .*at most 1 character",
        ),
        (GOOD + "@job.map\ndef again(line): ...\n", r"mine\.py, line 6: Job good has two maps"),
        ("x = 1\n", r"mine\.py declares no Job; a module declares one: job = Job\("),
        (GOOD + "other = Job(name='b', source=Lines())\n", r"mine\.py declares 2 jobs"),
        (
            "from coordinator import Job, Lines\njob = Job(name='a', source=Lines())\n",
            r"mine\.py: Job a has no map: decorate a function",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_file_and_line(
    text: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(JobInvalid, match=says) as caught:
        load_job(str(write(tmp_path, text)))

    assert "\n" not in str(caught.value)


def test_one_job_under_two_names_is_one_job(tmp_path: Path) -> None:
    assert load_job(str(write(tmp_path, GOOD + "alias = job\n"))).job.name == "good"


def test_a_file_that_cannot_be_read_as_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(JobInvalid, match=r"mine\.py.* can't be imported: SyntaxError"):
        load_job(str(path))

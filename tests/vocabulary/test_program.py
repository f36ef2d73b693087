"""The version of a job's code changes with everything that the code consists of."""

from __future__ import annotations

import os
import py_compile
import sys
import zipfile
from pathlib import Path

import pytest

from coordinator.errors import CodeChanged, JobInvalid
from coordinator.loading import load_job
from coordinator.loading.program import program_of

JOB = """
import json
from coordinator import Job, Lines
import helper
job = Job(name="a", source=Lines(), data=("rates.json", "tables"), requirements=["pydantic"])
@job.map
def lines(line):
    import lazy
    from package.inner import deep
    yield line
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "mine.py": JOB,
        "helper.py": "import second\n",
        "second.py": "X = 1\n",
        "lazy.py": "Y = 1\n",
        "package/__init__.py": "",
        "package/inner.py": "def deep(): ...\n",
        "package/words.txt": "a b",
        "rates.json": "{}",
        "tables/one.csv": "1",
        "unrelated.py": "Z = 1\n",
    }
    for name, body in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(body)
    return tmp_path


def version(folder: Path) -> str:
    return load_job(str(folder / "mine.py")).program.version


@pytest.mark.parametrize(
    "name",
    [
        "mine.py",
        "helper.py",
        "second.py",
        "lazy.py",
        "package/inner.py",
        "package/words.txt",
        "rates.json",
        "tables/one.csv",
    ],
)
def test_every_file_of_a_job_is_part_of_its_version(folder: Path, name: str) -> None:
    before = version(folder)
    path = folder / name
    path.write_bytes(path.read_bytes() + b"\n\n")

    assert version(folder) != before


def test_a_file_that_the_job_does_not_use_is_not(folder: Path) -> None:
    before = version(folder)
    (folder / "unrelated.py").write_text("Z = 2\n")

    assert version(folder) == before


def test_the_same_code_elsewhere_is_the_same_version(folder: Path, tmp_path: Path) -> None:
    before = version(folder)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        target = moved / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())

    assert version(moved) == before


def test_requirements_are_part_of_it(folder: Path) -> None:
    module = folder / "mine.py"

    assert program_of(module).version != program_of(module, (), ["pydantic"]).version


def test_a_file_that_is_edited_under_a_running_job_is_noticed_though_its_mtime_is_restored(
    folder: Path,
) -> None:
    program = load_job(str(folder / "mine.py")).program
    program.check()
    path = folder / "second.py"
    times = path.stat()
    path.write_text("X = 2\n")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    with pytest.raises(CodeChanged, match=r"second\.py was changed while the job was running"):
        program.check()


def test_the_module_that_is_run_is_the_one_that_was_read(folder: Path) -> None:
    """Not one of a cache that looks as new: same size, same time."""
    path = folder / "mine.py"
    times = path.stat()
    load_job(str(path))
    path.write_text(JOB.replace('name="a"', 'name="b"'))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert load_job(str(path)).job.name == "b"


def test_a_helper_is_run_as_it_is_and_not_as_a_cache_beside_it_has_it(folder: Path) -> None:
    path, helper = folder / "mine.py", folder / "shown.py"
    path.write_text(JOB.replace("import helper", "import shown").replace('"a"', "shown.NAME"))
    helper.write_text('NAME = "old"\n')
    py_compile.compile(str(helper))
    times = helper.stat()
    helper.write_text('NAME = "new"\n')
    os.utime(helper, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert load_job(str(path)).job.name == "new"
    del sys.modules["shown"]


def appears(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("W = 1\n")


@pytest.mark.parametrize(
    "name", ["helper/__init__.py", "package/more.py", "tables/two.csv", "package/deep/x.py"]
)
def test_a_file_that_appears_under_a_running_job_is_noticed(folder: Path, name: str) -> None:
    program = load_job(str(folder / "mine.py")).program
    appears(folder, "unrelated2.py")
    program.check()
    appears(folder, name)

    with pytest.raises(CodeChanged, match="was changed while the job was running"):
        program.check()


def test_a_helper_that_was_missing_and_appears_is_noticed(folder: Path) -> None:
    path = folder / "mine.py"
    path.write_text(f"try:\n    import absent\nexcept ImportError:\n    pass\n{JOB}")
    program = load_job(str(path)).program
    appears(folder, "absent.py")

    with pytest.raises(CodeChanged, match=r"absent\.py"):
        program.check()


@pytest.mark.parametrize("name", ["tables/empty/x.csv", "bare/more.py"])
def test_a_file_that_appears_where_there_was_none_is_noticed(folder: Path, name: str) -> None:
    path = folder / "mine.py"
    path.write_text(f"try:\n    import bare.more\nexcept ImportError:\n    pass\n{JOB}")
    for empty in ("tables/empty", "bare"):
        (folder / empty).mkdir()
    program = load_job(str(path)).program
    appears(folder, "unrelated2.py")
    program.check()
    appears(folder, name)

    with pytest.raises(CodeChanged, match="was changed while the job was running"):
        program.check()


def test_a_folder_in_which_a_glob_finds_nothing_yet_is_watched(folder: Path) -> None:
    (folder / "tables" / "empty").mkdir()
    program = program_of(folder / "mine.py", ["tables/**/*.csv"])
    appears(folder, "tables/empty/x.txt")
    program.check()
    appears(folder, "tables/empty/x.csv")

    with pytest.raises(CodeChanged, match=r"x\.csv"):
        program.check()


def test_a_job_may_import_from_an_archive_beside_it(folder: Path) -> None:
    with zipfile.ZipFile(folder / "vendored.zip", "w") as archive:
        archive.writestr("vendored.py", "NAME = 'zipped'\n")
    text = "import sys\nsys.path.append(__file__.replace('mine.py', 'vendored.zip'))\nimport vendored\n"
    (folder / "mine.py").write_text(text + JOB.replace('"a"', "vendored.NAME"))

    assert load_job(str(folder / "mine.py")).job.name == "zipped"


def test_what_lies_behind_links_and_what_has_no_source_is_part_of_it(folder: Path) -> None:
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "three.csv").write_text("3")
    (folder / "tables" / "linked").symlink_to(elsewhere)
    (folder / "tables" / "circle").symlink_to(folder / "tables")
    (folder / "helper.py").unlink()
    py_compile.compile(str(folder / "second.py"), str(folder / "helper.pyc"))
    sys.modules.pop("helper", None)

    files = {Path(path).name for path, _ in program_of(folder / "mine.py", ("tables",)).files}

    assert {"three.csv", "helper.pyc"} <= files


def test_data_may_be_globs_and_what_is_no_file_is_passed_over(folder: Path) -> None:
    os.mkfifo(folder / "tables" / "pipe.csv")
    (folder / "tables" / "gone.csv").symlink_to("nowhere")

    files = [Path(path).name for path, _ in program_of(folder / "mine.py", ("tables/*.csv",)).files]

    assert "one.csv" in files
    assert not {"pipe.csv", "gone.csv"} & set(files)


@pytest.mark.parametrize("name", ["missing.json", "../outside.json", "tables/*.none"])
def test_data_that_is_not_there_or_lies_outside_is_refused(folder: Path, name: str) -> None:
    (folder.parent / "outside.json").write_text("{}")
    path = folder / "mine.py"
    path.write_text(JOB.replace("rates.json", name))

    with pytest.raises(JobInvalid, match=r"names .* as data"):
        load_job(str(path))

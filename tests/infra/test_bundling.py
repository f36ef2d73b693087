"""Bundles: complete, compiled, the same every time, within Lambda's limit, installed once."""

from __future__ import annotations

import marshal
import os
import subprocess
import sys
import zipfile
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path
from typing import Any

import pytest

from coordinator.errors import JobInvalid, UsageError
from coordinator.loading import LoadedJob, load_job
from infra import bundling
from infra.bundling import Bundler, BundleTooLarge, check_size, job_module
from infra.bundling.dependencies import Dependencies
from tests.infra.conftest import write_jobs, written

HERE = ".".join(map(str, sys.version_info[:2]))
NOWHERE = "3.99"


class Uv:
    """Counts how often uv is run for packages; installs one small file without it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.commands: list[list[str]] = []
        self._run = subprocess.run
        monkeypatch.setattr(subprocess, "run", self.run)

    def run(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        if "pip" not in command:
            return self._run(command, **options)
        self.commands.append(command)
        if "install" in command:
            package = Path(command[command.index("--target") + 1]) / "dependency"
            (package / "__pycache__").mkdir(parents=True)
            (package / "__init__.py").write_text("ONE = {'a', 'b', 'c'} & {'b'}\n")
            (package / "template.py").write_text("{% not Python %}")
            (package / "__pycache__" / "x.cpython-313.pyc").write_text("")
            (package.parent / "bin").mkdir()
            (package.parent / "bin" / "tool").write_text("")
        return subprocess.CompletedProcess(command, 0, stdout="pinned==1\n", stderr="")


@pytest.fixture
def uv(monkeypatch: pytest.MonkeyPatch) -> Uv:
    return Uv(monkeypatch)


def one_job(tmp_path: Path, name: str = "words", declaration: str = "") -> LoadedJob:
    jobs = write_jobs(tmp_path / "jobs", {name: declaration})
    return load_job(str(jobs / f"{name}.py"))


def bundler(tmp_path: Path, cache: str = "cache", python: str = HERE) -> Bundler:
    for package in ("coordinator", "functions"):
        (tmp_path / package).mkdir(exist_ok=True)
        (tmp_path / package / "__init__.py").write_text("")
    pins = tmp_path / "functions.txt"
    pins.write_text("dependency==1 --hash=sha256:0\n")
    packages = {name: tmp_path / name for name in ("coordinator", "functions")}
    return Bundler(cache=tmp_path / cache, requirements=pins, packages=packages, python=python)


def names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def sources(path: Path) -> list[str]:
    return [name for name in names(path) if not name.endswith(".pyc")]


PROGRAM = {
    "words.py": """
import rates
from coordinator import Job, Lines
from geo.towns import town

job = Job(name="words", source=Lines(), data=["tables/*.csv", "models"])

@job.map
def words(line):
    import later
    yield line
""",
    "rates.py": "from _deeper import RATE\n",
    "_deeper.py": "RATE = 1\n",
    "later.py": "",
    "geo/__init__.py": "",
    "geo/towns.py": "from . import codes\n\ndef town(): pass\n",
    "geo/codes.py": "",
    "geo/map.json": "{}",
    "tables/a.csv": "a,b\n",
    "models/one/two.bin": "2",
}
OTHERS = {"tables/notes.txt": "", "_unused.py": "", "other.py": "import nowhere"}


def test_a_bundle_holds_what_the_job_consists_of_and_no_other_job(tmp_path: Path, uv: Uv) -> None:
    jobs = written(tmp_path / "jobs", {**PROGRAM, **OTHERS})
    loaded = load_job(str(jobs / "words.py"))
    made = bundler(tmp_path).bundle(loaded)
    assert names(made.path) == sorted(names(made.path))
    assert sources(made.path) == sorted(
        [
            "coordinator/__init__.py",
            "dependency/__init__.py",
            "dependency/template.py",
            "functions/__init__.py",
            *(f"jobs/{name}" for name in PROGRAM),
        ]
    )
    assert job_module(loaded.path) == "jobs.words"


def test_the_code_in_a_bundle_has_the_version_that_it_has_here(tmp_path: Path, uv: Uv) -> None:
    jobs = written(tmp_path / "jobs", {**PROGRAM, **OTHERS})
    loaded = load_job(str(jobs / "words.py"))
    with zipfile.ZipFile(bundler(tmp_path).bundle(loaded).path) as archive:
        archive.extractall(tmp_path / "task")
    there = load_job(str(tmp_path / "task" / "jobs" / "words.py"))
    assert there.program.version == loaded.program.version
    written(jobs, {"models/one/two.bin": "3"})
    assert load_job(str(jobs / "words.py")).program.version != loaded.program.version


def test_a_job_that_changes_while_it_is_bundled_is_refused(tmp_path: Path, uv: Uv) -> None:
    jobs = written(tmp_path / "jobs", PROGRAM)
    loaded = load_job(str(jobs / "words.py"))
    written(jobs, {"rates.py": "RATE = 2\n"})
    with pytest.raises(JobInvalid, match="was changed while it was being bundled"):
        bundler(tmp_path).bundle(loaded)
    assert not list((tmp_path / "cache").glob("*.zip"))


def test_the_same_sources_give_the_same_bytes(tmp_path: Path, uv: Uv) -> None:
    loaded = one_job(tmp_path)
    first = bundler(tmp_path, "one").bundle(loaded)
    os.utime(loaded.path, (1, 1))
    second = bundler(tmp_path, "other").bundle(load_job(str(loaded.path)))
    assert first.digest == second.digest
    assert first.path.read_bytes() == second.path.read_bytes()
    loaded.path.write_text(loaded.path.read_text() + "# changed\n")
    changed = load_job(str(loaded.path))
    assert bundler(tmp_path, "other").bundle(changed).digest != first.digest


def test_dependencies_are_installed_once_for_all_jobs_that_share_them(
    tmp_path: Path, uv: Uv
) -> None:
    made = bundler(tmp_path)
    made.bundle(one_job(tmp_path, "one"))
    made.bundle(one_job(tmp_path, "two"))
    assert len(uv.commands) == 1
    made.bundle(one_job(tmp_path, "three", 'requirements=["pillow"],'))
    assert [command[2] for command in uv.commands] == ["install", "compile", "install"]
    made.bundle(one_job(tmp_path, "four", 'requirements=["pillow"],'))
    assert len(uv.commands) == 3


def test_dependencies_are_wheels_for_the_functions_platform(tmp_path: Path, uv: Uv) -> None:
    bundler(tmp_path, python=bundling.PYTHON).bundle(one_job(tmp_path))
    (command,) = uv.commands
    text = " ".join(command)
    assert "--python-platform aarch64-manylinux_2_28 --python-version 3.13" in text
    assert "--only-binary :all:" in text
    assert "--require-hashes" in text


def test_what_can_not_be_installed_is_said_in_one_sentence(tmp_path: Path) -> None:
    loaded = one_job(tmp_path, declaration='requirements=["not a requirement"],')
    made = Dependencies(
        cache=tmp_path / "cache", requirements=None, platform=bundling.PLATFORM, python=HERE
    )
    with pytest.raises(JobInvalid) as caught:
        made.locked(loaded.job)
    assert "Job words with its requirements not a requirement can't be bundled" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").glob("**/*.txt"))


def test_too_much_code_is_refused_with_the_culprits(tmp_path: Path) -> None:
    files = {}
    for name, megabytes in (
        ("torch/lib.so", 150),
        ("torch/more.so", 50),
        ("numpy/x.so", 60),
        ("a.py", 0),
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.truncate(megabytes * 1024**2)
        files[name] = path
    with pytest.raises(BundleTooLarge) as caught:
        check_size("words", files)
    text = str(caught.value)
    assert "260.0 MB" in text
    assert "torch 200.0 MB, numpy 60.0 MB" in text
    assert isinstance(caught.value, UsageError)
    del files["numpy/x.so"]
    assert check_size("words", files) == 200 * 1024**2


def test_the_size_is_printed(tmp_path: Path, uv: Uv, capsys: pytest.CaptureFixture[str]) -> None:
    bundler(tmp_path).pack(one_job(tmp_path))
    assert capsys.readouterr().err == "words: 0.0 MB of 250 MB unpacked\n"


# Bytecode -----------------------------------------------------------------------------------------


def test_what_a_function_imports_is_compiled_and_never_held_against_its_source(
    tmp_path: Path, uv: Uv
) -> None:
    """The job's own code is loaded from its source, whose version a run is bound to."""
    with zipfile.ZipFile(bundler(tmp_path).bundle(one_job(tmp_path)).path) as archive:
        compiled = {
            name: archive.read(name) for name in archive.namelist() if name.endswith(".pyc")
        }
    assert list(compiled) == [
        cache_from_source(f"{package}/__init__.py")
        for package in ("coordinator", "dependency", "functions")
    ]
    for name, body in compiled.items():
        assert body[:4] == MAGIC_NUMBER
        assert int.from_bytes(body[4:8], "little") == 0b01  # by hash, unchecked: PEP 552
        package = name.split("/")[0]
        assert marshal.loads(body[16:]).co_filename == f"/var/task/{package}/__init__.py"


def test_without_the_functions_python_there_is_no_bytecode_and_it_is_said_once(
    tmp_path: Path, uv: Uv, capsys: pytest.CaptureFixture[str]
) -> None:
    made = bundler(tmp_path, python=NOWHERE)
    loaded = one_job(tmp_path)
    assert sources(made.bundle(loaded).path) == names(made.bundle(loaded).path)
    made.pack(loaded)
    made.pack(one_job(tmp_path, "other"))
    said = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in said] == [
        "words",
        "There is no Python 3.99 here (uv python install 3.99 gets one)",
        "other",
    ]


def test_bytecode_that_would_not_fit_is_left_out(
    tmp_path: Path, uv: Uv, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = one_job(tmp_path)
    whole = bundler(tmp_path).bundle(loaded)
    monkeypatch.setattr("infra.bundling.bundler.MOST_BYTES", whole.unpacked_bytes - 1)
    less = bundler(tmp_path).bundle(loaded)
    assert names(less.path) == sources(whole.path)
    assert less.uncompiled == "words: bytecode would not fit"

"""Bundles: complete, the same every time, within Lambda's limit, installed once."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from coordinator.errors import JobInvalid, UsageError
from coordinator.loading import LoadedJob, load_job
from infra import bundling
from infra.bundling import Bundler, BundleTooLarge, check_size, job_module
from tests.infra.conftest import OUR_JOBS, REPOSITORY, write_jobs

CACHE = REPOSITORY / "build" / "bundles"
ROLES = ("plan", "reconcile", "work", "bury", "publish")

TYPED = "typing-extensions==4.15.0"


class Uv:
    """Counts how often uv is run; installs one small file without it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.commands: list[list[str]] = []
        monkeypatch.setattr("infra.bundling.subprocess.run", self.run)

    def run(self, command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        if "install" in command:
            package = Path(command[command.index("--target") + 1]) / "dependency"
            (package / "__pycache__").mkdir(parents=True)
            (package / "__init__.py").write_text("")
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


def bundler(tmp_path: Path, cache: str = "cache") -> Bundler:
    for package in ("coordinator", "functions"):
        (tmp_path / package).mkdir(exist_ok=True)
        (tmp_path / package / "__init__.py").write_text("")
    pins = tmp_path / "functions.txt"
    pins.write_text("dependency==1 --hash=sha256:0\n")
    packages = {name: tmp_path / name for name in ("coordinator", "functions")}
    return Bundler(cache=tmp_path / cache, requirements=pins, packages=packages)


def names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_a_bundle_holds_one_job_and_its_helpers(tmp_path: Path, uv: Uv) -> None:
    loaded = one_job(tmp_path)
    write_jobs(tmp_path / "jobs", {"other": ""})
    (tmp_path / "jobs" / "_shared.py").write_text("")
    found = names(bundler(tmp_path).bundle(loaded).path)
    assert found == sorted(found)
    assert found == [
        "coordinator/__init__.py",
        "dependency/__init__.py",
        "functions/__init__.py",
        "jobs/_shared.py",
        "jobs/words.py",
    ]
    assert job_module(loaded.path) == "jobs.words"


def test_the_same_sources_give_the_same_bytes(tmp_path: Path, uv: Uv) -> None:
    loaded = one_job(tmp_path)
    first = bundler(tmp_path, "one").bundle(loaded)
    os.utime(loaded.path, (1, 1))
    second = bundler(tmp_path, "other").bundle(loaded)
    assert first.digest == second.digest
    assert first.path.read_bytes() == second.path.read_bytes()
    loaded.path.write_text(loaded.path.read_text() + "# changed\n")
    assert bundler(tmp_path, "other").bundle(loaded).digest != first.digest


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
    bundler(tmp_path).bundle(one_job(tmp_path))
    (command,) = uv.commands
    text = " ".join(command)
    assert "--python-platform aarch64-manylinux_2_28 --python-version 3.13" in text
    assert "--only-binary :all:" in text
    assert "--require-hashes" in text


def test_what_can_not_be_installed_is_said_in_one_sentence(tmp_path: Path) -> None:
    loaded = one_job(tmp_path, declaration='requirements=["not a requirement"],')
    made = Bundler(cache=tmp_path / "cache", packages={})
    with pytest.raises(JobInvalid) as caught:
        made._locked(loaded.job)
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


# The real thing -----------------------------------------------------------------------------------

IMPORTS = """
import sys
sys.path.insert(0, sys.argv[1])
from importlib import import_module
for role in sys.argv[2:]:
    module = import_module(f"functions.{role}")
    assert callable(module.handler)
    assert module.__file__.startswith(sys.argv[1])
from functions.settings import loaded_job
assert str(loaded_job().path).startswith(sys.argv[1])
strangers = [
    name for name, module in sys.modules.items()
    if "site-packages" in (getattr(module, "__file__", None) or "")
]
assert not strangers, strangers
print(loaded_job().job.name)
"""


def unpacked(made: Bundler, job: str, folder: Path) -> Path:
    with zipfile.ZipFile(made.bundle(load_job(str(OUR_JOBS / f"{job}.py"))).path) as archive:
        archive.extractall(folder)
    return folder


def for_this_machine() -> Bundler:
    platform = {"linux": "x86_64-manylinux_2_28", "darwin": "macos"}[sys.platform]
    if os.uname().machine in ("aarch64", "arm64") and sys.platform == "linux":
        platform = bundling.PLATFORM
    version = ".".join(map(str, sys.version_info[:2]))
    return Bundler(cache=CACHE, platform=platform, python=version)


@pytest.mark.parametrize("job", ["wordcount", "thumbnails"])
def test_every_handler_is_imported_from_the_unpacked_bundle_alone(job: str, tmp_path: Path) -> None:
    """Without the repository, without site-packages; the wheels are those for this machine."""
    folder = unpacked(for_this_machine(), job, tmp_path / "bundle")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", IMPORTS, str(folder), *ROLES],
        cwd=tmp_path,
        env={"FANFOLD_BUCKET": "bucket", "FANFOLD_JOB_MODULE": f"jobs.{job}", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [job]


def test_the_deployed_bundle_is_the_same_but_for_its_machine_code(tmp_path: Path) -> None:
    """What was imported above is what is deployed, compiled for another machine."""
    here = unpacked(for_this_machine(), "thumbnails", tmp_path / "here")
    there = unpacked(Bundler(cache=CACHE), "thumbnails", tmp_path / "there")
    modules, compiled = {}, {}
    for folder in (here, there):
        files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
        modules[folder] = {
            str(path) for path in files if path.suffix in {".py", ".json"} and not _packaging(path)
        }
        compiled[folder] = {
            str(path.parent / path.name.split(".")[0])
            for path in files
            if path.suffix == ".so" and "libs" not in str(path.parent)
        }
    assert modules[here] == modules[there]
    assert compiled[here] == compiled[there]
    tops = {path.name for path in there.iterdir()}
    assert {"coordinator", "functions", "jobs", "pydantic", "boto3", "PIL"} <= tops
    assert not tops & {"tests", "infra", "moto", "aws_cdk"}
    assert [path.name for path in (there / "jobs").iterdir()] == ["thumbnails.py"]
    machine_code = list(there.rglob("*.so"))
    assert machine_code
    for path in machine_code:
        head = path.read_bytes()[:20]
        assert head[:4] == b"\x7fELF"
        assert int.from_bytes(head[18:20], "little") == 183, path  # EM_AARCH64
        assert "cpython-313" in path.name or "abi3" in path.name


def _packaging(path: Path) -> bool:
    return path.parts[0].endswith(".dist-info")

"""The functions in a bundle as it is deployed, alone."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from coordinator.loading import load_job
from infra import bundling
from infra.bundling import Bundler
from tests.infra.conftest import OUR_JOBS, REPOSITORY

CACHE = REPOSITORY / "build" / "bundles"
ROLES = ("work", "plan", "reconcile", "bury", "publish")
HERE = ".".join(map(str, sys.version_info[:2]))

IMPORTS = """
import sys
sys.path.insert(0, sys.argv[1])
from importlib import import_module
compiled = []

def listen(event, found):
    if event == "compile" and str(found[1]).startswith(sys.argv[1]):
        compiled.append(found[1])

sys.addaudithook(listen)
for role in sys.argv[2:]:
    module = import_module(f"functions.{role}")
    print(*{name.partition(".")[0] for name, module in sys.modules.items()
            if (getattr(module, "__file__", None) or "").startswith(sys.argv[1])})
    assert callable(module.handler)
    assert module.__file__.startswith(sys.argv[1])
from functions.settings import loaded_job
assert str(loaded_job().path).startswith(sys.argv[1])
assert compiled == [str(loaded_job().path)], compiled
strangers = [
    name for name, module in sys.modules.items()
    if "site-packages" in (getattr(module, "__file__", None) or "")
]
assert not strangers, strangers
print(loaded_job().job.name, loaded_job().program.version)
"""

SINGLE = {"six", "typing_extensions"}  # of one module

# What a worker that starts waits for. It is a budget: to add a line, say what it is worth.
IMPORTED = {
    "annotated_types",
    "aws_lambda_powertools",
    "boto3",
    "botocore",
    "dateutil",
    "jmespath",
    "pydantic",
    "pydantic_core",
    "s3transfer",
    "six",
    "typing_extensions",
    "typing_inspection",
    "urllib3",
}


def unpacked(made: Bundler, job: str, folder: Path) -> Path:
    with zipfile.ZipFile(made.bundle(load_job(str(OUR_JOBS / f"{job}.py"))).path) as archive:
        archive.extractall(folder)
    return folder


def for_this_machine() -> Bundler:
    platform = {"linux": "x86_64-manylinux_2_28", "darwin": "macos"}[sys.platform]
    if os.uname().machine in ("aarch64", "arm64") and sys.platform == "linux":
        platform = bundling.PLATFORM
    return Bundler(cache=CACHE, platform=platform, python=HERE)


@pytest.mark.parametrize("job", ["wordcount", "thumbnails"])
def test_every_handler_is_imported_from_the_unpacked_bundle_alone(job: str, tmp_path: Path) -> None:
    """Without the repository, without site-packages; the wheels are those for this machine. Nothing
    but the job is compiled there, and nothing is imported that is not on the list."""
    folder = unpacked(for_this_machine(), job, tmp_path / "bundle")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", IMPORTS, str(folder), *ROLES],
        cwd=tmp_path,
        env={
            "FANFOLD_BUCKET": "bucket",
            "FANFOLD_JOB_MODULE": f"jobs.{job}",
            "FANFOLD_TIMEOUT_SECONDS": "300",
            "POWERTOOLS_TRACE_DISABLED": "true",
            "PATH": "",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *imported, loaded = [line.split() for line in done.stdout.splitlines()]
    assert len(imported) == len(ROLES)
    for found in imported:
        assert {*found} == {"coordinator", "functions", *IMPORTED}
    assert loaded == [job, load_job(str(OUR_JOBS / f"{job}.py")).program.version]


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
    assert {"coordinator", "functions", "jobs", "PIL", *(IMPORTED - SINGLE)} <= tops
    assert not tops & {"tests", "infra", "moto", "aws_cdk", "hypothesis"}
    assert not tops & {"typer", "rich", "click", "shellingham", "markdown_it", "pygments", "mdurl"}
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

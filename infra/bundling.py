"""The code asset of a job's functions, made without Docker and the same every time.

Dependencies are wheels for the functions' platform, not this machine's; uv installs them once for
all jobs with the same requirements. The zip holds no times, no bytecode and no order of its own,
and its hash is that of the names and contents in it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aws_cdk import aws_lambda as lambda_
from uv import find_uv_bin

from coordinator.errors import JobInvalid, UsageError
from coordinator.job import Job
from coordinator.loading import LoadedJob

PYTHON = "3.13"
PLATFORM = "aarch64-manylinux_2_28"
MOST_BYTES = 250 * 1024**2  # unpacked, of function and layers. Source: Lambda quotas
CULPRITS = 5
PACKAGES = ("coordinator", "functions")
JOBS_FOLDER = "jobs"
BUNDLES_KEPT = 20
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold

_LEFT_OUT = {"__pycache__", "bin", ".lock"}


class BundleTooLarge(UsageError):
    """The code would not fit into a function."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A zip, the digest of what it holds, and how many bytes that is unpacked."""

    path: Path
    digest: str
    unpacked_bytes: int


Files = dict[str, Path]


class Bundler:
    """Makes bundles, and keeps what they share.

    Args:
        cache: a folder for installed dependencies and finished zips.
        requirements: the hashed pins of what the functions import.
        packages: the folder of each package of ours; by default where Python finds it.
        platform, python: what dependencies are installed for, as uv names them.
    """

    def __init__(
        self,
        *,
        cache: Path,
        requirements: Path | None = None,
        packages: dict[str, Path] | None = None,
        platform: str = PLATFORM,
        python: str = PYTHON,
    ) -> None:
        self._cache = cache
        self._requirements = requirements or functions_requirements()
        self._packages = packages
        self._target = ("--python-platform", platform, "--python-version", python)

    def pack(self, loaded: LoadedJob) -> lambda_.Code:
        """The code asset of a job.

        Raises:
            JobInvalid: its requirements can't be installed.
            BundleTooLarge: Lambda would refuse it.
        """
        bundle = self.bundle(loaded)
        size, most = bundle.unpacked_bytes / 1024**2, MOST_BYTES / 1024**2
        sys.stderr.write(f"{loaded.job.name}: {size:.1f} MB of {most:.0f} MB unpacked\n")
        return lambda_.Code.from_asset(str(bundle.path), asset_hash=bundle.digest)

    def bundle(self, loaded: LoadedJob) -> Bundle:
        """The zip of a job, from the cache if nothing in it has changed."""
        files = {
            **_below(self._dependencies(loaded.job), ""),
            **self._own(),
            **_of_job(loaded.path),
        }
        unpacked = check_size(loaded.job.name, files)
        digest = _digest(files)
        path = self._cache / f"{digest}.zip"
        if not path.exists():
            self._cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._cache) as folder:
                made = Path(folder) / path.name
                _write_zip(made, files)
                made.replace(path)
            self._forget_old()
        path.touch()
        return Bundle(path, digest, unpacked)

    def _forget_old(self) -> None:
        """Keep the bundles used last."""
        finished = sorted(self._cache.glob("*.zip"), key=lambda path: path.stat().st_mtime)
        for old in finished[:-BUNDLES_KEPT]:
            old.unlink(missing_ok=True)

    def _own(self) -> Files:
        folders = self._packages or {name: _package_folder(name) for name in PACKAGES}
        return {
            name: path
            for package, folder in folders.items()
            for name, path in _below(folder, f"{package}/").items()
        }

    # -- dependencies ----------------------------------------------------------------------------

    def _dependencies(self, job: Job) -> Path:
        """A folder with everything that the functions and the job import, installed once."""
        pins = [self._requirements.read_text(encoding="utf-8")]
        if job.requirements:
            pins.append(self._locked(job))
        key = _short_digest(*self._target, *pins)
        folder = self._cache / "dependencies" / key
        if folder.exists():
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            target = Path(scratch) / key
            lists = []
            for number, text in enumerate(pins):
                pinned = Path(scratch) / f"{number}.txt"
                pinned.write_text(text, encoding="utf-8")
                lists += ["--requirement", str(pinned)]
            self._uv(job, "install", "--target", str(target), "--require-hashes", *lists)
            _put(target, folder)
        return folder

    def _locked(self, job: Job) -> str:
        """A job's requirements with the hashes of exact versions, none at odds with our own."""
        wanted = "\n".join(job.requirements)
        known = (self._requirements, self._requirements.with_name("all.txt"))
        constraints = [path for path in known if path.exists()]
        texts = [path.read_text(encoding="utf-8") for path in constraints]
        lock = self._cache / "locks" / f"{_short_digest(*self._target, wanted, *texts)}.txt"
        if not lock.exists():
            options = [item for path in constraints for item in ("--constraints", str(path))]
            compiled = self._uv(
                job, "compile", "--quiet", "--generate-hashes", "--no-header", "--no-annotate",
                "--no-emit-index-url", "--no-emit-find-links", *options, "-", feed=wanted,
            )  # fmt: skip
            lock.parent.mkdir(parents=True, exist_ok=True)
            unfinished = lock.with_suffix(f".{os.getpid()}")
            unfinished.write_text(compiled, encoding="utf-8")
            unfinished.replace(lock)
        return lock.read_text(encoding="utf-8")

    def _uv(self, job: Job, command: str, *arguments: str, feed: str = "") -> str:
        """Run `uv pip` for the target.

        Raises:
            JobInvalid: uv refuses; says why, in its own words.
        """
        done = subprocess.run(
            [find_uv_bin(), "pip", command, *self._target, "--only-binary", ":all:", *arguments],
            input=feed,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            reason = " ".join(done.stderr.split())
            wanted = f" with its requirements {', '.join(job.requirements)}"
            raise JobInvalid(
                f"Job {job.name}{wanted if job.requirements else ''} can't be bundled for Python "
                f"{PYTHON} on Linux arm64: {reason}"
            )
        return done.stdout


def _put(made: Path, folder: Path) -> None:
    """Move a finished folder to its place, unless another process was faster."""
    try:
        made.rename(folder)
    except OSError:
        if not folder.exists():
            raise
        shutil.rmtree(made)


# ------------------------------------------------------------------------------------------------
# What is in a bundle
# ------------------------------------------------------------------------------------------------


def functions_requirements() -> Path:
    """The pins of what the functions import: beside this module when installed, else in the
    repository."""
    here = Path(__file__).parent
    installed = here / "functions.txt"
    return installed if installed.exists() else here.parent / "requirements" / "functions.txt"


def job_module(path: Path) -> str:
    """A job's module in its bundle, as functions/settings.py takes it.

    Raises:
        JobInvalid: its file's name has a dot too many.
    """
    if "." in path.stem:
        raise JobInvalid(f"{path} can't be bundled: take the dots out of its name.")
    return f"{JOBS_FOLDER}.{path.stem}"


def check_size(job: str, files: Files) -> int:
    """How many bytes the files are.

    Raises:
        BundleTooLarge: more than Lambda takes; names the biggest packages.
    """
    sizes: Counter[str] = Counter()
    for name, path in files.items():
        sizes[name.split("/", 1)[0]] += path.stat().st_size
    total = sizes.total()
    if total > MOST_BYTES:
        culprits = ", ".join(
            f"{name} {size / 1024**2:.1f} MB" for name, size in sizes.most_common(CULPRITS)
        )
        raise BundleTooLarge(
            f"Job {job} needs {total / 1024**2:.1f} MB of code; a Lambda function holds "
            f"{MOST_BYTES / 1024**2:.0f} MB. The biggest: {culprits}. Take some out of its requirements."
        )
    return total


def _of_job(path: Path) -> Files:
    """A job's module, and the helpers beside it: modules whose name begins with an underscore."""
    helpers = (beside for beside in path.parent.glob("_*.py"))
    return {f"{JOBS_FOLDER}/{each.name}": each for each in (path, *helpers)}


def _below(folder: Path, prefix: str) -> Files:
    return {
        f"{prefix}{path.relative_to(folder).as_posix()}": path
        for path in _walk(folder)
        if path.suffix != ".pyc"
    }


def _walk(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.name in _LEFT_OUT:
            continue
        if entry.is_dir():
            yield from _walk(entry)
        else:
            yield entry


def _package_folder(name: str) -> Path:
    """Where a package lies, without importing it.

    Raises:
        UsageError: it can't be found.
    """
    spec = importlib.util.find_spec(name)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if not folders:
        raise UsageError(f"The package {name} can't be found; install Fanfold again.")
    return Path(folders[0])


def _digest(files: Files) -> str:
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(name.encode() + b"\0" + hashlib.sha256(files[name].read_bytes()).digest())
    return total.hexdigest()


def _short_digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:24]


def _write_zip(path: Path, files: Files) -> None:
    """Write files in the order of their names, all with one time and one mode."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=LONG_AGO)
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name].read_bytes())

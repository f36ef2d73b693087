"""What the functions and a job import, as wheels for the functions' platform, not this machine's.

uv installs them once for all jobs with the same requirements.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from uv import find_uv_bin

from coordinator.errors import JobInvalid
from coordinator.job import Job

PYTHON = "3.13"
PLATFORM = "aarch64-manylinux_2_28"


class Dependencies:
    """Installs them, and keeps them; see `Bundler` for the arguments."""

    def __init__(
        self, *, cache: Path, requirements: Path | None, platform: str, python: str
    ) -> None:
        self._cache = cache
        self._requirements = requirements or functions_requirements()
        self._target = ("--python-platform", platform, "--python-version", python)

    def of(self, job: Job) -> Path:
        """A folder with everything that the functions and the job import, installed once.

        Raises:
            JobInvalid: its requirements can't be installed.
        """
        pins = [self._requirements.read_text(encoding="utf-8")]
        if job.requirements:
            pins.append(self.locked(job))
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

    def locked(self, job: Job) -> str:
        """A job's requirements with the hashes of exact versions, none at odds with our own.

        Raises:
            JobInvalid: there are no such versions.
        """
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


def functions_requirements() -> Path:
    """The pins of what the functions import: in `infra` when installed, else in the repository."""
    infra = Path(__file__).parents[1]
    installed = infra / "functions.txt"
    return installed if installed.exists() else infra.parent / "requirements" / "functions.txt"


def _put(made: Path, folder: Path) -> None:
    """Move a finished folder to its place, unless another process was faster."""
    try:
        made.rename(folder)
    except OSError:
        if not folder.exists():
            raise
        shutil.rmtree(made)


def _short_digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:24]

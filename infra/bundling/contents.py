"""What is in a bundle: files by their names in it."""

from __future__ import annotations

import hashlib
import importlib.util
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from coordinator.errors import JobInvalid, UsageError
from coordinator.loading import LoadedJob

MOST_BYTES = 250 * 1024**2  # unpacked, of function and layers. Source: Lambda quotas
CULPRITS = 5
PACKAGES = ("coordinator", "functions")
JOBS_FOLDER = "jobs"

_LEFT_OUT = {"__pycache__", "bin", ".lock"}

Files = dict[str, Path]


class BundleTooLarge(UsageError):
    """The code would not fit into a function."""


def job_module(path: Path) -> str:
    """A job's module in its bundle, as functions/settings.py takes it.

    Raises:
        JobInvalid: its file's name has a dot too many.
    """
    if "." in path.stem:
        raise JobInvalid(f"{path} can't be bundled: take the dots out of its name.")
    return f"{JOBS_FOLDER}.{path.stem}"


def files_of_job(loaded: LoadedJob) -> Files:
    """What the job's program consists of, where it lies beside the job.

    Raises:
        JobInvalid: a file has a name that a zip can't hold.
    """
    found = {}
    for file, _ in loaded.program.files:
        name = Path(file).relative_to(loaded.path.parent).as_posix()
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise JobInvalid(f"{name!r} can't be bundled: give it a name in UTF-8.") from error
        found[f"{JOBS_FOLDER}/{name}"] = Path(file)
    return found


def size_of(files: Files) -> int:
    """How many bytes files are."""
    return sum(path.stat().st_size for path in files.values())


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
            f"{MOST_BYTES / 1024**2:.0f} MB. The biggest: {culprits}. Take some out of its requirements or data."
        )
    return total


def below(folder: Path, prefix: str) -> Files:
    """The files below a folder of packages; no bytecode, which is made for the functions' Python."""
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


def package_folder(name: str) -> Path:
    """Where a package lies, without importing it.

    Raises:
        UsageError: it can't be found.
    """
    spec = importlib.util.find_spec(name)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if not folders:
        raise UsageError(f"The package {name} can't be found; install Fanfold again.")
    return Path(folders[0])


def digest_of(files: Files) -> str:
    """The digest of names and contents."""
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(name.encode() + b"\0" + hashlib.sha256(files[name].read_bytes()).digest())
    return total.hexdigest()

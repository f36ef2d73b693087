"""What a job's code consists of, and its version: a run is bound to it for an epoch.

It consists of the job's module; of every module beside it that it imports, in a function too, and
whatever these import; of all files of a package that is imported from there; of the files that it
names as data; of its requirements in the versions that are installed; and of Fanfold. A module
that is only found by a name made at run time is not seen: name its file as data.
"""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from re import match

from coordinator import __version__
from coordinator.errors import CodeChanged, JobInvalid

_VERSION_DIGITS = 12
_LEFT_OUT = {"__pycache__"}

Stamp = tuple[int, int, int, int] | None


@dataclass(frozen=True, slots=True)
class Program:
    """A job's code as it was loaded: its version, and the files that it was read from."""

    version: str
    files: tuple[tuple[str, Stamp], ...] = ()

    def check(self) -> None:
        """Hold the files against what was loaded.

        Raises:
            CodeChanged: one is not as it was.
        """
        for path, stamp in self.files:
            if _stamp(path) != stamp:
                raise CodeChanged(
                    f"{path} was changed while the job was running. Taking the run up again goes on "
                    "with the new code; what is done stays, and the manifest says which shards came "
                    "from which."
                )


def program_of(module: Path, data: Iterable[str] = (), requirements: Iterable[str] = ()) -> Program:
    """The program of the job that a module declares.

    Raises:
        JobInvalid: a file that the job names as data can't be read.
    """
    folder = module.parent
    sources = {module, *_imported_from(module, folder), *_data_files(folder, data)}
    stamps = {path: _stamp(str(path)) for path in sources}
    digest = hashlib.sha256()
    for path in sorted(sources):
        try:
            body = path.read_bytes()
        except OSError as error:
            raise JobInvalid(f"{path} can't be read: {error.strerror}.") from error
        digest.update(f"{path.relative_to(folder).as_posix()}\0{len(body)}\0".encode())
        digest.update(body)
    for requirement in sorted(requirements):
        digest.update(f"{requirement}\0{_installed(requirement)}\0".encode())
    files = tuple((str(path), stamps[path]) for path in sorted(sources))
    return Program(f"{__version__}+{digest.hexdigest()[:_VERSION_DIGITS]}", files)


def _imported_from(module: Path, folder: Path) -> set[Path]:
    """The files below a folder that a module imports, directly or not."""
    found: set[Path] = set()
    waiting = [module]
    seen = {module}
    while waiting:
        for name in _names_imported(waiting.pop()):
            for path in _files_of(name, folder):
                found.add(path)
                if path not in seen and path.suffix == ".py":
                    seen.add(path)
                    waiting.append(path)
    return found


def _names_imported(path: Path) -> Iterator[str]:
    """The top-level names of the modules that a file imports anywhere."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # importing it says more
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def _files_of(name: str, folder: Path) -> Iterator[Path]:
    """The files of a module or package beside the job, if it is one."""
    if (folder / f"{name}.py").is_file():
        yield folder / f"{name}.py"
    package = folder / name
    if package.is_dir():
        yield from _files_below(package)


def _files_below(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - _LEFT_OUT)
        yield from (Path(root, name) for name in names)


def _data_files(folder: Path, data: Iterable[str]) -> Iterator[Path]:
    for name in data:
        path = folder / name
        if path.is_dir():
            yield from _files_below(path)
        elif path.is_file() and path.resolve().is_relative_to(folder.resolve()):
            yield path
        else:
            raise JobInvalid(f"The job names {name} as data, but {folder} holds no such file.")


def _installed(requirement: str) -> str:
    """The installed version of a requirement; nothing where it is not installed."""
    name = match(r"[A-Za-z0-9._-]+", requirement)
    try:
        return version(name.group()) if name else ""
    except PackageNotFoundError:
        return ""


def _stamp(path: str) -> Stamp:
    """What changes with a file: size, times of change and inode; None where it is gone."""
    try:
        status = os.stat(path)  # noqa: PTH116  asked for every shard
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

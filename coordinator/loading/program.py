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
import site
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.machinery import all_suffixes
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from re import match

from coordinator import __version__
from coordinator.errors import CodeChanged, JobInvalid

_VERSION_DIGITS = 12
_LEFT_OUT = {"__pycache__"}
_GLOB_SIGNS = frozenset("*?[")

Stamp = tuple[int, int, int, int] | None


@dataclass(frozen=True, slots=True)
class Program:
    """A job's code as it was loaded: its version, the files that it was read from, and how these
    were found."""

    version: str
    files: tuple[tuple[str, Stamp], ...] = ()
    search: Search | None = None

    def check(self) -> None:
        """Hold the files against what was loaded, and what there is now against what there was.

        Raises:
            CodeChanged: something is not as it was.
        """
        for path, stamp in self.files:
            if _stamp(path) != stamp:
                raise _changed(path)
        if self.search is not None:
            self.search.check()


def _changed(what: str) -> CodeChanged:
    return CodeChanged(
        f"{what} was changed while the job was running. Taking the run up again goes on with the new "
        "code; what is done stays, and the manifest says which shards came from which."
    )


@dataclass(slots=True)
class Search:
    """How the files of a program are found. Nothing is looked for again while the folders that it
    was found in, and those of installed packages, are as they were."""

    module: Path
    data: tuple[str, ...]
    requirements: tuple[str, ...]
    sources: frozenset[Path] = field(init=False)
    folders: frozenset[Path] = field(init=False)  # where more of them may appear
    installed: tuple[str, ...] = field(init=False)
    _stamped: dict[str, Stamp] = field(init=False)

    def __post_init__(self) -> None:
        found = self.sources, self.folders, self.installed = self._found()
        self._stamped = self._stamps()
        if found != self._found():
            raise JobInvalid(f"{self.module} was changed while it was being loaded. Try again.")

    def check(self) -> None:
        """Look again where a folder has changed.

        Raises:
            CodeChanged: there are other files, or requirements in other versions.
        """
        stamps = self._stamps()
        if stamps == self._stamped:
            return
        try:
            sources, folders, installed = self._found()
        except JobInvalid as error:
            raise _changed(str(self.module.parent)) from error
        for path in sorted(sources ^ self.sources):
            raise _changed(str(path))
        if installed != self.installed:
            raise _changed("An installed requirement")
        self.folders = folders
        self._stamped = {path: stamps.get(path, stamp) for path, stamp in self._stamps().items()}

    def _found(self) -> tuple[frozenset[Path], frozenset[Path], tuple[str, ...]]:
        beside = self.module.parent
        found = {self.module, *_imported_from(self.module, beside), *_data(beside, self.data)}
        folders = frozenset(path for path in found if path.is_dir())
        return frozenset(found - folders), folders, tuple(map(_installed, self.requirements))

    def _stamps(self) -> dict[str, Stamp]:
        beside = self.module.parent
        folders = {beside, *self.folders}
        for path in self.sources:
            folders.update(each for each in path.parents if each.is_relative_to(beside))
        packages = site.getsitepackages() if self.requirements else []
        return {str(path): _stamp(str(path)) for path in (*folders, *packages)}


def program_of(module: Path, data: Iterable[str] = (), requirements: Iterable[str] = ()) -> Program:
    """The program of the job that a module declares.

    Raises:
        JobInvalid: a file of it can't be read, or one that it names as data is not there.
    """
    folder = module.parent
    search = Search(module, tuple(data), tuple(sorted(requirements)))
    stamps = {path: _stamp(str(path)) for path in search.sources}
    digest = hashlib.sha256()
    for path in sorted(search.sources):
        try:
            body = path.read_bytes()
        except OSError as error:
            raise JobInvalid(f"{path} can't be read: {error.strerror}.") from error
        digest.update(os.fsencode(path.relative_to(folder).as_posix()) + b"\0%d\0" % len(body))
        digest.update(body)
    for requirement, installed in zip(search.requirements, search.installed, strict=True):
        digest.update(f"{requirement}\0{installed}\0".encode())
    files = tuple((str(path), stamps[path]) for path in sorted(search.sources))
    return Program(f"{__version__}+{digest.hexdigest()[:_VERSION_DIGITS]}", files, search)


def _imported_from(module: Path, folder: Path) -> set[Path]:
    """The files below a folder that a module imports, directly or not; and the folders that they
    lie in."""
    found: set[Path] = set()
    waiting = [module]
    seen = {module}
    while waiting:
        for name in _names_imported(waiting.pop()):
            for path in _files_of(name, folder):
                found.add(path)
                if path not in seen and path.suffix == ".py" and path.is_file():
                    seen.add(path)
                    waiting.append(path)
    return found


def _names_imported(path: Path) -> Iterator[str]:
    """The top-level names of the modules that a file imports anywhere."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError, RecursionError, MemoryError):
        return  # importing it says more
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def _files_of(name: str, folder: Path) -> Iterator[Path]:
    """The files and folders of a module or package beside the job, if it is one."""
    for suffix in all_suffixes():
        if (folder / f"{name}{suffix}").is_file():
            yield folder / f"{name}{suffix}"
    if (folder / name).is_dir():
        yield from _all_below(folder / name)


def _all_below(folder: Path) -> Iterator[Path]:
    """A folder with all folders and regular files below it, behind links too."""
    for within in (folder, *_folders_below(folder)):
        yield within
        yield from (path for path in sorted(within.iterdir()) if path.is_file())


def _folders_below(folder: Path) -> Iterator[Path]:
    """All folders below a folder, each once though links may lead in circles."""
    seen = {os.path.realpath(folder)}
    for root, folders, _ in os.walk(folder, followlinks=True):
        inner = []
        for name in sorted(set(folders) - _LEFT_OUT):
            real = os.path.realpath(os.path.join(root, name))  # noqa: PTH118
            if real not in seen:
                seen.add(real)
                inner.append(name)
                yield Path(root, name)
        folders[:] = inner


def _data(folder: Path, data: Iterable[str]) -> Iterator[Path]:
    """The files that a job names as data, by their paths, by those of folders, or by globs; and the
    folders that they are looked for in."""
    for name in data:
        below = not Path(name).is_absolute() and ".." not in Path(name).parts
        found = [folder / name]
        if below and not found[0].exists() and any(sign in name for sign in _GLOB_SIGNS):
            found = sorted(folder.glob(name))
            yield from (each for each in _all_below(_above(folder, name)) if each.is_dir())
        found = [each for path in found for each in (_all_below(path) if path.is_dir() else [path])]
        if not below or not any(each.is_file() for each in found):
            raise JobInvalid(f"The job names {name} as data, but {folder} holds no such file.")
        yield from (each for each in found if each.is_file() or each.is_dir())


def _above(folder: Path, glob: str) -> Path:
    """The folder that all which a glob matches lies below."""
    for part in Path(glob).parts[:-1]:
        if any(sign in part for sign in _GLOB_SIGNS) or not (folder / part).is_dir():
            break
        folder /= part
    return folder


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

"""Inputs on this machine's disk: files, directories and globs, pinned by size, times and inode."""

# ruff: noqa: PTH100, PTH109, PTH112, PTH114, PTH116, PTH120
# pathlib costs more than the calls that it makes.

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from coordinator.errors import FanfoldError, InputChanged, InputInvalid, InputUnreadable
from coordinator.model import Pinned
from coordinator.store.globs import compile_glob, compile_step, has_magic
from coordinator.store.ports import Page, Readable

PAGE_SIZE = 10_000
READ_ALL_BYTES = 1024 * 1024

# A FIFO that took a file's place must not keep us waiting for its writer.
_READ_ONLY = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK

_START_ANEW = "Start a new run for it as it is now."


class FileInputs:
    """Finds and reads input files. A key is an absolute path, symbolic links left as they are; a
    file has one, however its pattern is written.

    A pattern is the name of a file or directory that exists, else a glob (see `globs`).
    Directories are walked with all below them, through symbolic links too; a directory that a
    glob without `**` matches is walked as well. Every name counts, those with a leading dot too.

    Args:
        glob: what the name of a file must match to be found in a directory. Files that a pattern
            names, or matches itself, are taken as they are.
        exclude: directories (the output) that are never walked into.
    """

    def __init__(
        self,
        *,
        glob: str = "*",
        exclude: Iterable[Path | str] = (),
        page_size: int = PAGE_SIZE,
    ) -> None:
        self._name = compile_step(glob)
        self._exclude = tuple(os.path.abspath(path) for path in exclude)
        self._page_size = page_size

    def pages(self, patterns: Sequence[str], cursor: str = "") -> Iterator[Page]:
        """List what the patterns name. Planning is one go here: any cursor begins from the start.

        A file that two patterns name, or two symbolic links lead to, is listed twice.
        """
        excluded = self._identities_excluded()
        objects: list[Pinned] = []
        for pattern in patterns:
            for pinned in self._find(pattern, excluded):
                if len(objects) == self._page_size:
                    yield Page(objects, "again")
                    objects = []
                objects.append(pinned)
        yield Page(objects, None)

    def open(self, pinned: Pinned, start: int, stop: int) -> Readable:
        try:
            fd = os.open(pinned.key, _READ_ONLY)
        except OSError as error:
            raise _not_opened(pinned, error) from error
        try:
            if _etag(os.fstat(fd)) != pinned.etag:
                raise _changed(pinned)
            os.lseek(fd, start, os.SEEK_SET)
        except BaseException:
            os.close(fd)
            raise
        return _PinnedStream(io.FileIO(fd), pinned)

    # -- finding ---------------------------------------------------------------------------------

    def _find(self, pattern: str, excluded: set[_Identity]) -> Iterator[Pinned]:
        _check_pattern(pattern)
        path = _absolute(pattern)
        if _is_there(path):
            yield from self._named(path, excluded)
        elif has_magic(pattern):
            steps = pattern.split("/")
            wild = next(place for place, step in enumerate(steps) if has_magic(step))
            if ".." in steps[wild:]:
                raise InputInvalid(f"The pattern {pattern!r} has a '..' after a wildcard. Drop it.")
            rest = [step for step in steps[wild:] if step not in ("", ".")]
            base = "/".join(steps[:wild]) or ("/" if pattern.startswith("/") else ".")
            yield from self._expand(_absolute(base), rest, excluded)

    def _named(self, path: str, excluded: set[_Identity]) -> Iterator[Pinned]:
        """What a path given by name, or matched by a glob, stands for."""
        _check_text(path)
        status = _status(path)
        if status is None:
            return
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(path, excluded, lambda path: _last(path, self._name.fullmatch))
        else:
            yield _pin(path, status)

    def _expand(self, base: str, steps: list[str], excluded: set[_Identity]) -> Iterator[Pinned]:
        """What the steps of a glob match below a directory."""
        step, rest = steps[0], steps[1:]
        status = _status(base)
        if status is None or not stat.S_ISDIR(status.st_mode) or _identity(status) in excluded:
            return
        if step == "**":
            whole = compile_glob("/".join(steps))
            skip = len(_slashed(base))
            yield from _walk(base, excluded, lambda path: whole.fullmatch(path, skip) is not None)
            return
        for path in _children(base, step):
            if not rest:
                yield from self._named(path, excluded)
            elif os.path.isdir(path):
                yield from self._expand(path, rest, excluded)

    def _identities_excluded(self) -> set[_Identity]:
        found = set()
        for path in self._exclude:
            if os.path.isdir(path) and (status := _status(path)) is not None:
                found.add(_identity(status))
        return found


class _PinnedStream:
    """A `Readable` of a file, unbuffered, that must still be the pinned one at close."""

    def __init__(self, file: io.FileIO, pinned: Pinned) -> None:
        self._file = file
        self._pinned = pinned

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(READ_ALL_BYTES), b""))
        try:
            return self._file.read(size) or b""
        except OSError as error:
            raise _cannot("read", self._pinned.key, error) from error

    def close(self) -> None:
        """Close, and refuse a file that was written to or replaced while it was read."""
        if self._file.closed:
            return
        try:
            read = os.fstat(self._file.fileno())
        finally:
            self._file.close()
        try:
            there = os.stat(self._pinned.key)
        except OSError as error:
            raise _not_opened(self._pinned, error) from error
        if not _etag(read) == _etag(there) == self._pinned.etag:
            raise _changed(self._pinned)


# ------------------------------------------------------------------------------------------------
# Walking
# ------------------------------------------------------------------------------------------------


class _Identity(NamedTuple):
    device: int
    inode: int


class _Folder(NamedTuple):
    """A directory being walked: what its paths begin with, and what is left in it."""

    base: str
    identity: _Identity
    entries: Iterator[os.DirEntry[str]]


def _walk(top: str, excluded: set[_Identity], wanted: Callable[[str], bool]) -> Iterator[Pinned]:
    """Every file below a directory whose path is wanted, one directory entry at a time.

    Raises:
        InputInvalid: a symbolic link leads back to a directory that it lies in, or what is
            wanted is no regular file or has a name that is no UTF-8.
        InputUnreadable: a directory can't be listed, or a link leads nowhere.
    """
    folders: list[_Folder] = []
    _enter(top, folders, excluded)
    while folders:
        folder = folders[-1]
        entry = next(folder.entries, None)
        if entry is None:
            folders.pop()
            continue
        path = folder.base + entry.name
        if _is_directory(entry):
            _check_text(path)
            _enter(path, folders, excluded)
        elif wanted(path):
            _check_text(path)
            status = _status(path)
            if status is not None:
                yield _pin(path, status)


def _enter(path: str, folders: list[_Folder], excluded: set[_Identity]) -> None:
    """Go on with the entries of this directory, unless it is excluded or gone."""
    status = _status(path)
    if status is None or (identity := _identity(status)) in excluded:
        return
    if any(folder.identity == identity for folder in folders):
        raise InputInvalid(
            f"{path} leads back into a folder that it lies in. Remove that link, or name the "
            "folders to read one by one."
        )
    folders.append(_Folder(_slashed(path), identity, _entries(path)))


def _entries(path: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(path) as found:
            yield from found
    except OSError as error:
        raise _cannot("list", path, error) from error


def _children(base: str, step: str) -> Iterator[str]:
    """The paths in a directory whose names one step of a glob matches."""
    if has_magic(step):
        matches = compile_step(step).fullmatch
        yield from (entry.path for entry in _entries(base) if matches(entry.name))
    elif _is_there(path := _slashed(base) + step):
        yield path


def _is_there(path: str) -> bool:
    """Whether something has the name, even a symbolic link to nothing."""
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}:
            return False
        raise _cannot("find", path, error) from error
    return True


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        raise _cannot("read", entry.path, error) from error


def _status(path: str) -> os.stat_result | None:
    """The status of what a path leads to; None when it was deleted since it was listed.

    Raises:
        InputUnreadable: it is a symbolic link to nothing, or can't be looked at.
    """
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        if os.path.islink(path):
            raise InputUnreadable(
                f"The input {path!r} is a symbolic link to nothing. Mend or remove it."
            ) from error
        return None
    except OSError as error:
        raise _cannot("read", path, error) from error


# ------------------------------------------------------------------------------------------------
# Names, tags and errors
# ------------------------------------------------------------------------------------------------


def _check_pattern(pattern: str) -> None:
    if not pattern or "\0" in pattern:
        raise InputInvalid(f"The input {pattern!r} names nothing: give a file, directory or glob.")
    if pattern.startswith("s3://"):
        raise InputInvalid(f"The input {pattern} lies in S3; this run reads files on this machine.")


def _check_text(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise InputInvalid(
            f"The input {os.fsencode(path)!r} has a name that is not UTF-8. Rename it."
        ) from error


def _absolute(path: str) -> str:
    """The path from the root on, in its one spelling. A `..` takes back the step before it, or,
    where that is a symbolic link, means what it means to the system."""
    found = "/"
    for step in _steps_from_root(path):
        if step == "..":
            found = os.path.dirname(os.path.realpath(found) if os.path.islink(found) else found)
        elif step not in ("", "."):
            found = _slashed(found) + step
    return found


def _steps_from_root(path: str) -> list[str]:
    return (path if path.startswith("/") else f"{os.getcwd()}/{path}").split("/")


def _slashed(directory: str) -> str:
    return directory if directory.endswith("/") else f"{directory}/"


def _last(path: str, match: Callable[[str], object]) -> bool:
    return match(path.rpartition("/")[2]) is not None


def _identity(status: os.stat_result) -> _Identity:
    return _Identity(status.st_dev, status.st_ino)


def _etag(status: os.stat_result) -> str:
    """The version of a file. Anyone can set its mtime back; its ctime nobody can."""
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}-{status.st_ctime_ns}"


def _pin(path: str, status: os.stat_result) -> Pinned:
    if not stat.S_ISREG(status.st_mode):
        raise InputInvalid(
            f"The input {path!r} is no regular file (a FIFO, socket or device). Leave it out."
        )
    if not status.st_size and _gives_a_byte(path):
        raise InputInvalid(
            f"The input {path!r} has no size, and can be read all the same (as files of /proc can). "
            "Copy it, and give the copy."
        )
    return Pinned(key=path, size=status.st_size, etag=_etag(status))


def _gives_a_byte(path: str) -> bool:
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  names of any bytes
            return bool(file.read(1))
    except OSError:
        return False  # opening it says more


def _changed(pinned: Pinned) -> InputChanged:
    return InputChanged(f"The input {pinned.key!r} was changed under the run. {_START_ANEW}")


def _not_opened(pinned: Pinned, error: OSError) -> FanfoldError:
    """Why a pinned file could not be opened: it is gone, is another, or can't be read."""
    try:
        status = os.stat(pinned.key)
    except (FileNotFoundError, NotADirectoryError):
        return InputChanged(
            f"The input {pinned.key!r} was deleted under the run. Start a new run without it."
        )
    except OSError as second:
        return _cannot("read", pinned.key, second)
    return _changed(pinned) if _etag(status) != pinned.etag else _cannot("read", pinned.key, error)


def _cannot(act: str, path: str, error: OSError) -> InputUnreadable:
    return InputUnreadable(
        f"Can't {act} the input {path!r} ({error.strerror or error}). "
        "Once that is mended, run the same command again."
    )

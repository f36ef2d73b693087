"""The twin in a directory: all of a run's state on one machine. `disk` says why it is safe."""

# ruff: noqa: PTH100, PTH116, PTH120
# pathlib costs more than the calls that it makes.

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import time
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Self

from coordinator.errors import Changed, KeyMissing, OutputInvalid, RunBusy
from coordinator.model import File
from coordinator.store.file.disk import (
    OWN_DIRECTORY,
    READ_ONLY,
    Disk,
    fill,
    read_up_to,
    stat_of_file,
    tag_of,
    unlink,
    unreadable,
    write_all,
)
from coordinator.store.ports import Got, Readable, Stat

BUFFER_BYTES = 256 * 1024
DELETES_UNDER_ONE_LOCK = 256

# An empty, `.` or `..` step, a NUL, or our own directory (however a file system folds its case).
_REFUSED_KEY = re.compile(
    rf"(?:\A|/)\.{{0,2}}(?:/|\Z)|\0|\A{re.escape(OWN_DIRECTORY)}(?:/|\Z)", re.IGNORECASE
)


class FileStore:
    """A store in a directory. Threads and processes may share it.

    A tag is size, mtime in ns and inode of a file that is never written again; `replace` gives
    every version a greater mtime than the one before had.
    """

    lanes = 1

    def __init__(self, root: Path | str) -> None:
        self.root = os.path.abspath(root)
        self._disk = Disk(self.root)

    # -- reading ---------------------------------------------------------------------------------

    def get(self, key: str) -> Got:
        path = self._path(key)
        try:
            fd = os.open(path, READ_ONLY)
            try:
                status = os.fstat(fd)
                return Got(read_up_to(fd, 0, status.st_size), tag_of(status))
            finally:
                os.close(fd)
        except OSError as error:
            raise unreadable(error, path) from error

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        path = self._path(key)
        try:
            fd = os.open(path, READ_ONLY)
            try:
                return read_up_to(fd, start, min(stop, os.fstat(fd).st_size))
            finally:
                os.close(fd)
        except OSError as error:
            raise unreadable(error, path) from error

    def open(self, key: str, start: int = 0, stop: int | None = None) -> Readable:
        path = self._path(key)
        try:
            file = io.FileIO(path)
            file.seek(start)
        except OSError as error:
            raise unreadable(error, path) from error
        return _Stream(file, path, None if stop is None else max(0, stop - start))

    def exists(self, key: str) -> bool:
        path = self._path(key)
        try:
            return stat.S_ISREG(os.stat(path).st_mode)
        except OSError as error:
            problem = unreadable(error, path)
            if isinstance(problem, KeyMissing):
                return False
            raise problem from error

    def list(self, prefix: str, *, after: str = "") -> Iterator[Stat]:
        folder, slash, start = prefix.rpartition("/")
        directory = self._path(folder) if slash else self.root
        return self._walk(directory, folder + slash, start, after)

    def _walk(self, directory: str, base: str, start: str, after: str) -> Iterator[Stat]:
        """The objects of a directory whose names begin with `start`, in the order of whole keys:
        a folder sorts as its name and a slash. str compares by code point, as UTF-8 bytes do.
        """
        try:
            for name in _sorted_names(directory, start):
                key = base + name
                if not base and name == f"{OWN_DIRECTORY}/":
                    continue
                if name.endswith("/"):
                    if key > after or after.startswith(key):
                        yield from self._walk(directory + "/" + name[:-1], key, "", after)
                elif key > after and (status := stat_of_file(directory + "/" + name)):
                    yield Stat(key, status.st_size, tag_of(status), status.st_mtime)
        except OSError as error:
            raise unreadable(error, directory) from error

    # -- writing ---------------------------------------------------------------------------------

    def create(self, key: str, body: bytes) -> str:
        path = self._path(key)
        try:
            fd, temporary = self._disk.open_temporary()
            try:
                status = fill(fd, body, time.time_ns())
                self._disk.link(temporary, path, status.st_ino)
            finally:
                unlink(temporary)
        except OSError as error:
            raise self._disk.unwritable(error, path) from error
        return tag_of(status)

    def replace(self, key: str, body: bytes, tag: str) -> str:
        path = self._path(key)
        try:
            with self._disk.locked():
                before = stat_of_file(path)
                if before is None or tag_of(before) != tag:
                    raise Changed(f"{path} is no longer the version {tag}.")
                fd, temporary = self._disk.open_temporary()
                try:
                    status = fill(fd, body, time.time_ns(), later_than_ns=before.st_mtime_ns)
                    self._disk.rename(temporary, path, status.st_ino)
                finally:
                    unlink(temporary)
        except OSError as error:
            raise self._disk.unwritable(error, path) from error
        return tag_of(status)

    def writer(self, key: str, *, exclusive: bool = False) -> FileWriter:
        return FileWriter(self._disk, key, self._path(key), exclusive)

    def delete(self, keys: Iterable[str]) -> None:
        paths = map(self._path, keys)
        while chunk := [*islice(paths, DELETES_UNDER_ONE_LOCK)]:
            try:
                with self._disk.locked():
                    for path in chunk:
                        unlink(path)
            except OSError as error:
                raise self._disk.unwritable(error, chunk[0]) from error
            self._disk.prune({os.path.dirname(path) for path in chunk})

    def sweep(self, older_than_seconds: float, now: float) -> int:
        """Remove what killed processes left: temporaries last written that long before `now`.

        Gives how many were removed.
        """
        try:
            return self._disk.sweep(older_than_seconds, now)
        except OSError as error:
            raise self._disk.unwritable(error, self.root) from error

    # -- the owner's lock ------------------------------------------------------------------------

    @contextmanager
    def hold(self, key: str) -> Iterator[None]:
        """Own `key` (a run) while the block runs; the lock ends with the process at the latest.

        Raises:
            RunBusy: another process, or another block of this one, holds it.
        """
        path = self._path(key)
        name = hashlib.sha256(self.identity(key).encode()).hexdigest()[:32]
        try:
            taken = self._disk.take(name)
        except BlockingIOError as error:
            raise RunBusy(
                f"{path} is in the hands of a process that is still running. "
                "Wait for it to end, or stop it; then run the same command again."
            ) from error
        except OSError as error:
            raise self._disk.unwritable(error, path) from error
        try:
            yield
        finally:
            self._disk.give_back(taken)

    # -- names -----------------------------------------------------------------------------------

    def identity(self, key: str) -> str:
        return unicodedata.normalize("NFC", unicodedata.normalize("NFC", key).casefold())

    def url(self, key: str) -> str:
        return f"{self.root}/{key}"

    def _path(self, key: str) -> str:
        """The path of a key, which never leads out of the root.

        Raises:
            OutputInvalid: it would, or no file can have that name.
        """
        if _REFUSED_KEY.search(key) or not _is_text(key):
            raise OutputInvalid(
                f"{key!r} can't be kept below {self.root}: take a relative path "
                f"without NULs and without empty, '.', '..' or {OWN_DIRECTORY!r} steps."
            )
        return f"{self.root}/{key}"


class FileWriter:
    """A `Writer` to a temporary file, which `close` brings to its name; a small object costs one
    write."""

    def __init__(self, disk: Disk, key: str, path: str, exclusive: bool) -> None:
        self._disk = disk
        self._key = key
        self._path = path
        self._exclusive = exclusive
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._size = 0
        self._digest = hashlib.sha256()
        self._fd = -1
        self._temporary = ""
        self._writing = True
        self._file: File | None = None

    def write(self, body: bytes, /) -> int:
        if not self._writing:
            raise ValueError(f"The writer of {self._path} is closed.")
        self._pieces.append(body)
        self._buffered += len(body)
        if self._buffered >= BUFFER_BYTES:
            try:
                self._flush()
            except OSError as error:
                self.abort()
                raise self._disk.unwritable(error, self._path) from error
        return len(body)

    def close(self) -> File:
        if self._file is not None:
            return self._file
        if not self._writing:
            raise ValueError(f"The writer of {self._path} was aborted.")
        try:
            self._flush()
            self._place()
        except OSError as error:
            raise self._disk.unwritable(error, self._path) from error
        finally:
            self.abort()
        self._file = File(key=self._key, size=self._size, sha256=self._digest.hexdigest())
        return self._file

    def abort(self) -> None:
        if not self._writing:
            return
        self._writing = False
        self._pieces.clear()
        if self._fd >= 0:
            os.close(self._fd)
        if self._temporary:
            unlink(self._temporary)

    def _flush(self) -> None:
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._buffered = 0
        self._size += len(body)
        self._digest.update(body)
        if self._fd < 0:
            self._fd, self._temporary = self._disk.open_temporary()
        write_all(self._fd, body)

    def _place(self) -> None:
        inode = os.fstat(self._fd).st_ino
        if self._exclusive:
            os.fsync(self._fd)  # what readers find by a manifest survives a power failure
        fd, self._fd = self._fd, -1
        os.close(fd)  # a network file system says only now that it is full
        if self._exclusive:
            self._disk.link(self._temporary, self._path, inode)
        else:
            self._disk.rename(self._temporary, self._path, inode)
            self._temporary = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if exc[0] is not None:
            self.abort()


class _Stream:
    """A `Readable` of at most `remaining` bytes of a file; of all of it with None."""

    def __init__(self, file: io.FileIO, path: str, remaining: int | None) -> None:
        self._file = file
        self._path = path
        self._remaining = remaining

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(BUFFER_BYTES), b""))
        if self._remaining is not None:
            size = min(size, self._remaining)
        try:
            piece = self._file.read(size) or b""
        except OSError as error:
            raise unreadable(error, self._path) from error
        if self._remaining is not None:
            self._remaining -= len(piece)
        return piece

    def close(self) -> None:
        self._file.close()


def _is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8: names from the disk may hold any bytes."""
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _sorted_names(directory: str, start: str) -> list[str]:
    """The names in a directory that begin with `start`, folders with a slash behind them.

    A name that is no UTF-8 can't be a key of ours and is passed over.
    """
    try:
        with os.scandir(directory) as found:
            names = [
                f"{entry.name}/" if entry.is_dir() else entry.name
                for entry in found
                if entry.name.startswith(start) and _is_text(entry.name)
            ]
    except (FileNotFoundError, NotADirectoryError):
        return []
    names.sort()
    return names

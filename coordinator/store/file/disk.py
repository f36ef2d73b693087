"""How a file comes to its name in a directory: whole or not at all, and whoever is killed.

put-if-absent writes a temporary file and links it to its name with link(2); an `O_EXCL` open
that is then written would leave an empty, permanent object when killed. compare-and-swap happens
under flock on one lock file. The owner of a run is a lock held, never a pid. Nothing is flushed
against a loss of power; checksums tell of that.

The disk keeps its own files in `.fanfold` below its root: `temporaries/` (what a killed process
leaves there is harmless, see `Disk.sweep`), `lock` and `holds/`.
"""

# ruff: noqa: PTH103, PTH105, PTH106, PTH108, PTH112, PTH116, PTH120
# pathlib costs more than the calls that it makes.

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from coordinator.errors import (
    AlreadyExists,
    FanfoldError,
    KeyMissing,
    OutcomeUnknown,
    OutputInvalid,
    OutputUnwritable,
    StoreUnavailable,
)

OWN_DIRECTORY = ".fanfold"
READ_ONLY = os.O_RDONLY | os.O_CLOEXEC
PLACE_TRIES = 100

_CREATE_ONLY = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_LOCK_FILE = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC

_IN_THE_WAY = {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY}
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LOST = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT}
_NO_LINKS = {errno.EPERM, errno.EXDEV, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK}

# Owner locks held by this process. A forked child has the same open files, and would keep the
# lock of a parent that was killed: it lets go of them.
_HELD: set[int] = set()


def _let_go_in_child() -> None:
    while _HELD:
        os.close(_HELD.pop())


os.register_at_fork(after_in_child=_let_go_in_child)


class Disk:
    """Temporaries, names and locks below one directory. Methods raise OSError unless they say
    otherwise; `unwritable` turns it into the error that a person reads."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._own = f"{root}/{OWN_DIRECTORY}"
        self._temporaries = f"{self._own}/temporaries"

    # -- temporaries -----------------------------------------------------------------------------

    def open_temporary(self) -> tuple[int, str]:
        """A new file to write to, and its path."""
        path = f"{self._temporaries}/{os.getpid():x}-{os.urandom(8).hex()}"
        try:
            return os.open(path, _CREATE_ONLY, 0o666), path
        except FileNotFoundError:
            make_parent(path)
            return os.open(path, _CREATE_ONLY, 0o666), path

    def sweep(self, older_than_seconds: float, now: float) -> int:
        """Remove the temporaries last written that long before `now`; says how many."""
        swept = 0
        with suppress(FileNotFoundError), os.scandir(self._temporaries) as found:
            for entry in found:
                with suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_mtime < now - older_than_seconds:
                        os.unlink(entry.path)
                        swept += 1
        return swept

    # -- names -----------------------------------------------------------------------------------

    def link(self, temporary: str, path: str, inode: int) -> None:
        """put-if-absent of a finished file.

        Raises:
            AlreadyExists: another file has the name.
            OutcomeUnknown: the call failed, and what has the name can't be looked at.
        """
        for _ in range(PLACE_TRIES):
            try:
                os.link(temporary, path)
                return
            except FileNotFoundError:
                make_parent(path)
            except FileExistsError:
                there = stat_of(path)
                if there is None:
                    continue
                if there.st_ino == inode:  # ours: a network file system sent the request twice
                    return
                if stat.S_ISDIR(there.st_mode):
                    raise
                raise AlreadyExists(f"{path} is there already.") from None
            except OSError:
                if took_place(path, inode):
                    return
                raise
        raise FileNotFoundError(errno.ENOENT, "its folder, or our temporary, keeps vanishing", path)

    def rename(self, temporary: str, path: str, inode: int) -> None:
        """put of a finished file, whatever has the name.

        Raises:
            OutcomeUnknown: the call failed, and what has the name can't be looked at.
        """
        for _ in range(PLACE_TRIES):
            try:
                os.replace(temporary, path)
                return
            except FileNotFoundError:
                if took_place(path, inode):
                    return
                make_parent(path)
            except OSError:
                if took_place(path, inode):
                    return
                raise
        raise FileNotFoundError(errno.ENOENT, "its folder, or our temporary, keeps vanishing", path)

    def prune(self, directories: Iterable[str]) -> None:
        """Remove those that are empty, and the folders below the root that this empties."""
        for directory in directories:
            with suppress(OSError):
                while len(directory) > len(self.root):
                    os.rmdir(directory)
                    directory = os.path.dirname(directory)

    # -- locks -----------------------------------------------------------------------------------

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other compare-and-swap below this root waiting."""
        fd = self._open_lock("lock")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def take(self, name: str) -> int:
        """Take an owner's lock, to be given back with `give_back`.

        Raises:
            BlockingIOError: it is taken.
        """
        fd = self._open_lock(f"holds/{name}")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(fd)
            raise
        _HELD.add(fd)
        return fd

    def give_back(self, fd: int) -> None:
        """Give a lock back; a forked child has none to give."""
        if fd in _HELD:
            _HELD.remove(fd)
            os.close(fd)

    def _open_lock(self, name: str) -> int:
        path = f"{self._own}/{name}"
        try:
            return os.open(path, _LOCK_FILE, 0o666)
        except FileNotFoundError:
            make_parent(path)
            return os.open(path, _LOCK_FILE, 0o666)

    # -- errors ----------------------------------------------------------------------------------

    def unwritable(self, error: OSError, path: str) -> FanfoldError:
        """The error that says why a write failed, and how to go on."""
        if error.errno == errno.ENAMETOOLONG:
            return OutputInvalid(f"{path} is too long a name for its file system. Shorten it.")
        if error.errno in _IN_THE_WAY and (obstacle := self._obstacle(path)):
            return OutputInvalid(
                f"{path} can't be written because {obstacle} is in its way: one name can't be "
                "both a file and a folder. Rename one of them."
            )
        advice = "Once that is mended, run the same command again: it goes on where it stopped."
        if error.errno in FULL:
            advice = "Make room, then run the same command again: it goes on where it stopped."
        elif error.errno in _NO_LINKS:
            advice = "An output directory must allow hard links and flock: take another."
        return OutputUnwritable(f"{path} can't be written ({error.strerror or error}). {advice}")

    def _obstacle(self, path: str) -> str | None:
        """The folder that lies where a file must go, or the file where a folder must."""
        if os.path.isdir(path):
            return path
        while len(path := os.path.dirname(path)) > len(self.root):
            if os.path.lexists(path):
                return None if os.path.isdir(path) else path
        return None


def unreadable(error: OSError, path: str) -> FanfoldError:
    """The error that says why a read failed."""
    if error.errno in _NOT_THERE:
        return KeyMissing(f"Nothing lies under {path}.")
    return StoreUnavailable(f"{path} can't be read ({error.strerror or error}). Try again.")


# ------------------------------------------------------------------------------------------------
# Files
# ------------------------------------------------------------------------------------------------


def tag_of(status: os.stat_result) -> str:
    """The version of a file that is never written again: size, mtime in ns and inode."""
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"


def stat_of(path: str) -> os.stat_result | None:
    """The status of what has the name, if anything has."""
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def took_place(path: str, inode: int) -> bool:
    """Whether a file has its name though the call that gave it failed: a network file system may
    lose the answer, or send the request twice.

    Raises:
        OutcomeUnknown: that can't be found out.
    """
    try:
        there = stat_of(path)
    except OSError as error:
        if error.errno in _LOST:
            raise OutcomeUnknown(
                f"Whether {path} was written is not known ({error.strerror or error}). Read it back."
            ) from error
        return False
    return there is not None and there.st_ino == inode


def stat_of_file(path: str) -> os.stat_result | None:
    """The status of the regular file that has the name, if one has."""
    status = stat_of(path)
    return status if status is not None and stat.S_ISREG(status.st_mode) else None


def read_up_to(fd: int, start: int, stop: int) -> bytes:
    """The bytes [start, stop) of a file; a single read may give fewer than there are."""
    pieces = []
    while start < stop and (piece := os.pread(fd, stop - start, start)):
        pieces.append(piece)
        start += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def write_all(fd: int, body: bytes) -> None:
    """Write all of the body; a single write may take fewer bytes."""
    written = os.write(fd, body)
    while written < len(body):
        written += os.write(fd, memoryview(body)[written:])


def fill(fd: int, body: bytes, now_ns: int, *, later_than_ns: int = 0) -> os.stat_result:
    """Write a temporary whole, with an mtime greater than that of its predecessor; close it."""
    try:
        write_all(fd, body)
        mtime_ns = max(now_ns, later_than_ns + 1)
        os.utime(fd, ns=(mtime_ns, mtime_ns))
        status = os.fstat(fd)
        if status.st_mtime_ns <= later_than_ns:  # the file system's clock is coarser
            mtime_ns = later_than_ns + 2 * 10**9
            os.utime(fd, ns=(mtime_ns, mtime_ns))
            status = os.fstat(fd)
        return status
    finally:
        os.close(fd)


def make_parent(path: str) -> None:
    """Make the folder of a path. It may be missing all the same: other processes prune."""
    with suppress(FileNotFoundError, FileExistsError):
        os.makedirs(os.path.dirname(path), exist_ok=True)


def unlink(path: str) -> None:
    """Remove a file if it is there."""
    with suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(path)

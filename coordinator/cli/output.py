"""What a command prints: its own lines on standard output, and nothing of a job's there."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TextIO, cast

from coordinator.errors import InputInvalid, OutputUnwritable

AS_NAMED = "fanfold-as-named"


class NotPrinted(OutputUnwritable):
    """Standard output took nothing."""


def prepare() -> None:
    """Have names printed as the bytes that they are, and see that no file opened later gets the
    number of a standard stream that is closed."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  it stands for the process's own
    codecs.register_error(AS_NAMED, _as_named)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=AS_NAMED)


def _as_named(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write what has no encoding: a byte of a name as that byte, all else as an escape."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


def check_text(name: str, what: str) -> str:
    """Refuse a name that is no UTF-8: documents are, and no line of theirs could hold it.

    Raises:
        InputInvalid: it is not.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputInvalid(f"{what} {os.fsencode(name)!r} is not UTF-8. Rename it.") from error
    return name


# ------------------------------------------------------------------------------------------------
# Standard output
# ------------------------------------------------------------------------------------------------


def say(line: str) -> None:
    """A line on standard output.

    Raises:
        NotPrinted: it can't be written.
    """
    with printing() as stdout:
        stdout.write(f"{line}\n")


@contextmanager
def printing() -> Iterator[TextIO]:
    """Standard output, for what is printed in the block.

    Raises:
        NotPrinted: it can't be written.
        BrokenPipeError: whoever read it has gone.
    """
    if sys.stdout is None:
        raise NotPrinted("Standard output is closed, so nothing can be printed there.")
    try:
        yield sys.stdout
        sys.stdout.flush()
    except BrokenPipeError:
        discard()
        raise
    except OSError as error:
        discard()
        raise NotPrinted(f"Standard output can't be written ({error.strerror}).") from error


def discard() -> None:
    """Give up standard output: what is left in its buffer must not fail again at the exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


@contextmanager
def job_apart() -> Iterator[None]:
    """What the job's code, or a process that it starts, prints in the block goes to standard
    error."""
    with suppress(AttributeError, OSError, ValueError):
        sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


# ------------------------------------------------------------------------------------------------
# Standard error
# ------------------------------------------------------------------------------------------------


class _Forgiving:
    """A stream that fails silently."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str, /) -> int:
        """Write what can be written."""
        with suppress(OSError, ValueError):
            return self._stream.write(text)
        return 0

    def flush(self) -> None:
        """Flush what can be flushed."""
        with suppress(OSError, ValueError):
            self._stream.flush()


def stderr() -> TextIO:
    """Standard error, for whatever may be lost: no run ends because its progress can't be shown."""
    return cast(TextIO, _Forgiving(sys.stderr))


def complain(lines: str) -> None:
    """Lines on standard error."""
    stream = stderr()
    stream.write(f"{lines}\n")
    stream.flush()


def show_bytes(size: float) -> str:
    """Bytes for people: `1.5 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def show_seconds(seconds: float) -> str:
    """A duration for people: `0.8 s`, `3:05`, `1:02:03`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

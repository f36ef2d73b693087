"""Temporary files of the shuffle: what does not fit into memory, appended to and read again."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import IO

from coordinator.errors import OutputUnwritable
from coordinator.limits import KIB, MIB

READ_BYTES = 64 * KIB
_WRITE_BYTES = 1 * MIB

Span = tuple[int, int]  # where something begins and ends in a temporary file


class Spill:
    """One temporary file, made when it is first needed. Use as long as it is not closed."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._end = 0

    def append(self, pieces: Iterable[bytes]) -> Span:
        """Write pieces behind what is there; gives where they lie.

        Raises:
            OutputUnwritable: there is no room for temporary files, or no folder for them.
        """
        start = self._end
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=_WRITE_BYTES)  # noqa: SIM115
            for piece in pieces:
                self._file.write(piece)
                self._end += len(piece)
            self._file.flush()
        except OSError as error:
            raise _unwritable(error) from error
        return start, self._end

    def pieces(self, span: Span) -> Iterator[bytes]:
        """What lies in a span, in pieces of some size."""
        start, stop = span
        while start < stop and self._file is not None:
            piece = os.pread(self._file.fileno(), min(READ_BYTES, stop - start), start)
            if not piece:
                raise OutputUnwritable(
                    "A temporary file was cut short. Run the same command again."
                )
            start += len(piece)
            yield piece

    def lines(self, span: Span) -> Iterator[bytes]:
        """What lies in a span, line by line; a line keeps its end."""
        begun: list[bytes] = []
        for piece in self.pieces(span):
            *ends, rest = piece.split(b"\n")
            for end in ends:
                yield b"".join([*begun, end, b"\n"])
                begun = []
            begun.append(rest)

    def clear(self) -> None:
        """Give back the room of all that was written."""
        if self._file is not None:
            self._file.seek(0)
            self._file.truncate()
        self._end = 0

    def close(self) -> None:
        """Remove the file."""
        if self._file is not None:
            with suppress(OSError):  # what could not be written is not wanted any more
                self._file.close()


def _unwritable(error: OSError) -> OutputUnwritable:
    try:
        folder = tempfile.gettempdir()
    except OSError:
        folder = os.environ.get("TMPDIR", "TMPDIR")
    return OutputUnwritable(
        f"Temporary files can't be written in {folder} ({error.strerror or error}). Make room "
        "there, or name another folder in TMPDIR; then run the same command again: it goes on "
        "where it stopped."
    )

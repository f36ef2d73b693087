"""Temporary files: what is appended is read again as it was, and gives its room back."""

from __future__ import annotations

import errno
import io
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from coordinator.errors import OutputUnwritable
from coordinator.shuffle.spill import READ_BYTES, Spill
from tests.shuffle.test_bounds import open_descriptors


@pytest.fixture
def spill() -> Iterator[Spill]:
    made = Spill()
    yield made
    made.close()


def on_disk(spill: Spill) -> int:
    assert spill._file is not None
    return os.fstat(spill._file.fileno()).st_size


def test_what_was_appended_lies_end_to_end_and_is_read_again(spill: Spill) -> None:
    spans = [spill.append([b"one\n", b"tw"]), spill.append([]), spill.append([b"three\nfour\n"])]

    assert spans == [(0, 6), (6, 6), (6, 17)]
    assert [b"".join(spill.pieces(span)) for span in spans] == [b"one\ntw", b"", b"three\nfour\n"]
    assert list(spill.lines(spans[2])) == [b"three\n", b"four\n"]


def test_a_long_span_is_read_in_pieces_and_its_lines_are_whole(spill: Spill) -> None:
    lines = [b"x" * size + b"\n" for size in (0, 1, READ_BYTES - 3, 3 * READ_BYTES, 5)]
    spill.append([b"before"])
    span = spill.append(lines)
    spill.append([b"behind"])

    pieces = list(spill.pieces(span))

    assert b"".join(pieces) == b"".join(lines)
    assert max(map(len, pieces)) == READ_BYTES
    assert list(spill.lines(span)) == lines


def test_what_is_cleared_gives_its_room_back_and_is_written_over(spill: Spill) -> None:
    spill.append([b"x" * 100_000])
    assert on_disk(spill) == 100_000

    spill.clear()

    assert on_disk(spill) == 0
    span = spill.append([b"again\n"])
    assert (span, list(spill.lines(span)), on_disk(spill)) == ((0, 6), [b"again\n"], 6)


def test_no_file_is_made_for_nothing(spill: Spill) -> None:
    before = open_descriptors()

    spill.clear()

    assert list(spill.pieces((0, 0))) == []
    assert open_descriptors() == before


def test_the_file_is_gone_when_it_is_closed(spill: Spill) -> None:
    before = open_descriptors()
    spill.append([b"x"])
    assert open_descriptors() == before + 1

    spill.close()

    assert open_descriptors() == before


def test_a_file_that_was_cut_short_is_an_error(spill: Spill) -> None:
    span = spill.append([b"x" * 1000])
    assert spill._file is not None
    os.ftruncate(spill._file.fileno(), 999)

    with pytest.raises(OutputUnwritable, match="A temporary file was cut short"):
        list(spill.pieces(span))


def test_what_goes_wrong_with_the_pieces_is_not_taken_for_a_full_disk(spill: Spill) -> None:
    def half() -> Iterator[bytes]:
        yield b"one\n"
        raise ZeroDivisionError("of the job")

    with pytest.raises(ZeroDivisionError, match="of the job"):
        spill.append(half())


class Full(io.BytesIO):
    """A temporary file on a disk without room."""

    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write(self, _: Any) -> int:
        raise self.error

    def close(self) -> None:
        super().close()
        raise self.error


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left"), r" \(No space left\)\. Make room"),
        (OSError("odd"), r" \(odd\)\. Make room"),
    ],
)
def test_a_full_disk_is_told_and_is_no_hindrance_to_closing(
    monkeypatch: pytest.MonkeyPatch, error: OSError, says: str
) -> None:
    monkeypatch.setattr(Full, "error", error)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    spill = Spill()

    with pytest.raises(OutputUnwritable, match=says):
        spill.append([b"x"])
    spill.close()

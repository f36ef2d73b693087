"""Rooms with a job and inputs, in which the command is run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import GATED_JOB, Gates, Room

LINES = [f"line{number:02d} to be or not to be\n" for number in range(12)]


@pytest.fixture
def gates(tmp_path: Path) -> Gates:
    folder = tmp_path / "gates"
    folder.mkdir()
    return Gates(folder)


@pytest.fixture
def room(tmp_path: Path, gates: Gates) -> Iterator[Room]:
    """A gated job over two files; with 26 bytes a shard, every line is a shard."""
    (tmp_path / "gated.py").write_text(GATED_JOB)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("".join(LINES[:8]))
    (tmp_path / "in" / "b.txt").write_text("".join(LINES[8:]))
    room = Room(tmp_path, environment=gates.environment)
    yield room
    room.end_all()

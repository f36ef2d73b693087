"""Where outputs go: encoded in pieces of some size, and gone with an attempt that fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.errors import RetryableError
from coordinator.formats.lines import Lines
from coordinator.limits import Limits
from coordinator.steps import parts as writing
from coordinator.steps.attempts import Again
from coordinator.steps.parts import Encoded
from coordinator.store.file.store import FileStore
from tests.steps.test_attempts import begun, try_once
from tests.support import World, a_job


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> tuple[Encoded, list[bytes]]:
    """An outlet that has room for ten bytes, and what it has written."""
    monkeypatch.setattr(writing, "WAITING_BYTES", 10)
    found: list[bytes] = []
    return Encoded(lambda output: output, found.append), found


def test_what_is_taken_waits_until_there_is_no_more_room(
    written: tuple[Encoded, list[bytes]],
) -> None:
    outlet, found = written

    for turn in (1, 2):
        outlet.take([b"12345"])
        outlet.take([])
        outlet.take([b"6", b"7890"])
        assert found == [b"12345678901"] * (turn - 1)
        outlet.take([b"1"])
        assert found == [b"12345678901"] * turn
    assert outlet.records == 8


def test_what_waits_is_written_when_it_is_settled(written: tuple[Encoded, list[bytes]]) -> None:
    outlet, found = written

    for _ in range(3):
        outlet.take([b"1234567890"])
        assert outlet.settle() == []
    assert outlet.settle() == []

    assert found == [b"1234567890"] * 3


def test_of_outputs_of_which_one_has_no_encoding_none_is_taken(
    written: tuple[Encoded, list[bytes]],
) -> None:
    outlet, found = written
    encode = {1: b"one", 2: b"two"}
    outlet.encode = lambda output: encode[output]

    outlet.take([1])
    with pytest.raises(KeyError):
        outlet.take([2, 3])
    outlet.settle()

    assert (found, outlet.records) == ([b"one"], 1)


def test_an_attempt_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(line: str) -> list[str]:
        if line == "refused":
            raise ValueError("refused")
        if line == "fails":
            raise RetryableError("Try later.")
        return [line * 300_000]

    job = a_job(Lines(), fail, limits=Limits(tolerated=1))
    body = b"refused\n" + b"fine\n" * 3 + b"fails\n"
    world = World(job, {"a": body}, store=FileStore(tmp_path))
    place, [message] = begun(world)
    before = every_file(tmp_path)

    verdict = try_once(place, message, "a")

    assert isinstance(verdict, Again)
    assert {path for path in every_file(tmp_path) - before if "/notes/" not in path} == set()


def every_file(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if path.is_file()}

"""Files of ours: written once, and held against what was recorded when they are read."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import pytest
from hypothesis import given, strategies as st

from coordinator.errors import AlreadyExists, LedgerBroken, OutcomeUnknown
from coordinator.model import File, Part
from coordinator.state import files
from coordinator.store.memory import MemoryStore
from tests.support import examples

T = TypeVar("T")


def stored(store: MemoryStore, body: bytes, key: str = "k") -> File:
    store.create(key, body)
    return File(key=key, size=len(body), sha256=hashlib.sha256(body).hexdigest())


@examples(60)
@given(st.lists(st.binary(max_size=9).map(lambda line: line.replace(b"\n", b"")), max_size=9))
def test_lines_come_back_as_they_were_written_however_they_are_read(lines: list[bytes]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "COPY_BYTES", 4)
        store = MemoryStore()

        file = files.write_lines(store, "k", lines)

        assert list(files.read_lines(store, file)) == lines
        assert files.file_at(store, "k") == file


def test_a_file_that_ends_within_a_line_is_named() -> None:
    store = MemoryStore()
    file = stored(store, b"one\ntwo")

    with pytest.raises(LedgerBroken, match="k ends within a line"):
        list(files.read_lines(store, file))


@pytest.mark.parametrize("now", [b"one\ntwO\n", b"one\n", b"one\ntwo\n\n", b""])
def test_a_file_that_was_changed_is_named(now: bytes) -> None:
    store = MemoryStore()
    recorded = stored(store, b"one\ntwo\n", "before")
    stored(store, now)

    with pytest.raises(LedgerBroken, match="k is not what was recorded"):
        list(files.read_file(store, recorded.model_copy(update={"key": "k"})))


@pytest.mark.parametrize("field", [{"size": 3}, {"sha256": "0"}])
def test_size_and_digest_are_both_held_against_a_file(field: dict[str, Any]) -> None:
    store = MemoryStore()
    file = stored(store, b"text")

    with pytest.raises(LedgerBroken):
        list(files.read_file(store, file.model_copy(update=field)))


# ------------------------------------------------------------------------------------------------
# Writing once
# ------------------------------------------------------------------------------------------------


class Unsure(MemoryStore):
    """A store whose next exclusive write ends with an unknown outcome, done or not."""

    def __init__(self, *, done: bool) -> None:
        super().__init__()
        self.done = done

    def perform(self, operation: str, key: str, action: Callable[[], T]) -> T:
        if operation == "create":
            if self.done:
                action()
            raise OutcomeUnknown("The answer was lost.")
        return action()


def test_a_file_that_is_written_again_has_to_be_the_same() -> None:
    store = MemoryStore()

    first = files.write_once(store, "k", [b"on", b"e"])

    assert first == File(key="k", size=3, sha256=hashlib.sha256(b"one").hexdigest())
    assert files.write_once(store, "k", [b"one"]) == first
    for other in (b"two", b"one more", b""):
        with pytest.raises(AlreadyExists):
            files.write_once(store, "k", [other])
    assert store.get("k").body == b"one"


def test_a_write_whose_answer_was_lost_is_read_back() -> None:
    assert files.write_once(Unsure(done=True), "k", [b"one"]).size == 3
    with pytest.raises(OutcomeUnknown):
        files.write_once(Unsure(done=False), "k", [b"one"])


# ------------------------------------------------------------------------------------------------
# Parts
# ------------------------------------------------------------------------------------------------


def a_part(store: MemoryStore, segments: Iterable[bytes], key: str = "part") -> Part:
    bodies = list(segments)
    whole = stored(store, b"".join(bodies), key)
    sums = tuple((len(body), zlib.crc32(body)) for body in bodies)
    return Part(**whole.model_dump(), records=1, segments=sums)


SEGMENTS = [b"a\nb\n", b"", b"cc\n", b"d\ne\nf\n"]


@pytest.mark.parametrize("partition", range(4))
def test_a_segment_is_read_by_itself(partition: int) -> None:
    store = MemoryStore()
    part = a_part(store, SEGMENTS)

    found = list(files.segment_lines(store, part, partition))

    assert b"".join(found) == SEGMENTS[partition]
    assert len(found) == SEGMENTS[partition].count(b"\n")


@pytest.mark.parametrize("partition", [0, 2, 3])
@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_segment_that_is_not_what_its_entry_says_is_named(partition: int, damage: str) -> None:
    store = MemoryStore()
    part = a_part(store, SEGMENTS)
    store.delete(["part"])
    if damage == "changed":
        store.create("part", b"".join(SEGMENTS).swapcase())

    with pytest.raises(LedgerBroken, match=r"part is missing or is not what its entry says"):
        list(files.segment_lines(store, part, partition))


def test_of_a_segment_that_goes_on_too_far_no_line_of_another_is_given() -> None:
    class Longer(MemoryStore):
        """A store that gives all that follows a range, too."""

        def open(self, key: str, start: int = 0, stop: int | None = None) -> Any:
            return super().open(key, start)

    store = Longer()
    part = a_part(store, SEGMENTS)
    seen = []

    def reading() -> Iterator[bytes]:
        for line in files.segment_lines(store, part, 2):
            seen.append(line)
            yield line

    with pytest.raises(LedgerBroken):
        list(reading())
    assert seen == [b"cc\n"]


@pytest.mark.parametrize("body", [None, b"a\nb\ncc\nd\ne\nF\n"])
def test_a_part_that_is_not_what_its_entry_says_can_be_set_aside(body: bytes | None) -> None:
    store = MemoryStore()
    part = a_part(store, SEGMENTS)
    store.delete(["part"])
    if body is not None:
        store.create("part", body)

    with pytest.raises(LedgerBroken, match="fanfold repair"):
        list(files.read_part(store, part))


def test_where_a_part_is_damaged_that_is_to_blame_and_not_its_reader() -> None:
    store = MemoryStore()
    part = a_part(store, SEGMENTS)

    with pytest.raises(ZeroDivisionError), files.damage_first(files.read_part(store, part)):
        raise ZeroDivisionError
    store.delete(["part"])
    with pytest.raises(LedgerBroken), files.damage_first(files.read_part(store, part)):
        raise ZeroDivisionError

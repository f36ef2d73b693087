"""Files of ours are read as they were recorded, or not at all."""

from __future__ import annotations

import hashlib
import zlib

import pytest

from coordinator.errors import LedgerBroken
from coordinator.model import Part
from coordinator.state.files import read_part, segment_lines
from coordinator.store.memory import MemoryStore

SEGMENTS = (b"1\n22\n", b"", b"333\n4\n")
BODY = b"".join(SEGMENTS)
PART = Part(
    key="part",
    size=len(BODY),
    sha256=hashlib.sha256(BODY).hexdigest(),
    records=4,
    segments=tuple((len(segment), zlib.crc32(segment)) for segment in SEGMENTS),
)


def holding(body: bytes) -> MemoryStore:
    store = MemoryStore()
    store.create("part", body)
    return store


def lines(body: bytes, partition: int) -> list[bytes]:
    return list(segment_lines(holding(body), PART, partition))


def test_the_segments_of_a_part_are_read_one_by_one() -> None:
    found = [lines(BODY, partition) for partition in range(3)]

    assert found == [[b"1\n", b"22\n"], [], [b"333\n", b"4\n"]]
    assert b"".join(read_part(holding(BODY), PART)) == BODY


@pytest.mark.parametrize(
    "damaged", [b"1\n22\n343\n4\n", b"1\n22\n333\n4", b"1\n22\n33\n44\n", b"1\n22\n333\n\n4"]
)
def test_a_segment_that_was_changed_is_named_and_the_others_are_not(damaged: bytes) -> None:
    assert lines(damaged, 0) == [b"1\n", b"22\n"]
    with pytest.raises(LedgerBroken, match="part is missing or is not what its entry says"):
        lines(damaged, 2)
    with pytest.raises(LedgerBroken, match="is not what its entry says"):
        b"".join(read_part(holding(damaged), PART))


def test_a_part_that_is_missing_is_named() -> None:
    with pytest.raises(LedgerBroken, match="part is missing"):
        list(segment_lines(MemoryStore(), PART, 0))

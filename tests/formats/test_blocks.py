"""How the records of a range are handed on: in blocks of whole records, of about one size."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, strategies as st

from coordinator.formats import ranges
from coordinator.formats.ranges import NO_STOP, blocks
from tests.support import texts


@given(data=texts(b"\n" * 9, b"y" * 30), size=st.integers(1, 40))
def test_blocks_hold_whole_records_and_no_byte_twice(data: bytes, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "BLOCK_BYTES", size)
        found = list(blocks(io.BytesIO(data).read, 0, NO_STOP, record_bytes=1000))

    position = 0
    for block in found:
        assert block.data is not None
        assert (block.offset, block.length) == (position, len(block.data))
        assert data[position : position + block.length] == block.data
        position += block.length
    assert position == len(data)
    assert all((block.data or b"").endswith(b"\n") for block in found[:-1])


def test_a_block_is_as_large_as_its_size_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "BLOCK_BYTES", 4)

    found = blocks(io.BytesIO(b"a\nb\nccccccc\nd\n").read, 0, NO_STOP, record_bytes=1000)

    assert [block.data for block in found] == [b"a\nb\n", b"ccccccc\n", b"d\n"]

"""What all sources share whose records are lines: cut at any byte, read by blocks, decoded at once."""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Generator, Sequence
from contextlib import closing
from functools import cache

from pydantic.dataclasses import dataclass

from coordinator.errors import JobInvalid
from coordinator.formats.base import STRICT, Batch, Reader, Source, too_long, within
from coordinator.formats.compression import (
    check_readable,
    decompresses,
    decompressor,
    is_compressed,
)
from coordinator.formats.ranges import NO_STOP, Block, Passing, blocks, first_byte_read
from coordinator.model import Slice

BOM = b"\xef\xbb\xbf"
NOT_DECOMPRESSIBLE = "can't be decompressed to its end"

# Encodings in which the byte 0x0A is always a newline, so that text can be cut at it.
ASCII_TRANSPARENT = frozenset(
    {"utf-8", "ascii", "latin-1", "cp1252", "iso-8859-15", "shift_jis", "euc_jp", "gbk", "big5"}
)


@dataclass(frozen=True, config=STRICT)
class LinewiseSource(Source):
    """Base of the sources whose records are lines."""

    def cuts_bytes(self, key: str) -> bool:
        check_readable(key, self.kind)
        return not is_compressed(key)


def check_encoding(encoding: str, where: str) -> None:
    """Refuse an encoding in which lines can't be told apart by bytes.

    Raises:
        JobInvalid: it is one.
    """
    if encoding not in ASCII_TRANSPARENT:
        known = ", ".join(sorted(ASCII_TRANSPARENT))
        raise JobInvalid(
            f"{where} encoding {encoding!r} can't be cut at newlines; take one of {known}."
        )


class LinewiseReader(Reader):
    """Records are lines: shared by everything that can be cut at newlines."""

    def batches(self, piece: Slice) -> Generator[Batch, None, None]:
        ordinal = 0
        with closing(self.blocks(piece)) as found:
            for block in found:
                batch = self._batch(piece, block)
                batch.ordinal = ordinal
                ordinal += batch.units
                if piece.unit == "records":
                    if 0 <= piece.stop <= batch.ordinal:
                        return
                    batch = within(batch, piece)
                if batch.units:
                    yield batch

    def passing(self, offset: int) -> Passing | None:
        """What looks at a record that is passed over, where that matters for the next."""
        return None

    def blocks(self, piece: Slice) -> Generator[Block, None, None]:
        """The blocks of a slice; those of a compressed object have decompressed offsets. A byte
        order mark with nothing after it is none.

        Closing it early tells, as its end does, whether the object is still as pinned.
        """
        packed = is_compressed(piece.key)
        if packed and not decompresses(self.inputs, piece.pinned):
            yield Block(0, None, -1)
            return
        whole = packed or piece.unit == "records"
        start, stop = (0, NO_STOP) if whole else (piece.start, piece.stop)
        most = self.record_bytes + len(BOM)  # a mark counts for nothing; `decode` is exact
        with closing(
            self.inputs.open(piece.pinned, first_byte_read(start), min(stop, piece.size))
        ) as stream:
            read = decompressor(piece.key, stream) if packed else stream.read
            for block in blocks(read, start, stop, most, passing=self.passing):
                if block.data != BOM or block.offset:
                    yield block

    def _batch(self, piece: Slice, block: Block) -> Batch:
        end = block.offset + max(block.length, 0)
        if block.data is None:
            reason = NOT_DECOMPRESSIBLE if block.length < 0 else too_long(self.record_bytes)
            return Batch(piece, [], 1, lambda: (block.offset,), end, refused=[(0, reason)])
        data = block.data
        batch = Batch(piece, [], 0, cache(lambda: line_starts(data, block.offset)), end)
        self.decode(batch, data, first=block.offset == 0)
        return batch

    @abstractmethod
    def decode(self, batch: Batch, data: bytes, *, first: bool) -> None:
        """Fill a batch from a block of whole lines; `first` is the object's own first block."""

    def may_be_too_long(self, lines: Sequence[bytes] | Sequence[str], data: bytes) -> bool:
        """Whether a line of the block may be longer than a record may be."""
        return len(data) > self.record_bytes and max(map(len, lines)) * 4 + 1 > self.record_bytes


def raw_lines(data: bytes, *, first: bool) -> list[bytes]:
    """The lines of a block as bytes, without newline; a BOM at the object's start is removed."""
    lines = (data[len(BOM) :] if first and data.startswith(BOM) else data).split(b"\n")
    if data.endswith(b"\n"):
        lines.pop()
    return lines


def decode_lines(data: bytes, encoding: str, *, first: bool) -> list[str]:
    """The lines of a block as text, without line ends; decoded in one go."""
    text = (data[len(BOM) :] if first and data.startswith(BOM) else data).decode(encoding)
    lines = text.split("\n")
    if data.endswith(b"\n"):
        lines.pop()
    if "\r" in text:
        lines = [line.removesuffix("\r") for line in lines]
    return lines


def line_starts(data: bytes, base: int) -> list[int]:
    """The offset of every line of a block."""
    starts = [base]
    for line in io.BytesIO(data):
        starts.append(starts[-1] + len(line))
    return starts[:-1]


def undecodable(error: UnicodeDecodeError) -> str:
    """Why bytes are no text, without the bytes."""
    return f"not {error.encoding}: {error.reason} at byte {error.start} of the record"

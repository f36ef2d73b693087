"""Lines: every line of a text is one record."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from coordinator.formats.base import STRICT, Batch, too_long
from coordinator.formats.linewise import (
    LinewiseReader,
    LinewiseSource,
    check_encoding,
    decode_lines,
    raw_lines,
    undecodable,
)
from coordinator.store.ports import Inputs


@dataclass(frozen=True, config=STRICT)
class Lines(LinewiseSource):
    """Source: every line of a text is one record, a `str` without its line end.

    Blank lines are records. A newline is the byte 0x0A; a 0x0D before it belongs to it.
    """

    glob: str = "*"
    encoding: str = "utf-8"

    def check(self, where: str) -> None:
        check_encoding(self.encoding, where)

    def reader(
        self, inputs: Inputs, record_bytes: int, header: tuple[str, ...] | None = None
    ) -> LineReader:
        return LineReader(self, inputs, record_bytes)


class LineReader(LinewiseReader):
    """Every line, blank or not, is a `str`."""

    def __init__(self, source: Lines, inputs: Inputs, record_bytes: int) -> None:
        super().__init__(source, inputs, record_bytes)
        self.encoding = source.encoding

    def decode(self, batch: Batch, data: bytes, *, first: bool) -> None:
        try:
            lines = decode_lines(data, self.encoding, first=first)
        except UnicodeDecodeError:
            lines = None
        if lines is None or self.may_be_too_long(lines, data):
            self._decode_one_by_one(batch, data, first=first)
        else:
            batch.records = lines
            batch.units = len(lines)

    def _decode_one_by_one(self, batch: Batch, data: bytes, *, first: bool) -> None:
        batch.index = []
        for unit, line in enumerate(raw_lines(data, first=first)):
            batch.units = unit + 1
            if len(line) > self.record_bytes:
                batch.refused.append((unit, too_long(self.record_bytes)))
                continue
            try:
                record = line.decode(self.encoding)
            except UnicodeDecodeError as error:
                batch.refused.append((unit, undecodable(error)))
            else:
                batch.records.append(record.removesuffix("\r"))
                batch.index.append(unit)

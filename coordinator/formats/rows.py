"""Rows of delimited text whose cells may hold newlines: known only by reading from the start."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from coordinator.formats.base import too_long
from coordinator.formats.linewise import BOM, NOT_DECOMPRESSIBLE
from coordinator.formats.ranges import Block


class Rows:
    """Rows of an object with embedded newlines, and where each begins.

    It is also the iterator of lines that its csv reader pulls from: an iterator that raises can
    be asked again, a generator can't.
    """

    def __init__(
        self, found: Iterator[Block], encoding: str, delimiter: str, record_bytes: int
    ) -> None:
        self.too_long = too_long(record_bytes)
        self.record_bytes = record_bytes
        self.encoding = encoding
        self.position = 0
        self.row_start = 0
        self._trouble: str | None = None
        self._lines = self._raw_lines(found)
        self._csv = csv.reader(self, delimiter=delimiter, strict=True)

    def next(self) -> list[str] | str | None:
        """The next row; a str says why it is refused; None at the end."""
        self.row_start = self.position
        self._trouble = None
        try:
            row = next(self._csv)
        except StopIteration:
            return None
        except csv.Error as error:
            return self._trouble or f"not a CSV row: {error}"
        if self._trouble is None and not all(map(str.isascii, row)):
            try:
                "".join(row).encode()
            except UnicodeEncodeError:
                return f"not {self.encoding}"
        return self._trouble or row

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line, size, trouble = next(self._lines)
        self.position += size
        if trouble is None and self.position - self.row_start > self.record_bytes:
            trouble = self.too_long
        if trouble is not None:
            self._trouble = trouble
            raise csv.Error(trouble)
        return line.decode(self.encoding, errors="surrogateescape")

    def _raw_lines(self, found: Iterator[Block]) -> Iterator[tuple[bytes, int, str | None]]:
        for block in found:
            if block.data is None:
                yield (
                    b"",
                    max(block.length, 0),
                    self.too_long if block.length >= 0 else NOT_DECOMPRESSIBLE,
                )
                continue
            for number, line in enumerate(io.BytesIO(block.data)):
                bom = block.offset == 0 and number == 0
                yield line.removeprefix(BOM) if bom else line, len(line), None

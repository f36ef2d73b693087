"""Rows of delimited text whose cells may hold newlines: known only by reading from the start.

Where a row is refused that took in several lines, nobody can tell what in them, and in all that
follows, lies within quotes. So each of these lines is refused by itself, to the object's end: what
one stray quote takes away counts for as much as it is.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import deque
from collections.abc import Iterator

from coordinator.formats.base import too_long
from coordinator.formats.linewise import BOM, NOT_DECOMPRESSIBLE
from coordinator.formats.ranges import Block

# All up to a quote that is not one of two.
_WITHIN_QUOTES = re.compile(r'[^"]*+(?:""[^"]*+)*+')


# The bytes [start, stop) of an object, and the row that they are; a str says why they are refused.
RowUnit = tuple[int, int, list[str] | str]


class Quotes:
    """Whether a line that begins a row ends within quotes. It is read piece by piece, and as a
    reader would read it that forgives what RFC 4180 forbids.

    Args:
        marked: a byte order mark may come first.
    """

    def __init__(self, encoding: str, delimiter: str, *, marked: bool = False) -> None:
        self._decode = codecs.getincrementaldecoder(encoding)("surrogateescape").decode
        self._opening = f'{delimiter}"'
        self._marked = marked
        self._before = delimiter  # a quote opens a cell behind it, and where the row begins
        self._within = False

    def feed(self, piece: bytes) -> None:
        """Read on. The first piece holds the whole of a mark."""
        text = self._before + self._decode(piece.removeprefix(BOM) if self._marked else piece)
        self._marked = False
        at = 0
        while True:
            if self._within:
                at = self._pass_quoted(text, at)
                if at >= len(text) - 1:  # a last quote may be the first of two
                    self._before = text[at:]
                    return
                self._within = False
            else:
                at = text.find(self._opening, at)
                if at < 0:
                    self._before = text[-1:]
                    return
                self._within = True
                at += len(self._opening)

    @property
    def open(self) -> bool:
        """Whether what was read so far ends within quotes."""
        return self._within and not self._before

    @staticmethod
    def _pass_quoted(text: str, at: int) -> int:
        found = _WITHIN_QUOTES.match(text, at)
        return len(text) if found is None else found.end()


class Rows:
    """The rows of an object with embedded newlines, and where each begins.

    It is also the iterator of lines that its csv reader pulls from: an iterator that raises can
    be asked again, a generator can't. Memory is bounded by a chunk and a record.

    Attributes:
        columns: how many cells a row has; None as long as it is not known.
    """

    def __init__(
        self, found: Iterator[Block], encoding: str, delimiter: str, record_bytes: int
    ) -> None:
        self.too_long = too_long(record_bytes)
        self.record_bytes = record_bytes
        self.encoding = encoding
        self.delimiter = delimiter
        self.columns: int | None = None
        self._position = 0
        self._row_start = 0
        self._line_start = 0
        self._line: bytes | None = None  # the last one, unless it was passed over
        self._goes_on = False  # whether that which was passed over ended within quotes
        self._mark_bytes = 0
        self._trouble: str | None = None
        self._blocks: deque[Block] = deque()  # all that hold something of the present row
        self._lines = self._raw_lines(found)
        self._csv = csv.reader(self, delimiter=delimiter, strict=True)

    def units(self) -> Iterator[RowUnit]:
        """All rows; of a row that is refused with several lines, and of all that follows it, the
        lines."""
        while (row := self._next()) is not None:
            if isinstance(row, str):
                alone = self._line_start == self._row_start and not self._ends_within_quotes()
            else:
                alone = self._line_start == self._row_start or self.columns in {None, len(row)}
            if not alone:
                yield from self._lines_to_the_end(row)
                return
            yield self._row_start, self._position, row

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self._line, size, self._trouble = next(self._lines)
        self._line_start = self._position
        self._position += size
        if self._line is None or (
            self._position - self._row_start > self.record_bytes and self._is_too_long()
        ):
            self._trouble = self._trouble or self.too_long
            raise csv.Error(self._trouble)
        return self._line.decode(self.encoding, errors="surrogateescape")

    def _next(self) -> list[str] | str | None:
        """The next row; a str says why it is refused; None at the end."""
        self._row_start = self._line_start = self._position
        try:
            row = next(self._csv)
        except StopIteration:
            return None
        except csv.Error as error:
            return self._trouble or f"not a CSV row: {error}"
        if not all(map(str.isascii, row)):
            try:
                "".join(row).encode()
            except UnicodeEncodeError:
                return f"not {self.encoding}"
        return row

    def _is_too_long(self) -> bool:
        """Whether the row is, as far as it was read; the newline at its end does not count."""
        mark_bytes = self._mark_bytes if self._row_start == 0 else 0
        ends = self._line is not None and self._line.endswith(b"\n")
        return self._position - self._row_start - mark_bytes - ends > self.record_bytes

    def _ends_within_quotes(self) -> bool:
        """Whether the line that was refused may go on in the next."""
        if self._line is None:
            return self._goes_on
        quotes = Quotes(self.encoding, self.delimiter)
        quotes.feed(self._line)
        return quotes.open

    # -- lines -----------------------------------------------------------------------------------

    def _raw_lines(self, found: Iterator[Block]) -> Iterator[tuple[bytes | None, int, str | None]]:
        """Every line and its size; or why it was passed over."""
        for block in found:
            while self._blocks and self._end(self._blocks[0]) <= self._row_start:
                self._blocks.popleft()
            self._blocks.append(block)
            if block.data is None:
                self._goes_on = block.passed is not None and block.passed.open
                reason = self.too_long if block.length >= 0 else NOT_DECOMPRESSIBLE
                yield None, max(block.length, 0), reason
                continue
            lines = io.BytesIO(block.data)
            if block.offset == 0 and block.data.startswith(BOM):
                self._mark_bytes = len(BOM)
                first = lines.readline()
                yield first.removeprefix(BOM), len(first), None
            for line in lines:
                yield line, len(line), None

    def _lines_to_the_end(self, row: list[str] | str) -> Iterator[RowUnit]:
        """The lines of a row that is refused, and all that follow it."""
        place, stop = self._row_start, self._position
        reason = row if isinstance(row, str) else misfit(len(row), self.columns or 0)
        for start, end in self._places(place, stop):
            yield start, end, reason
            reason = f"within the row at byte {place}, which is refused"
        reason = f"behind the row at byte {place}: what lies within quotes there can't be known"
        for _, size, _ in self._lines:
            self._row_start = self._position
            self._position += size
            yield self._row_start, self._position, reason

    def _places(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Where the lines between two offsets begin and end."""
        for block in list(self._blocks):
            at = block.offset
            for line in (b"",) if block.data is None else io.BytesIO(block.data):
                end = at + len(line) if block.data is not None else self._end(block)
                if start <= at < stop:
                    yield at, end
                at = end

    @staticmethod
    def _end(block: Block) -> int:
        return block.offset + max(block.length, 0)


def misfit(cells: int, columns: int) -> str:
    """Why a row is refused that has another number of cells than there are columns."""
    return f"{cells} cells, but {columns} columns"

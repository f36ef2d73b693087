"""Independent readers: what is in a body, found in the simplest way there is.

None of them shares code with the formats, and none is fast or careful with memory. Each gives
every unit of a body: where it begins, what it is, and its record.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable
from typing import Any

from tests.support import Seen

MARK = b"\xef\xbb\xbf"
BROKEN: list[Seen] = [(0, "refused", None)]

Decide = Callable[[bytes], Any]


def lines_of(body: bytes) -> list[tuple[int, bytes]]:
    """Offset and bytes of every line, its newline included and the mark at the start not; a mark
    alone is no line."""
    found, offset = [], 0
    for line in io.BytesIO(body):
        found.append((offset, line.removeprefix(MARK) if offset == 0 else line))
        offset += len(line)
    return [] if body == MARK else found


def text_units(body: bytes, encoding: str = "utf-8", record_bytes: int = 1 << 20) -> list[Seen]:
    """Every line is a record, unless it can't be decoded or is too long."""
    found: list[Seen] = []
    for offset, line in lines_of(body):
        record = line.removesuffix(b"\n")
        try:
            if len(record) > record_bytes:
                raise ValueError("too long")
            found.append((offset, "record", record.decode(encoding).removesuffix("\r")))
        except ValueError:
            found.append((offset, "refused", None))
    return found


def json_units(body: bytes) -> list[Seen]:
    """Every line that is not blank is a JSON value of RFC 8259."""
    found: list[Seen] = []
    for offset, line in lines_of(body):
        if not line.strip():
            found.append((offset, "blank", None))
            continue
        try:
            value = json.loads(line.removesuffix(b"\n").decode(), parse_constant=_refuse)
            json.dumps(value, ensure_ascii=False).encode()  # an escaped lone surrogate is no text
            found.append((offset, "record", value))
        except ValueError:
            found.append((offset, "refused", None))
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


# ------------------------------------------------------------------------------------------------
# CSV
# ------------------------------------------------------------------------------------------------


def row_units(
    body: bytes,
    columns: tuple[str, ...],
    *,
    header: bool = False,
    delimiter: str = ",",
    record_bytes: int = 1 << 20,
) -> list[Seen] | None:
    """The rows of a CSV whose cells may hold newlines. Once a row is refused that took in several
    lines, or may have, all its lines and all behind it are refused. None where the first is not
    the header."""
    lines = lines_of(body)
    units: list[Seen] = []
    at = 0
    while at < len(lines):
        row, stop, goes_on = _next_row(lines, at, delimiter, record_bytes)
        if row is not None and not (header and at == 0) and len(row) not in {0, len(columns)}:
            row, goes_on = None, stop > at + 1
        if header and at == 0:
            if row != list(columns):
                return None
        elif row is None and goes_on:
            return [*units, *((offset, "refused", None) for offset, _ in lines[at:])]
        else:
            units.append((lines[at][0], *_as_unit(row, columns)))
        at = stop
    return units


def line_row_units(
    body: bytes, columns: tuple[str, ...], *, header: bool = False
) -> list[Seen] | None:
    """The rows of a CSV that is declared to have one a line; None where one shows that it has not,
    or the first is not the header."""
    units: list[Seen] = []
    for at, (offset, line) in enumerate(lines_of(body)):
        row: list[str] | None = None
        try:
            row = next(iter(csv.reader([line.decode()], strict=True)), [])
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                return None
        except UnicodeDecodeError:
            pass
        if header and at == 0:
            if row != list(columns):
                return None
            continue
        if row is not None and len(row) not in {0, len(columns)}:
            row = None
        units.append((offset, *_as_unit(row, columns)))
    return units


def _as_unit(row: list[str] | None, columns: tuple[str, ...]) -> tuple[str, Any]:
    if row is None:
        return "refused", None
    return ("record", dict(zip(columns, row, strict=True))) if row else ("blank", None)


def _next_row(
    lines: list[tuple[int, bytes]], at: int, delimiter: str, record_bytes: int
) -> tuple[list[str] | None, int, bool]:
    """The row that begins in a line, None where it is refused; the line after it; and whether a
    refused row took in more than one line, or may have."""
    for stop in range(at + 1, len(lines) + 1):
        raw = [line for _, line in lines[at:stop]]
        text = [line.decode(errors="surrogateescape") for line in raw]
        if len(b"".join(raw).removesuffix(b"\n")) > record_bytes:
            return None, stop, stop > at + 1 or ends_within_quotes(text[0], delimiter)
        try:
            row = next(iter(csv.reader(text, delimiter=delimiter, strict=True)), [])
            "".join(row).encode()
        except UnicodeEncodeError:
            return None, stop, stop > at + 1
        except csv.Error as error:
            if "unexpected end of data" not in str(error):
                return None, stop, stop > at + 1 or ends_within_quotes(text[0], delimiter)
        else:
            return row, stop, False
    return None, len(lines), True


def ends_within_quotes(line: str, delimiter: str) -> bool:
    """Whether a forgiving reader would go on with the row of this line in the next."""
    state = "start"
    for sign in line:
        if state == "quoted":
            state = "quote" if sign == '"' else "quoted"
        elif state == "quote" and sign == '"':
            state = "quoted"
        elif sign == delimiter:
            state = "start"
        else:
            state = "quoted" if state == "start" and sign == '"' else "cell"
    return state == "quoted"


# ------------------------------------------------------------------------------------------------
# Compression
# ------------------------------------------------------------------------------------------------


def gunzipped(body: bytes) -> bytes | None:
    """What a gzip object holds; None where it is none."""
    try:
        return gzip.decompress(body) if body else None
    except (EOFError, OSError, zlib.error):
        return None


def bunzipped(body: bytes) -> bytes | None:
    """What a bzip2 object holds; None where it is none, or not to its last byte."""
    found: list[bytes] = []
    while body or not found:
        stream = bz2.BZ2Decompressor()
        try:
            found.append(stream.decompress(body))
        except OSError:
            return None
        if not stream.eof:
            return None
        body = stream.unused_data
    return b"".join(found)

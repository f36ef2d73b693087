"""What the bodies are made of that the contract of formats reads: lines, cells and rows."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any, Literal

from hypothesis import strategies as st

SECRET = "secret"

ENDS = st.sampled_from([b"\n", b"\r\n"])
SIGNS = ["a", "é", "漢", "😀", " ", ",", ";", '"', "'", "\r", "\t", "\x00", "\x85", "\u2028"]
LINE = st.lists(st.sampled_from(SIGNS), max_size=8).map("".join)
CELL = st.lists(st.sampled_from([*SIGNS, "\n", "\r\n"]), max_size=6).map("".join)
NUMBER = st.integers(-(10**6), 10**6) | st.floats(-1e300, 1e300)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBER | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=4,
)
SALES = st.fixed_dictionaries(
    {"kind": st.text(max_size=6)}, optional={"amount": NUMBER, "more": st.none()}
)


def filler(size: int) -> bytes:
    return (SECRET * (size // len(SECRET) + 1)).encode()[:size]


def within(before: bytes, after: bytes) -> Callable[[int], bytes]:
    return lambda size: before + filler(size - len(before) - len(after)) + after


def json_lines(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    def write(value: Any, indent: int, end: bytes, *, ascii_only: bool) -> bytes:
        return b" " * indent + json.dumps(value, ensure_ascii=ascii_only).encode() + end

    return st.builds(write, values, st.integers(0, 1), ENDS, ascii_only=st.booleans())


def csv_lines(*cells: st.SearchStrategy[Any], delimiter: str) -> st.SearchStrategy[bytes]:
    def write(row: tuple[Any, ...], quoting: Literal[0, 1], end: bytes) -> bytes:
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=delimiter, quoting=quoting).writerow(row)
        return text.getvalue().removesuffix("\r\n").encode() + end

    quoting = st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    return st.builds(write, st.tuples(*cells), quoting, ENDS)


def sale_of(row: Any) -> dict[str, Any]:
    """A sale as its model has it, from JSON or from cells."""
    return {"kind": row["kind"], "amount": float(row.get("amount") or 0)}

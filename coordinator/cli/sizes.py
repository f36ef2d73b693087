"""Sizes, times and rates as people write and read them."""

from __future__ import annotations

import re
from fractions import Fraction

from coordinator.errors import InputInvalid

_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*$", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_size(text: str) -> int:
    """Bytes of a size such as `64MiB` (powers of 1024), `500k` or `1.5GB` (powers of 1000).

    Raises:
        InputInvalid: it is no size, or less than a byte.
    """
    found = _SIZE.match(text)
    size = 0
    if found:
        number, prefix, binary = found.groups()
        size = int(Fraction(number) * (1024 if binary else 1000) ** _POWERS[prefix.lower()])
    if size < 1:
        raise InputInvalid(
            f"{text!r} is no size: write a number of bytes, or one like 64MiB, 500k, 1.5GB."
        )
    return size


def show_bytes(size: float) -> str:
    """Bytes for people: `1.5 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def show_seconds(seconds: float) -> str:
    """A duration for people: `0.8 s`, `3:05`, `1:02:03`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

"""Text: a sink of lines of UTF-8."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic.dataclasses import dataclass

from coordinator.errors import Unencodable
from coordinator.formats.base import STRICT, Encode, Sink


@dataclass(frozen=True, config=STRICT)
class Text(Sink):
    """Sink: every output record is a `str`, written as one line of UTF-8."""

    extension: ClassVar[str] = "txt"

    def encoder(self) -> Encode:
        return encode_text_line

    def decode(self, body: bytes) -> list[Any]:
        return body.decode().split("\n")[:-1]


def encode_text_line(record: object) -> bytes:
    """One output record of a Text sink.

    Raises:
        Unencodable: it is no `str`, or holds a newline or a lone surrogate.
    """
    if not isinstance(record, str):
        raise Unencodable(f"A Text sink takes str, not {type(record).__name__}.")
    if "\n" in record:
        raise Unencodable("an output line of a Text sink holds a newline")
    try:
        return record.encode() + b"\n"
    except UnicodeEncodeError:
        raise Unencodable("an output line of a Text sink holds a lone surrogate") from None

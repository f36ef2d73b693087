"""From output records to bytes, one encoder a sink.

The wrong type is `OutputInvalid`: the code is at fault. A value that has no encoding (NaN, a lone
surrogate) is a ValueError: the record is at fault, and quarantined.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from coordinator.errors import OutputInvalid
from coordinator.job import Blob, Csv, JsonLines, Sink, Text
from coordinator.keys import check_result_name

Encode = Callable[[Any], bytes]


def encoder_of(sink: Sink) -> Encode:
    """The function that encodes one output record, line end included.

    Raises (when called):
        OutputInvalid: the record is of a type that the sink can't take.
        ValueError: its value has no encoding.
    """
    if isinstance(sink, JsonLines):
        return encode_json_line
    if isinstance(sink, Text):
        return encode_text_line
    if isinstance(sink, Csv):
        return _csv_encoder(sink)
    return encode_blob


def extension_of(sink: Sink) -> str:
    """The file name extension of parts and results."""
    return {"JsonLines": "jsonl", "Text": "txt", "Csv": "csv"}.get(sink.kind, "blobs")


def preamble_of(sink: Sink) -> bytes:
    """What every result object begins with: a CSV's header."""
    if isinstance(sink, Csv):
        return _csv_row(sink.sink_columns(), sink.delimiter)
    return b""


def _plain(value: object) -> object:
    """What JSON has no type for, as what it has."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, (Decimal, UUID)):
        return str(value)
    raise OutputInvalid(
        f"A {type(value).__name__} can't be written as JSON; yield dicts, lists, numbers and text."
    )


_JSON = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=True, separators=(",", ":"), default=_plain
).encode


def _compact_encoder() -> Callable[[object], str]:
    """`_JSON`, without making a new C encoder for every value, where Python has one."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return _JSON
    containers: dict[int, object] = {}  # those being encoded now, by id: what finds cycles
    pieces = make(
        containers, _plain, json.encoder.encode_basestring, None, ":", ",", False, False, False
    )

    def encode(value: object) -> str:
        try:
            return "".join(pieces(value, 0))
        except BaseException:
            containers.clear()
            raise

    return encode


_COMPACT = _compact_encoder()


def encode_json(value: object) -> bytes:
    """A value as compact JSON.

    Raises:
        OutputInvalid: a type that JSON can't take, such as a set.
        ValueError: NaN, infinity, a lone surrogate or a cycle.
    """
    try:
        return _COMPACT(value).encode()
    except TypeError as error:
        raise OutputInvalid(f"An output can't be written as JSON: {error}.") from error


def encode_json_line(record: object) -> bytes:
    """One output record of a JsonLines sink."""
    if type(record) is not dict and isinstance(record, BaseModel):
        return record.__pydantic_serializer__.to_json(record) + b"\n"
    return encode_json(record) + b"\n"


def encode_text_line(record: object) -> bytes:
    """One output record of a Text sink."""
    if not isinstance(record, str):
        raise OutputInvalid(f"A Text sink takes str, not {type(record).__name__}.")
    if "\n" in record:
        raise ValueError("an output line of a Text sink holds a newline")
    return record.encode() + b"\n"


def encode_blob(record: object) -> bytes:
    """One output of an Objects sink: a line with its name and size, then its bytes."""
    if not isinstance(record, Blob):
        raise OutputInvalid(f"An Objects sink takes Blob(name, body), not {type(record).__name__}.")
    if not isinstance(record.body, bytes):
        raise OutputInvalid(f"The body of a Blob must be bytes, not {type(record.body).__name__}.")
    return encode_json([check_result_name(record.name), len(record.body)]) + b"\n" + record.body


def _csv_encoder(sink: Csv) -> Encode:
    columns = sink.sink_columns()
    known = frozenset(columns)

    def encode(record: object) -> bytes:
        if isinstance(record, BaseModel):
            record = record.model_dump(mode="json")
        if isinstance(record, Mapping):
            if unknown := [name for name in record if name not in known]:
                raise OutputInvalid(
                    f"A Csv sink has no column {unknown[0]!r}; its columns are {', '.join(columns)}."
                )
            cells = [record.get(name) for name in columns]
        elif isinstance(record, (tuple, list)):
            if len(record) != len(columns):
                raise OutputInvalid(
                    f"A Csv sink with {len(columns)} columns can't take {len(record)} cells."
                )
            cells = list(record)
        else:
            raise OutputInvalid(
                f"A Csv sink takes dicts, models or sequences, not {type(record).__name__}."
            )
        for cell in cells:
            if isinstance(cell, (Mapping, list, tuple, set, bytes)):
                raise OutputInvalid(f"A cell of a Csv sink can't hold a {type(cell).__name__}.")
        return _csv_row(cells, sink.delimiter)

    return encode


def _csv_row(cells: Iterable[object], delimiter: str) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator="\r\n").writerow(cells)
    # csv quotes only cells that hold a sign of its line end: a carriage return must be quoted too
    return text.getvalue().removesuffix("\r\n").encode() + b"\n"

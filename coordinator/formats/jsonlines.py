"""JsonLines: one JSON value a line, as source and as sink."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, ClassVar
from uuid import UUID

from pydantic import BaseModel
from pydantic.dataclasses import dataclass
from pydantic_core import from_json

from coordinator.errors import OutputInvalid
from coordinator.formats.base import STRICT, Batch, Encode, Sink, invalid, too_long
from coordinator.formats.linewise import LinewiseReader, LinewiseSource, raw_lines
from coordinator.store.ports import Inputs


@dataclass(frozen=True, config=STRICT)
class JsonLines(LinewiseSource, Sink):
    """Source and sink: one JSON value a line, UTF-8. With a model, records are its instances."""

    model: type[BaseModel] | None = None
    glob: str = "*"

    extension: ClassVar[str] = "jsonl"

    def without_model(self) -> JsonLines:
        return dataclasses.replace(self, model=None)

    def reader(
        self, inputs: Inputs, record_bytes: int, header: tuple[str, ...] | None = None
    ) -> JsonReader:
        return JsonReader(self, inputs, record_bytes)

    def encoder(self) -> Encode:
        return encode_json_line

    def decode(self, body: bytes) -> list[Any]:
        return [json.loads(line) for line in body.split(b"\n")[:-1]]


class JsonReader(LinewiseReader):
    """Every line that is not blank is a JSON value, an instance of the model if there is one."""

    def __init__(self, source: JsonLines, inputs: Inputs, record_bytes: int) -> None:
        super().__init__(source, inputs, record_bytes)
        model = source.model
        self.parse: Callable[[bytes], Any] = (
            model.__pydantic_validator__.validate_json
            if model is not None
            else lambda line: from_json(line, allow_inf_nan=False)
        )

    def decode(self, batch: Batch, data: bytes, *, first: bool) -> None:
        lines = raw_lines(data, first=first)
        batch.units = len(lines)
        parse, records = self.parse, batch.records
        append = records.append
        long = self.may_be_too_long(lines, data)
        index: list[int] = []
        for unit, line in enumerate(lines):
            try:
                if long and len(line) > self.record_bytes:
                    raise ValueError(too_long(self.record_bytes))
                append(parse(line))
                index.append(unit)
            except ValueError as error:
                if not line.strip():
                    batch.blank.append(unit)
                else:
                    batch.refused.append((unit, invalid(error)))
        if len(records) != len(lines):
            batch.index = index


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

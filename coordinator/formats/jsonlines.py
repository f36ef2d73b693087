"""JsonLines: one JSON value a line, as source and as sink."""

from __future__ import annotations

import dataclasses
import json
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache
from math import isfinite
from typing import Any, ClassVar
from uuid import UUID

from pydantic import BaseModel
from pydantic.dataclasses import dataclass
from pydantic_core import from_json, to_json, to_jsonable_python

from coordinator.errors import Unencodable
from coordinator.formats.base import STRICT, Batch, Encode, Sink, too_long
from coordinator.formats.linewise import LinewiseReader, LinewiseSource, raw_lines
from coordinator.formats.models import Refusals, is_plain
from coordinator.store.ports import Inputs

DIGITS = 4300  # of an integer: those who read JSON, Python too, refuse more
LEVELS = 190  # of arrays and objects: fewer than any reader's own limit
_SURROGATE = "A str with a lone surrogate can't be written as JSON."
_TEXT = frozenset({str})
# Of these there is one JSON, whoever writes it.
_SAME: frozenset[type] = frozenset({str, int, bool, type(None)})
_FLAT: frozenset[type] = _SAME | {float}


@dataclass(frozen=True, config=STRICT)
class JsonLines(LinewiseSource, Sink):
    """Source and sink: one JSON value a line, UTF-8. With a model, records are its instances.

    Models are written by the names of their fields, or as their `serialize_by_alias` says.
    """

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
            model.__pydantic_validator__.validate_json if model is not None else _plain_json
        )
        self.refusals = Refusals(model)

    def decode(self, batch: Batch, data: bytes, *, first: bool) -> None:
        lines = raw_lines(data, first=first)
        batch.units = len(lines)
        parse, records = self.parse, batch.records
        append = records.append
        long = self.may_be_too_long(lines, data)
        # Pydantic takes NaN and the infinities, which are no JSON.
        doubtful = b"NaN" in data or b"Infinity" in data
        index: list[int] = []
        for unit, line in enumerate(lines):
            try:
                if long and len(line) > self.record_bytes:
                    raise ValueError(too_long(self.record_bytes))
                if doubtful:
                    _plain_json(line)
                append(parse(line))
                index.append(unit)
            except Exception as error:  # noqa: BLE001  a validator may raise anything
                if not line.strip(b" \t\r"):
                    batch.blank.append(unit)
                else:
                    batch.refused.append((unit, self.refusals.reason(error)))
        if len(records) != len(lines):
            batch.index = index


def _plain_json(line: bytes) -> Any:
    return from_json(line, allow_inf_nan=False)


def _plain(value: object) -> object:
    """What JSON has no type for, as what it has."""
    if isinstance(value, BaseModel):
        if not is_plain(type(value)) or _is_doubtful((value,)):
            _refuse_bent(value)
        return value.model_dump(mode="json", warnings=False)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, (Decimal, UUID)):
        return str(value)
    raise Unencodable(
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
        Unencodable: it holds what JSON can't take: a set, NaN, a lone surrogate, a cycle, an
            integer of more digits than Python reads, more levels than readers take, keys that
            are one in JSON.
    """
    if type(value) is dict and _is_flat(value, _SAME):
        try:
            body = to_json(value)
            if len(body) <= DIGITS:
                return body
        except ValueError:
            pass  # a lone surrogate: it is named below
    try:
        body = _COMPACT(value).encode()
        _refuse_depth(body)
        if type(value) is not dict or not _is_flat(value, _FLAT):
            _refuse_keys_made_equal(value)
        return body
    except Unencodable:
        raise
    except UnicodeEncodeError:
        raise Unencodable(_SURROGATE) from None
    except RecursionError:
        raise Unencodable("An output that is nested this deeply can't be written.") from None
    except (TypeError, ValueError) as error:
        raise Unencodable(f"An output can't be written as JSON: {error}.") from error


def _is_flat(value: dict[Any, Any], kinds: frozenset[type]) -> bool:
    """Whether a dict has nothing but texts for keys, and values of these types."""
    for name, item in value.items():
        if type(name) is not str or type(item) not in kinds:
            return False
    return True


def _refuse_keys_made_equal(value: object) -> None:
    """Refuse a dict in which JSON would have a key twice, such as 1 and "1". There are no cycles:
    the value has been encoded."""
    waiting = [value]
    for found in waiting:
        if isinstance(found, dict):
            items = list(found.items())  # as the encoder reads them
            _refuse_equal_names([name for name, _ in items], _COMPACT)
            waiting += [item for _, item in items if type(item) not in _FLAT]
        elif isinstance(found, (list, tuple)):
            if not _FLAT.issuperset(map(type, found)):
                waiting += found
        elif isinstance(found, Enum):
            waiting.append(found.value)
        elif dataclasses.is_dataclass(found) and not isinstance(found, type):
            waiting += [getattr(found, item.name) for item in dataclasses.fields(found)]


def _refuse_equal_names(keys: Collection[Any], name: Callable[[Any], str]) -> None:
    """Refuse keys of a dict of which two have one name in JSON."""
    if _TEXT.issuperset(map(type, keys)) and len(set(keys)) == len(keys):
        return
    names = {str.__str__(each) if isinstance(each, str) else name(each) for each in keys}
    if len(names) != len(keys):
        raise Unencodable("A dict has two keys that are one in JSON, as 1 and '1'.")


def _name_by_pydantic(key: Any) -> str:
    return str(next(iter(to_jsonable_python({key: 0}))))


def _refuse_depth(body: bytes) -> None:
    """Refuse what has more levels than those who read JSON take."""
    if len(body) > 2 * LEVELS and body.count(b"[") + body.count(b"{") > LEVELS:
        from_json(body)


def encode_json_line(record: Any) -> bytes:
    """One output record of a JsonLines sink."""
    kind = type(record)
    if kind is not dict and _is_model(kind):
        return encode_model(record) + b"\n"
    return encode_json(record) + b"\n"


# ------------------------------------------------------------------------------------------------
# Models
# ------------------------------------------------------------------------------------------------

# What pydantic writes as JSON without bending it; of numbers it depends on their size.
_SURE: frozenset[type] = frozenset(
    {str, bool, type(None), date, datetime, time, timedelta, Decimal, UUID}
)
_SCALARS: frozenset[type] = _SURE | {int, float}
_WORD = 1 << 63
# What may be of a null, of a key that is none, or of a key that is no text.
_SUSPECT = (b"null", b"None", "\N{REPLACEMENT CHARACTER}".encode())
_FORMS_KEPT = 1000

_is_model: Callable[[type], bool] = cache(lambda kind: issubclass(kind, BaseModel))
_Form = tuple[type, ...]
_forms_seen: dict[type, set[_Form]] = {}  # of each model, what was in its fields, scalars alone


def encode_model(record: BaseModel) -> bytes:
    """A model as JSON, by its own serializers.

    Raises:
        Unencodable: as `encode_json`. Pydantic alone would write null for NaN, and a set in an
            order that differs from process to process.
    """
    kind = type(record)
    plain = is_plain(kind)
    try:
        if plain and (body := _written_plainly(record, kind)) is not None:
            return body
        body = record.__pydantic_serializer__.to_json(record, warnings=False)
        if not plain or _is_doubtful((record,)):
            _refuse_bent(record)
            if "ser_json_inf_nan" not in kind.model_config:
                encode_json(record.model_dump(mode="json", warnings=False))
        if kind.model_config.get("ser_json_inf_nan") == "constants":
            from_json(body, allow_inf_nan=False)
        _refuse_depth(body)
    except Unencodable:
        raise
    except UnicodeEncodeError:
        raise Unencodable(_SURROGATE) from None
    except ValueError as error:
        raise Unencodable(
            f"A {type(record).__name__} can't be written as JSON: {error}."
        ) from error
    return body


def _written_plainly(record: BaseModel, kind: type[BaseModel]) -> bytes | None:
    """The JSON of a plain model where it holds what it declares; None where it may not."""
    seen = _forms_seen.setdefault(kind, set())
    form = tuple(map(type, vars(record).values()))
    write = record.__pydantic_serializer__.to_json
    if form in seen:
        body: bytes = write(record)
    else:
        try:
            body = write(record, warnings="error")
        except ValueError:
            return None
        if _SCALARS.issuperset(form) and len(seen) < _FORMS_KEPT:
            seen.add(form)
    if len(body) > DIGITS or any(map(body.__contains__, _SUSPECT)):
        return None
    return body


def _refuse_bent(record: BaseModel) -> None:
    """Refuse a model that holds what pydantic would bend to fit, unless a serializer of its own
    does: a set, NaN, keys that are one in JSON."""
    finite = "ser_json_inf_nan" not in record.model_config
    waiting: list[object] = [record.model_dump(warnings=False)]
    for value in waiting:
        if isinstance(value, (set, frozenset)):
            raise Unencodable(
                f"A {type(value).__name__} has no order to be written in; yield a sorted list."
            )
        if finite and isinstance(value, float) and not isfinite(value):
            raise Unencodable(f"{value} can't be written as JSON.")
        if isinstance(value, str):
            str.encode(value)
        if isinstance(value, Iterator):
            raise Unencodable(f"A {type(value).__name__} is there but once; yield a list.")
        if isinstance(value, (list, tuple, deque)):
            waiting += value
        elif isinstance(value, Enum):
            waiting.append(value.value)
        elif isinstance(value, dict):
            _refuse_equal_names(value, _name_by_pydantic)
            waiting += (*value, *value.values())


def _is_doubtful(values: Iterable[Any]) -> bool:
    """Whether there is something in these that pydantic may bend to fit into JSON."""
    for value in values:
        kind = type(value)
        if kind in _SURE:
            sure = True
        elif kind is int:
            sure = -_WORD < value < _WORD
        elif kind is float:
            sure = isfinite(value)
        elif kind is list or kind is tuple:
            sure = not _is_doubtful(value)
        elif kind is dict:
            plain = _TEXT.issuperset(map(type, value)) and "".join(value).isascii()
            sure = plain and not _is_doubtful(value.values())
        elif isinstance(value, BaseModel):
            extra = value.__pydantic_extra__
            sure = not _is_doubtful((*vars(value).values(), *(extra or {}).values()))
        else:
            sure = isinstance(value, Enum)
        if not sure:
            return True
    return False

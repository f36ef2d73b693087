"""Record models: by which names their fields are read, and what is said of a record that is refused.

A reason holds none of the record's contents. Pydantic's own messages do: a validator's text, the
tag of a union, the names of what is extra and the keys of a dict.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, get_args

from pydantic import AliasChoices, AliasPath, BaseModel, ValidationError
from pydantic_core.core_schema import ErrorType

REASONS = 5  # of one record, told


class Refusals:
    """Why records are refused that do not fit a model."""

    def __init__(self, model: type[BaseModel] | None) -> None:
        schema: Any = None if model is None else model.__pydantic_core_schema__
        self._names = frozenset(_declared(schema)) | {"[key]"}

    def reason(self, error: Exception) -> str:
        """Why a record is refused, without its contents."""
        if not isinstance(error, ValueError):
            return f"its model raised {type(error).__name__}"
        if not isinstance(error, ValidationError):
            return str(error).splitlines()[0] if str(error) else type(error).__name__
        found = error.errors(include_url=False, include_context=False, include_input=False)
        return "; ".join(
            f"{self._place(item['loc']) or 'record'}: "
            f"{item['msg'] if item['type'] in _WITHOUT_CONTENTS else _told(item['type'])}"
            for item in found[:REASONS]
        )

    def _place(self, steps: tuple[int | str, ...]) -> str:
        return ".".join(
            str(step) if isinstance(step, int) or step in self._names else "*" for step in steps
        )


@cache
def is_plain(model: type[BaseModel]) -> bool:
    """Whether a model that holds what it declares has one JSON, but for nulls and for what is no
    text: each of its fields, and of those within it, is of what JSON has a type for or of what is
    written as a text, with no end of levels and nothing that may be anything."""
    waiting: list[Any] = [model.__pydantic_core_schema__]
    for found in waiting:
        if isinstance(found, (list, tuple)):
            waiting += found
        elif isinstance(found, Mapping):
            kind = found.get("type")
            if isinstance(kind, str) and kind not in _PLAIN:
                return False
            if kind == "dict" and found.get("keys_schema", {}).get("type") not in _PLAIN_KEYS:
                return False
            config = found.get("config") or {}
            if "allow" in (config.get("extra_fields_behavior"), found.get("extra_behavior")):
                return False
            if "ser_json_inf_nan" in config:
                return False
            if "serialization" in found or found.get("computed_fields"):
                return False
            if kind == "model-fields":
                waiting += found["fields"].values()  # whose names may be anything
            else:
                waiting += (value for key, value in found.items() if key not in _NO_SCHEMA)
    return True


def read_names(model: type[BaseModel]) -> Iterator[tuple[str, bool]]:
    """Every name by which a field of the model is read, and whether the field is required."""
    config = model.model_config
    by_name = config.get("validate_by_name") or config.get("populate_by_name")
    by_alias = config.get("validate_by_alias", True)
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        if alias is None or by_name:
            yield name, field.is_required()
        if alias is not None and by_alias:
            for choice in alias.choices if isinstance(alias, AliasChoices) else [alias]:
                first = choice.path[0] if isinstance(choice, AliasPath) else choice
                yield str(first), field.is_required()


def _declared(schema: object) -> Iterator[str]:
    """All names of fields, aliases and tags in a core schema."""
    waiting = [schema]
    for found in waiting:
        if isinstance(found, (list, tuple)):
            waiting += found
        elif isinstance(found, Mapping):
            for key in ("fields", "choices"):
                if isinstance(found.get(key), Mapping):
                    yield from (name for name in found[key] if isinstance(name, str))
            yield from _strings(found.get("validation_alias"))
            waiting += found.values()


def _strings(found: object) -> Iterator[str]:
    if isinstance(found, str):
        yield found
    elif isinstance(found, list):
        for each in found:
            yield from _strings(each)


def _told(kind: str) -> str:
    return f"not accepted by the model ({kind})"


_PLAIN = frozenset(
    [
        "model",
        "model-fields",
        "model-field",
        "str",
        "int",
        "float",
        "bool",
        "none",
        "date",
        "time",
        "datetime",
        "timedelta",
        "decimal",
        "uuid",
        "literal",
        "nullable",
        "list",
        "tuple",
        "dict",
        "default",
    ]
)
_PLAIN_KEYS = frozenset({"str", "int", "bool", "date", "uuid"})  # no two of which are written alike
_NO_SCHEMA = frozenset({"config", "default", "metadata", "pattern", "computed_fields"})

# Pydantic's errors whose messages speak of the declaration alone, or of a length; those of others,
# and of libraries, may hold anything.
_WITHOUT_CONTENTS = frozenset(get_args(ErrorType)) - {
    "assertion_error",
    "bytes_invalid_encoding",
    "get_attribute_error",
    "iteration_error",
    "multiple_argument_values",
    "no_such_attribute",
    "timezone_offset",
    "union_tag_invalid",
    "uuid_parsing",
    "value_error",
}

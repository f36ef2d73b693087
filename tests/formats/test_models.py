"""Record models: why a record is refused, without its contents; which fields are read by what name."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Optional
from uuid import UUID

from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    computed_field,
    create_model,
    field_serializer,
    field_validator,
)

from coordinator.formats.models import Refusals, is_plain, read_names

SECRET = "secret"


class Inner(BaseModel):
    zip: int = Field(alias="postcode")


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")

    number: int
    inner: Inner | None = None
    items: list[int] = []
    pair: tuple[Inner, int] | None = None
    amounts: dict[str, int] = {}
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    either: int = Field(0, validation_alias=AliasChoices("other", AliasPath("more", "deep")))  # type: ignore[pydantic-alias]
    word: str = ""
    id: UUID | None = None

    @field_validator("word")
    @classmethod
    def no_word(cls, value: str) -> str:
        if value:
            raise ValueError(f"not {value}")
        return value


def reason(record: Mapping[str, Any]) -> str:
    try:
        Order.model_validate(record)
    except ValueError as error:
        return Refusals(Order).reason(error)
    raise AssertionError("it is accepted")


def test_a_reason_names_the_place_and_what_is_wrong_there() -> None:
    for record, expected in (
        ({}, "number: Field required"),
        ({"number": "x"}, "number: Input should be a valid integer, unable to parse string as"),
        ({"number": 1, "inner": {}}, "inner.postcode: Field required"),
        ({"number": 1, "pair": [{}, 1]}, "pair.0.postcode: Field required"),
        ({"number": 1, "items": [1, "x"]}, "items.1: Input should be a valid integer"),
        ({"number": 1, "other": "x"}, "other: Input should be a valid integer"),
        ({"number": 1, "more": {"deep": "x"}}, "more.deep: Input should be a valid integer"),
        ({"number": 1, "pet": {"kind": "cat"}}, "pet.cat.lives: Field required"),
        ([1], "record: Input should be a valid dictionary or instance of Order"),
    ):
        assert reason(record).startswith(expected)  # type: ignore[arg-type]


def test_a_reason_holds_nothing_of_the_record() -> None:
    for record, expected in (
        ({"number": 1, SECRET: 2}, "*: Extra inputs are not permitted"),
        ({"number": 1, "amounts": {SECRET: "x"}}, "amounts.*: Input should be a valid integer"),
        ({"number": 1, "word": SECRET}, "word: not accepted by the model (value_error)"),
        (
            {"number": 1, "pet": {"kind": SECRET}},
            "pet: not accepted by the model (union_tag_invalid)",
        ),
        ({"number": 1, "id": SECRET}, "id: not accepted by the model (uuid_parsing)"),
        ({"number": 1, "amounts": {"[key]": "x"}}, "amounts.[key]: Input should be a valid int"),
    ):
        told = reason(record)
        assert told.startswith(expected)
        assert SECRET not in told


def test_of_many_reasons_five_are_told() -> None:
    told = reason({"number": 1, "items": ["x"] * 9})

    assert [each.split(":")[0] for each in told.split("; ")] == [f"items.{n}" for n in range(5)]


def test_an_error_of_another_kind_is_told_in_one_line() -> None:
    refusals = Refusals(None)

    assert refusals.reason(ValueError("first\nsecond\nthird")) == "first"
    assert refusals.reason(ValueError()) == "ValueError"
    assert refusals.reason(UnicodeError("only")) == "only"


# ------------------------------------------------------------------------------------------------
# Names
# ------------------------------------------------------------------------------------------------


class Named(BaseModel):
    plain: int
    optional: int = 1
    aliased: int = Field(2, validation_alias="by-alias")
    chosen: int = Field(3, validation_alias=AliasChoices("one", AliasPath("two", 1)))  # type: ignore[pydantic-alias]
    needed: int = Field(alias="no-name")


def test_a_field_is_read_by_its_aliases_or_else_by_its_name() -> None:
    by_alias = [("by-alias", False), ("one", False), ("two", False), ("no-name", True)]

    assert list(read_names(Named)) == [("plain", True), ("optional", False), *by_alias]


def test_a_field_may_be_read_by_its_name_beside_its_aliases() -> None:
    class Populated(Named):
        model_config = ConfigDict(populate_by_name=True)

    class Validated(Named):
        model_config = ConfigDict(validate_by_name=True)

    class NotByAlias(Named):
        model_config = ConfigDict(validate_by_name=True, validate_by_alias=False)

    names = [("plain", True), ("optional", False), ("aliased", False), ("chosen", False)]
    both = [*names[:3], ("by-alias", False), names[3], ("one", False), ("two", False)]
    both += [("needed", True), ("no-name", True)]
    names += [("needed", True)]
    assert list(read_names(Populated)) == both
    assert list(read_names(Validated)) == both
    assert list(read_names(NotByAlias)) == names


# ------------------------------------------------------------------------------------------------
# Plain models
# ------------------------------------------------------------------------------------------------


class Leaf(BaseModel):
    when: date
    amount: Decimal | None = None


class Tree(BaseModel):
    name: str
    number: Optional[int] = None  # noqa: UP045
    flags: tuple[bool, float] = (True, 1.0)
    kind: Literal["a", "b"] = "a"
    leaves: list[Leaf] = []
    by_id: dict[str, UUID] = {}


def made_of(annotation: Any, **config: Any) -> type[BaseModel]:
    """A model whose field holds a list of this."""
    space = {"__annotations__": {"held": list[annotation]}, "model_config": config}
    return type("Made", (BaseModel,), space)


def test_a_model_is_plain_whose_fields_have_one_json() -> None:
    assert is_plain(Tree)
    assert is_plain(made_of(Tree))
    assert is_plain(made_of(str, extra="forbid"))


def test_a_model_is_not_plain_that_may_hold_what_json_has_no_type_for() -> None:
    class Serialized(BaseModel):
        a: int

        @field_serializer("a")
        def written(self, value: int) -> Any:
            return {value}

    class Computed(BaseModel):
        @computed_field
        def b(self) -> set[int]:
            return {1}

    class More(BaseModel):
        model_config = ConfigDict(extra="allow")

    class Bent(BaseModel):
        model_config = ConfigDict(ser_json_inf_nan="strings")
        a: float

    class Endless(BaseModel):
        a: list[Endless]

    for name in ("metadata", "config", "default", "pattern", "computed_fields", "type"):
        fields: Any = {name: (list[set[str]], ...)}
        assert not is_plain(create_model("Any", **fields)), name
    mixed: list[Any] = [str | None, float, Literal[1, "1"], tuple[str, ...], Any, datetime]
    for keys in mixed:
        assert not is_plain(made_of(dict.__class_getitem__((keys, int)))), keys
    alike: list[Any] = [str, int, bool, date, UUID]
    for keys in alike:
        assert is_plain(made_of(dict.__class_getitem__((keys, int)))), keys
    for held in (
        Any,
        tuple[int, set[int]],
        set[int],
        frozenset[str],
        bytes,
        int | str,
        Serialized,
        Computed,
        More,
        Bent,
    ):
        assert not is_plain(made_of(held)), held
    for model in (Serialized, Computed, More, Bent, Endless):
        assert not is_plain(model), model
    assert not is_plain(made_of(str, extra="allow"))
    assert not is_plain(made_of(str, ser_json_inf_nan="constants"))

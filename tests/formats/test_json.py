"""JSON as it is read and written: what one reader takes, all do, and what is written is what was held."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import deque
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, RootModel, field_serializer

from coordinator.errors import Unencodable
from coordinator.formats import jsonlines
from coordinator.formats.jsonlines import DIGITS, LEVELS, JsonLines, encode_json
from coordinator.model import Slice
from tests.support import Seen, pin, read_all, reader_over

ENCODE = JsonLines().encoder()


class Anything(BaseModel):
    a: Any = None


class Maybe(BaseModel):
    """A model whose JSON can be bent at a null only."""

    number: float | None = None
    name: str = ""


class Measured(BaseModel):
    """A model whose JSON can be bent at a null only, with one in it."""

    nothing: None = None
    whole: int = 0
    lists: list[float] = []
    names: dict[str, float] = {}
    inner: Maybe = Maybe(number=1)


class Names(BaseModel):
    nothing: None = None
    names: dict[str, float]


MEASURED = '{"nothing":null,"whole":0,"lists":[],"names":{},"inner":{"number":1.0,"name":""}}'


class Whole(BaseModel):
    whole: int


class Many(RootModel[Any]):
    pass


class Extra(BaseModel):
    model_config = ConfigDict(extra="allow")


class Constants(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="constants")
    a: Any


class Strings(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="strings")
    a: Any


class Sorted(BaseModel):
    a: set[int]

    @field_serializer("a")
    def written(self, value: set[int]) -> list[int]:
        return sorted(value)


@dataclasses.dataclass
class Point:
    x: Any


class Colour(Enum):
    RED = "red"
    PAIR = (1, 2)
    BAD = math.nan
    SAME = {1: 0, "1": 0}  # noqa: RUF012


class Level(IntEnum):
    LOW = 1


def nested(levels: int, innermost: Any = 0) -> Any:
    value = innermost
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


# ------------------------------------------------------------------------------------------------
# What is written
# ------------------------------------------------------------------------------------------------


def test_everything_is_written_in_one_way() -> None:
    uuid = UUID(int=1)
    told: list[tuple[Any, str]] = [
        ({"é\n": '"\\', "n": 1.5}, '{"é\\n":"\\"\\\\","n":1.5}'),
        ({}, "{}"),
        ([], "[]"),
        ({"b": 1, "a": {"d": 2, "c": None}}, '{"b":1,"a":{"d":2,"c":null}}'),
        ({1: "a", None: [], False: 2.0}, '{"1":"a","null":[],"false":2.0}'),
        ({"t": time(1, 2), "d": date(2026, 1, 2)}, '{"t":"01:02:00","d":"2026-01-02"}'),
        ([datetime(2026, 1, 2, tzinfo=UTC)], '["2026-01-02T00:00:00+00:00"]'),
        ([Decimal("1.10"), uuid], f'["1.10","{uuid}"]'),
        ({"e": Colour.PAIR, "l": Level.LOW}, '{"e":[1,2],"l":1}'),
        (Point([Point(None)]), '{"x":[{"x":null}]}'),
        ({"m": Maybe(name="é")}, '{"m":{"number":null,"name":"é"}}'),
        ({"m": Anything(a=date(2026, 1, 2))}, '{"m":{"a":"2026-01-02"}}'),
        (Maybe(number=1), '{"number":1.0,"name":""}'),
        (Maybe(name="null"), '{"number":null,"name":"null"}'),
        (Many([1, {"a": (2,)}]), '[1,{"a":[2]}]'),
        (Extra(more=[1]), '{"more":[1]}'),  # type: ignore[call-arg]
        (Anything(a=timedelta(hours=1)), '{"a":"PT1H"}'),
        ({"m": Anything(a=timedelta(hours=1))}, '{"m":{"a":"PT1H"}}'),
        (Measured(whole=-(1 << 63)), MEASURED.replace("0,", "-9223372036854775808,", 1)),
        (Measured(lists=[1.5]), MEASURED.replace("[]", "[1.5]")),
        (Anything(a=[None, Colour.RED]), '{"a":[null,"red"]}'),
        (Anything(a=Anything(a={"b": Decimal(1)})), '{"a":{"a":{"b":"1"}}}'),
        (Anything(a=1 << 70), '{"a":1180591620717411303424}'),
        (Constants(a=[1.5]), '{"a":[1.5]}'),
        (Strings(a=math.nan), '{"a":"NaN"}'),
        (Sorted(a={2, 1}), '{"a":[1,2]}'),
        ({"s": Sorted(a={2, 1})}, '{"s":{"a":[1,2]}}'),
    ]
    for record, expected in told:
        found = ENCODE(record)
        assert found.endswith(b"\n")
        assert found.decode().removesuffix("\n") == expected


def test_an_integer_of_any_size_that_readers_take_is_written() -> None:
    most = 10**DIGITS - 1
    for record in (most, [most], {"a": most}, {"a": -most}, {"a": [most]}, Anything(a=[1 << 63])):
        found = json.loads(ENCODE(record))
        assert found == (record.model_dump() if isinstance(record, BaseModel) else record)

    for over in (most + 1, [most + 1], {"a": most + 1}, {"a": [-most - 1]}, Point(most + 1)):
        with pytest.raises(Unencodable, match="can't be written as JSON"):
            ENCODE(over)
    models = (lambda n: Anything(a=n)), (lambda n: Whole(whole=n)), (lambda n: Measured(whole=n))
    for make in models:
        for number in (most + 1, -most - 1):
            with pytest.raises(Unencodable):
                ENCODE(make(number))


def test_a_long_record_is_written_as_a_short_one_is() -> None:
    for size in (DIGITS - 10, DIGITS, DIGITS + 1, 3 * DIGITS):
        text = "é" * size
        for record in ({"a": text}, {"a": text, "b": [1]}, Maybe(name=text, number=1)):
            dumped = record.model_dump() if isinstance(record, BaseModel) else record
            assert json.loads(ENCODE(record)) == dumped
            assert text.encode() in ENCODE(record)


def test_an_output_has_as_many_levels_as_readers_take() -> None:
    for innermost in (0, "x" * 1000):
        for levels in (1, LEVELS // 2, LEVELS):
            for record in (nested(levels, innermost), Anything(a=nested(levels - 1, innermost))):
                assert json.loads(ENCODE(record))
        for record in (nested(250, innermost), nested(5000), Anything(a=nested(250, innermost))):
            with pytest.raises(Unencodable, match=r"can't be written|recursion"):
                ENCODE(record)
    lists: Any = 0
    for _ in range(250):
        lists = [lists]
    for record in (lists, {"a": lists}, Strings(a=lists), Constants(a=lists)):
        with pytest.raises(Unencodable, match="can't be written"):
            ENCODE(record)
    many: list[Any] = [{}] * 2 * LEVELS
    assert json.loads(ENCODE(many)) == many
    assert json.loads(ENCODE(Anything(a=many))) == {"a": many}


class Named(BaseModel):
    names: dict[str, int] = {}
    numbers: list[int] = []
    number: int = 0


def unchecked(**fields: Any) -> Named:
    return Named.model_construct(**fields)


class Keyed(BaseModel):
    names: dict[str | None, int]


class Own(dict[str, int]):
    """A dict whose items are not those it holds."""

    def items(self) -> Any:
        return [("x", 1), ("x", 2)]


class Like(str):
    """A text that is equal to itself alone."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


def test_a_model_is_written_as_any_other_of_its_form_was() -> None:
    once = Named(names={"é": 1, "None": 2, "null": 3}, numbers=[1], number=1)

    for _ in range(2):
        assert json.loads(ENCODE(once)) == once.model_dump()
        assert ENCODE(Maybe(number=1)).startswith(b'{"number":1.0,')
        with pytest.raises(Unencodable, match="nan can't be written"):
            ENCODE(Maybe(number=math.nan))
        assert ENCODE(Maybe(number=None)).startswith(b'{"number":null,')


def test_what_cannot_be_written_is_named() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    refused: list[tuple[Any, str]] = [
        ({"a": "\ud800"}, "A str with a lone surrogate can't be written as JSON"),
        ({"\ud800": [1]}, "A str with a lone surrogate can't be written as JSON"),
        (Anything(a="\ud800"), "A Anything can't be written as JSON"),
        ({"a": {1}}, "A set can't be written as JSON; yield dicts, lists"),
        (Point, "A type can't be written as JSON"),
        ({"a": Point}, "A type can't be written as JSON"),
        (math.inf, "An output can't be written as JSON: Out of range float"),
        ({"a": Colour.BAD}, "An output can't be written as JSON: Out of range float"),
        (cycle, "An output can't be written as JSON: Circular reference"),
        ({(1, 2): 3}, "An output can't be written as JSON: keys must be"),
        ({"m": Anything(a={1})}, "A set has no order to be written in; yield a sorted list"),
        (Anything(a=[{"b": frozenset({1})}]), "A frozenset has no order"),
        (Anything(a=math.nan), "nan can't be written as JSON"),
        (Measured(lists=[1.0, math.nan]), "nan can't be written as JSON"),
        (Measured(names={"a": math.inf}), "inf can't be written as JSON"),
        (Names(names={"a": math.inf}), "inf can't be written as JSON"),
        (Measured(inner=Maybe(number=math.nan)), "nan can't be written as JSON"),
        (Maybe(number=-math.inf), "-inf can't be written as JSON"),
        ({"m": Maybe(number=math.inf)}, "inf can't be written as JSON"),
        (Anything(a=Colour.BAD), "nan can't be written as JSON"),
        (Extra(more=(math.nan,)), "nan can't be written as JSON"),  # type: ignore[call-arg]
        (Constants(a=math.inf), "A Constants can't be written as JSON"),
        (Anything(a=object()), "A Anything can't be written as JSON: Unable to serialize"),
        (Anything(a=deque([{1}])), "A set has no order"),
        (Anything(a={math.nan: 1}), "nan can't be written as JSON"),
        (Anything(a=iter([1])), "A SerializationIterator is there but once; yield a list"),
        (Named(names={"\ud800": 1}), "A str with a lone surrogate can't be written as JSON"),
        ({"m": Named(names={"\ud800": 1})}, "A str with a lone surrogate can't be written as JSON"),
        (unchecked(numbers={2, 1}), "A set has no order"),
        ({"m": unchecked(numbers={2, 1})}, "A set has no order"),
        (unchecked(number={2, 1}), "A set has no order"),
    ]
    for record, says in refused:
        with pytest.raises(Unencodable) as raised:
            ENCODE(record)
        assert str(raised.value).startswith(says)

    assert ENCODE([1, cycle[:0]]) == b"[1,[]]\n"  # what was refused leaves nothing behind


def test_keys_that_would_be_one_are_refused_wherever_they_are() -> None:
    same: list[dict[Any, Any]] = [{1: 0, "1": 0}, {True: 0, "true": 0}]
    wraps: list[Callable[[Any], Any]] = [
        lambda value: value,
        lambda value: [value],
        lambda value: ["x", (1, value)],
        lambda value: {"a": value, "b": 1},
        lambda value: Point({"a": [value]}),
        lambda value: Anything(a=[value]),
        lambda value: {"m": Anything(a={"b": value})},
        lambda value: unchecked(names=value),
        lambda value: unchecked(names={"a": value}),
        lambda value: {"m": unchecked(names=value)},
    ]
    for keys in same:
        for wrap in wraps:
            with pytest.raises(Unencodable, match="two keys that are one in JSON"):
                ENCODE(wrap(keys))
            different: dict[Any, Any] = dict(zip(keys, (1, 2), strict=True))
            different.pop(next(iter(keys)))
            assert ENCODE(wrap({**different, 7: [], 2.5: {}, "x": None}))
    keyed = Keyed(names={None: 1, "None": 2})
    for record in (
        [{None: 0, "null": 0}],
        keyed,
        {"m": keyed},
        {"m": Own(a=1)},
        {Like("a"): 1, Like("a"): 2},
    ):
        with pytest.raises(Unencodable, match="two keys that are one in JSON"):
            ENCODE(record)
    with pytest.raises(Unencodable, match="two keys that are one in JSON"):
        ENCODE([Colour.SAME])


def test_json_is_written_alike_with_and_without_the_encoder_in_c() -> None:
    for missing in ("nothing", "c_make_encoder"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json.encoder, missing, None, raising=False)
            encode = jsonlines._compact_encoder()

            value: dict[Any, Any] = {"b": [1, "é", None], "a": {"c": 1.5}, 7: Point([])}
            assert encode(value) == '{"b":[1,"é",null],"a":{"c":1.5},"7":{"x":[]}}'
            value["cycle"] = value
            for _ in range(2):
                with pytest.raises(ValueError, match="Out of range float"):
                    encode([math.nan])
                with pytest.raises(ValueError, match="Circular reference"):
                    encode(value)
                with pytest.raises(TypeError, match="keys must be"):
                    encode({(1, 2): 3})


def test_results_are_decoded_line_by_line() -> None:
    assert JsonLines().decode(b'{"a":1}\n"x"\n[]\n') == [{"a": 1}, "x", []]
    assert JsonLines().decode(b"") == []
    assert encode_json({"a": 1}) == b'{"a":1}'


# ------------------------------------------------------------------------------------------------
# What is read
# ------------------------------------------------------------------------------------------------


def read(body: bytes, model: type[BaseModel] | None = None, record_bytes: int = 100) -> list[Seen]:
    reader = reader_over(JsonLines(model), {"in": body}, record_bytes=record_bytes)
    return read_all(reader, [Slice.whole(pin(reader.inputs, "in"))])  # type: ignore[arg-type]


def test_every_line_is_a_record_or_refused_or_blank() -> None:
    body = b'\xef\xbb\xbf{"a": 1}\n\n[2]\r\n \t\r\n{"a"\n"NaN"\nnull'

    found = read(body)

    assert [(at, kind) for at, kind, _ in found] == [
        *((0, "record"), (12, "blank"), (13, "record"), (18, "blank"), (22, "refused")),
        *((27, "record"), (33, "record")),
    ]
    assert [value for _, kind, value in found if kind == "record"] == [{"a": 1}, [2], "NaN", None]
    assert [value for _, kind, value in read(b"1\n2\n3\n")] == [1, 2, 3]


def test_what_is_no_json_is_refused_with_a_model_and_without() -> None:
    for line in (b'{"a": NaN}', b'{"a": Infinity}', b'{"a": -Infinity}', b'{"a": [NaN]}', b"{"):
        for model in (None, Anything):
            for first in (b'{"a": "NaN"}\n', b"{}\n"):
                kinds = [kind for _, kind, _ in read(first + line + b"\n{}\n", model)]
                assert kinds == ["record", "refused", "record"], line


def test_records_are_instances_of_the_model() -> None:
    (_, _, one), (_, kind, reason), (_, _, two) = read(
        b'{"name": "x"}\n{"name": 1}\n{"number": 2}\n', Maybe
    )

    assert (one, two) == (Maybe(name="x"), Maybe(number=2))
    assert (kind, reason) == ("refused", "name: Input should be a valid string")


def test_a_line_may_be_as_long_as_a_record() -> None:
    fits, over = b'"' + b"x" * 98 + b'"', b'"' + b"x" * 99 + b'"'

    for body in (fits + b"\n" + over + b"\n" + fits, over + b"\n", b"1\n" * 90 + over):
        found = read(body)
        assert [value for _, kind, value in found if kind == "refused"] == [
            "longer than record_bytes (100)"
        ]
        assert len(found) == len(body.splitlines())
    assert [kind for _, kind, _ in read(b"1\n" * 90 + fits + b"\n2\n")] == ["record"] * 92

"""The table of either side: what it says that it weighs is what it holds, so that it is emptied in
time and not before."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from itertools import product
from sys import getsizeof
from typing import Any

import pytest

from coordinator.errors import FanfoldError, ReduceFailed, StoreUnavailable
from coordinator.shuffle.keys import KEY_BYTES
from coordinator.shuffle.table import Table
from coordinator.shuffle.values import ATOM_BYTES, LIST_BYTES, PLACE_BYTES, Values


def last(one: Any, other: Any) -> Any:
    return other


def memory_of(value: Any) -> int:
    """What a value takes, and all that it holds."""
    parts = value if isinstance(value, (list, tuple)) else ()
    return getsizeof(value) + sum(map(memory_of, parts))


KEYS: dict[str, Callable[[int], Any]] = {
    "short": lambda n: f"{n}",
    "long": lambda n: f"{n:0500}",
    "wide": lambda n: f"{n}" + "😀" * 500,
    "wide at times": lambda n: f"{n}" + "x" * 400 + "😀" * (n % 2),
    "number": lambda n: n,
    "tuple": lambda n: (2, f"{n:0500}"),
}
ROOMY = {"wide at times": 5.0}  # letters of many widths are counted as if all were the widest
LIGHT_VALUES: dict[str, Callable[[int], Any]] = {
    "number": lambda n: n,
    "none": lambda n: None,
    "many": lambda n: [n, n + 1, n + 2],
}
HEAVY_VALUES: dict[str, Callable[[int], Any]] = {
    "text": lambda n: f"{n:0700}",
    "wide": lambda n: "漢" * 500,
    "integer": lambda n: 1 << 8000 + n,
    "tuple": lambda n: (f"{n:0700}", 1),
    "decimal": lambda n: Decimal(n),
    "now and then": lambda n: f"{n:0900}" if n % 7 == 0 else n,
}
VALUES = {**LIGHT_VALUES, **HEAVY_VALUES}


def filled(table: Table, key: Callable[[int], Any], value: Callable[[int], Any]) -> Table:
    """The table, with 300 keys taken in one third after the other, and a third of them again."""
    take = table.extend if table.combine is None else table.fold
    for numbers in (range(100), range(100, 200), range(200, 300), range(150, 250)):
        pairs = [(key(n), value(n)) for n in numbers]
        take(pairs if table.combine else [(key, [value]) for key, value in pairs])
    return table


def test_a_table_weighs_what_it_holds() -> None:
    some = [*((key, "number") for key in KEYS), *(("short", value) for value in VALUES)]
    for (key, value), combine in product([*some, ("tuple", "tuple")], [None, last]):
        table = filled(Table(combine, Values()), KEYS[key], VALUES[value])

        held = list(table.held.items())
        keys = sum(memory_of(key) for key, _ in held)
        values = sum(memory_of(value) for _, value in held)
        places = KEY_BYTES * 300 + 2 * PLACE_BYTES * 400
        assert len(held) == 300
        assert keys + values + 24 * 300 + 8 * 400 < table.weight, (key, value)
        most = ROOMY.get(key, 1.5) * (keys + values + places)
        assert table.weight < most, (key, value)


def test_a_table_knows_what_the_heaviest_of_its_keys_and_values_weighs() -> None:
    some = [*(("short", value) for value in HEAVY_VALUES), ("long", "decimal"), ("wide", "decimal")]
    for (key, value), combine in product([*some, ("tuple", "decimal")], [None, last]):
        table = filled(Table(combine, Values()), KEYS[key], HEAVY_VALUES[value])

        keys = max(memory_of(KEYS[key](n)) for n in range(300))
        values = max(memory_of(HEAVY_VALUES[value](n)) for n in range(300))
        most = max(keys, values)
        assert most <= table.heaviest <= most + 256, (key, value)


def test_an_empty_table_weighs_nothing_and_a_cleared_one_is_empty() -> None:
    fresh = Table(last, Values())
    table = filled(Table(last, Values()), KEYS["long"], HEAVY_VALUES["text"])

    table.clear()

    assert (table.held, table.weight, table.heaviest) == ({}, 0, ATOM_BYTES)
    assert (fresh.held, fresh.weight, fresh.heaviest) == ({}, 0, ATOM_BYTES)
    table.fold([])
    assert (table.weight, table.heaviest) == (0, ATOM_BYTES)
    filled(table, KEYS["long"], HEAVY_VALUES["text"])
    again = filled(Table(last, Values()), KEYS["long"], HEAVY_VALUES["text"])
    assert (table.weight, table.heaviest) == (again.weight, again.heaviest)


def test_what_map_yields_weighs_as_much_as_is_said() -> None:
    table = Table(None, Values())

    table.add([("a", 1), ("b", 2)], 80, 32)
    keys = table.weight - 80
    table.add([("a", "x" * 1000), ("a", 3)], 1100, 1049)

    assert table.held == {"a": [1, "x" * 1000, 3], "b": [2]}
    places = 2 * (KEY_BYTES + LIST_BYTES)
    assert places < keys < places + 200
    assert (table.weight, table.heaviest) == (keys + 1180, 1049)


# ------------------------------------------------------------------------------------------------
# When it is to be emptied
# ------------------------------------------------------------------------------------------------


def test_a_table_outweighs_a_buffer_that_it_does_not_fit_into() -> None:
    table = filled(Table(None, Values()), KEYS["short"], HEAVY_VALUES["text"])

    assert not table.outweighs(table.weight)
    assert table.outweighs(table.weight - 1)
    assert not table.outweighs(table.weight * 2)


def replaced(times: int) -> Table:
    """A table of ten keys, whose values were folded so often, and never weigh more."""
    table = Table(last, Values())
    for _ in range(times + 1):
        table.fold([(f"{n}", (f"{n:0500}",)) for n in range(10)])
    return table


def test_values_that_took_the_place_of_others_count_once() -> None:
    once, often = replaced(0), replaced(50)
    assert often.weight > 20 * once.weight

    assert not often.outweighs(3 * once.weight)

    assert often.weight == once.weight
    assert not often.outweighs(once.weight)
    assert often.heaviest >= once.heaviest


def test_a_table_that_would_be_counted_again_and_again_is_emptied() -> None:
    once = replaced(0).weight

    assert replaced(50).outweighs(once)
    assert replaced(50).outweighs(2 * once - 1)
    assert not replaced(50).outweighs(2 * once)


def test_a_table_that_still_fits_is_not_counted_again() -> None:
    table = replaced(50)
    weight = table.weight

    assert not table.outweighs(weight)
    assert table.weight == weight


def test_a_table_that_mostly_grows_is_not_counted_again() -> None:
    table = replaced(1)
    table.fold([(f"more {n}", (f"{n:0500}",)) for n in range(5)])
    weight = table.weight

    assert table.outweighs(weight - 1)
    assert table.weight == weight


# ------------------------------------------------------------------------------------------------
# Folding
# ------------------------------------------------------------------------------------------------


def test_what_a_combine_gives_is_held_whatever_it_is() -> None:
    words = [-(1 << 30), 1 << 30, -(1 << 63), 1 << 63, 1 << 3000]
    for value in (None, 0, *words, "é", 1.5, [1], ()):
        table = Table(last, Values())
        table.fold([("a", 1), ("a", value)])
        assert table.held == {"a": value}

        table.fold([("a", 7)])
        assert table.held == {"a": 7}
        assert table.fold_up(iter([1, value])) == value
        assert table.fold_up(iter([value])) == value


def test_none_is_folded_like_any_other_value() -> None:
    seen: list[Any] = []

    def note(one: Any, other: Any) -> Any:
        seen.append((one, other))

    table = Table(note, Values())
    table.fold([("a", None), ("a", 2), ("a", 3)])
    assert table.fold_up(iter([4, 5])) is None

    assert seen == [(None, 2), (None, 3), (4, 5)]


def test_what_a_combine_gives_and_plain_json_cannot_tell_is_told() -> None:
    values: list[Any] = [1 << 3000, -(1 << 3000), (1,), {1: "x" * 500}, Decimal(1)]
    for value in (1 << 63, -(1 << 63), [1], *values):
        table = Table(last, Values())
        table.fold([("a", 1)])
        table.fold([("a", value)])

        assert table.values.tagged is (value in values)
        assert table.heaviest >= getsizeof(value)


def test_what_map_yields_and_plain_json_cannot_tell_is_told() -> None:
    for value in (1 << 1999, 1 << 2000, -(1 << 1999), -(1 << 2000), 1 << 9999):
        for others in ([], [("b", 1.5)], [("b", 7)]):
            table = Table(last, Values())
            table.fold([*others, ("a", value)])

            assert table.values.tagged is (abs(value) > 1 << 1999)


def test_what_goes_wrong_with_a_combine_is_told_as_what_it_is() -> None:
    for raised, expected, says in (
        (ZeroDivisionError("no"), ReduceFailed, "^combine raised ZeroDivisionError: no"),
        (StoreUnavailable("later"), StoreUnavailable, "later"),
    ):

        def fails(one: Any, other: Any, raised: Exception = raised) -> Any:
            raise raised

        expects: type[FanfoldError] = expected
        with pytest.raises(expects, match=says):
            Table(fails, Values()).fold([("a", 1), ("a", 1)])
        with pytest.raises(expects, match=says):
            Table(fails, Values()).fold_up(iter([1, 1]))


# ------------------------------------------------------------------------------------------------
# What is held
# ------------------------------------------------------------------------------------------------


def test_keys_are_given_in_order_or_by_partition_with_what_is_held_of_each() -> None:
    table = Table(last, Values())
    items: list[tuple[Any, int]] = [("b", 1), (7, 2), ((4,), 3), ("a", 4), (-1, 5)]
    table.fold(items)

    assert list(table.in_order()) == [(-1, 5), (7, 2), ("a", 4), ("b", 1), ((4,), 3)]
    assert table.by_partition(1) == [items]
    for partitions in (2, 3):
        parted = table.by_partition(partitions)
        assert len(parted) == partitions
        assert sorted(item[1] for part in parted for item in part) == [1, 2, 3, 4, 5]
        assert sum(map(bool, parted)) > 1

"""Reduce: what it may give for a key, how errors name the key, and in what pieces it writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from coordinator.errors import Fate, LedgerBroken, RetryableError
from coordinator.formats.jsonlines import JsonLines
from coordinator.limits import Limits
from coordinator.model import Message
from coordinator.state.plans import read_shard
from coordinator.steps.attempts import Again, Answered, Failed
from coordinator.steps.reduce import reduce_shard, told
from coordinator.steps.workplace import Workplace
from coordinator.store.memory import MemoryStore, MemoryWriter
from coordinator.testing import outcome_of
from tests.steps.test_attempts import begun, following, try_once
from tests.support import World, a_job

BODY = b'["a",1]\n["b",2]\n["a",3]\n'


def a_world(reduce: Callable[[Any, Any], Any], body: bytes = BODY, **fields: Any) -> World:
    """A job whose input are pairs."""
    return World(
        a_job(JsonLines(), lambda pair: [tuple(pair)], reduce=reduce), {"a": body}, **fields
    )


def reducing(
    reduce: Callable[[Any, Any], Any], body: bytes = BODY, **fields: Any
) -> tuple[World, Workplace, Message]:
    """A run whose map is done, and the message that reduces it."""
    world = a_world(reduce, body, **fields)
    place, [message] = following(*begun(world))
    return world, place, message


def yielded(*records: Any) -> Callable[[Any, Any], Iterator[Any]]:
    return lambda key, values: iter(records)


# ------------------------------------------------------------------------------------------------
# What it gives
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reduce", "records"),
    [
        (lambda key, values: {"key": key, "sum": sum(values)}, [{"key": "a", "sum": 4}]),
        (lambda key, values: [key, *values], [["a", 1, 3]]),
        (lambda key, values: None, []),
        (yielded(), []),
        (yielded(None), []),
        (yielded(1, None, 2), [1, 2]),
    ],
    ids=["a dict", "a list", "nothing", "no records", "None", "records"],
)
def test_a_reduce_gives_a_record_or_none_or_yields_any_number(
    reduce: Callable[[Any, Any], Any], records: list[Any]
) -> None:
    world = a_world(lambda key, values: reduce(key, values) if key == "a" else None)

    published = world.run()

    assert outcome_of(world.job, world.store, published.manifest).records() == records
    totals = published.manifest.stages["reduce"]
    assert (totals.records_in, totals.records_out) == (2, len(records))


def test_results_are_written_in_pieces_of_a_mebibyte() -> None:
    sizes: list[int] = []

    class Writer(MemoryWriter):
        def write(self, body: bytes, /) -> int:
            sizes.append(len(body))
            return super().write(body)

    class Seen(MemoryStore):
        def writer(self, key: str, *, exclusive: bool = False) -> MemoryWriter:
            writer = super().writer(key, exclusive=exclusive)
            return Writer(key, writer._publish) if key.endswith("jsonl") else writer

    line = "x" * (65_536 - 3)  # its quotes and its end come to it
    world, place, message = reducing(yielded(*[line] * 20), store=Seen())
    sizes.clear()

    verdict = try_once(place, message, "a")

    assert isinstance(verdict, Answered)
    assert (verdict.answer.records_out, verdict.answer.bytes_out) == (40, 40 * 65_536)
    assert sizes == [1 << 20, 1 << 20, 1 << 19]
    part = next(iter(world.store.list(world.keys.parts("reduce"))))
    assert world.body(part.key) == f'"{line}"\n'.encode() * 40


# ------------------------------------------------------------------------------------------------
# What it raises
# ------------------------------------------------------------------------------------------------


def raising(error: Exception) -> Callable[[Any, Any], Any]:
    def reduce(key: Any, values: Any) -> Any:
        raise error

    return reduce


def raising_late(error: Exception) -> Callable[[Any, Any], Any]:
    def reduce(key: Any, values: Any) -> Iterator[Any]:
        yield key
        raise error

    return reduce


@pytest.mark.parametrize("form", [raising, raising_late])
def test_an_error_of_a_reduce_names_the_key(form: Callable[..., Any]) -> None:
    _, place, message = reducing(form(ValueError("no")))

    verdict = try_once(place, message, "a")

    assert isinstance(verdict, Failed)
    assert (verdict.note.error, verdict.note.fate) == ("ReduceFailed", Fate.SHARD)
    assert verdict.note.reason == "reduce of key 'a' raised ValueError: no"


@pytest.mark.parametrize("form", [raising, raising_late])
def test_an_error_of_the_tree_is_passed_on_by_a_reduce(form: Callable[..., Any]) -> None:
    _, place, message = reducing(form(RetryableError("Try later.")))

    verdict = try_once(place, message, "a")

    assert isinstance(verdict, Again)
    assert (verdict.note.error, verdict.note.reason) == ("RetryableError", "Try later.")


@pytest.mark.parametrize("reduce", [lambda key, values: float("nan"), yielded(1, float("nan"))])
def test_what_a_sink_can_not_take_is_said_with_the_key(reduce: Callable[[Any, Any], Any]) -> None:
    _, place, message = reducing(reduce)

    verdict = try_once(place, message, "a")

    assert isinstance(verdict, Failed)
    assert verdict.note.error == "ReduceFailed"
    assert verdict.note.reason.startswith("reduce of key 'a' gave what it may not: ")


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("a", "'a'"),
        ("x" * 78, f"'{'x' * 78}'"),
        ("x" * 79, f"'{'x' * 37}...{'x' * 38}'"),
        (10**79, f"1{'0' * 79}"),
        (10**5000, "of type int"),
        (("a", 1), "('a', 1)"),
    ],
    ids=["short", "just", "long", "a number", "a long number", "a tuple"],
)
def test_a_key_is_told_in_eighty_letters_at_most(key: Any, named: str) -> None:
    assert told(key) == named
    assert len(named) <= 80


# ------------------------------------------------------------------------------------------------
# What it stands on
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["parts", "partition"])
def test_a_reduce_that_does_not_know_what_to_read_does_not_take_it_for_nothing(lost: str) -> None:
    _, place, message = reducing(lambda key, values: list(values))
    shard = read_shard(place.store, message.shard)
    if lost == "parts":
        plan = place.run.plans["reduce"].model_copy(update={"snapshot": None})
        plans = {**place.run.plans, "reduce": plan}
        place = replace(place, run=place.run.model_copy(update={"plans": plans}))
    else:
        shard = shard.model_copy(update={"partition": None})

    with pytest.raises(LedgerBroken, match="reduce stage of run r1 lists no parts"):
        reduce_shard(place, shard, "a")


def test_each_partition_is_read_from_every_part() -> None:
    body = b"".join(b'["%d",%d]\n' % (n % 10, n) for n in range(40))
    job = a_job(
        JsonLines(),
        lambda pair: [tuple(pair)],
        reduce=lambda key, values: [key, *values],
        limits=Limits(reduce_bytes=100),
    )
    world = World(job, {"a": body}, shard_bytes=60)

    manifest = world.run().manifest

    assert manifest.shards["map"] > 3
    assert manifest.shards["reduce"] > 3
    found = outcome_of(job, world.store, manifest).records()
    assert sorted(found) == [[str(n), n, n + 10, n + 20, n + 30] for n in range(10)]

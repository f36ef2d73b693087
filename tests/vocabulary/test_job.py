"""A declaration that makes no sense is refused in one sentence that names the field and the fix."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from coordinator.errors import JobInvalid, OutputInvalid
from coordinator.formats.csv import Csv
from coordinator.formats.jsonlines import JsonLines
from coordinator.formats.lines import Lines
from coordinator.formats.objects import Blob, Objects
from coordinator.formats.text import Text
from coordinator.job import Job
from coordinator.limits import Limits
from coordinator.steps.map import Context
from coordinator.steps.workplace import each_output
from coordinator.triggers import OnUpload, Schedule


class Row(BaseModel):
    carrier: str
    delay: float = 0.0


def each(record: object) -> Iterator[object]:
    yield record


def two(one: Any, other: Any) -> Any:
    return one + other


def mapped(job: Job) -> Job:
    job.map(each)
    return job


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: Job("Word Count", Lines()), "Job name 'Word Count'.*lower case letters"),
        (lambda: Job("1st", Lines()), "beginning with a letter"),
        (lambda: Job("a" * 47, Lines()), "at most 46"),
        (lambda: Job("a\n", Lines()), "Job name"),
        (lambda: Job(None, Lines()), "Job name None"),  # type: ignore[arg-type]
        (
            lambda: Job("a", Text()),  # type: ignore[arg-type]
            r"Job a: source must be a format that is read, such as Objects\(\)",
        ),
        (lambda: Job("a", Lines), "source must be"),  # type: ignore[arg-type]
        (
            lambda: Job("a", Lines(), sink=Lines()),  # type: ignore[arg-type]
            r"sink must be a format that is written, such as JsonLines\(\)",
        ),
        (lambda: Job("a", Lines(), merge="one"), "merge must be 'single' or 'parts', not 'one'"),  # type: ignore[arg-type]
        (lambda: Job("a", Lines(), limits={"waves": 1}), r"limits must be Limits\(...\)"),  # type: ignore[arg-type]
        (lambda: Job("a", Lines(), triggers=["daily"]), r"triggers must be Schedule\(...\)"),  # type: ignore[list-item]
        (lambda: Job("a", Lines(), data=[3]), "data must be texts, not 3"),  # type: ignore[list-item]
        (lambda: Job("a", Lines(), requirements=[3]), "requirements must be texts, not 3"),  # type: ignore[list-item]
        (lambda: Job("a", Lines(encoding="utf-16")), "encoding 'utf-16' can't be cut at newlines"),
        (lambda: Job("a", Csv(columns=("x", "x"))), "source Csv: columns must be .*distinct"),
        (lambda: Job("a", Csv(columns=())), "source Csv: columns must be one or more"),
        (lambda: Job("a", Lines(), sink=Csv(columns=("x", "x"))), "sink Csv: columns"),
        (lambda: Job("a", Csv(delimiter="\n")), r"source Csv: delimiter can't be '\\n'"),
        (lambda: Job("a", Csv(delimiter='"')), "delimiter can't be"),
        (lambda: Job("a", Lines()).check(), "Job a has no map: decorate"),
        (lambda: mapped(mapped(Job("a", Lines()))), "Job a has two maps: keep one"),
        (lambda: Job("a", Lines()).map("each"), "@job.map decorates a function, not 'each'"),  # type: ignore[type-var]
        (lambda: Job("a", Lines()).map(lambda: None), "must take 1 or 2 parameter"),
        (lambda: Job("a", Lines()).map_shard(two), "map_shard `two` must take 1 parameter"),
        (lambda: Job("a", Lines()).map_batch(size=9)(two), "map_batch `two` must take 1 parameter"),
        (lambda: Job("a", Lines()).combine(each), "combine `each` must take 2 parameter"),
        (lambda: Job("a", Lines()).reduce(each), "reduce `each` must take 2 parameter"),
        (lambda: Job("a", Lines()).combine(max), "does not tell its parameters: wrap it in a def"),
        (lambda: Job("a", Lines()).map_batch(size=0), r"map_batch\(size=0\).*1 or more"),
        (lambda: Job("a", Lines()).map_batch(size=True), r"map_batch\(size=True\)"),
        (lambda: Job("a", Lines()).map_batch(size=1.5), "whole number"),  # type: ignore[arg-type]
    ],
)
def test_nonsense_is_refused_when_it_is_declared(declare: Callable[[], object], says: str) -> None:
    with pytest.raises(JobInvalid, match=says):
        declare()


async def slowly(record: object) -> None: ...


async def slowly_many(record: object) -> AsyncIterator[object]:
    yield record


@pytest.mark.parametrize("function", [slowly, slowly_many])
def test_an_async_map_is_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(JobInvalid, match="is async; write a plain function"):
        Job("a", Lines()).map(function)


def test_a_combine_without_a_reduce_is_refused() -> None:
    job = mapped(Job("a", Lines()))
    job.combine(two)

    with pytest.raises(JobInvalid, match=r"has a combine but no reduce: add one with @job\.reduce"):
        job.check()


def test_an_objects_sink_takes_no_reduce() -> None:
    job = mapped(Job("a", Objects(), sink=Objects()))
    job.reduce(two)

    with pytest.raises(JobInvalid, match="an Objects sink takes no reduce"):
        job.check()


def test_a_csv_sink_needs_columns() -> None:
    with pytest.raises(JobInvalid, match=r"Csv sink needs its columns: write Csv\(columns="):
        mapped(Job("a", Lines(), sink=Csv())).check()


def test_the_columns_of_a_csv_sink_may_come_from_a_model() -> None:
    assert Csv(Row).sink_columns() == ("carrier", "delay")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shard_bytes", 0),
        ("shard_bytes", 1.5),
        ("shard_bytes", "64MiB"),
        ("shard_items", 0),
        ("shards", 0),
        ("attempts", 0),
        ("waves", 11),
        ("timeout_seconds", 901),
        ("memory_mb", 64),
        ("concurrency", 1),
        ("tolerated", -1),
        ("tolerated", 1.5),
        ("tolerated", float("nan")),
        ("tolerated", "all"),
        ("budget_dollars", 0),
        ("shard_byte", 7),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused_by_its_name(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        Limits(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tolerated", "quarantined", "records", "within"),
    [
        (0, 0, 10, True),
        (0, 1, 10, False),
        (3, 3, 3, True),
        (3, 4, 1000, False),
        (0.1, 1, 10, True),
        (0.1, 2, 10, False),
        (1.0, 10, 10, True),
        (1, 2, 10, False),
        (0.0, 0, 0, True),
    ],
)
def test_what_is_tolerated_is_a_count_or_a_share(
    tolerated: float, quarantined: int, records: int, within: bool
) -> None:
    assert Limits(tolerated=tolerated).tolerates(quarantined, records) is within


@pytest.mark.parametrize(
    "make",
    [
        lambda: Csv(delimiter=""),
        lambda: Csv(delimiter=";;"),
        lambda: Csv(int),  # type: ignore[arg-type]
        lambda: JsonLines(Row(carrier="x")),  # type: ignore[arg-type]
        lambda: Lines(enc="utf-8"),  # type: ignore[call-arg]
        lambda: Schedule(),  # type: ignore[call-arg]
        lambda: OnUpload(),  # type: ignore[call-arg]
    ],
)
def test_a_format_or_trigger_that_makes_no_sense_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises((ValidationError, TypeError)):
        make()


def test_one_requirement_may_be_a_plain_string() -> None:
    assert Job("a", Lines(), requirements="numpy").requirements == ("numpy",)


def test_the_declaration_holds_what_shapes_the_plan_or_the_bytes_and_no_more() -> None:
    plain = mapped(Job("a", JsonLines(Row)))
    tolerant = mapped(Job("a", JsonLines(), limits=Limits(tolerated=5, attempts=2, waves=3)))
    finer = mapped(Job("a", JsonLines(), limits=Limits(shard_bytes=1)))

    assert plain.declaration() == tolerant.declaration()
    assert plain.declaration() != finer.declaration()
    assert plain.declaration() != mapped(Job("a", JsonLines(), merge="parts")).declaration()
    assert plain.declaration() != mapped(Job("a", Lines())).declaration()


def test_a_map_of_two_parameters_is_given_a_context() -> None:
    job = Job("a", Lines())
    job.map(lambda record, context: [])

    assert job.check().wants_context


def test_only_a_map_of_one_record_is_given_a_context() -> None:
    with pytest.raises(JobInvalid, match="must take 1 parameter"):
        Job("a", Lines()).map_batch(size=2)(lambda records, context: [])


def test_an_idempotency_key_names_run_and_record() -> None:
    context = Context(job="a", run_id="r", shard="3.1", key="in/b.csv", offset=70)

    assert context.idempotency_key == "a/r/in/b.csv@70"


@pytest.mark.parametrize("value", ["text", b"bytes", {"a": 1}, 7, Row(carrier="x")])
def test_a_map_that_returns_one_record_instead_of_an_iterable_is_told_so(value: object) -> None:
    with pytest.raises(OutputInvalid, match="map must yield its outputs, or return an iterable"):
        each_output(value, "map")


def test_a_map_may_return_nothing_a_list_or_an_iterator() -> None:
    assert list(each_output(None, "map")) == []
    assert list(each_output([1, 2], "map")) == [1, 2]
    assert list(each_output(iter((1,)), "map")) == [1]
    assert list(each_output([Blob("a", b"")], "map")) == [Blob("a", b"")]

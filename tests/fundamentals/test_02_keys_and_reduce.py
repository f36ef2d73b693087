"""With a reduce, the map yields pairs: all values of a key come together."""

from collections.abc import Iterator
from typing import Any

from coordinator import Job, JsonLines
from coordinator.testing import run_job


def test_a_reduce_is_given_a_key_and_all_its_values_in_order() -> None:
    job = Job(name="longest-visit", source=JsonLines())

    @job.map
    def by_visitor(visit: dict[str, Any]) -> Iterator[tuple[str, int]]:
        yield visit["who"], visit["minutes"]

    @job.reduce
    def visits(who: str, minutes: Iterator[int]) -> dict[str, Any]:
        return {"who": who, "minutes": list(minutes)}

    outcome = run_job(
        job,
        {
            "monday.jsonl": '{"who": "Ada", "minutes": 5}\n{"who": "Bob", "minutes": 9}\n',
            "tuesday.jsonl": '{"who": "Ada", "minutes": 7}\n',
        },
    )

    assert outcome.records() == [
        {"who": "Ada", "minutes": [5, 7]},
        {"who": "Bob", "minutes": [9]},
    ]


def test_a_key_may_be_a_list_of_texts_and_numbers() -> None:
    job = Job(name="by-year-and-kind", source=JsonLines())

    @job.map
    def by_year_and_kind(event: dict[str, Any]) -> Iterator[tuple[tuple[int, str], int]]:
        yield (event["year"], event["kind"]), 1

    @job.reduce
    def count(key: tuple[int, str], ones: Iterator[int]) -> list[Any]:
        year, kind = key
        return [year, kind, sum(ones)]

    outcome = run_job(job, {"events.jsonl": '{"year": 2026, "kind": "sale"}\n' * 3})

    assert outcome.records() == [[2026, "sale", 3]]

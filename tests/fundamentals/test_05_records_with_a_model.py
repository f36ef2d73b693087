"""A pydantic model says what a record is; what does not fit is quarantined."""

from collections.abc import Iterator

from pydantic import BaseModel

from coordinator import Csv, Job, Limits
from coordinator.testing import run_job

FLIGHTS = "carrier,delay\nAA,12\nUA,\nAA,late\n"


class Flight(BaseModel):
    carrier: str
    delay: float | None = None


def test_rows_become_instances_of_the_model() -> None:
    job = Job(name="delays", source=Csv(Flight), limits=Limits(tolerated=1))

    @job.map
    def delays(flight: Flight) -> Iterator[Flight]:
        yield flight

    outcome = run_job(job, {"flights.csv": FLIGHTS})

    assert outcome.records() == [
        {"carrier": "AA", "delay": 12.0},
        {"carrier": "UA", "delay": None},
    ]
    assert "delay: Input should be a valid number" in outcome.quarantine[0]["reason"]


def test_without_a_model_rows_are_dicts_of_texts() -> None:
    job = Job(name="rows", source=Csv(), sink=Csv(columns=("carrier",)))

    @job.map
    def carriers(row: dict[str, str]) -> Iterator[dict[str, str]]:
        yield {"carrier": row["carrier"]}

    outcome = run_job(job, {"flights.csv": FLIGHTS})

    assert outcome.results == {"rows.csv": b"carrier\nAA\nUA\nAA\n"}

"""Mean departure delay of every carrier, from CSV files of flights."""

from collections.abc import Iterator

from pydantic import BaseModel, FiniteFloat

from coordinator import Csv, Job, Limits, OnUpload


class Flight(BaseModel):
    """The columns read, of any number. A flight that never left has no delay: its cell is empty."""

    carrier: str
    dep_delay: FiniteFloat | None = None  # minutes; negative when early


job = Job(
    name="flight-delays",
    # No cell of these files holds a newline, so that a large one is cut and read in parallel.
    source=Csv(Flight, multiline=False),
    limits=Limits(tolerated=0.001),
    triggers=[OnUpload(prefix="flight-delays/inputs/", suffix=".csv")],
    owner="data-platform",
    cost_centre="analytics",
)


# Whole seconds, because whole numbers add up to the same sum in any order. Sums of floats differ
# in their last digits with the order of adding, and so with how the input happens to be cut.
@job.map
def delays(flight: Flight) -> Iterator[tuple[str, tuple[int, int]]]:
    if flight.dep_delay is not None:
        yield flight.carrier, (1, round(flight.dep_delay * 60))


@job.combine
def add(one: list[int], other: list[int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]


@job.reduce
def mean(carrier: str, total: list[int]) -> dict[str, str | int | float]:
    flights, seconds = total
    return {
        "carrier": carrier,
        "flights": flights,
        "mean_delay_minutes": round(seconds / flights / 60, 2),
    }

"""Orders of more than a euro, validated by a model."""

from collections.abc import Iterator
from datetime import datetime

from pydantic import BaseModel, Field

from coordinator import Job, JsonLines


class Item(BaseModel):
    """A position of an order."""

    sku: str
    count: int = Field(gt=0)


class Order(BaseModel):
    """An order as it is logged."""

    id: str
    at: datetime
    customer: int
    country: str = Field(pattern="^[A-Z]{2}$")
    items: list[Item]
    total: float


job = Job(name="orders", source=JsonLines(Order))


@job.map
def worth_it(order: Order) -> Iterator[Order]:
    if order.total > 1:
        yield order

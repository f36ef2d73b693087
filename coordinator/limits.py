"""How much of everything a job may take: sizes, tries, times, memory, money."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

KIB, MIB = 1024, 1024**2


class Limits(BaseModel):
    """How much of everything; each has a sane default.

    Sizes are in bytes. `tolerated` is how many records may be quarantined: a count (int) or a
    share of the records read (float, at most 1).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    shard_bytes: int = Field(default=16 * MIB, ge=1)
    shard_items: int = Field(default=100, ge=1)
    shards: int = Field(default=10_000, ge=1, le=1_000_000)
    reduce_bytes: int = Field(default=64 * MIB, ge=1)
    partitions: int = Field(default=256, ge=1, le=1000)
    record_bytes: int = Field(default=16 * MIB, ge=1)
    buffer_bytes: int = Field(default=128 * MIB, ge=1 * KIB)
    attempts: int = Field(default=5, ge=1, le=100)
    waves: int = Field(default=2, ge=1, le=10)
    timeout_seconds: int = Field(default=300, ge=1, le=900)
    memory_mb: int = Field(default=1769, ge=128, le=10_240)
    concurrency: int = Field(default=100, ge=2, le=10_000)
    tolerated: int | Annotated[float, Field(le=1, allow_inf_nan=False)] = Field(default=0, ge=0)
    budget_dollars: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    def tolerates(self, quarantined: int, records: int) -> bool:
        """Whether so many quarantined, of so many records read, are within `tolerated`."""
        allowed = self.tolerated
        return quarantined <= (allowed if isinstance(allowed, int) else allowed * records)


# Limits that shape the plan or the bytes written: pinned when the run begins.
PINNED_LIMITS = (
    "shard_bytes",
    "shard_items",
    "shards",
    "reduce_bytes",
    "partitions",
    "record_bytes",
    "buffer_bytes",
)

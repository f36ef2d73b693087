"""What a shard costs on AWS: list prices of us-east-1, and arithmetic. No I/O.

Sources: the public price pages of Lambda (arm64), Step Functions (standard), SQS and S3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from coordinator.model import RunRecord, Stage, Totals
from coordinator.rules.transport import COORDINATOR_MEMORY_MB

PRICES = "us-east-1 list prices of November 2026: Lambda arm64, Step Functions standard, SQS, S3"

LAMBDA_GB_SECOND = 0.0000133334
LAMBDA_REQUEST = 0.20 / 1e6
TRANSITION = 25.0 / 1e6
SQS_REQUEST = 0.40 / 1e6
S3_PUT = 0.005 / 1e3
S3_GET = 0.0004 / 1e3

# What every shard needs besides time; docs/costs.md states the formula and a test counts it.
TRANSITIONS_A_SHARD = 2  # its child is started; its one state is entered
MESSAGES_A_SHARD = 3  # sent, received, deleted
PUTS_A_SHARD = 2  # its part, its entry
GETS_A_SHARD = 5  # a look for its entry, its plan, an input; its entry and its part are read later

TRANSITIONS_A_PASS = 3  # the step, the choice after it, the Map that it opens
PUTS_A_PASS = 3  # run.json twice, the items of a wave
GETS_A_PASS = 3  # run.json, the index of the plan, a listing

OVERHEAD_A_SHARD = (
    TRANSITIONS_A_SHARD * TRANSITION
    + MESSAGES_A_SHARD * SQS_REQUEST
    + PUTS_A_SHARD * S3_PUT
    + GETS_A_SHARD * S3_GET
    + LAMBDA_REQUEST
)


# What a failed attempt uses besides time, and what one pass of the coordinator does.
OVERHEAD_A_FAILURE = (
    2 * SQS_REQUEST + LAMBDA_REQUEST + 2 * S3_PUT + GETS_A_SHARD * S3_GET
)  # received and hidden again; its note is read and written
OVERHEAD_A_PASS = (
    TRANSITIONS_A_PASS * TRANSITION + LAMBDA_REQUEST + PUTS_A_PASS * S3_PUT + GETS_A_PASS * S3_GET
)


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run has used so far.

    Args:
        shards: entries, and `worker_seconds` what their attempts took.
        failures: attempts without an entry, and `failed_seconds` what they are charged.
        passes: invocations of the coordinator, and `coordinator_seconds` what they took.
    """

    shards: int
    worker_seconds: float
    failures: int
    failed_seconds: float
    passes: int
    coordinator_seconds: float
    memory_mb: int

    @classmethod
    def of_run(cls, run: RunRecord, memory_mb: int, totals: Mapping[Stage, Totals]) -> Spent:
        """What a run has used: its coordinator's passes, and these sums of its stages."""
        return cls.of(
            totals.values(),
            passes=run.passes,
            coordinator_seconds=run.coordinator_seconds,
            memory_mb=memory_mb,
        )

    @classmethod
    def of(
        cls, stages: Iterable[Totals], *, passes: int, coordinator_seconds: float, memory_mb: int
    ) -> Spent:
        """The sums over stages."""
        known = list(stages)
        return cls(
            shards=sum(total.shards for total in known),
            worker_seconds=sum(total.seconds for total in known),
            failures=sum(total.failures for total in known),
            failed_seconds=sum(total.failed_seconds for total in known),
            passes=passes,
            coordinator_seconds=coordinator_seconds,
            memory_mb=memory_mb,
        )

    def dollars(self) -> float:
        """What that costs: the formula that budget, manifest, metric and docs share."""
        seconds = self.worker_seconds + self.failed_seconds
        return (
            lambda_dollars(seconds, self.memory_mb)
            + lambda_dollars(self.coordinator_seconds, COORDINATOR_MEMORY_MB)
            + self.shards * OVERHEAD_A_SHARD
            + self.failures * OVERHEAD_A_FAILURE
            + self.passes * OVERHEAD_A_PASS
        )


def lambda_dollars(seconds: float, memory_mb: int) -> float:
    """The price of so many seconds of a function with so much memory."""
    return seconds * memory_mb / 1024 * LAMBDA_GB_SECOND


def expected_shard_dollars(stage: Totals, timeout_seconds: int, memory_mb: int) -> float:
    """What one more shard of a stage is expected to cost, its failed attempts included: the mean so
    far, or the worst until there is one."""
    if not stage.shards:
        return lambda_dollars(timeout_seconds, memory_mb) + OVERHEAD_A_SHARD
    used = Spent.of([stage], passes=0, coordinator_seconds=0.0, memory_mb=memory_mb)
    return used.dollars() / stage.shards

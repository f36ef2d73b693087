"""What a shard costs on AWS: list prices of us-east-1, and arithmetic. No I/O.

Sources: the public price pages of Lambda (arm64), Step Functions (standard), SQS and S3.
"""

from __future__ import annotations

from collections.abc import Iterable

from coordinator.model import Totals

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

OVERHEAD_A_SHARD = (
    TRANSITIONS_A_SHARD * TRANSITION
    + MESSAGES_A_SHARD * SQS_REQUEST
    + PUTS_A_SHARD * S3_PUT
    + GETS_A_SHARD * S3_GET
    + LAMBDA_REQUEST
)


def worker_dollars(seconds: float, memory_mb: int) -> float:
    """The price of so many seconds of a worker with so much memory."""
    return seconds * memory_mb / 1024 * LAMBDA_GB_SECOND


def shards_dollars(shards: int, seconds: float, memory_mb: int) -> float:
    """The price of so many shards whose workers run so many seconds in all."""
    return worker_dollars(seconds, memory_mb) + shards * OVERHEAD_A_SHARD


def run_dollars(stages: Iterable[Totals], memory_mb: int, *, failed_seconds: float = 0.0) -> float:
    """What a run has cost: the shards of its stages, and the worker seconds of failed attempts."""
    known = list(stages)
    seconds = sum(total.seconds for total in known) + failed_seconds
    return shards_dollars(sum(total.shards for total in known), seconds, memory_mb)


def expected_shard_dollars(stage: Totals, timeout_seconds: int, memory_mb: int) -> float:
    """What one more shard of a stage is expected to cost: the mean so far, or the worst until
    there is one."""
    mean = stage.seconds / stage.shards if stage.shards else float(timeout_seconds)
    return shards_dollars(1, mean, memory_mb)

"""How much a run may use: invocations a message, messages a shard, dollars before a wave.

Prices and limits are spelled out here, and shared with nothing that they check.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.simulator.cloud import Cloud
    from tests.chaos.simulator.containers import Invocation

# us-east-1, Lambda on arm64, November 2026: a second of a gibibyte, and a request.
GIB_SECOND_DOLLARS = 0.0000133334
REQUEST_DOLLARS = 0.0000002
COORDINATOR_MB = 1769

# A message is received so often at most; a shard is sent once for each of its two waves, once for
# each of five waves that nothing came of, and once more where the service sends a message twice.
RECEIVES = 5
LETTERS_AN_EPOCH = 2 + 5 + 1


def too_much(cloud: Cloud) -> Iterator[str]:
    """What was invoked or sent more often than it may be."""
    invoked = Counter(letter_of(it) for it in cloud.invocations if it.function == "work")
    for name, times in invoked.items():
        if times > RECEIVES + cloud.queue.duplicated[name]:
            yield f"message {name} was worked on {times} times"
    sent = Counter(
        (message["run_id"], message["stage"], message["draft"], message["epoch"], shard_of(message))
        for message in map(json.loads, cloud.sent)
    )
    for key, times in sent.items():
        if times > LETTERS_AN_EPOCH:
            yield f"the shard {key} was sent {times} times in one epoch"


def dollars_spent(cloud: Cloud, memory_mb: int) -> float:
    """What the invocations that have ended cost, as far as anybody can know. A worker that died at
    its first receive has left no mark before its message is a dead letter, and a coordinator that
    died leaves none at all."""
    total = 0.0
    for it in cloud.invocations:
        if it.dead is not None and receives_of(it) <= 1:
            continue
        mb = memory_mb if it.function == "work" else COORDINATOR_MB
        total += it.seconds * mb / 1024 * GIB_SECOND_DOLLARS + REQUEST_DOLLARS
    return total


def timeout_dollars(seconds: float, memory_mb: int) -> float:
    """What one attempt costs that takes all of its time."""
    return seconds * memory_mb / 1024 * GIB_SECOND_DOLLARS + REQUEST_DOLLARS


def letter_of(it: Invocation) -> str:
    return str(it.event["Records"][0]["messageId"])


def receives_of(it: Invocation) -> int:
    """How often the message of an invocation had been received; 0 where there is no message."""
    if it.function != "work":
        return 0
    return int(it.event["Records"][0]["attributes"]["ApproximateReceiveCount"])


def shard_of(message: dict[str, dict[str, str]]) -> str:
    return message["shard"]["id"]

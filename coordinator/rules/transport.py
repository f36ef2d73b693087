"""How a wave travels on AWS: the numbers that functions, queues and state machine must agree on.

Sources: "Step Functions service quotas" and "Distributed Map", Step Functions developer guide;
"Using Lambda with Amazon SQS", Lambda developer guide.
"""

from __future__ import annotations

from coordinator.limits import Limits

MAP_ITEMS = 10_000  # the children that one Distributed Map runs at a time
INLINE_ITEMS = 40  # that an inline Map is given at most; more go through a Distributed Map

RECEIVES_AT_LEAST = 5  # throttled invocations use up receives
GRACE_SECONDS = 60  # that a message stays hidden after its function's time is up
CONCURRENCY_FACTOR = 3  # open children for each worker: the queue's backpressure
CHILD_SECONDS_LEAST = 6 * 3600
RETRY_SECONDS = 300  # the longest backoff between two tries


def receives(limits: Limits) -> int:
    """How often a message is received before it is a dead letter."""
    return max(RECEIVES_AT_LEAST, limits.attempts)


def visibility_seconds(function_seconds: int) -> int:
    """How long a message that a function has received stays hidden from others."""
    return function_seconds + GRACE_SECONDS


def open_children(limits: Limits, items: int) -> int:
    """How many children of a Map are open at a time."""
    return min(limits.concurrency * CONCURRENCY_FACTOR, items)


def child_timeout_seconds(limits: Limits) -> int:
    """When a child gives up waiting for a lost answer: long after every try has had its time."""
    each = visibility_seconds(limits.timeout_seconds) + RETRY_SECONDS
    return max(CHILD_SECONDS_LEAST, CONCURRENCY_FACTOR * 2 * receives(limits) * each)

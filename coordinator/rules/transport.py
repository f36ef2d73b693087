"""How a wave travels on AWS: the numbers and names that functions, queues, state machine and
dashboards must agree on.

Sources: "Step Functions service quotas" and "Distributed Map", Step Functions developer guide;
"Using Lambda with Amazon SQS", Lambda developer guide.
"""

from __future__ import annotations

from coordinator.limits import Limits
from coordinator.rules.pacing import BACKOFF_MOST_SECONDS

METRICS = "Fanfold"  # the namespace of all metrics

MAP_ITEMS = 10_000  # the children that one Distributed Map runs at a time
INLINE_ITEMS = 40  # that an inline Map is given at most; more go through a Distributed Map

COORDINATOR_MEMORY_MB = 1769  # one full processor

RECEIVES_AT_LEAST = 5  # throttled invocations use up receives
COORDINATOR_SECONDS = 900  # that Plan, Reconcile and Publish have
BURY_SECONDS = 60  # that Bury has for a batch
GRACE_SECONDS = 60  # that a message stays hidden after its function's time is up
CONCURRENCY_FACTOR = 3  # open children for each worker: the queue's backpressure
CHILD_SECONDS_LEAST = 6 * 3600
QUEUE_DAYS = 4  # that a message is kept which nobody takes


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
    """When a child gives up waiting for a lost answer: long after every try has had its time, and
    not after its message is gone."""
    each = visibility_seconds(limits.timeout_seconds) + int(BACKOFF_MOST_SECONDS)
    most = max(CHILD_SECONDS_LEAST, CONCURRENCY_FACTOR * 2 * receives(limits) * each)
    return min(most, QUEUE_DAYS * 86_400)

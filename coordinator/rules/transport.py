"""How a wave travels on AWS: the numbers and names that functions, queues, state machine and
dashboards must agree on.

Sources: "Step Functions service quotas" and "Distributed Map", Step Functions developer guide;
"Using Lambda with Amazon SQS", Lambda developer guide.
"""

from __future__ import annotations

import math

from coordinator.limits import Limits
from coordinator.rules.pacing import backoff_seconds

METRICS = "Fanfold"  # the namespace of all metrics

MAP_ITEMS = 10_000  # the children that one Distributed Map runs at a time
INLINE_ITEMS = 40  # that an inline Map is given at most; more go through a Distributed Map

COORDINATOR_MEMORY_MB = 1769  # one full processor

RECEIVES_AT_LEAST = 5  # throttled invocations use up receives
COORDINATOR_SECONDS = 900  # that Plan, Reconcile and Publish have
BURY_SECONDS = 60  # that Bury has for a batch
GRACE_SECONDS = 60  # that a message stays hidden after its function's time is up
CONCURRENCY_FACTOR = 3  # open children for each worker: the queue's backpressure
CHILD_SECONDS_LEAST = 3600
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


def lost_children(limits: Limits, items: int) -> int:
    """How many children of a Map may wait in vain before it is given up: one less than are open at
    a time, so that a wave of which nothing is heard ends when its first children do."""
    return open_children(limits, items) - 1


def tries_seconds(limits: Limits) -> int:
    """The longest that a message is under way, from its first receive until Bury has answered."""
    tries = receives(limits)
    waits = sum(backoff_seconds(receive, 1.0) for receive in range(1, tries))
    hidden = tries * visibility_seconds(limits.timeout_seconds)
    return hidden + math.ceil(waits) + visibility_seconds(BURY_SECONDS)


def child_timeout_seconds(limits: Limits, items: int) -> int:
    """When a child gives up waiting for its answer: after all open children's tries have had their
    time on as many workers as the job asks for, and its own after them; and not after its message
    is gone.

    Source of the bound: Graham, "Bounds for Certain Multiprocessing Anomalies", 1966: no list of
    tasks takes longer than their sum, divided by the workers, and the longest of them.
    """
    work = open_children(limits, items) * receives(limits) * limits.timeout_seconds
    longest = math.ceil(work / limits.concurrency) + tries_seconds(limits)
    return min(max(CHILD_SECONDS_LEAST, longest), QUEUE_DAYS * 86_400)

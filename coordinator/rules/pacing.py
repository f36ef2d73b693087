"""Pacing: when a shard has to stop, is far behind, or is tried again, and into how many pieces
what is left of it is cut. Pure: clocks and random numbers come in as arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median

SKEW_FACTOR = 4.0
SKEW_SHARE_DONE = 0.5
FEWEST_CHILDREN = 4
MOST_CHILDREN = 100

# From this receive on an attempt says that it begins; so many that ended with nothing at all, and
# the shard has killed its workers. Receives alone prove nothing: a throttle uses them up too.
MARKED_RECEIVES = 2
KILLED_ATTEMPTS = 2

# What S3 serves for sure below one prefix, 5,500 GETs a second, at 30 ms each: "Best practices design
# patterns: optimizing Amazon S3 performance", Amazon S3 User Guide.
READS_TOGETHER = 160

BACKOFF_SECONDS = 1.0
BACKOFF_MOST_SECONDS = 300.0

RECORD_TRIES = 4  # of a record in one attempt, while its job asks for them
RECORD_PAUSE_SECONDS = (
    10.0  # that a worker waits at most for one; what takes longer waits in the queue
)

PAUSE_SECONDS = 60.0
PAUSE_FACTOR = 4.0
PAUSE_MOST_SECONDS = 900.0

RESERVE_SHARE = 0.2
RESERVE_SECONDS_MOST = 60.0
LOOK_SECONDS = 60.0


def is_skewed(
    elapsed_seconds: float, seconds_of_done: Sequence[float], done: int, shards: int
) -> bool:
    """Whether a shard that has run so long holds up its stage: most of the others are done, and
    it has taken several times their median.

    Args:
        seconds_of_done: how long some of the shards took that are done.
        done, shards: how many are done, of how many.
    """
    if not seconds_of_done or done < shards * SKEW_SHARE_DONE:
        return False
    return elapsed_seconds > SKEW_FACTOR * median(seconds_of_done)


def pieces(done_bytes: int, rest_bytes: int) -> int:
    """How many children the rest of a shard becomes: so many that each takes about half as long as
    the finished prefix did, and a few at least, because what is slow may lie in the rest."""
    if done_bytes <= 0:
        return MOST_CHILDREN
    return max(FEWEST_CHILDREN, min(MOST_CHILDREN, -(-2 * rest_bytes // done_bytes)))


def lanes_of_each(lanes: int, workers: int) -> int:
    """How many of a store's lanes a worker reads in, beside so many that read below the same prefix:
    together they would only be throttled."""
    return max(1, min(lanes, READS_TOGETHER // max(workers, 1)))


def backoff_seconds(receives: int, jitter: float) -> float:
    """Exponential backoff with full jitter.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return float(jitter * min(BACKOFF_MOST_SECONDS, BACKOFF_SECONDS * 2 ** min(receives, 16)))


def record_pause_seconds(tries: int, after_seconds: float, jitter: float) -> float | None:
    """How long a worker waits before it tries a record again that was tried so often; None where it
    is left to the queue."""
    wait = max(after_seconds, backoff_seconds(tries, jitter))
    return wait if tries < RECORD_TRIES and wait <= RECORD_PAUSE_SECONDS else None


def pause_seconds(waves: int, passed_seconds: float, jitter: float) -> int:
    """How long the next wave waits after so many that failed: a minute, four, then a quarter of an
    hour, at least half of it, less what has passed since the last failure.

    Runs that failed of the same thing do not come back together, and none comes back at once.

    Args:
        passed_seconds: of clocks that may differ; what lies in the future counts as now.
        jitter: from 0 to 1.
    """
    if waves < 1:
        return 0
    longest = min(PAUSE_MOST_SECONDS, PAUSE_SECONDS * PAUSE_FACTOR ** min(waves - 1, 8))
    wanted = longest * (1 + jitter) / 2
    return math.ceil(wanted - min(max(passed_seconds, 0.0), wanted))


def working_seconds(seconds: float) -> float:
    """How much of an attempt's time goes into its shard: all but a reserve of a fifth, at most a
    minute, enough to finish a record, upload the part and commit."""
    return seconds - min(seconds * RESERVE_SHARE, RESERVE_SECONDS_MOST)


class Pace:
    """The guard of a shard in a function that ends; see `workplace.Guard`.

    It trips once the function's working seconds are used up. Once a minute it looks around: only
    a shard that has run for a minute costs these requests.
    """

    def __init__(
        self,
        remaining_seconds: float,
        look: Callable[[float], bool],
        clock: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._look = look
        self._began = clock()
        self._ends = self._began + working_seconds(remaining_seconds)
        self._next_look = self._began + LOOK_SECONDS

    def tripped(self) -> bool:
        """Whether it is time to stop.

        Raises:
            RunCancelled, Superseded: the shard's work is not wanted any more.
        """
        now = self._clock()
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            if self._look(now - self._began):
                self._ends = now
        return now >= self._ends

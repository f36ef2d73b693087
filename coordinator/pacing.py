"""When a shard is far behind its stage, and into how many pieces its rest is cut. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

SKEW_FACTOR = 4.0
SKEW_SHARE_DONE = 0.5
FEWEST_CHILDREN = 4
MOST_CHILDREN = 100


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

"""The time guard: when a shard has to stop at its next record, well before the function's end."""

from __future__ import annotations

import time
from collections.abc import Callable

RESERVE_SHARE = 0.2
RESERVE_SECONDS_MOST = 60.0


class Deadline:
    """Trips once all but a reserve of the remaining time is used up.

    The reserve is a fifth of the time, at most a minute: enough to finish a record, upload the
    part and commit.
    """

    def __init__(
        self, remaining_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        reserve = min(remaining_seconds * RESERVE_SHARE, RESERVE_SECONDS_MOST)
        self._clock = clock
        self._at = clock() + remaining_seconds - reserve

    @property
    def tripped(self) -> bool:
        """Whether it is time to stop."""
        return self._clock() >= self._at

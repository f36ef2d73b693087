"""When a worker has to stop at its next record: near its function's end, far behind its stage, or
because nobody wants its result any more."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice

from coordinator import runs
from coordinator.errors import RunCancelled, Superseded
from coordinator.ledger import seconds_of
from coordinator.model import Message
from coordinator.pacing import is_skewed
from coordinator.work import Place
from functions import desk
from functions.floor import dropped

RESERVE_SHARE = 0.2
RESERVE_SECONDS_MOST = 60.0
LOOK_SECONDS = 60.0
SAMPLED = 9


class Pace:
    """The guard of one shard; see `mapping.Guard`.

    It trips once all but a reserve of the function's time is used up: a fifth of it, at most a
    minute, enough to finish a record, upload the part and commit. Once a minute it looks around:
    only a shard that has run for a minute costs these requests.
    """

    def __init__(
        self,
        remaining_seconds: float,
        look: Callable[[float], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        reserve = min(remaining_seconds * RESERVE_SHARE, RESERVE_SECONDS_MOST)
        self._clock = clock
        self._look = look
        self._began = clock()
        self._ends = self._began + remaining_seconds - reserve
        self._next_look = self._began + LOOK_SECONDS

    @property
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


def look_around(place: Place, message: Message) -> Callable[[float], bool]:
    """Whether a shard that has run so many seconds should split off its rest.

    Raises (when called):
        RunCancelled: the run was cancelled.
        Superseded: another owner or epoch has the run.
    """

    def look(elapsed_seconds: float) -> bool:
        run = runs.read(place.store, place.keys)
        if (reason := dropped(run, message)) is not None:
            raise (RunCancelled if run.state == "cancelled" else Superseded)(reason)
        if message.stage != "map":
            return False
        done = [stat.key for stat in place.store.list(place.keys.ledger("map"))]
        sample = list(islice(done, 0, None, max(len(done) // SAMPLED, 1)))
        taken = seconds_of(place.store, sample)
        skewed = is_skewed(elapsed_seconds, taken, len(done), run.plans["map"].shards)
        if skewed:
            desk.logger.info("far behind its stage", extra={"elapsed_seconds": elapsed_seconds})
        return skewed

    return look

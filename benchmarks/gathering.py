"""Gather so many segments from a store that answers 30 ms after it is asked.

python -m benchmarks.gathering COUNT LANES
"""

from __future__ import annotations

import argparse
import hashlib
import time
import zlib
from collections.abc import Callable
from typing import TypeVar

from coordinator.limits import MIB
from coordinator.model import Part
from coordinator.shuffle.gather import Gather
from coordinator.state.files import segments_in_order
from coordinator.store.memory import MemoryStore

REQUEST_SECONDS = 0.030
KEYS = 1000
T = TypeVar("T")


class FarStore(MemoryStore):
    """A store in memory, as far away as S3."""

    def perform(self, operation: str, key: str, action: Callable[[], T]) -> T:
        """Reads alone take their time."""
        if operation == "open":
            time.sleep(REQUEST_SECONDS)
        return action()


def main() -> None:
    """Gather a thousand keys of each of so many map shards, and add up their values."""
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("lanes", type=int)
    asked = parser.parse_args()
    store = FarStore()
    names = ",".join(f'"key {n}"' for n in range(KEYS))
    body = f"[[{names}],[{','.join(['1'] * KEYS)}]]\n".encode()
    digest, segment = hashlib.sha256(body).hexdigest(), (len(body), zlib.crc32(body))
    parts = []
    for number in range(asked.count):
        store.create(f"part/{number}", body)
        parts.append(
            Part(
                key=f"part/{number}", size=len(body), sha256=digest, records=1, segments=(segment,)
            )
        )
    with Gather(lambda one, other: one + other, 64 * MIB) as gathered:
        for _, lines in segments_in_order(store, parts, 0, lanes=asked.lanes, ahead_bytes=64 * MIB):
            gathered.take(lines)
        if sum(total for _, total in gathered.groups()) != KEYS * asked.count:
            raise SystemExit("a segment is missing")


if __name__ == "__main__":
    main()

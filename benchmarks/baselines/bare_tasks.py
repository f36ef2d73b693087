"""Nothing, so many times, in a bare `ProcessPoolExecutor`: the floor under the cost of a shard.

python -m benchmarks.baselines.bare_tasks COUNT --workers 2
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor


def nothing(number: int) -> int:
    """A task that costs nothing but being handed out and answered."""
    return number


def main() -> None:
    """Hand the tasks out one by one, and wait for all answers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    with ProcessPoolExecutor(asked.workers) as executor:
        if sum(1 for _ in executor.map(nothing, range(asked.count))) != asked.count:
            raise SystemExit("a task is missing")


if __name__ == "__main__":
    main()

"""Plan a map over so many synthetic objects, and nothing else.

python -m benchmarks.planning COUNT FOLDER
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from coordinator import Job, Lines
from coordinator.keys import RunKeys
from coordinator.model import Hints, Pinned
from coordinator.state import runs
from coordinator.steps.plan import plan as plan_map
from coordinator.store.file.store import FileStore
from coordinator.store.ports import Page, Readable

PAGE_OBJECTS = 1000


class SyntheticInputs:
    """As many objects as are asked for, listed as S3 lists them."""

    def __init__(self, count: int) -> None:
        self.count = count

    def pages(self, patterns: Sequence[str], cursor: str = "") -> Iterator[Page]:
        """Pages of a thousand."""
        for first in range(0, self.count, PAGE_OBJECTS):
            last = min(first + PAGE_OBJECTS, self.count)
            objects = [
                Pinned(
                    key=f"s3://a-bucket/logs/2026/11/21/{number:012d}.jsonl",
                    size=1000 + number % 1000,
                    etag=f"{number:032x}",
                    version_id=f"v{number:030x}",
                )
                for number in range(first, last)
            ]
            yield Page(objects, str(last) if last < self.count else None)

    def open(self, pinned: Pinned, start: int, stop: int) -> Readable:
        """Planning a job of lines reads none."""
        raise NotImplementedError


def main() -> None:
    """Claim a run and plan it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    job = Job(name="planned", source=Lines())
    store = FileStore(asked.folder)
    record = runs.claim(
        store,
        runs.Claim(
            keys=RunKeys(job.name, "bench"),
            owner="bench",
            code_version="test",
            declaration=job.declaration(),
            inputs=("*",),
            logical_time=0.0,
            waves=1,
            hints=Hints(billed=False),
        ),
        now=0.0,
        is_live=lambda owner: False,
    )
    plan_map(
        store,
        SyntheticInputs(asked.count),
        job,
        record,
        draft="bench",
        code_version="test",
        clock=lambda: 0.0,
    )


if __name__ == "__main__":
    main()

"""The real handlers in a mocked account, and the jobs of this repository."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from coordinator.loading import load_job
from tests.cloud.account import Account, forget_everything

JOBS = Path(__file__).parents[2] / "jobs"

MakeCloud = Callable[..., Account]


@pytest.fixture
def make_cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeCloud]:
    """Makes an account with a job deployed: `make_cloud("wordcount")`, or the path of a `.py`.

    One poller, unless a test needs more: on Lambda a process works on one message at a time, and
    Powertools keeps metrics and log keys for the process. Metrics are off for the same reason.

    A test whose faults did not all strike fails: what it shows would hold without them.
    """
    made: list[Account] = []
    with ExitStack() as stack:

        def make(job: str | Path, **options: Any) -> Account:
            path = Path(job) if str(job).endswith(".py") else JOBS / f"{job}.py"
            options.setdefault("pollers", 1)
            deployed = load_job(str(path)).job
            cloud = stack.enter_context(Account(deployed.name, **options))
            monkeypatch.setenv("FANFOLD_BUCKET", cloud.bucket)
            monkeypatch.setenv("FANFOLD_JOB_MODULE", str(path))
            monkeypatch.setenv("FANFOLD_TIMEOUT_SECONDS", str(deployed.limits.timeout_seconds))
            monkeypatch.setenv("POWERTOOLS_TRACE_DISABLED", "true")
            monkeypatch.setenv("POWERTOOLS_METRICS_DISABLED", "true")
            forget_everything()
            made.append(cloud)
            return cloud

        yield make
    forget_everything()
    assert not [told for cloud in made for told in cloud.faults.without_effect()]


WORDS = """
from coordinator import Job, Limits, Lines, Text

job = Job(name="words", source=Lines(), sink=Text(), limits=Limits(shard_items=1, {limits}))

@job.map
def words(line):
    {body}
    yield line.upper()
"""


@pytest.fixture
def write_job(tmp_path: Path) -> Callable[..., Path]:
    """Writes the smallest job: one shard an object, lines in upper case.

    `body` is run first for every line; `limits` are further arguments of its `Limits`.
    """

    def write(body: str = "pass", limits: str = "") -> Path:
        path = tmp_path / "words.py"
        path.write_text(WORDS.format(body=body, limits=limits))
        return path

    return write

"""The real handlers in a mocked account, and the jobs of this repository."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from functions import desk, floor, settings
from tests.cloud.harness import Cloud

FUNCTIONS = ("plan", "reconcile", "work", "bury", "publish")
JOBS = Path(__file__).parents[2] / "jobs"

MakeCloud = Callable[..., Cloud]


def handlers() -> dict[str, Any]:
    """The handlers that are deployed, by the names of their functions."""
    return {name: importlib.import_module(f"functions.{name}").handler for name in FUNCTIONS}


def forget_everything() -> None:
    """What a new container knows: nothing."""
    for cached in (
        settings.settings,
        settings.loaded_job,
        desk.s3,
        desk.sqs,
        desk.states,
        desk.store,
        desk.inputs,
    ):
        cached.cache_clear()
    floor.forget()


@pytest.fixture
def make_cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeCloud]:
    """Makes an account with a job deployed: `make_cloud("wordcount")`, or the path of a `.py`."""
    with ExitStack() as stack:

        def make(job: str | Path, **options: Any) -> Cloud:
            path = Path(job) if str(job).endswith(".py") else JOBS / f"{job}.py"
            cloud = stack.enter_context(Cloud(handlers(), **options))
            monkeypatch.setenv("FANFOLD_BUCKET", cloud.bucket)
            monkeypatch.setenv("FANFOLD_JOB_MODULE", str(path))
            monkeypatch.setenv("POWERTOOLS_TRACE_DISABLED", "true")
            forget_everything()
            return cloud

        yield make
    forget_everything()



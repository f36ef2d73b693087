"""The handlers of `functions/`, and a cloud in the place of all that they reach out to."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest import mock

from functions import bury, plan, publish, reconcile, settings, telemetry, wiring, work

if TYPE_CHECKING:
    from tests.chaos.simulator.cloud import Cloud

BUCKET = "work-bucket"
MODULES: dict[str, ModuleType] = {
    "plan": plan,
    "reconcile": reconcile,
    "work": work,
    "bury": bury,
    "publish": publish,
}


class _Silent:
    """Takes every log line and every metric, and keeps none."""

    def __getattr__(self, name: str) -> _Silent:
        return self

    def __call__(self, *arguments: object, **named: object) -> None:
        return None


_SILENT = _Silent()
_SETTINGS = settings.Settings(
    FANFOLD_BUCKET=BUCKET, FANFOLD_JOB_MODULE="jobs.simulated", FANFOLD_TIMEOUT_SECONDS=1
)


@contextmanager
def installed(
    cloud: Cloud, *, guard: Callable[..., Any], most_inline: int, pages: int, draw: random.Random
) -> Iterator[None]:
    """The handlers' clients, clock and settings are this world's."""

    def settled() -> settings.Settings:
        timeout = {"timeout_seconds": cloud.loaded.job.limits.timeout_seconds}
        return _SETTINGS.model_copy(update=timeout)

    ours: dict[str, Any] = {"loaded_job": cloud.loaded_job, "settings": settled}
    replaced: list[tuple[Any, str, Any]] = [
        (wiring, "store", lambda: cloud.store),
        (wiring, "inputs", lambda glob: cloud.inputs),
        (wiring, "states", lambda: cloud),
        (wiring, "sqs", lambda: cloud),
        (wiring, "now", cloud.now),
        (telemetry, "logger", _SILENT),
        (telemetry, "metrics", _SILENT),
        (telemetry, "count", _SILENT),
        (telemetry, "count_by_reason", _SILENT),
        (plan, "new_draft", cloud.new_id),
        (reconcile, "new_draft", cloud.new_id),
        (reconcile, "SystemRandom", lambda: random.Random(7)),
        (work, "new_attempt", cloud.new_id),
        (work, "Pace", guard),
        (work, "SystemRandom", lambda: draw),
        (wiring, "_seen", {}),
        (reconcile, "INLINE_ITEMS", most_inline),
        (plan, "PAGES_AN_INVOCATION", pages),
    ]
    for module in (*MODULES.values(), wiring):
        replaced += [(module, name, ours[name]) for name in ours if hasattr(module, name)]
    patches = [mock.patch.object(*patch) for patch in replaced]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in reversed(patches):
            patch.stop()

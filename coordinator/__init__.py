"""Fanfold: a serverless fan-out batch framework. Fan out, fold back.

A job imports what it needs from here. Names are loaded when first used, so that importing the
package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coordinator.errors import (
        FanfoldError as FanfoldError,
        Refuse as Refuse,
        Retry as Retry,
        RetryableError as RetryableError,
        StopRun as StopRun,
    )
    from coordinator.formats.csv import Csv as Csv
    from coordinator.formats.jsonlines import JsonLines as JsonLines
    from coordinator.formats.lines import Lines as Lines
    from coordinator.formats.objects import Blob as Blob, Object as Object, Objects as Objects
    from coordinator.formats.text import Text as Text
    from coordinator.job import Job as Job
    from coordinator.limits import Limits as Limits
    from coordinator.steps.map import Context as Context
    from coordinator.triggers import OnUpload as OnUpload, Schedule as Schedule

__version__ = "0.1.0"

_HOMES = {
    "errors": (
        "FanfoldError",
        "Refuse",
        "Retry",
        "RetryableError",
        "StopRun",
    ),
    "formats.csv": ("Csv",),
    "formats.jsonlines": ("JsonLines",),
    "formats.lines": ("Lines",),
    "formats.objects": (
        "Blob",
        "Object",
        "Objects",
    ),
    "formats.text": ("Text",),
    "job": ("Job",),
    "limits": ("Limits",),
    "steps.map": ("Context",),
    "triggers": (
        "OnUpload",
        "Schedule",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"coordinator.{_HOME_OF[name]}"), name)

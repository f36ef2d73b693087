"""Fanfold: a serverless fan-out batch framework. Fan out, fold back.

A job imports what it needs from here. Names are loaded when first used, so that importing the
package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coordinator.errors import FanfoldError as FanfoldError
    from coordinator.errors import RetryableError as RetryableError
    from coordinator.job import Blob as Blob
    from coordinator.job import Context as Context
    from coordinator.job import Csv as Csv
    from coordinator.job import Job as Job
    from coordinator.job import JsonLines as JsonLines
    from coordinator.job import Limits as Limits
    from coordinator.job import Lines as Lines
    from coordinator.job import Object as Object
    from coordinator.job import Objects as Objects
    from coordinator.job import OnUpload as OnUpload
    from coordinator.job import Schedule as Schedule
    from coordinator.job import Text as Text

__version__ = "0.1.0"

_HOMES = {
    "errors": ("FanfoldError", "RetryableError"),
    "job": (
        "Blob",
        "Context",
        "Csv",
        "Job",
        "JsonLines",
        "Limits",
        "Lines",
        "Object",
        "Objects",
        "OnUpload",
        "Schedule",
        "Text",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"coordinator.{_HOME_OF[name]}"), name)

"""What the definition of a state machine is written in besides states: paths, templates, errors."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any


def matches(rule: Any, error: str) -> bool:
    names = rule["ErrorEquals"]
    failed = "States.TaskFailed" in names and error != "States.Timeout"
    return error in names or failed or "States.ALL" in names


def resolve(path: str, data: Any, context: Any) -> Any:
    """What a reference path names: `$.a.b` in the state's data, `$$.a.b` in the context."""
    root, steps = (context, path[2:]) if path.startswith("$$") else (data, path[1:])
    for step in steps.split(".")[1:]:
        root = root[step]
    return root


def render(template: Any, data: Any, context: Any) -> Any:
    """A template with its `.$` fields filled in."""
    if not isinstance(template, dict):
        return template
    return {
        name.removesuffix(".$"): resolve(value, data, context)
        if name.endswith(".$")
        else render(value, data, context)
        for name, value in template.items()
    }


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()

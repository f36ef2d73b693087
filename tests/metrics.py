"""The metrics that the functions write, as their sources name them: whoever shows or watches one
is held against this, and so is what a run really writes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

FUNCTIONS = Path(__file__).parents[1] / "functions"
COUNTERS = {
    "count": frozenset({("job",)}),
    "count_by_reason": frozenset({("job",), ("job", "reason")}),
}


def written() -> dict[str, frozenset[tuple[str, ...]]]:
    """The dimensions of every metric, by its name."""
    found: dict[str, frozenset[tuple[str, ...]]] = {}
    for source in sorted(FUNCTIONS.glob("*.py")):
        if source.stem == "telemetry":
            continue  # where the counters are made; what they count is the business of others
        for counter, name in _counted(ast.parse(source.read_text())):
            found[name] = found.get(name, frozenset()) | COUNTERS[counter]
    return found


def _counted(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Every call of a counter, with each name that it may count under."""
    for call in ast.walk(tree):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
            continue
        if call.func.attr not in COUNTERS or not call.args:
            continue
        for part in _values(call.args[0]):
            assert isinstance(part, ast.Constant), ast.unparse(call)
            yield call.func.attr, str(part.value)


def _values(argument: ast.expr) -> list[ast.expr]:
    """What an argument may be: of a choice, both."""
    if isinstance(argument, ast.IfExp):
        return [*_values(argument.body), *_values(argument.orelse)]
    return [argument]

"""Which imports of a module have to succeed.

Those that may fail are left to the job: those that an ImportError is caught of, those of the type
checker, and those under a look at the platform or at Python's version.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

Import = ast.Import | ast.ImportFrom

_CATCHING = {"ImportError", "ModuleNotFoundError"}
_LEFT_TO_THE_JOB = {"version_info", "platform", "__name__"}


def required_imports(node: ast.AST, found: Callable[[Import], bool]) -> Iterator[Import]:
    """The imports below a node that have to succeed.

    Args:
        found: whether an import that may fail would succeed.
    """
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        yield node
        return
    left_out: list[ast.AST] = []
    if isinstance(node, (ast.Try, ast.TryStar)):
        if any(handler.type and _CATCHING & _names_in(handler.type) for handler in node.handlers):
            left_out = [*node.body]
            tried = [each for statement in node.body for each in ast.walk(statement)]
            if all(found(each) for each in tried if isinstance(each, (ast.Import, ast.ImportFrom))):
                left_out += node.handlers
    elif isinstance(node, (ast.With, ast.AsyncWith)):
        if any(_CATCHING & _names_in(item.context_expr) for item in node.items):
            return
    elif isinstance(node, ast.If):
        looked_at = _names_in(node.test)
        if looked_at & _LEFT_TO_THE_JOB:
            return
        left_out = [*node.body] if "TYPE_CHECKING" in looked_at else []
    for child in ast.iter_child_nodes(node):
        if child not in left_out:
            yield from required_imports(child, found)


def _names_in(node: ast.AST) -> set[str]:
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return names | {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}

"""What is changed in a module: one thing at one place, in the syntax tree itself."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, replace

_COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_COUNTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_JOINED: dict[type[ast.boolop], type[ast.boolop]] = {ast.And: ast.Or, ast.Or: ast.And}
# What only a type checker reads, and decorators, which most tools of the kind leave alone too.
_UNREAD = {"annotation", "returns", "decorator_list", "type_params"}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Mutant:
    """One change. `name` tells it from all others of its module, and does not hold its line.

    Args:
        first, last: the lines of its statement; of its head, where it has a body.
        called: it shows when a function is called; if not, when the module is imported.
    """

    name: str
    line: int
    before: str
    after: str
    first: int
    last: int
    called: bool


def mutants(tree: ast.Module) -> Iterator[Mutant]:
    """Make every change in turn; the tree has it until the next one is asked for."""
    seen: Counter[str] = Counter()
    for mutant in _below(tree, tree, "", called=False):
        seen[mutant.name] += 1
        again = f" ({seen[mutant.name]})" if seen[mutant.name] > 1 else ""
        yield replace(mutant, name=mutant.name + again)


def _below(node: ast.AST, owner: ast.AST, where: str, *, called: bool) -> Iterator[Mutant]:
    for field, value in ast.iter_fields(node):
        inside = called or (isinstance(node, _FUNCTIONS) and field == "body")
        children = list(value) if isinstance(value, list) else [value]
        for place, child in enumerate(children):
            if field in _UNREAD or not isinstance(child, ast.AST) or _is_for_types(child):
                continue
            statement = child if isinstance(child, ast.stmt | ast.excepthandler) else owner
            before = ast.unparse(statement)
            for other in _changes(child, field, called=inside):
                ast.fix_missing_locations(ast.copy_location(other, child))
                _put(node, field, value, place, other)
                after = ast.unparse(other if statement is child else statement)
                old, new = _first_difference(before, after)
                first, last = _head(statement)
                line = getattr(child, "lineno", first)
                name = f"{where or 'module'}: {old} -> {new}"
                yield Mutant(name, line, old, new, first, last, inside)
                _put(node, field, value, place, child)
            named = isinstance(child, (*_FUNCTIONS, ast.ClassDef))
            within = f"{where}.{child.name}".strip(".") if named else where  # type: ignore[attr-defined]
            yield from _below(child, statement, within, called=inside)


def _head(statement: ast.AST) -> tuple[int, int]:
    first, last = getattr(statement, "lineno", 1), getattr(statement, "end_lineno", 1)
    body = getattr(statement, "body", None)
    return first, max(first, body[0].lineno - 1) if isinstance(body, list) and body else last


def _put(node: ast.AST, field: str, value: object, place: int, child: ast.AST) -> None:
    if isinstance(value, list):
        value[place] = child
    else:
        setattr(node, field, child)


def _is_for_types(node: ast.AST) -> bool:
    """Whether only a type checker looks at it."""
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"TypeVar", "ParamSpec", "cast"}
    )


def _first_difference(before: str, after: str) -> tuple[str, str]:
    old, new = before.splitlines(), after.splitlines()
    place = next((i for i, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), 0)
    was, now = old[place].strip(), new[place].strip()
    pairs = zip(was, now, strict=False)
    same = next((i for i, (one, other) in enumerate(pairs) if one != other), len(was))
    begin = max(0, same - 40)
    return was[begin : begin + 90], now[begin : begin + 90]


def _changes(node: ast.AST, field: str, *, called: bool) -> Iterator[ast.AST]:
    plain = not isinstance(node, ast.Compare | ast.BoolOp | ast.UnaryOp)
    if field in {"test", "ifs"} and plain and isinstance(node, ast.expr):
        yield ast.UnaryOp(op=ast.Not(), operand=node)
    match node:
        case ast.Compare():
            for place, op in enumerate(node.ops):
                for other in _COMPARED[type(op)]:
                    yield _with(node, ops=[*node.ops[:place], other(), *node.ops[place + 1 :]])
        case ast.BoolOp():
            yield _with(node, op=_JOINED[type(node.op)]())
        case ast.BinOp(op=op) if type(op) in _COUNTED and (called or type(op) is not ast.BitOr):
            yield _with(node, op=_COUNTED[type(op)]())
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.Constant(value=bool()):
            yield ast.Constant(value=not node.value)
        case ast.Constant(value=int() | float() as number):
            yield ast.Constant(value=number + 1)
            yield ast.Constant(value=number - 1)
        case ast.Call():
            for keyword in node.keywords:
                if keyword.arg is not None:
                    kept = [other for other in node.keywords if other is not keyword]
                    yield _with(node, keywords=kept)
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield ast.Return(value=ast.Constant(value=None))
        case ast.Expr(value=value) if not isinstance(value, ast.Constant):
            yield ast.Pass()
        case ast.AugAssign() | ast.Raise() | ast.Delete() | ast.Assert():
            yield ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript(), *_]):
            yield ast.Pass()
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()
        case ast.ExceptHandler(type=ast.expr() as caught) if ast.unparse(caught) not in {
            "Exception",
            "BaseException",
        }:
            yield _with(node, type=ast.Name(id="Exception", ctx=ast.Load()))


def _with(node: ast.AST, **changed: object) -> ast.AST:
    other = copy(node)
    for field, value in changed.items():
        setattr(other, field, value)
    return other

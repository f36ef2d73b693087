"""Mutants: every change is made alone, told, and taken back."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

from tests.mutants.changes import mutants

ROOT = Path(__file__).parents[2]
HARMLESS = Path(__file__).with_name("harmless.toml")


def told(source: str) -> list[tuple[str, str]]:
    return [(mutant.before, mutant.after) for mutant in mutants(ast.parse(source))]


@pytest.mark.parametrize(
    ("source", "after"),
    [
        ("a < b", ["pass", "a <= b", "a >= b"]),
        ("x = a and b", ["x = a or b"]),
        ("x = a - b", ["x = a + b"]),
        ("x = not a", ["x = a"]),
        ("x = 5", ["x = 6", "x = 4"]),
        ("x = True", ["x = False"]),
        ("x = f(a, b=b, **c)", ["x = f(a, **c)"]),
        ("def f(a=1):\n return a", ["def f(a=2):", "def f(a=0):", "return None"]),
        ("while a:\n break", ["while not a:", "continue"]),
        ("for a in b:\n continue", ["break"]),
        ("try:\n f()\nexcept KeyError:\n raise", ["pass", "except Exception:", "pass"]),
        ("x.a = b", ["pass"]),
        ("x += b", ["pass"]),
        ("x = [a for a in b if a]", ["x = [a for a in b if not a]"]),
    ],
)
def test_what_is_changed(source: str, after: list[str]) -> None:
    assert [new for _, new in told(source)] == after


@pytest.mark.parametrize(
    "source",
    [
        '"""A docstring."""',
        "x = 'text'",
        "x: Literal[1]",
        "@dataclass(frozen=True)\nclass A: ...",
        "if TYPE_CHECKING:\n f(1)",
        "T = TypeVar('T', bound=A)",
        "A = B | C",
    ],
)
def test_what_is_left_alone(source: str) -> None:
    assert told(source) == []


def test_a_tree_holds_one_change_at_a_time_and_none_in_the_end() -> None:
    source = "def f(a):\n    if a > 1:\n        return a + 1\n    raise ValueError(a)"
    tree = ast.parse(source)
    seen = []

    for mutant in mutants(tree):
        changed = ast.unparse(tree).splitlines()
        differing = [line for line in changed if line not in source.splitlines()]
        assert [line.strip() for line in differing] == [mutant.after]
        seen.append(mutant)

    assert ast.unparse(tree) == source
    assert len({mutant.name for mutant in seen}) == len(seen) == 9
    assert {mutant.line for mutant in seen} == {2, 3, 4}
    assert all(mutant.called for mutant in seen)


def test_equal_changes_of_a_function_have_names_of_their_own() -> None:
    names = [mutant.name for mutant in mutants(ast.parse("def f():\n g(1)\n g(1)"))]

    assert names[:3] == ["f: g(1) -> pass", "f: g(1) -> g(2)", "f: g(1) -> g(0)"]
    assert names[3] == "f: g(1) -> pass (2)"


def test_what_is_named_harmless_can_still_be_made() -> None:
    with HARMLESS.open("rb") as file:
        known: dict[str, dict[str, str]] = tomllib.load(file)
    gone = {
        (where, name)
        for where, names in known.items()
        for name in names.keys()
        - {mutant.name for mutant in mutants(ast.parse((ROOT / where).read_text()))}
    }
    assert not gone

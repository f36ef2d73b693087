"""Patterns of inputs: what `*`, `?`, `[...]` and `**` match, alike for paths and for keys.

A pattern is matched step by step, between the slashes. `*` and `?` never match a slash; `**`,
as a whole step, matches any number of steps, none too. Names that begin with a dot are matched
like all others: nothing is left out silently.
"""

from __future__ import annotations

import re

from coordinator.errors import InputInvalid

_MAGIC = re.compile(r"[*?[]")


def has_magic(pattern: str) -> bool:
    """Whether there is a glob sign in the pattern."""
    return _MAGIC.search(pattern) is not None


def literal_prefix(pattern: str) -> str:
    """All of the pattern before its first glob sign: what every match begins with."""
    found = _MAGIC.search(pattern)
    return pattern if found is None else pattern[: found.start()]


def compile_glob(pattern: str) -> re.Pattern[str]:
    """The pattern as an expression whose `fullmatch` tells whether a whole key is matched.

    Raises:
        InputInvalid: a `[...]` in it makes no sense.
    """
    steps = pattern.split("/")
    expression = []
    for place, step in enumerate(steps):
        last = place == len(steps) - 1
        if step != "**":
            expression.append(_step_expression(step) + ("" if last else "/"))
        elif last:
            expression.append(".+")
        elif place == 0 or steps[place - 1] != "**":
            expression.append("(?:[^/]*/)*")
    return _compile("".join(expression), pattern)


def compile_step(step: str) -> re.Pattern[str]:
    """One step of a pattern as an expression for one name.

    Raises:
        InputInvalid: a `[...]` in it makes no sense.
    """
    return _compile(_step_expression(step), step)


def _compile(expression: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(expression, re.DOTALL)
    except re.error as error:
        raise InputInvalid(
            f"The pattern {pattern!r} can't be used ({error.msg}). "
            "To mean a '[' itself, write '[[]'."
        ) from error


def _step_expression(step: str) -> str:
    pieces = []
    at = 0
    while at < len(step):
        sign = step[at]
        at += 1
        if sign == "*":
            pieces.append("[^/]*")
            while at < len(step) and step[at] == "*":
                at += 1
        elif sign == "?":
            pieces.append("[^/]")
        elif sign == "[" and (end := _class_end(step, at)) > 0:
            pieces.append(_class_expression(step[at:end]))
            at = end + 1
        else:
            pieces.append(re.escape(sign))
    return "".join(pieces)


def _class_end(step: str, start: int) -> int:
    """Where the `]` lies that ends the class begun before `start`; -1 when there is none."""
    first = start + 1 if step[start : start + 1] == "!" else start
    return step.find("]", first + 1)


def _class_expression(signs: str) -> str:
    negated = signs.startswith("!")
    members = signs[1:] if negated else signs
    members = re.sub(r"([\\\[\]^&~|])", r"\\\1", members)
    return f"(?!/)[{'^' if negated else ''}{members}]"

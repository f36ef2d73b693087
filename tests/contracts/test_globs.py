"""What patterns match, alike for paths and for keys."""

from __future__ import annotations

import pytest

from coordinator.errors import InputInvalid
from coordinator.store.globs import compile_glob, compile_step, has_magic, literal_prefix


@pytest.mark.parametrize(
    ("pattern", "matched", "not_matched"),
    [
        ("*.csv", ["a.csv", ".csv", ".hidden.csv", "a b\n.csv"], ["a.csv.gz", "a/b.csv", "acsv"]),
        ("a?c", ["abc", "a.c", "aéc"], ["ac", "a/c", "abbc"]),
        ("a/*", ["a/b", "a/"], ["a", "a/b/c"]),
        ("**", ["a", "a/b", "a/b/c"], [""]),
        ("a/**", ["a/b", "a/b/c"], ["a", "a/", "b/a/c"]),
        ("**/a", ["a", "b/a", "b/c/a", "/a"], ["ba", "a/b"]),
        ("a/**/b", ["a/b", "a/c/b", "a/c/d/b"], ["a/cb", "ab"]),
        ("a/**/**/b", ["a/b", "a/c/b"], ["ab"]),
        ("a**b", ["ab", "axb"], ["a/b"]),
        ("[abc]x", ["ax", "cx"], ["dx", "x"]),
        ("[a-c]x", ["bx"], ["-x", "dx"]),
        ("[!a-c]x", ["dx", "-x"], ["bx", "/x"]),
        ("[]a]", ["]", "a"], ["b"]),
        ("[!]a]", ["b"], ["]", "a"]),
        ("[^a]", ["^", "a"], ["b"]),
        ("[a\\]", ["a", "\\"], ["]"]),
        ("[[]", ["["], ["[["]),
        ("[", ["["], ["a"]),
        ("[!", ["[!"], ["a"]),
        ("a.b+c$d^(e)|{f}", ["a.b+c$d^(e)|{f}"], ["axb+c$d^(e)|{f}"]),
        ("[.-0]", [".", "0"], ["/", "-"]),
    ],
)
def test_matching(pattern: str, matched: list[str], not_matched: list[str]) -> None:
    expression = compile_glob(pattern)
    assert [text for text in matched if not expression.fullmatch(text)] == []
    assert [text for text in not_matched if expression.fullmatch(text)] == []


def test_a_class_that_makes_no_sense_is_refused_with_the_way_out() -> None:
    with pytest.raises(InputInvalid, match=r"\[z-a\].*\[\[\]"):
        compile_glob("x/[z-a]")
    with pytest.raises(InputInvalid):
        compile_step("[z-a]")


def test_many_stars_are_no_trap() -> None:
    expression = compile_glob("**/" * 8 + "*a" * 8 + "/b")
    assert not expression.fullmatch("a/" * 10 + "aaaaaaaaaaaaaaaaaaaa/c")


def test_signs_and_prefixes() -> None:
    assert [has_magic(text) for text in ("a", "a*", "a?", "a[", "a]", "")] == [
        False,
        True,
        True,
        True,
        False,
        False,
    ]
    assert literal_prefix("a/b*c") == "a/b"
    assert literal_prefix("a/[b]") == "a/"
    assert literal_prefix("abc") == "abc"

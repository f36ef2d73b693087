"""`docs/guarantees.md` names eight guarantees, and tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text()
SECTIONS = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
NAMED = sorted(set(re.findall(r"`(tests/[\w/.]+\.py)::([\w:]+)`", PAGE)))


def test_there_are_eight_each_with_a_mechanism_and_a_test() -> None:
    numbered = [section for section in SECTIONS if re.match(r"\d\. ", section)]
    assert [section[0] for section in numbered] == list("12345678")
    for section in numbered:
        assert "**How.**" in section, section
        assert re.search(r"\*\*Shown by\*\* `tests/", section), section


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_every_test_it_names_exists(path: str, name: str) -> None:
    source = (ROOT / path).read_text()
    for step in name.split("::"):
        assert re.search(rf"^\s*(def|class) {step}\b|^{step} =", source, re.MULTILINE), name

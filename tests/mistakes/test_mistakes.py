"""The suite has teeth: each of these mistakes makes one of the tests fail that are named for it.

`make mistakes` (FANFOLD_MISTAKES=all) makes all of them, `make test` those in templates, which cost
nothing, and a few others.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.infra.conftest import Synthesised
from tests.mistakes import (
    in_alarms,
    in_data,
    in_definition,
    in_functions,
    in_machine,
    in_roles,
    in_rules,
    in_stacks,
    in_steps,
)
from tests.mistakes.making import REPOSITORY, SOME_FAILED, Made, Tree
from tests.mistakes.templates import TemplateMistake, edited

pytestmark = pytest.mark.mistakes

ALL = os.environ.get("FANFOLD_MISTAKES") == "all"
PROMISED = 200

IN_FILES: tuple[Made, ...] = (
    *in_rules.MISTAKES,
    *in_steps.MISTAKES,
    *in_data.MISTAKES,
    *in_machine.MISTAKES,
    *in_functions.MISTAKES,
    *in_definition.MISTAKES,
)
IN_TEMPLATES: tuple[TemplateMistake, ...] = (
    *in_stacks.MISTAKES,
    *in_roles.MISTAKES,
    *in_alarms.MISTAKES,
)
MADE = [mistake for mistake in IN_FILES if ALL or mistake.shared]
SECONDS = 300


def finders(mistakes: list[Made]) -> list[str]:
    """The tests named for any of these, once each."""
    return sorted({test for mistake in mistakes for test in mistake.found_by})


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("mistake", MADE, ids=lambda mistake: mistake.name)
def test_a_mistake_is_found(tree: Tree, mistake: Made) -> None:
    with tree.mistaken(mistake):
        done = tree.test(mistake.found_by)
    assert done.returncode == SOME_FAILED, done.stdout[-2000:]
    assert " failed" in done.stdout.splitlines()[-1], done.stdout[-2000:]


@pytest.mark.timeout(10 * SECONDS)
def test_without_a_mistake_what_is_named_passes(tree: Tree) -> None:
    done = tree.test(finders(MADE))
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("mistake", IN_TEMPLATES, ids=lambda mistake: mistake.name)
def test_a_mistake_in_a_template_is_found(
    synthesised: Synthesised, mistake: TemplateMistake
) -> None:
    wrong = edited(synthesised, mistake)
    failed = []
    for test in mistake.found_by:
        test(synthesised)
        try:
            test(wrong)
        except Exception as error:  # noqa: BLE001  as pytest takes it: whatever is raised has failed
            failed.append(error)
    assert failed, "nothing failed in spite of the mistake"


@pytest.mark.parametrize("mistake", IN_FILES, ids=lambda mistake: mistake.name)
def test_a_mistake_can_still_be_made(mistake: Made) -> None:
    """Its place is in the product, and the tests named for it are in the suite."""
    text = (REPOSITORY / mistake.file).read_text()
    assert mistake.made_in(text) != text
    for test in mistake.found_by:
        path, _, name = test.partition("::")
        assert (REPOSITORY / path).exists(), test
        assert not name or f"def {name}(" in (REPOSITORY / path).read_text(), test


def test_mistakes_are_of_every_sort() -> None:
    names = Counter(mistake.name for mistake in IN_FILES)
    names += Counter(mistake.name for mistake in IN_TEMPLATES)
    assert [name for name, count in names.items() if count > 1] == []
    assert len(names) >= PROMISED
    folders = {mistake.file.rpartition("/")[0] for mistake in IN_FILES}
    assert folders >= {
        "coordinator",
        "functions",
        *(
            f"coordinator/{folder}"
            for folder in ("formats", "machine", "rules", "shuffle", "state", "steps")
        ),
    }

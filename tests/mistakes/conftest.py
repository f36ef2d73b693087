"""The copy that mistakes are made in, and the stacks whose templates are edited."""

from __future__ import annotations

import pytest

from tests.infra.conftest import synthesised as synthesised
from tests.mistakes.making import Tree


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A copy of the repository, one for each process that runs tests."""
    return Tree(tmp_path_factory.mktemp("mistakes") / "tree")

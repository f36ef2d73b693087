"""What a mistake is, and how it is made: in a copy of the repository, tested there by a process of
its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

REPOSITORY = Path(__file__).parents[2]
COPIED = ("coordinator", "functions", "infra", "jobs", "events", "tests", "docs", "pyproject.toml")
SOME_FAILED = 1  # pytest's exit code; others say that tests were not found, or could not begin

States = dict[str, Any]


class Made(Protocol):
    """A mistake in a file."""

    @property
    def name(self) -> str: ...
    @property
    def file(self) -> str: ...
    @property
    def found_by(self) -> tuple[str, ...]: ...
    @property
    def shared(self) -> bool: ...

    def made_in(self, text: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Mistake:
    """One place of a file of the product, and what it might wrongly be.

    `found_by` are the tests of which at least one must fail: files or node ids. `shared` is one
    that `make test` makes, too.
    """

    name: str
    file: str
    right: str
    wrong: str
    found_by: tuple[str, ...]
    shared: bool = False

    def made_in(self, text: str) -> str:
        """The text of the file with the mistake in it."""
        assert text.count(self.right) == 1, f"{self.name}: {text.count(self.right)} places match"
        return text.replace(self.right, self.wrong)


@dataclass(frozen=True, slots=True)
class DefinitionMistake:
    """An edit of the states of the state machine."""

    edit: Callable[[States], None]
    found_by: tuple[str, ...]
    shared: bool = False
    file: str = "coordinator/run.asl.json"

    @property
    def name(self) -> str:
        return self.edit.__name__.replace("_", " ")

    def made_in(self, text: str) -> str:
        """The definition with the mistake in it."""
        machine = json.loads(text)
        self.edit(machine["States"])
        assert machine != json.loads(text), f"{self.name} changes nothing"
        return json.dumps(machine, indent=2)


class Tree:
    """A copy of the repository, in which mistakes are made and taken back."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        for name in COPIED:
            source = REPOSITORY / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("node_modules")
                shutil.copytree(source, root / name, ignore=ignored)
            else:
                shutil.copy2(source, root / name)

    @contextmanager
    def mistaken(self, mistake: Made) -> Iterator[None]:
        """The copy with one mistake in it."""
        path = self.root / mistake.file
        before, text = path.stat(), path.read_text()
        path.write_text(mistake.made_in(text))
        try:
            yield
        finally:
            path.write_text(text)
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def test(self, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run tests of the copy, in a process of their own, up to the first that fails."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTEST", "FANFOLD", "AWS"))
        }
        # Byte code is told from its source by seconds: too coarse for a source that comes and goes.
        environment = {**kept, "PYTHONPATH": str(self.root), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        return subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, check=False
        )

"""Mutants: mistakes made on purpose, one at a time, and which of them the tests find.

python -m tests.mutants [FOLDER | FOLDER/MODULE]...    such as rules, state/runs, functions
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import sys
import tomllib
from collections import Counter
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings

from tests.mutants.changes import Mutant, mutants
from tests.mutants.forks import (
    ROOT,
    Alive,
    Watching,
    digest,
    forked,
    imported_as,
    record,
    run_items,
    swap,
)

CACHE = ROOT / ".mutants"
HARMLESS = Path(__file__).with_name("harmless.toml")
# Folders of tests that are about a folder of the product besides the one of its name.
ALSO: dict[str, tuple[str, ...]] = {
    "rules": ("steps",),
    "state": ("steps", "upkeep"),
    "functions": ("cloud",),
}
# A mutant is tried with tests that took so many seconds at most while they were recorded, and with
# none of more than half as many. FANFOLD_EXAMPLES multiplies them.
SECONDS = 8.0 * int(os.environ.get("FANFOLD_EXAMPLES", "1"))
OPTIONS = ["-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
OPTIONS += ["--hypothesis-profile=mutants"]
# Imported before the forks, which would each take the time again; nothing of the product.
PRELOADED = (
    *("pydantic.main", "rich.progress", "typer", "hypothesis.strategies", "unittest.mock"),
    *("xdist.plugin", "xdist.looponfail", "pytest_timeout", "_hypothesis_pytestplugin"),
)


class Room:
    """A folder of the product, its tests, and what is known of its mutants."""

    def __init__(self, asked: str) -> None:
        self.name, _, self.only = asked.partition("/")
        inside = ROOT / "coordinator" / self.name
        self.folder = inside if inside.is_dir() else ROOT / self.name
        places = [ROOT / "tests" / found for found in (self.name, *ALSO.get(self.name, ()))]
        self.tests = sorted(path for place in places for path in place.rglob("test_*.py"))
        self.digest = f"{digest([*self.tests, *(ROOT / 'tests').glob('*.py')])} {SECONDS}"
        self.cache = CACHE / f"{self.name}.json"
        self.verdicts: dict[str, dict[str, Any]] = _read(self.cache)

    def modules(self) -> list[Path]:
        """The modules that are asked for."""
        every = sorted(self.folder.rglob("*.py"))
        return [path for path in every if self.only in str(path.relative_to(self.folder))]

    def of(self, path: Path) -> dict[str, Any]:
        """The verdicts on the mutants of a module, as it is now."""
        return self.verdicts.setdefault(f"{path.relative_to(ROOT)} {digest([path])}", {})

    def found(self, path: Path, mutant: Mutant) -> str | None:
        """Which test found it, "" for none; None while that is not known. A find holds as long as
        its test is as it was, and a survival as long as all of them are."""
        found, of = self.of(path).get(mutant.name, ("", ""))
        return found if of == self._of(found) else None

    def before(self, path: Path, mutant: Mutant) -> str:
        """Which test found it when it was tried last."""
        return str(self.of(path).get(mutant.name, ("", ""))[0])

    def judge(self, path: Path, mutant: Mutant, found: str) -> None:
        """Keep a verdict."""
        self.of(path)[mutant.name] = (found, self._of(found))
        print("." if found else "S", end="", flush=True)

    def _of(self, found: str) -> str:
        by = ROOT / found.split("::", 1)[0]
        return digest([by]) if by.is_file() else self.digest

    def save(self) -> None:
        """Write down what is known."""
        CACHE.mkdir(exist_ok=True)
        self.cache.write_text(json.dumps(self.verdicts, indent=0))


class Trying:
    """A plugin of pytest that tries mutants where pytest would run the tests."""

    def __init__(self, room: Room) -> None:
        self.room = room

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Try what shows in a call; leave the rest, with the tests that it needs, in a file."""
        items = {item.nodeid: item for item in session.items}
        reached = _reached(session, self.room)
        own = f"tests/{self.room.name}/"
        late: dict[str, dict[str, dict[str, float]]] = {}
        for path in self.room.modules():
            where = str(path.relative_to(ROOT))
            lines = {test: seen.get(where, frozenset()) for test, (_, seen) in reached.items()}
            tree = ast.parse(path.read_text())
            for mutant in mutants(tree):
                if self.room.found(path, mutant) is not None:
                    continue
                head = set(range(mutant.first, mutant.last + 1))
                near = [t for t in reached if (head & lines[t] if mutant.called else lines[t])]
                if not mutant.called:  # each of these imports all that its tests need
                    near = [test for test in near if test.startswith(own)] or near
                usual = _affordable(
                    {t: reached[t][0] for t in near},
                    f"tests/{self.room.name}/",
                    self.room.before(path, mutant),
                )
                if mutant.called and (not usual or swap(path, tree, really=False)):
                    tests = [items[test] for test in usual]
                    work = partial(_in_warm, session, tests, usual, path, tree)
                    self.room.judge(path, mutant, forked(work) if usual else "")
                else:
                    late.setdefault(where, {})[mutant.name] = usual
            self.room.save()
        (CACHE / "late").write_text(json.dumps(late))
        return True


def _reached(
    session: pytest.Session, room: Room
) -> dict[str, tuple[float, dict[str, frozenset[int]]]]:
    """By test: how long it takes, and which lines of the room it runs."""
    product = digest(sorted(room.folder.rglob("*.py")))
    reached = {}
    for path in room.tests:
        items = [item for item in session.items if item.path == path]
        into = CACHE / f"{room.name}-{path.stem}-{digest([path])}-{product}"
        if not into.exists():
            CACHE.mkdir(exist_ok=True)
            record(session, items, into, str(room.folder))
        for test, (seconds, seen) in _read(into).items():
            if seconds <= SECONDS / 2:
                reached[test] = seconds, {where: frozenset(lines) for where, lines in seen.items()}
    return reached


def _affordable(seconds: dict[str, float], own: str, before: str) -> dict[str, float]:
    """The test that found it before, then those of the folder's own, then others, as far as the time
    goes: of each the fastest case of every test, then the second of every one."""
    cases: Counter[str] = Counter()
    turns: list[tuple[bool, bool, int, float, str]] = []
    for test, taken in sorted(seconds.items(), key=lambda pair: pair[1]):
        name = test.split("[", 1)[0]
        cases[name] += 1
        turns.append((test != before, not test.startswith(own), cases[name], taken, test))
    turns.sort()
    spent = accumulate(taken for *_, taken, _ in turns)
    return {
        test: taken
        for (*_, taken, test), total in zip(turns, spent, strict=True)
        if total <= SECONDS
    }


def _in_warm(
    session: pytest.Session,
    items: list[pytest.Item],
    usual: dict[str, float],
    path: Path,
    tree: ast.Module,
    alive: Alive,
) -> str:
    swap(path, tree, really=True)
    return run_items(session, items, Watching(alive, usual))


def _in_cold(usual: dict[str, float], path: Path, tree: ast.Module, alive: Alive) -> str:
    watching = Watching(alive, usual)
    with imported_as(path, tree):
        status = pytest.main([*OPTIONS, "-x", *usual], plugins=[watching])
    return watching.failed or ("import" if status else "")


def try_late(room: Room) -> None:
    """Try what shows when a module is imported, where it has not been."""
    for where, wanted in _read(CACHE / "late").items():
        path = ROOT / where
        tree = ast.parse(path.read_text())
        for mutant in mutants(tree):
            if mutant.name in wanted:
                work = partial(_in_cold, wanted[mutant.name], path, tree)
                room.judge(path, mutant, forked(work) if wanted[mutant.name] else "")
                room.save()


def tell(room: Room) -> int:
    """Print the score and the survivors by module; how many faults the names of the harmless have."""
    with HARMLESS.open("rb") as file:
        known: dict[str, dict[str, str]] = tomllib.load(file)
    faults, sums = 0, [0, 0, 0]
    for path in room.modules():
        where = str(path.relative_to(ROOT))
        every = list(mutants(ast.parse(path.read_text())))
        harmless = known.get(where, {})
        left = [mutant for mutant in every if not room.found(path, mutant)]
        survived = [mutant for mutant in left if mutant.name not in harmless]
        counts = len(every), len(every) - len(left), len(left) - len(survived)
        sums = [total + count for total, count in zip(sums, counts, strict=True)]
        print(f"{where}: {_score(*counts)}")
        for mutant in survived:
            print(f"  {where}:{mutant.line}\n    - {mutant.before}\n    + {mutant.after}")
        for name in sorted(harmless.keys() - {mutant.name for mutant in left}):
            print(f"  named harmless, but found or gone: {name}")
            faults += 1
    print(f"{room.name}/{room.only}: {_score(*sums)}\n")
    return faults


def _score(mutants: int, found: int, harmless: int) -> str:
    share = found / (mutants - harmless) if mutants > harmless else 1.0
    return f"{mutants} mutants, {found} found, {harmless} harmless, score {share:.1%}"


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else {}


def main(asked: list[str]) -> int:
    """Try the mutants of some folders and tell what is left of them."""
    os.chdir(ROOT)
    usual, phases = settings.get_profile("ci"), (Phase.explicit, Phase.generate)  # no shrinking
    settings.register_profile("mutants", usual, phases=phases)
    rooms = [Room(name) for name in asked]
    for room in rooms:
        room.save()
        child = os.fork()
        if not child:
            tests = [str(path) for path in room.tests]
            status = pytest.main([*OPTIONS, "-s", *tests], plugins=[Trying(room)])
            sys.stdout.flush()
            os._exit(int(status))
        if os.waitpid(child, 0)[1]:
            return 1
        room.verdicts = _read(room.cache)
        for name in PRELOADED:
            importlib.import_module(name)
        try_late(room)
    print()
    return 1 if sum(tell(room) for room in rooms) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

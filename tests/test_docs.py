"""Every snippet of the README and the docs is executed, every link leads somewhere, and what is named
is there."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from coordinator.keys import RunKeys
from coordinator.loading import load_job
from coordinator.rules.stages import stages

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MORE_PAGES = [ROOT / "tests" / "README.md", ROOT / "events" / "README.md"]
BLOCK = re.compile(r"^```([a-z]+)( [a-z]+)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+?)(?:#[^)]*)?\)")
CODE = re.compile(r"`([^`\n]+)`")
ENDINGS = (".py", ".md", ".json")
# A symbol that is a link itself, and symbols that are said to be in what is linked behind them.
LINKED = re.compile(r"\[`([\w.]+)`\]\(([^)#]+)\)")
SAID_TO_BE_IN = re.compile(r"((?:`[\w.]+`(?:,|\s+and|\s+or)?\s+)+)in\s+\[[^\]]*\]\(([^)#]+)\)")


def snippets(kind: str) -> Iterator[object]:
    """The snippets of a kind, each named by its page and line."""
    for page in PAGES:
        text = page.read_text()
        for found in BLOCK.finditer(text):
            language, mark, body = found.group(1), (found.group(2) or "").strip(), found.group(3)
            if f"{language} {mark}".strip() == kind:
                line = text.count("\n", 0, found.start()) + 1
                yield pytest.param(body, id=f"{page.relative_to(ROOT)}:{line}")


@pytest.mark.parametrize("snippet", list(snippets("python job")))
def test_a_job_that_is_shown_can_be_loaded(snippet: str, tmp_path: Path) -> None:
    path = tmp_path / "shown.py"
    path.write_text(snippet)

    assert load_job(str(path)).job.name


@pytest.mark.parametrize("snippet", list(snippets("python")))
def test_python_that_is_shown_runs(snippet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    exec(compile(snippet, "snippet", "exec"), {})


@pytest.mark.parametrize("page", [page for page in PAGES if "```sh run" in page.read_text()])
def test_commands_that_are_shown_work_one_after_the_other(page: Path, tmp_path: Path) -> None:
    for folder in ("docs", "jobs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    found = [
        match.group(3) for match in BLOCK.finditer(page.read_text()) if match.group(2) == " run"
    ]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    ended = subprocess.run(
        ["sh", "-e", "-c", "\n".join(found)],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr


on_every_page = pytest.mark.parametrize(
    "page", [*PAGES, *MORE_PAGES], ids=lambda page: str(page.relative_to(ROOT))
)


@on_every_page
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]

    assert [link for link in links if not (page.parent / link).exists()] == []


# ------------------------------------------------------------------------------------------------
# Names of files and of what is in them
# ------------------------------------------------------------------------------------------------

# What a run, a build or a person makes, and so is not in the repository, by what it is called.
MADE = {
    "latest.json": "JobKeys.latest",
    "run.json": "RunKeys.run",
    "runs/": "JobKeys.runs",
    "published/": "JobKeys.published",
    "results/": "JobKeys.results",
    "cdk.out/": "made by CDK",
    "coordinator.py": "a module of a user that is named like ours",
    "queue.py": "a module of a user that is named like one of Python's",
    "november.inputs.json": "an object in a sample",
    "out/wordcount/results/first/wordcount.jsonl": "what a snippet writes",
    ".py": "an ending",
}
# Placeholders, patterns, addresses, calls and commands: no path of the repository.
NO_PATH = re.compile(r"[<>*(){}\s:…]|\.\.\.|\b[A-Z_]+/")


def prose(page: Path) -> str:
    return BLOCK.sub("", page.read_text())


def is_there(name: str, page: Path) -> bool:
    """Whether a page may call a file or folder so: from the repository's root, from where the page
    lies, or from `coordinator/`; in the list of samples, from the folder that its part is about."""
    path, _, inner = name.partition("::")
    homes = [ROOT, page.parent, ROOT / "coordinator"]
    if page.parent.name in {"docs", "tests"}:
        homes += [ROOT / "tests"]
    if page.parent.name == "tests":
        homes += [folder for folder in (ROOT / "tests").iterdir() if folder.is_dir()]
    if page.parent.name == "events":
        homes += [folder for folder in page.parent.iterdir() if folder.is_dir()]
    found = [home / path for home in homes if (home / path).exists()]
    if not inner:
        return bool(found) or has_module_symbol(path)
    return any(defines(file, inner.replace("::", ".")) for file in found)


def has_module_symbol(name: str) -> bool:
    """Whether a name such as `rules/costs.Spent` is of a module of ours and of what is in it."""
    module, dot, symbol = name.rpartition(".")
    file = ROOT / "coordinator" / f"{module}.py"
    return bool(dot) and file.exists() and defines(file, symbol)


def defines(file: Path, name: str) -> bool:
    """Whether a module, or a package by its modules, defines a name, step by step."""
    if file.suffix not in {".py", ""}:
        return bool(re.search(rf"\b{re.escape(name)}\b", file.read_text()))
    modules = [file] if file.is_file() else sorted(file.glob("*.py"))
    for module in modules:
        body: Sequence[ast.AST] = ast.parse(module.read_text()).body
        # a method may be called by its own name alone
        body = [
            *body,
            *(each for node in body if isinstance(node, ast.ClassDef) for each in node.body),
        ]
        for step in name.split("."):
            home = next((node for node in body if step in names_of(node)), None)
            if home is None:
                break
            body = [*ast.iter_child_nodes(home)]
        else:
            return True
    return False


def names_of(node: ast.AST) -> set[str]:
    """What a statement defines."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return {node.name}
    targets: list[ast.AST] = []
    if isinstance(node, ast.Assign):
        targets = [*node.targets]
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    return {
        found.id for target in targets for found in ast.walk(target) if isinstance(found, ast.Name)
    }


@on_every_page
def test_every_file_that_is_named_is_there(page: Path) -> None:
    named = {
        name
        for name in CODE.findall(prose(page))
        if ("/" in name or name.partition("::")[0].endswith(ENDINGS))
        and not NO_PATH.search(name.partition("::")[0])
    }

    assert {name for name in named if name not in MADE and not is_there(name, page)} == set()


@on_every_page
def test_every_symbol_that_is_linked_is_in_its_file(page: Path) -> None:
    text = prose(page)
    linked = LINKED.findall(text)
    for symbols, target in SAID_TO_BE_IN.findall(text):
        linked += [(symbol, target) for symbol in CODE.findall(symbols)]

    assert [
        (symbol, target)
        for symbol, target in linked
        if "://" not in target and not defines(page.parent / target, symbol)
    ] == []


def test_nothing_is_left_in_the_list_of_what_is_made() -> None:
    named = {name for page in [*PAGES, *MORE_PAGES] for name in CODE.findall(prose(page))}

    assert MADE.keys() - named == set()


# ------------------------------------------------------------------------------------------------
# Keys in runbooks
# ------------------------------------------------------------------------------------------------

# An address below a job in the bucket, as a runbook's command has it.
IN_BUCKET = re.compile(r"s3://\$BUCKET/\$JOB/([^\"\s]*)")
INCLUDED = re.compile(r"--include '([^']+)'")
FOLDER = re.compile(r"`(<stage>/<draft>/[^`]*)`")


def every_key() -> set[str]:
    """A key of each kind that a job has, with the variables of the runbooks."""
    keys = RunKeys("$JOB", "$RUN", tuple((stage, "draft") for stage in stages(keyed=True)))
    found = {keys.latest(), keys.run, keys.manifest, keys.results_list, keys.quarantined}
    found |= {keys.published_snapshot, keys.items(1)}
    for stage in stages(keyed=True):
        found |= {
            keys.entry(stage, "0"),
            keys.note(stage, "0", 1),
            keys.part(stage, "0", "attempt", "jsonl"),
            keys.quarantine(stage, "0", "attempt"),
            keys.plan("draft", stage),
            keys.published_ledger(stage),
        }
    return found


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "runbooks").glob("*.md")), ids=str)
def test_the_keys_in_a_runbook_are_those_that_we_spell(page: Path) -> None:
    text = page.read_text()
    keys = {key.removeprefix("$JOB/") for key in every_key()}

    for line in text.replace("\\\n", " ").splitlines():
        for address in IN_BUCKET.findall(line):
            below = {
                key
                for key in keys
                if key == address or (address.endswith("/") and key.startswith(address))
            }
            assert below, f"{address} is no key of ours"
            for pattern in INCLUDED.findall(line):
                matched = {key for key in below if fnmatchcase(key.removeprefix(address), pattern)}
                assert matched, f"{pattern} matches no key below {address}"
                (folder,) = {key.split("/")[-2] for key in matched}
                assert f"*/{folder}/" in pattern
    for folder in FOLDER.findall(text):
        pattern = "runs/$RUN/" + re.sub("<[a-z]+>", "*", folder) + "*"
        assert [key for key in keys if fnmatchcase(key, pattern)], f"{folder} is no folder of ours"


def test_a_note_is_found_where_the_runbook_looks_for_it(tmp_path: Path) -> None:
    """The last of the commands lists what the first has copied, whatever the draft is called."""
    text = (ROOT / "docs" / "runbooks" / "run-failed.md").read_text()
    (shown,) = re.findall(r"^cat (notes/\S+)$", text, re.MULTILINE)
    keys = RunKeys("job", "run", tuple((stage, f"draft-{stage}") for stage in stages(keyed=True)))
    notes = [keys.note(stage, "0", 1).removeprefix(keys.root) for stage in stages(keyed=True)]
    for note in notes:
        path = tmp_path / "notes" / note
        path.parent.mkdir(parents=True)
        path.touch()

    found = sorted(str(path.relative_to(tmp_path / "notes")) for path in tmp_path.glob(shown))

    assert found == sorted(notes)

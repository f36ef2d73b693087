"""Every snippet of the README and the docs is executed, and every link leads somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.loading import load_job

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```([a-z]+)( [a-z]+)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+?)(?:#[^)]*)?\)")


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]

    assert [link for link in links if not (page.parent / link).exists()] == []

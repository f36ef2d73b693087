"""Runs the tests that reach a mutant: in a fork of a process that has collected them already.

A mutant inside a function takes the place of the code of the functions that there are. One that
shows when its module is imported is left to a fork of a process that has not imported it.
"""

from __future__ import annotations

import ast
import gc
import hashlib
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MEMORY_BYTES = 4 << 30

Alive = Callable[[float], None]  # called with the seconds that it may take to the next call
SECONDS_AT_LEAST = 5.0  # that one test may take with a mutant in it, and
TIMES_AS_LONG = 4.0  # how many times as long as without
Work = Callable[[Alive], str]


def digest(paths: Iterable[Path]) -> str:
    """One digest of the bytes of some files."""
    found = hashlib.sha256()
    for path in paths:
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def forked(work: Work) -> str:
    """What `work` answers in a fork, unless its time is up or it dies; "" for nothing."""
    room = tempfile.mkdtemp(prefix="mutant-")
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _alone(room)
        answer = "died"
        try:
            answer = work(lambda alive: _say(writing, str(alive)))
        finally:
            _say(writing, "end " + answer)
            os._exit(0)
    os.close(writing)
    answer, heard = "60", b""
    while not answer.startswith("end "):
        if not select.select([reading], [], [], float(answer))[0]:
            answer = "end time was up"
        elif not (more := os.read(reading, 65536)):
            answer = "end died"
        else:
            heard += more
            *lines, heard = heard.split(b"\n")
            answer = lines[-1].decode() if lines else answer
    os.close(reading)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    shutil.rmtree(room, ignore_errors=True)
    return answer.removeprefix("end ")


def _say(writing: int, line: str) -> None:
    os.write(writing, line.replace("\n", " ").encode() + b"\n")


def _alone(room: str) -> None:
    os.setpgid(0, 0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nothing, descriptor)
    os.environ["PYTEST_DEBUG_TEMPROOT"] = os.environ["TMPDIR"] = tempfile.tempdir = room
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


class Watching:
    """A plugin of pytest that says which tests begin, and which one failed first."""

    def __init__(self, alive: Alive, usual: Mapping[str, float]) -> None:
        self.alive = alive
        self.usual = usual
        self.failed = ""

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.alive(SECONDS_AT_LEAST + TIMES_AS_LONG * self.usual.get(nodeid, 10.0))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid


def run_items(session: pytest.Session, items: list[pytest.Item], watching: Watching) -> str:
    """Run tests until one fails, and name it."""
    session.config.pluginmanager.register(watching)
    for item, following in zip(items, [*items[1:], None], strict=True):
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if watching.failed:
            break
    return watching.failed


def record(session: pytest.Session, items: list[pytest.Item], into: Path, folder: str) -> None:
    """Write down which lines below a folder each of some tests runs, and the processor
    time that it takes."""
    lines: defaultdict[str, set[int]] = defaultdict(set)

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(folder):
            return None
        if event == "line":
            lines[frame.f_code.co_filename].add(frame.f_lineno)
        return trace

    def work(alive: Alive) -> str:
        found: dict[str, Any] = {}
        watching = Watching(alive, {item.nodeid: 60.0 for item in items})
        session.config.pluginmanager.register(watching)
        threading.settrace(trace)
        for item, following in zip(items, [*items[1:], None], strict=True):
            lines.clear()
            began = time.process_time()
            sys.settrace(trace)
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            sys.settrace(None)
            seen = {path.removeprefix(f"{ROOT}/"): sorted(seen) for path, seen in lines.items()}
            found[item.nodeid] = [round(time.process_time() - began, 4), seen]
        into.write_text(json.dumps(found))
        return watching.failed

    if failed := forked(work):
        raise SystemExit(f"{failed} fails without any mutant.")


def swap(path: Path, tree: ast.Module, *, really: bool) -> bool:
    """Give the functions of a module that is imported the code of another tree.

    Returns:
        Whether it can be done: not where a function then closes over other names.
    """
    codes = dict(_codes(compile(tree, str(path), "exec")))
    for function in _functions(path):
        old = function.__code__
        new = codes.get((old.co_qualname, old.co_firstlineno), old)
        if new.co_freevars != old.co_freevars:
            return False
        if really and new != old:
            function.__code__ = new
    return True


@cache
def _functions(path: Path) -> list[FunctionType]:
    every = (found for found in gc.get_objects() if type(found) is FunctionType)
    return [function for function in every if function.__code__.co_filename == str(path)]


def _codes(code: CodeType) -> Iterator[tuple[tuple[str, int], CodeType]]:
    yield (code.co_qualname, code.co_firstlineno), code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _codes(inner)


@contextmanager
def imported_as(path: Path, tree: ast.Module) -> Iterator[None]:
    """Have a module imported from another tree."""
    kept = SourceFileLoader.get_code
    code = compile(tree, str(path), "exec")

    def get_code(self: SourceFileLoader, name: str) -> CodeType | None:
        return code if Path(self.path) == path else kept(self, name)

    SourceFileLoader.get_code = get_code  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        SourceFileLoader.get_code = kept  # type: ignore[method-assign]

"""Bytecode for the functions' Python: on Lambda none can be kept, so each start would compile all.

It is of the kind that is never held against its source (PEP 552): a bundle's sources have no times.
It holds no time and no path of this machine, and is made by the functions' minor version of Python or
not at all, as each has a format of its own. A job's own code has none: it is always loaded from
the bytes that its version is made of.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from uv import find_uv_bin

from infra.bundling.contents import Files

DEPLOYED = "/var/task"  # where Lambda unpacks; what tracebacks show

_VERSION = "import sys; print(sys.implementation.cache_tag, *sys.version_info[:4])"
_COMPILE = f"""
import json, sys
from py_compile import PycInvalidationMode, PyCompileError, compile
for source, target, name in json.load(sys.stdin):
    try:
        compile(source, cfile=target, dfile={DEPLOYED + "/"!r} + name, doraise=True, optimize=0,
                invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)
    except PyCompileError:
        pass  # templates, and what is for another Python
"""


@dataclass(frozen=True, slots=True)
class Compiled:
    """Files of bytecode by their names in a bundle; or why they are left out."""

    files: Files = field(default_factory=dict)
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class _Interpreter:
    path: str
    version: str


class Compiler:
    """Compiles for a minor version of Python, each file once.

    Args:
        cache: a folder for what was compiled.
        python: the version, as `3.13`.
    """

    def __init__(self, *, cache: Path, python: str) -> None:
        self._cache = cache
        self._python = python
        self._tag = f"cpython-{python.replace('.', '')}"

    def bytecode(self, files: Files) -> Compiled:
        """The bytecode of the modules among files, where Python looks for it."""
        python = self._interpreter
        if python is None:
            return Compiled(
                left_out=f"There is no Python {self._python} here (uv python install {self._python} gets one)"
            )
        sources = {name: path for name, path in files.items() if path.suffix == ".py"}
        targets = {name: self._target(name, path, python) for name, path in sources.items()}
        orders = [
            (str(sources[name]), str(target), name)
            for name, target in targets.items()
            if not target.exists()
        ]
        if orders:
            self._cache.mkdir(parents=True, exist_ok=True)
            done = _run([python.path, "-I", "-W", "ignore", "-c", _COMPILE], json.dumps(orders))
            if done.returncode:
                last = done.stderr.strip().splitlines()[-1:] or [str(done.returncode)]
                return Compiled(left_out=f"{python.path} can't compile ({last[0]})")
        return Compiled({self._name(name): to for name, to in targets.items() if to.exists()})

    def _target(self, name: str, path: Path, python: _Interpreter) -> Path:
        """Where the bytecode of a file is kept, by all that it is made of."""
        digest = hashlib.sha256(f"{python.version}\0{name}\0".encode() + path.read_bytes())
        return self._cache / f"{digest.hexdigest()}.pyc"

    def _name(self, source: str) -> str:
        path = PurePosixPath(source)
        return str(path.parent / "__pycache__" / f"{path.stem}.{self._tag}.pyc")

    @cached_property
    def _interpreter(self) -> _Interpreter | None:
        """A released Python of that version on this machine, this one first."""
        for path in self._candidates():
            tag, _, version = _run([path, "-I", "-c", _VERSION]).stdout.strip().partition(" ")
            if tag == self._tag and version.endswith("final"):
                return _Interpreter(path, version)
        return None

    def _candidates(self) -> Iterator[str]:
        yield sys.executable
        search = ("python", "find", "--no-project", "--offline", "--no-python-downloads")
        found = _run([find_uv_bin(), *search, self._python])
        if not found.returncode and found.stdout.strip():
            yield found.stdout.strip()


def _run(command: list[str], feed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=feed, capture_output=True, text=True, check=False)

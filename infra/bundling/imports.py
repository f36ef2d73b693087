"""That a job finds in its bundle what it imports: what it would miss there is said at synthesis.

The source is read, not run, so an import inside a function is seen before it is needed. Imports that
may fail are left to the job: those that an ImportError is caught of, those of the type checker, and
those under a look at the platform or at Python's version.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from coordinator.errors import JobInvalid
from coordinator.loading.program import program_of
from infra.bundling.contents import Files

COMPILED = {".so", ".pyd", ".pyc"}
# Source: "What's New In Python" 3.12 and 3.13, Removed; the Python that deploys may be an older one
REMOVED = frozenset(
    {
        *("aifc", "asynchat", "asyncore", "audioop", "cgi", "cgitb", "chunk", "crypt", "distutils"),
        *(
            "imghdr",
            "imp",
            "lib2to3",
            "mailcap",
            "msilib",
            "nis",
            "nntplib",
            "ossaudiodev",
            "pipes",
        ),
        *("smtpd", "sndhdr", "spwd", "sunau", "telnetlib", "uu", "xdrlib"),
    }
)
STANDARD = frozenset(sys.stdlib_module_names) - REMOVED
_CATCHING = {"ImportError", "ModuleNotFoundError"}
_LEFT_TO_THE_JOB = {"version_info", "platform", "__name__"}

_Import = ast.Import | ast.ImportFrom


def check_imports(job: Path, code: Files) -> None:
    """Follow the imports of a job's module through all that lies beside it.

    Args:
        code: all else that is in the bundle.

    Raises:
        JobInvalid: something is neither in the bundle nor of the standard library, is on both
            sides, or is machine code of this machine.
    """
    for file, _ in program_of(job).files:
        if Path(file).suffix in COMPILED:
            raise JobInvalid(
                f"{file} is compiled for this machine's Python and can't be bundled: put it into a "
                "wheel and name that in Job(requirements=[...])."
            )
    others = {name.partition("/")[0].partition(".")[0] for name in code}
    seen = {job}
    waiting = [job]
    while waiting:
        path = waiting.pop()
        for found in _Reader(path, job.parent, others).read():
            if found not in seen:
                seen.add(found)
                waiting.append(found)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one module."""

    path: Path
    beside: Path
    others: set[str]

    def read(self) -> Iterator[Path]:
        """The files beside the job that it imports.

        Raises:
            JobInvalid: it imports what is not there.
        """
        try:
            tree = ast.parse(self.path.read_bytes())
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return  # importing it says more
        for node in _imports(tree, lambda node: all(self._finds(node))):
            for name, files in zip(self._names(node), self._finds(node), strict=True):
                if not files:
                    raise self._missing(node, name)
            yield from self._files(node)

    def _names(self, node: _Import) -> list[str]:
        """The modules that have to be there, by their full names."""
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names]
        module = [node.module] if node.module else []
        if not node.level:
            return module
        package = self.path.parent.relative_to(self.beside).parts
        if node.level > len(package):  # there is no package that it could be relative to
            return ["." * node.level + "".join(module)]
        return [".".join([*package[: len(package) - node.level + 1], *module])]

    def _finds(self, node: _Import) -> list[bool]:
        return [self._is_there(name) for name in self._names(node)]

    def _is_there(self, name: str) -> bool:
        top = name.partition(".")[0]
        return top in STANDARD or top in self.others or self._local(name) is not None

    def _local(self, name: str) -> list[Path] | None:
        """The files that importing a name from beside the job runs; None if it is not there."""
        folder, files = self.beside, []
        steps = name.split(".")
        for number, step in enumerate(steps, 1):
            package, module = folder / step, folder / f"{step}.py"
            if not step:
                return None
            if (package / "__init__.py").is_file():
                files.append(package / "__init__.py")
            elif module.is_file():
                return [*files, module] if number == len(steps) else None
            elif not package.is_dir():
                return None
            folder = package
        return files

    def _files(self, node: _Import) -> Iterator[Path]:
        names = self._names(node)
        if isinstance(node, ast.ImportFrom):  # what is taken from a package may be a module
            names += [f"{names[0]}.{alias.name}" for alias in node.names]
        for name in names:
            top = name.partition(".")[0]
            files = [] if top in STANDARD else self._local(name) or []
            if files and top in self.others:
                raise JobInvalid(
                    f"{self.path}, line {node.lineno}: {top} lies beside the job and is also a package "
                    "of its bundle, which comes first: rename yours."
                )
            yield from files

    def _missing(self, node: _Import, name: str) -> JobInvalid:
        way_out = "put it beside the job, name its package in Job(requirements=[...]), or catch ImportError"
        if name.partition(".")[0] in REMOVED:
            way_out = "the functions' Python has it no more"
        return JobInvalid(
            f"{self.path}, line {node.lineno}: {name} is imported and would not be in the bundle: "
            f"{way_out}."
        )


def _imports(node: ast.AST, found: Callable[[_Import], bool]) -> Iterator[_Import]:
    """The imports below a node that have to succeed."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        yield node
        return
    left_out: list[ast.AST] = []
    if isinstance(node, (ast.Try, ast.TryStar)):
        if any(handler.type and _CATCHING & _names_in(handler.type) for handler in node.handlers):
            left_out = [*node.body]
            tried = [each for statement in node.body for each in ast.walk(statement)]
            if all(found(each) for each in tried if isinstance(each, (ast.Import, ast.ImportFrom))):
                left_out += node.handlers
    elif isinstance(node, (ast.With, ast.AsyncWith)):
        if any(_CATCHING & _names_in(item.context_expr) for item in node.items):
            return
    elif isinstance(node, ast.If):
        looked_at = _names_in(node.test)
        if looked_at & _LEFT_TO_THE_JOB:
            return
        left_out = [*node.body] if "TYPE_CHECKING" in looked_at else []
    for child in ast.iter_child_nodes(node):
        if child not in left_out:
            yield from _imports(child, found)


def _names_in(node: ast.AST) -> set[str]:
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return names | {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}

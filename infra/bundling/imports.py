"""That a job finds in its bundle what it imports: what it would miss there is said at synthesis.

The source is read, not run, so an import inside a function is seen before it is needed.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coordinator.errors import JobInvalid
from coordinator.loading.program import program_of
from infra.bundling.contents import Files
from infra.bundling.required import Import, required_imports

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
STANDARD = frozenset({*sys.stdlib_module_names, "__main__"}) - REMOVED


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
        for node in required_imports(tree, lambda node: all(self._finds(node))):
            for name, files in zip(self._names(node), self._finds(node), strict=True):
                if not files:
                    raise self._missing(node, name)
            yield from self._files(node)

    def _names(self, node: Import) -> list[str]:
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

    def _finds(self, node: Import) -> list[bool]:
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

    def _files(self, node: Import) -> Iterator[Path]:
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

    def _missing(self, node: Import, name: str) -> JobInvalid:
        way_out = "put it beside the job, name its package in Job(requirements=[...]), or catch ImportError"
        if name.partition(".")[0] in REMOVED:
            way_out = "the functions' Python has it no more"
        return JobInvalid(
            f"{self.path}, line {node.lineno}: {name} is imported and would not be in the bundle: "
            f"{way_out}."
        )

"""From a name or a path to a job: the only place that imports a user's module."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

from pydantic import ValidationError

from coordinator.errors import CodeChanged, FanfoldError, JobInvalid
from coordinator.job import Job
from coordinator.loading.program import Program, program_of

JOBS_FOLDER = "jobs"


@dataclass(frozen=True, slots=True)
class LoadedJob:
    """A job, the file it is declared in, and the program that it is."""

    job: Job
    path: Path
    program: Program


def load_job(reference: str, folder: Path | str = JOBS_FOLDER) -> LoadedJob:
    """Import a job by its name in a folder, or by the path of its `.py`.

    Raises:
        JobInvalid: there is no such job, it can't be imported, or it declares nonsense.
    """
    path = find_job(reference, Path(folder))
    try:
        source = path.read_bytes()
    except OSError as error:
        raise JobInvalid(f"{path} can't be read: {error.strerror}.") from error
    before = program_of(path)
    job = _job_in(path, source)
    try:
        job.check()
        program = program_of(path, job.data, job.requirements)
    except JobInvalid as error:
        raise JobInvalid(f"{path}: {error}") from error
    try:
        before.check()
    except CodeChanged as error:
        raise JobInvalid(f"{path} was changed while it was being loaded. Try again.") from error
    return LoadedJob(job, path, program)


def find_job(reference: str, folder: Path) -> Path:
    """The file of a job.

    Raises:
        JobInvalid: there is none; says which there are.
    """
    if reference.endswith(".py"):
        path = Path(reference)
        if path.is_file():
            return path.resolve()
        raise JobInvalid(
            f"There is no file {reference}. Give the path of a job's .py, or a name in {folder}/."
        )
    if "/" in reference or "\0" in reference:
        raise JobInvalid(
            f"{reference!r} is no job: give a name in {folder}/, or a path that ends in .py."
        )
    for name in dict.fromkeys((reference, reference.replace("-", "_"))):
        path = folder / f"{name}.py"
        if path.is_file():
            return path.resolve()
    known = ", ".join(job_names(folder)) or "none"
    raise JobInvalid(
        f"There is no job {reference!r} in {folder.absolute()} (there: {known}). "
        "Give one of these, or the path of a .py."
    )


def job_names(folder: Path) -> list[str]:
    """The names of the modules in a folder of jobs."""
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


class _Source(importlib.machinery.SourceFileLoader):
    """Loads a module from the bytes that its version is made of, never from a cache beside it."""

    def __init__(self, name: str, path: str, source: bytes) -> None:
        super().__init__(name, path)
        self._bytes = source

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self._bytes, self.path)


class _Uncached(importlib.machinery.SourceFileLoader):
    """Loads a module from its source, whatever is cached beside it: a cache is told from another by
    time and size alone, and an edit may leave both."""

    def path_stats(self, path: str) -> Mapping[str, Any]:
        raise OSError(f"The cache of {path} is not looked at.")


def _load_from_source(folder: str) -> None:
    """Have all modules in a folder, and below it, loaded from their sources from now on."""

    def finder(path: str) -> importlib.machinery.FileFinder:
        if path != folder and not path.startswith(f"{folder}{os.sep}"):
            raise ImportError(f"{path} is not in {folder}.")
        if not os.path.isdir(path):  # noqa: PTH112
            raise ImportError(f"{path} is no folder.")  # an archive: others can open it
        return importlib.machinery.FileFinder(
            path,
            (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES),
            (_Uncached, importlib.machinery.SOURCE_SUFFIXES),
            (importlib.machinery.SourcelessFileLoader, importlib.machinery.BYTECODE_SUFFIXES),
        )

    if folder in _from_source:
        return
    _from_source.add(folder)
    sys.path_hooks.insert(0, finder)
    for path in list(sys.path_importer_cache):
        if path == folder or path.startswith(f"{folder}{os.sep}"):
            del sys.path_importer_cache[path]


_from_source: set[str] = set()


def _job_in(path: Path, source: bytes) -> Job:
    """Import a module from its file, and find its one job."""
    name = f"fanfold_job_{path.stem}"
    loader = _Source(name, str(path), source)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None or spec.loader is None:
        raise JobInvalid(f"{path} can't be imported as a module.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    beside = str(path.parent)
    _load_from_source(beside)
    sys.path.append(beside)
    try:
        spec.loader.exec_module(module)
    except FanfoldError as error:
        raise JobInvalid(f"{path}{_line_of(error, path)}: {error}") from error
    except ValidationError as error:
        raise JobInvalid(f"{path}{_line_of(error, path)}: {_first_problem(error)}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        text = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
        raise JobInvalid(f"{path}{_line_of(error, path)} can't be imported: {reason}.") from error
    finally:
        sys.path.remove(beside)
    jobs = {id(value): value for value in vars(module).values() if isinstance(value, Job)}
    if len(jobs) != 1:
        found = "no Job" if not jobs else f"{len(jobs)} jobs"
        raise JobInvalid(
            f"{path} declares {found}; a module declares one: job = Job(name=..., source=...)."
        )
    return jobs.popitem()[1]


def _line_of(error: BaseException, path: Path) -> str:
    """`, line n`: the last line of the user's file that an error passed through."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f", line {error.lineno}"
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f", line {line}" if line else ""


def _first_problem(error: ValidationError) -> str:
    """A declaration's first problem: the object, its field, and what is wrong with it."""
    problem = error.errors(include_url=False)[0]
    place = ".".join(str(step) for step in problem["loc"])
    return f"{error.title}({place}={problem.get('input')!r}): {problem['msg']}."

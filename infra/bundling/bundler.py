"""The code asset of a job's functions, made without Docker and the same every time.

The zip holds no times and no order of its own, and its hash is that of the names and contents in it.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from aws_cdk import aws_lambda as lambda_

from coordinator.errors import CodeChanged, JobInvalid
from coordinator.loading import LoadedJob
from infra.bundling.bytecode import Compiler
from infra.bundling.contents import (
    MOST_BYTES,
    PACKAGES,
    Files,
    below,
    check_size,
    digest_of,
    files_of_job,
    package_folder,
    size_of,
)
from infra.bundling.dependencies import PLATFORM, PYTHON, Dependencies
from infra.bundling.imports import check_imports

BUNDLES_KEPT = 20
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold


@dataclass(frozen=True, slots=True)
class Bundle:
    """A zip, the digest of what it holds, how many bytes that is unpacked, and why it holds no
    bytecode, if it holds none."""

    path: Path
    digest: str
    unpacked_bytes: int
    uncompiled: str = ""


class Bundler:
    """Makes bundles, and keeps what they share.

    Args:
        cache: a folder for installed dependencies, bytecode and finished zips.
        requirements: the hashed pins of what the functions import.
        packages: the folder of each package of ours; by default where Python finds it.
        platform, python: what the functions run on, as uv names them.
    """

    def __init__(
        self,
        *,
        cache: Path,
        requirements: Path | None = None,
        packages: dict[str, Path] | None = None,
        platform: str = PLATFORM,
        python: str = PYTHON,
    ) -> None:
        self._cache = cache
        self._packages = packages
        self._dependencies = Dependencies(
            cache=cache, requirements=requirements, platform=platform, python=python
        )
        self._compiler = Compiler(cache=cache / "bytecode", python=python)
        self._said: set[str] = set()

    def pack(self, loaded: LoadedJob) -> lambda_.Code:
        """The code asset of a job; what is to be known of it is said on stderr.

        Raises:
            JobInvalid: its requirements can't be installed, or something that it imports is missing.
            BundleTooLarge: Lambda would refuse it.
        """
        bundle = self.bundle(loaded)
        size, most = bundle.unpacked_bytes / 1024**2, MOST_BYTES / 1024**2
        sys.stderr.write(f"{loaded.job.name}: {size:.1f} MB of {most:.0f} MB unpacked\n")
        if bundle.uncompiled not in {"", *self._said}:
            self._said.add(bundle.uncompiled)
            sys.stderr.write(
                f"{bundle.uncompiled}: the functions have no bytecode, and need twice as long to "
                "start.\n"
            )
        return lambda_.Code.from_asset(str(bundle.path), asset_hash=bundle.digest)

    def bundle(self, loaded: LoadedJob) -> Bundle:
        """The zip of a job, from the cache if nothing in it has changed."""
        job = loaded.job
        dependencies = below(self._dependencies.of(job), "")
        code = {**dependencies, **self._own()}
        check_imports(loaded.path, code)
        files = {**code, **files_of_job(loaded)}
        size = check_size(job.name, files)
        compiled = self._compiler.bytecode(code)
        uncompiled, more = compiled.left_out, size_of(compiled.files)
        if size + more <= MOST_BYTES:
            files.update(compiled.files)
            size += more
        else:
            uncompiled = f"{job.name}: bytecode would not fit"
        digest = digest_of(files)
        path = self._cache / f"{digest}.zip"
        if not path.exists():
            self._cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._cache) as folder:
                made = Path(folder) / path.name
                _write_zip(made, files)
                _check_unchanged(loaded)
                made.replace(path)
            self._forget_old()
        _check_unchanged(loaded)
        path.touch()
        return Bundle(path, digest, size, uncompiled)

    def _forget_old(self) -> None:
        """Keep the bundles used last."""
        finished = sorted(self._cache.glob("*.zip"), key=lambda path: path.stat().st_mtime)
        for old in finished[:-BUNDLES_KEPT]:
            old.unlink(missing_ok=True)

    def _own(self) -> Files:
        folders = self._packages or {name: package_folder(name) for name in PACKAGES}
        return {
            name: path
            for package, folder in folders.items()
            for name, path in below(folder, f"{package}/").items()
        }


def _check_unchanged(loaded: LoadedJob) -> None:
    """Hold the job's files against those that were loaded, whose version is the bundle's."""
    try:
        loaded.program.check()
    except CodeChanged as error:
        raise JobInvalid(
            f"{loaded.path} was changed while it was being bundled. Try again."
        ) from error


def _write_zip(path: Path, files: Files) -> None:
    """Write files in the order of their names, all with one time and one mode."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=LONG_AGO)
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name].read_bytes())

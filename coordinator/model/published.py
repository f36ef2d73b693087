"""What is published: the proof of a result, and where readers find the newest."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Literal, Self

from coordinator.errors import LedgerBroken
from coordinator.model.base import Document, File, Stage
from coordinator.model.runs import Totals

_BEFORE_DIGEST = b',"digest":"'


class Cost(Document):
    """What the run cost: measured seconds, and dollars at the stated price."""

    worker_seconds: float
    coordinator_seconds: float
    memory_mb: int
    dollars: float
    prices: str


class ProgramWork(Document):
    """Which shards of which stages are the work of one version of the job's code.

    Shards are ids and ranges of ids of one length, such as `0-17,19,20.0`.
    """

    code_version: str
    shards: dict[Stage, str]


class Manifest(Document):
    """The published proof of a run. Everything that it names lives as long as the result.

    `shards` are the roots that each stage was planned with, `stages` what was done for them.
    `results` and `quarantine` are lists: a `File` a line, a refused record a line. `digest` is the
    SHA-256 of all bytes before it.
    """

    version: Literal[1] = 1
    job: str
    run_id: str
    published: float
    logical_time: float
    source_key: str | None = None
    snapshot: File
    snapshot_digest: str
    objects: int
    bytes: int
    results: File
    result_objects: int
    result_bytes: int
    results_prefix: str
    shards: dict[Stage, int]
    stages: dict[Stage, Totals]
    ledgers: dict[Stage, File]
    quarantined: int
    quarantine: File | None = None
    waves: int
    epochs: int
    programs: tuple[ProgramWork, ...]
    declaration: dict[str, Any]
    inputs: tuple[str, ...]
    cost: Cost
    digest: str = ""

    def with_digest(self) -> Self:
        """The same manifest, with its digest."""
        rest = self.model_copy(update={"digest": ""}).encode().removesuffix(b"}")
        return self.model_copy(update={"digest": sha256(rest).hexdigest()})


def check_digest(body: bytes, *, where: str) -> None:
    """Hold a manifest against its own digest, to the byte.

    Raises:
        LedgerBroken: it is not what was published; `where` names it.
    """
    rest, _, digest = body.rpartition(_BEFORE_DIGEST)
    if digest != f'{sha256(rest).hexdigest()}"}}'.encode():
        raise LedgerBroken(
            f"{where} is not what was published: its digest is another. Restore it from a copy, or "
            "run the job again under a new run id."
        )


class Pointer(Document):
    """`latest.json`: where readers find the newest result."""

    version: Literal[1] = 1
    job: str
    run_id: str
    logical_time: float
    manifest: str
    results: str

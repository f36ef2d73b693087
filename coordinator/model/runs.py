"""A run: its plans, how far it is, and everything it is pinned to."""

from __future__ import annotations

from typing import Any, Literal

from coordinator.model.base import Document, File, Stage, State
from coordinator.model.shards import Counts


class PlanRef(Document):
    """The committed plan of a stage: the draft that won.

    The plan's last line, from `index_offset` on, is its index: offset, length and digest of every
    shard's line. `snapshot` lists what the stage reads: the pinned objects for map, with the
    digest of its lines; the map's parts for reduce. `inherits` are the entries of roots that an
    earlier draft of this plan has done, and that this one need not do again.
    """

    draft: str
    plan: File
    index_offset: int
    shards: int
    snapshot: File | None = None
    snapshot_digest: str = ""
    inherits: File | None = None
    objects: int = 0
    bytes: int = 0
    header: tuple[str, ...] | None = None


class Listing(Document):
    """How far Plan has listed: sorted chunks written so far, and the cursor to go on from."""

    chunks: tuple[File, ...] = ()
    cursor: str = ""
    objects: int = 0


class Tenure(Document):
    """The waves that the present owner has: those after `after`, `waves` of them with notes. It took
    the run up at `began`."""

    began: float = 0.0
    after: int = 0
    waves: int = 1
    redrives: int = 0


class LastPass(Document):
    """What the last Reconcile saw and did; a wave that changes nothing has stalled. The last wave
    was sent out at `sent`, and nothing has changed since `since`."""

    stage: Stage | None = None
    entries: int = 0
    notes: int = 0
    dispatched: bool = False
    stalled: int = 0
    sent: float = 0.0
    since: float = 0.0


class Hints(Document):
    """What the one who starts a run knows and the declaration does not.

    `lanes` is how many shards can be worked on at once, `billed` whether they cost anything.
    """

    lanes: int | None = None
    shard_bytes: int | None = None
    billed: bool = True


class Totals(Counts):
    """Sums over the entries of a stage. `failures` are the attempts that ended with none, and
    `failed_seconds` what they are charged: as measured, or a whole timeout for a crash."""

    shards: int = 0
    splits: int = 0
    failures: int = 0
    failed_seconds: float = 0.0


class RunRecord(Document):
    """`run.json`: who owns the run, how far it is, and everything it is pinned to.

    `code_version` is what the present epoch is bound to. `limits` are those of the job's limits
    that the present owner was asked to change. `redrafts` counts how often a stage was drafted
    anew. A run is committed to be published at `published`. `passes` and `coordinator_seconds`
    are what coordinating it has used. `cleaned` says that the parts of a published run are gone.
    """

    version: Literal[1] = 1
    job: str
    run_id: str
    created: float
    logical_time: float
    owner: str
    epoch: int = 1
    wave: int = 0
    dispatched: int = 0
    state: State = "planning"
    code_version: str = ""
    redrafts: int = 0
    published: float | None = None
    passes: int = 0
    coordinator_seconds: float = 0.0
    cleaned: bool = False
    declaration: dict[str, Any]
    inputs: tuple[str, ...]
    source_key: str | None = None
    hints: Hints = Hints()
    limits: dict[str, Any] = {}
    listing: Listing | None = None
    plans: dict[Stage, PlanRef] = {}
    sealed: dict[Stage, File] = {}
    totals: dict[Stage, Totals] = {}
    tenure: Tenure = Tenure()
    progress: LastPass = LastPass()

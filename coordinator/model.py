"""The documents Fanfold writes and the messages it sends: frozen, versioned, JSON.

Bytes, seconds and dollars carry their unit in the field's name. Times are seconds since the
epoch, UTC. Nothing here does I/O or decides anything.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from coordinator.errors import Fate, LedgerBroken

ShardId = Annotated[str, Field(pattern=r"^(0|[1-9]\d*)(\.(0|[1-9]\d*))*$")]
Stage = Literal["map", "reduce", "merge"]
Unit = Literal["bytes", "records"]
EntryOutcome = Literal["done", "split"]
State = Literal["planning", "running", "publishing", "published", "cancelled"]


def shard_order(shard: str) -> tuple[int, ...]:
    """The place of a shard in its stage: ids compare as tuples of integers."""
    return tuple(int(step) for step in shard.split("."))


class Document(BaseModel):
    """Base of everything that is written or sent: immutable, nothing unknown accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    def encode(self) -> bytes:
        """The document as compact JSON; fields at their defaults are left out."""
        return self.__pydantic_serializer__.to_json(self, exclude_defaults=True)

    @classmethod
    def decode(cls, body: bytes, *, where: str) -> Self:
        """Parse what `encode` wrote.

        Raises:
            LedgerBroken: the bytes are not such a document; `where` names them.
        """
        try:
            return cls.model_validate_json(body)
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise LedgerBroken(
                f"{where} is not a readable {cls.__name__} ({reason}). "
                "`fanfold repair` can set a broken entry aside; the rest needs a new run id."
            ) from error


class Pinned(Document):
    """One object of the snapshot. `key` is an `s3://bucket/key` or an absolute path."""

    key: str
    size: int = Field(ge=0)
    etag: str
    version_id: str | None = None


class Slice(Document):
    """A range of one pinned object: bytes, or record numbers where bytes can't be cut.

    `stop` is exclusive; for `unit="records"` a stop of -1 means to the object's end.
    """

    key: str
    size: int
    etag: str
    version_id: str | None = None
    start: int = 0
    stop: int
    unit: Unit = "bytes"

    @classmethod
    def whole(cls, pinned: Pinned) -> Slice:
        """All of an object."""
        return cls.of(pinned, 0, pinned.size)

    @classmethod
    def of(cls, pinned: Pinned, start: int, stop: int) -> Slice:
        """The bytes [start, stop) of an object."""
        return cls(
            key=pinned.key,
            size=pinned.size,
            etag=pinned.etag,
            version_id=pinned.version_id,
            start=start,
            stop=stop,
        )

    @property
    def pinned(self) -> Pinned:
        """The object that this is a range of."""
        return Pinned(key=self.key, size=self.size, etag=self.etag, version_id=self.version_id)


class File(Document):
    """An object of ours, by key, with what it must hold."""

    key: str
    size: int
    sha256: str


class Part(File):
    """A data object that an attempt wrote, and how many records lie in it.

    `segments` are the length in bytes and the CRC-32 of the consecutive pieces for each reduce
    partition.
    """

    records: int
    segments: tuple[tuple[int, int], ...] = ()

    def plain(self) -> File:
        """The part as a file, without what lies in it."""
        return File(key=self.key, size=self.size, sha256=self.sha256)

    def segment(self, partition: int) -> tuple[int, int]:
        """The byte range [start, stop) of a partition's segment."""
        start = sum(length for length, _ in self.segments[:partition])
        return start, start + self.segments[partition][0]


class Shard(Document):
    """A line of a plan: the work of one worker invocation.

    A map shard has slices. A reduce shard has a partition, of all the parts in its stage's
    snapshot. A merge shard has the parts that it folds back.
    """

    id: ShardId
    slices: tuple[Slice, ...] = ()
    partition: int | None = None
    parts: tuple[Part, ...] = ()


class ShardRef(Document):
    """Where a shard's description lies, and its digest: a range of a plan, or, with a length of
    0, the children of a split entry."""

    id: ShardId
    key: str
    offset: int = 0
    length: int = 0
    digest: str


class Counts(Document):
    """What was read, written and used: by one attempt, or by all that a stage committed."""

    records_in: int = 0
    records_out: int = 0
    mapped: int = 0
    quarantined: int = 0
    blank: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    peak_memory_bytes: int = 0


# A stage's peak is the highest of its attempts'; everything else in `Counts` adds up.
ADDED_COUNTS = tuple(name for name in Counts.model_fields if name != "peak_memory_bytes")


class Receipt(Counts):
    """What an attempt did, in the entry that committed it."""

    attempt: str
    code_version: str = ""
    parts: tuple[Part, ...] = ()
    quarantine: File | None = None
    results: tuple[File, ...] = ()


class Entry(Document):
    """The final outcome of a shard: done, or split. A shard has at most one, ever.

    `covered` are the slices whose records the receipt accounts for: all of the shard's when done,
    the finished prefix when split. `children` are the slices of each child, in order.
    """

    version: Literal[1] = 1
    shard: ShardId
    stage: Stage
    outcome: EntryOutcome
    digest: str
    receipt: Receipt
    covered: tuple[Slice, ...] = ()
    children: tuple[tuple[Slice, ...], ...] = ()


class Note(Document):
    """Why an attempt failed. Notes explain; they decide nothing but who is tried again.

    A wave keeps one note a shard, the latest. `failures` counts the attempts in it that ended with
    an error, `unfinished` those known to have begun that ended with nothing at all. `reads` names
    what the shard reads.
    """

    version: Literal[1] = 1
    shard: ShardId
    stage: Stage
    wave: int
    attempt: str
    receives: int
    failures: int = 1
    unfinished: int = 0
    error: str
    reason: str
    reads: str = ""
    fate: Fate
    at: float
    seconds: float = 0.0


class Message(Document):
    """One shard to work on, as the queue carries it."""

    version: Literal[1] = 1
    job: str
    run_id: str
    stage: Stage
    draft: str
    wave: int
    epoch: int
    shard: ShardRef
    token: str = ""


class Answer(Counts):
    """What is said of a message once its shard has an entry: counts for the console."""

    shard: ShardId
    outcome: EntryOutcome
    attempt: str = ""


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
    """The waves that the present owner has: those after `after`, `waves` of them with notes."""

    after: int = 0
    waves: int = 1
    redrives: int = 0


class LastPass(Document):
    """What the last Reconcile saw and did; a wave that changes nothing has stalled."""

    stage: Stage | None = None
    entries: int = 0
    notes: int = 0
    dispatched: bool = False
    stalled: int = 0


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


class Cost(Document):
    """What the run cost: measured seconds, and dollars at the stated price."""

    worker_seconds: float
    coordinator_seconds: float
    memory_mb: int
    dollars: float
    prices: str


class Program(Document):
    """Which shards of which stages are the work of one version of the job's code.

    Shards are ids and ranges of ids of one length, such as `0-17,19,20.0`.
    """

    code_version: str
    shards: dict[Stage, str]


class Manifest(Document):
    """The published proof of a run. Everything that it names lives as long as the result.

    `shards` are the roots that each stage was planned with, `stages` what was done for them.
    `results` and `quarantine` are lists: a `File` a line, a refused record a line.
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
    programs: tuple[Program, ...]
    declaration: dict[str, Any]
    inputs: tuple[str, ...]
    cost: Cost


class Pointer(Document):
    """`latest.json`: where readers find the newest result."""

    version: Literal[1] = 1
    job: str
    run_id: str
    logical_time: float
    manifest: str
    results: str

"""Shards: what is to be done, what was done, and why an attempt failed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from coordinator.errors import Fate
from coordinator.model.base import Document, EntryOutcome, File, Part, ShardId, Slice, Stage


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

    def files(self) -> Iterator[File]:
        """Everything that the attempt has written."""
        yield from (part.plain() for part in self.parts)
        yield from self.results
        if self.quarantine is not None:
            yield self.quarantine


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

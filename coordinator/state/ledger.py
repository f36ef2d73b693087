"""The ledger of a stage: the one outcome of every shard, and the sealed ledger that a complete
stage leaves for those after it.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO, Any, NamedTuple, Self

from pydantic_core import from_json

from coordinator.errors import (
    AlreadyExists,
    AttemptFailed,
    KeyMissing,
    LedgerBroken,
    OutcomeUnknown,
)
from coordinator.keys import RunKeys, shard_of_entry
from coordinator.model import (
    ADDED_COUNTS,
    Entry,
    File,
    Part,
    RunRecord,
    Stage,
    Totals,
    shard_order,
)
from coordinator.rules.decide import EntryFacts
from coordinator.state.files import read_lines
from coordinator.state.runs import keys_of
from coordinator.store.ports import Stat, Store
from coordinator.store.prefetch import bodies

MICROSECONDS = 1_000_000
NO_TOTALS = Totals()
_SPOOL_BYTES = 8 * 1024 * 1024


def find(store: Store, keys: RunKeys, stage: Stage, shard: str) -> Entry | None:
    """The entry of a shard, if it has one."""
    key = keys.entry(stage, shard)
    try:
        return Entry.decode(store.get(key).body, where=store.url(key))
    except KeyMissing:
        return None


def commit(store: Store, keys: RunKeys, entry: Entry) -> Entry:
    """Create the entry of a shard; gives the entry that stands, this one or an earlier.

    A refusal or an unknown outcome may be our own write, sent twice: reading back tells.

    Raises:
        AttemptFailed: the write's outcome is unknown and nothing is there; try again.
    """
    try:
        store.create(keys.entry(entry.stage, entry.shard), entry.encode())
    except (AlreadyExists, OutcomeUnknown) as error:
        standing = find(store, keys, entry.stage, entry.shard)
        if standing is None:
            raise AttemptFailed(
                f"The entry of shard {entry.shard} could not be written; it is tried again."
            ) from error
        return standing
    return entry


def seconds_of(store: Store, listed: Iterable[Stat]) -> list[float]:
    """How long the attempts took that committed these entries, as a listing shows them."""
    return [from_json(body)["receipt"].get("seconds", 0.0) for _, body in bodies(store, listed)]


class Span(NamedTuple):
    """Where the body of an entry lies in the spool."""

    offset: int
    length: int


class Ledger:
    """The entries of a stage, read once: a small outcome of each in memory, bodies spooled.

    They are those that the stage's draft inherits, and those in its own folder; a file there whose
    name is none that an entry has is not ours. Use as a context manager: it may hold a temporary
    file.
    """

    def __init__(
        self, store: Store, keys: RunKeys, stage: Stage, *, inherits: File | None = None
    ) -> None:
        self.store = store
        self.keys = keys
        self.stage = stage
        self.outcomes: dict[str, EntryFacts] = {}
        self.totals = Totals()
        self._sums = Sums()
        self._spans: dict[str, Span] = {}
        self._size = 0
        self._spool: IO[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115  closed by __exit__
            max_size=_SPOOL_BYTES
        )
        try:
            if inherits is not None:
                for line in read_lines(store, inherits):
                    self._add(inherits.key, line, None)
            listed = (stat for stat in store.list(keys.ledger(stage)) if shard_of_entry(stat.key))
            for key, body in bodies(store, listed):
                self._add(key, body, shard_of_entry(key))
            self.totals = self._sums.totals()
        except BaseException:
            self._spool.close()
            raise

    @classmethod
    def of_run(cls, store: Store, run: RunRecord, stage: Stage) -> Self:
        """The entries of a stage of a run, as its plan has it now."""
        return cls(store, keys_of(run), stage, inherits=run.plans[stage].inherits)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._spool.close()

    def _add(self, key: str, body: bytes, named: str | None) -> None:
        try:
            entry = from_json(body)
            shard, receipt = entry["shard"], entry["receipt"]
            if named not in (None, shard) or entry["stage"] != self.stage:
                raise ValueError("it names another shard")
            if shard in self.outcomes:
                raise ValueError("the shard has another entry")
            facts = EntryFacts(
                children=len(entry.get("children", ())),
                records_in=receipt.get("records_in", 0),
                quarantined=receipt.get("quarantined", 0),
            )
            self._sums.add(receipt, split=entry["outcome"] == "split")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LedgerBroken(
                f"{self.store.url(key)} is not a readable entry. `fanfold repair` sets it aside; "
                "then take the run up again."
            ) from error
        self.outcomes[shard] = facts
        self._spans[shard] = Span(self._size, len(body))
        self._spool.seek(0, io.SEEK_END)
        self._spool.write(body)
        self._size += len(body)

    def body(self, shard: str) -> bytes:
        """The entry of a shard, as it was written."""
        span = self._spans[shard]
        self._spool.seek(span.offset)
        return self._spool.read(span.length)

    def entry(self, shard: str) -> Entry:
        """The entry of a shard."""
        return Entry.decode(self.body(shard), where=self.keys.entry(self.stage, shard))

    def in_order(self) -> list[str]:
        """The shards that have an entry, in shard order."""
        return sorted(self.outcomes, key=shard_order)

    def seal(self, key: str) -> File:
        """Write all entries, one a line, in shard order."""
        with self.store.writer(key) as writer:
            for shard in self.in_order():
                writer.write(self.body(shard))
                writer.write(b"\n")
            return writer.close()

    def parts(self) -> Iterator[tuple[str, tuple[Part, ...]]]:
        """The parts of every entry, in shard order."""
        for shard in self.in_order():
            receipt = from_json(self.body(shard))["receipt"]
            yield shard, tuple(Part.model_validate(part) for part in receipt.get("parts", ()))


class Sums:
    """Adds up receipts: the numbers of a stage. Seconds are added as whole microseconds, so that
    the sum is the same in any order."""

    def __init__(self) -> None:
        self._sums = dict.fromkeys(ADDED_COUNTS, 0)
        self._shards = 0
        self._splits = 0
        self._peak = 0

    def add(self, receipt: dict[str, Any], *, split: bool) -> None:
        """Add one receipt, as JSON; fields left out are 0."""
        self._shards += 1
        self._splits += split
        self._peak = max(self._peak, receipt.get("peak_memory_bytes", 0))
        for name in ADDED_COUNTS:
            value = receipt.get(name, 0)
            self._sums[name] += round(value * MICROSECONDS) if name == "seconds" else value

    def totals(self, failed: Totals = NO_TOTALS) -> Totals:
        """The sums so far, with the failures of others."""
        return Totals(
            shards=self._shards,
            splits=self._splits,
            peak_memory_bytes=self._peak,
            failures=failed.failures,
            failed_seconds=failed.failed_seconds,
            **self._sums | {"seconds": self._sums["seconds"] / MICROSECONDS},  # type: ignore[arg-type]
        )

"""The ledger of a stage: the one outcome of every shard, and the sealed ledger that a complete
stage leaves for those after it.
"""

from __future__ import annotations

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
from coordinator.model import ADDED_COUNTS, Entry, File, Part, Stage, Totals, shard_order
from coordinator.rules.decide import EntryFacts
from coordinator.store.ports import Store

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


def seconds_of(store: Store, entry_keys: Iterable[str]) -> list[float]:
    """How long the attempts took that committed these entries."""
    return [
        from_json(body)["receipt"].get("seconds", 0.0) for _, body in store.get_many(entry_keys)
    ]


class Span(NamedTuple):
    """Where the body of an entry lies in the spool."""

    offset: int
    length: int


class Ledger:
    """The entries of a stage, read once: a small outcome of each in memory, bodies spooled.

    Use as a context manager: it may hold a temporary file.
    """

    def __init__(self, store: Store, keys: RunKeys, stage: Stage) -> None:
        self.store = store
        self.keys = keys
        self.stage = stage
        self.outcomes: dict[str, EntryFacts] = {}
        self.totals = Totals()
        self._spans: dict[str, Span] = {}
        self._spool: IO[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115  closed by __exit__
            max_size=_SPOOL_BYTES
        )
        try:
            self._read()
        except BaseException:
            self._spool.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._spool.close()

    def _read(self) -> None:
        sums = Sums()
        found = (stat.key for stat in self.store.list(self.keys.ledger(self.stage)))
        offset = 0
        for key, body in self.store.get_many(found):
            shard = shard_of_entry(key)
            try:
                entry = from_json(body)
                receipt = entry["receipt"]
                if entry["shard"] != shard or entry["stage"] != self.stage:
                    raise ValueError("it names another shard")
                self.outcomes[shard] = EntryFacts(
                    children=len(entry.get("children", ())),
                    records_in=receipt.get("records_in", 0),
                    quarantined=receipt.get("quarantined", 0),
                )
                sums.add(receipt, split=entry["outcome"] == "split")
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise LedgerBroken(
                    f"{self.store.url(key)} is not a readable entry. `fanfold repair` sets it aside; "
                    "then take the run up again."
                ) from error
            self._spans[shard] = Span(offset, len(body))
            self._spool.write(body)
            offset += len(body)
        self.totals = sums.totals()

    def body(self, shard: str) -> bytes:
        """The entry of a shard, as it was written."""
        span = self._spans[shard]
        self._spool.seek(span.offset)
        return self._spool.read(span.length)

    def entry(self, shard: str) -> Entry:
        """The entry of a shard."""
        return Entry.decode(self.body(shard), where=self.keys.entry(self.stage, shard))

    def seal(self, key: str) -> File:
        """Write all entries, one a line, in shard order."""
        with self.store.writer(key) as writer:
            for shard in sorted(self.outcomes, key=shard_order):
                writer.write(self.body(shard))
                writer.write(b"\n")
            return writer.close()

    def parts(self) -> Iterator[tuple[str, tuple[Part, ...]]]:
        """The parts of every entry, in shard order."""
        for shard in sorted(self.outcomes, key=shard_order):
            receipt = from_json(self.body(shard))["receipt"]
            yield shard, tuple(Part.model_validate(part) for part in receipt.get("parts", ()))


class Sums:
    """Adds up receipts: the numbers of a stage."""

    def __init__(self) -> None:
        self._sums: dict[str, Any] = dict.fromkeys(ADDED_COUNTS, 0)
        self._shards = 0
        self._splits = 0
        self._peak = 0

    def add(self, receipt: dict[str, Any], *, split: bool) -> None:
        """Add one receipt, as JSON; fields left out are 0."""
        self._shards += 1
        self._splits += split
        self._peak = max(self._peak, receipt.get("peak_memory_bytes", 0))
        for name in ADDED_COUNTS:
            self._sums[name] += receipt.get(name, 0)

    def totals(self) -> Totals:
        """The sums so far."""
        sums = {**self._sums, "seconds": float(self._sums["seconds"])}
        return Totals(
            shards=self._shards, splits=self._splits, peak_memory_bytes=self._peak, **sums
        )

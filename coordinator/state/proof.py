"""The proof of a run: shown from its sealed ledgers alone that nothing is missing or doubled."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from itertools import groupby

from coordinator.errors import DuplicateName, NotProven
from coordinator.model import (
    Entry,
    File,
    Pinned,
    ProgramWork,
    RunRecord,
    Slice,
    Stage,
    Totals,
    shard_order,
)
from coordinator.rules.coverage import check_coverage
from coordinator.rules.decide import EntryFacts, missing_leaves
from coordinator.rules.stages import stages_of
from coordinator.state.files import read_lines
from coordinator.state.ledger import Sums
from coordinator.state.snapshots import read_snapshot
from coordinator.store.ports import Store

Ledgers = Mapping[Stage, File]


def prove(
    store: Store,
    ledgers: Ledgers,
    *,
    stages: Iterable[Stage],
    roots: Mapping[Stage, int],
    totals: Mapping[Stage, Totals],
    objects: Iterable[Pinned],
) -> None:
    """Show from sealed ledgers that every pinned byte was read once, every shard has an outcome,
    everything that a stage gave was taken by the next (of map, the bytes of every partition), and no
    two results have one name.

    Args:
        stages: those of the run, in order.
        roots: how many shards each was planned with.
        totals: what the ledgers add up to.
        objects: the pinned ones, in key order.

    Raises:
        NotProven: naming what is not shown.
        LedgerBroken: a ledger or the snapshot is missing or not what was recorded.
        DuplicateName: two results have one name.
    """
    given: tuple[Stage, int] | None = None
    parted: Counter[int] = Counter()
    for stage in stages:
        if stage not in ledgers or stage not in totals:
            raise NotProven(f"Stage {stage} is not complete.")
        seen = _Seen(stage, read_entries(store, ledgers[stage]))
        if stage == "map":
            check_coverage(objects, seen.covered())
        else:
            for _ in seen.covered():
                raise NotProven(f"Stage {stage} claims to have read inputs.")
        _check_shards(stage, roots[stage], seen.outcomes)
        found = seen.sums.totals(totals[stage])
        if found != totals[stage]:
            raise NotProven(f"The totals of stage {stage} are not what its entries add up to.")
        if stage == "map":
            parted = seen.parted
        for shard, taken in seen.taken.items():
            if taken != parted[int(shard)]:
                raise NotProven(
                    f"Map gave {parted[int(shard)]} bytes to partition {shard}, but reduce took {taken}."
                )
        if stage == "merge" and given is not None and given[1] != found.records_in:
            raise NotProven(
                f"Stage {given[0]} gave {given[1]} records, but merge took {found.records_in}."
            )
        given = (stage, found.records_out)
    check_names(store, results_in(store, ledgers))


def read_entries(store: Store, ledger: File) -> Iterator[Entry]:
    """The entries of a sealed ledger, in shard order."""
    for line in read_lines(store, ledger):
        yield Entry.decode(line, where=store.url(ledger.key))


def results_in(store: Store, ledgers: Ledgers) -> Iterator[File]:
    """The result objects that a run's ledgers name, in order."""
    for entry in read_entries(store, ledgers["merge"]):
        yield from entry.receipt.results


def quarantine_in(store: Store, ledgers: Ledgers) -> Iterator[File]:
    """The quarantine files that a run's ledgers name, in order."""
    for entry in read_entries(store, ledgers["map"]):
        if entry.receipt.quarantine is not None:
            yield entry.receipt.quarantine


def programs_in(store: Store, ledgers: Ledgers) -> tuple[ProgramWork, ...]:
    """Which shards are the work of which version of the job's code, oldest version's name first."""
    shards: dict[str, dict[Stage, list[str]]] = {}
    for stage, ledger in ledgers.items():
        for entry in read_entries(store, ledger):
            by_stage = shards.setdefault(entry.receipt.code_version, {})
            by_stage.setdefault(stage, []).append(entry.shard)
    return tuple(
        ProgramWork(
            code_version=version,
            shards={stage: in_ranges(found) for stage, found in by_stage.items()},
        )
        for version, by_stage in sorted(shards.items())
    )


def in_ranges(shards: Iterable[str]) -> str:
    """Shard ids as ids and ranges of ids: `0-17,19,20.0`."""
    ids = sorted(shards, key=shard_order)
    roots = [int(shard) for shard in ids if shard.isdigit()]
    runs: list[tuple[tuple[int, ...], str]] = []
    for _, group in groupby(enumerate(roots), key=lambda pair: pair[1] - pair[0]):
        found = [root for _, root in group]
        text = str(found[0]) if len(found) == 1 else f"{found[0]}-{found[-1]}"
        runs.append(((found[0],), text))
    runs += [(shard_order(shard), shard) for shard in ids if not shard.isdigit()]
    return ",".join(text for _, text in sorted(runs))


class _Seen:
    """The entries of a stage as they pass by."""

    def __init__(self, stage: Stage, entries: Iterable[Entry]) -> None:
        self.stage = stage
        self.entries = entries
        self.sums = Sums()
        self.outcomes: dict[str, EntryFacts] = {}
        self.parted: Counter[int] = Counter()  # bytes given to each partition
        self.taken: dict[str, int] = {}  # bytes taken of each

    def covered(self) -> Iterator[Slice]:
        """The slices that the entries account for, in order; checks each entry's sums."""
        for entry in self.entries:
            receipt = entry.receipt
            if receipt.records_in != receipt.mapped + receipt.quarantined + receipt.blank:
                raise NotProven(
                    f"The counts of shard {entry.shard} of stage {self.stage} do not add up."
                )
            if entry.shard in self.outcomes or entry.stage != self.stage:
                raise NotProven(f"Shard {entry.shard} of stage {self.stage} has two entries.")
            if (entry.outcome == "split") != bool(entry.children):
                raise NotProven(f"The entry of shard {entry.shard} of {self.stage} is no outcome.")
            self.outcomes[entry.shard] = EntryFacts(
                len(entry.children), receipt.records_in, receipt.quarantined
            )
            self.sums.add(receipt.model_dump(), split=bool(entry.children))
            for part in receipt.parts:
                for partition, (length, _) in enumerate(part.segments):
                    self.parted[partition] += length
            if self.stage == "reduce":
                self.taken[entry.shard] = receipt.bytes_in
            yield from entry.covered


def _check_shards(stage: Stage, roots: int, outcomes: Mapping[str, EntryFacts]) -> None:
    """Every leaf has an entry, and there are none but those of the plan and of its splits."""
    missing = next(missing_leaves(roots, outcomes), None)
    if missing is not None:
        raise NotProven(f"Shard {missing} of stage {stage} has no entry.")
    wanted = roots + sum(facts.children for facts in outcomes.values())
    if wanted != len(outcomes):
        raise NotProven(f"Stage {stage} has {len(outcomes)} entries, but {wanted} shards.")


def check_names(store: Store, results: Iterable[File]) -> None:
    """Refuse results of one name. The names seen lie on disk: there may be many.

    Raises:
        DuplicateName: two have one.
    """
    with closing(Names()) as names:
        for result in results:
            identity = store.identity(result.key)
            if not names.add(identity, result.key):
                other = names.find(identity)
                raise DuplicateName(
                    f"Two results have the name {store.url(result.key)}"
                    + (f" (the other is {other})" if other != result.key else "")
                    + ". A map must give every result a name of its own: take a new run id."
                )


class Names:
    """Many names, each with a key, in a temporary file of its own."""

    def __init__(self) -> None:
        self._rows = sqlite3.connect("")  # private, and on disk once it is large
        self._rows.execute("CREATE TABLE names (name TEXT PRIMARY KEY, key TEXT) WITHOUT ROWID")

    def add(self, name: str, key: str) -> bool:
        """Add a name; False where it is there already."""
        added = self._rows.execute("INSERT OR IGNORE INTO names VALUES (?, ?)", (name, key))
        return added.rowcount == 1

    def find(self, name: str) -> str | None:
        """The key of a name."""
        row = self._rows.execute("SELECT key FROM names WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def close(self) -> None:
        """Forget them."""
        self._rows.close()


def prove_run(store: Store, run: RunRecord) -> None:
    """`prove`, for a run as its record has it.

    Raises:
        NotProven, LedgerBroken, DuplicateName: as `prove`.
    """
    snapshot = run.plans["map"].snapshot
    if snapshot is None:
        raise NotProven(f"Run {run.run_id} has no snapshot.")
    prove(
        store,
        run.sealed,
        stages=stages_of(run.declaration),
        roots={stage: plan.shards for stage, plan in run.plans.items()},
        totals=run.totals,
        objects=read_snapshot(store, snapshot),
    )

"""The proof of a run: shown from its sealed ledgers alone that nothing is missing or doubled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from coordinator.errors import DuplicateName, NotProven
from coordinator.model import Entry, File, RunRecord, Slice, Stage
from coordinator.rules.coverage import check_coverage
from coordinator.rules.decide import EntryFacts, missing_leaves
from coordinator.rules.stages import stages
from coordinator.state.files import read_lines
from coordinator.state.snapshots import read_snapshot
from coordinator.store.ports import Store


@dataclass(slots=True)
class Proof:
    """What is collected while the sealed ledgers are read."""

    results: list[File] = field(default_factory=list)
    quarantine: list[File] = field(default_factory=list)
    code_versions: set[str] = field(default_factory=set)


def prove(store: Store, run: RunRecord) -> Proof:
    """Show from the sealed ledgers that nothing is missing and nothing is doubled.

    Raises:
        NotProven: naming what is not shown.
        LedgerBroken: a ledger or the snapshot is missing or not what was recorded.
        DuplicateName: two results have one name.
    """
    proof = Proof()
    for stage in stages(bool(run.declaration["keyed"])):
        if stage not in run.sealed:
            raise NotProven(f"Stage {stage} of run {run.run_id} is not complete.")
        entries = _sealed_entries(store, run.sealed[stage], proof)
        if stage == "map":
            snapshot = run.plans["map"].snapshot
            if snapshot is None:
                raise NotProven(f"Run {run.run_id} has no snapshot.")
            seen = _Seen(stage, entries)
            check_coverage(read_snapshot(store, snapshot), seen.covered())
        else:
            seen = _Seen(stage, entries)
            for _ in seen.covered():
                raise NotProven(f"Stage {stage} of run {run.run_id} claims to have read inputs.")
        missing = next(missing_leaves(run.plans[stage].shards, seen.outcomes), None)
        if missing is not None:
            raise NotProven(f"Shard {missing} of stage {stage} of run {run.run_id} has no entry.")
    _check_flow(run)
    _check_names(store, proof.results)
    return proof


class _Seen:
    """The entries of a stage as they pass by."""

    def __init__(self, stage: Stage, entries: Iterable[Entry]) -> None:
        self.stage = stage
        self.entries = entries
        self.outcomes: dict[str, EntryFacts] = {}

    def covered(self) -> Iterator[Slice]:
        """The slices that the entries account for, in order; checks each entry's sums."""
        for entry in self.entries:
            receipt = entry.receipt
            if receipt.records_in != receipt.mapped + receipt.quarantined + receipt.blank:
                raise NotProven(
                    f"The counts of shard {entry.shard} of stage {self.stage} do not add up."
                )
            self.outcomes[entry.shard] = EntryFacts(
                len(entry.children), receipt.records_in, receipt.quarantined
            )
            yield from entry.covered


def _sealed_entries(store: Store, sealed: File, proof: Proof) -> Iterator[Entry]:
    for line in read_lines(store, sealed):
        entry = Entry.decode(line, where=store.url(sealed.key))
        receipt = entry.receipt
        proof.results.extend(receipt.results)
        if receipt.quarantine is not None:
            proof.quarantine.append(receipt.quarantine)
        if receipt.code_version:
            proof.code_versions.add(receipt.code_version)
        yield entry


def _check_flow(run: RunRecord) -> None:
    """Every record that one stage gave, the next one took."""
    totals = run.totals
    giver: Stage = "reduce" if run.declaration["keyed"] else "map"
    given, taken = totals[giver].records_out, totals["merge"].records_in
    if given != taken:
        raise NotProven(f"Stage {giver} gave {given} records, but merge took {taken}.")


def _check_names(store: Store, results: Iterable[File]) -> None:
    seen: dict[str, str] = {}
    for result in results:
        identity = store.identity(result.key)
        if identity not in seen:
            seen[identity] = result.key
        else:
            other = seen[identity]
            raise DuplicateName(
                f"Two results have the name {store.url(result.key)}"
                + (f" (the other is {other})" if other != result.key else "")
                + ". A map must give every result a name of its own: take a new run id."
            )
        seen[identity] = result.key

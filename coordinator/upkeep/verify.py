"""Prove a published run again, from its files alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from coordinator.errors import FanfoldError, KeyMissing, LedgerBroken
from coordinator.keys import RunKeys
from coordinator.model import Entry, File, Manifest, RunRecord, Stage
from coordinator.state import runs
from coordinator.state.files import file_at, read_lines
from coordinator.state.ledger import Ledger
from coordinator.state.proof import prove
from coordinator.state.snapshots import read_snapshot, snapshot_digest
from coordinator.steps.publish import read_manifest
from coordinator.store.ports import Store


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not what it should be, and where."""

    where: str
    problem: str


def verify(store: Store, keys: RunKeys) -> Iterator[Finding]:
    """Everything that is wrong with a published run.

    Raises:
        LedgerBroken: there is no such run, or it is not published.
    """
    try:
        run, manifest = runs.read(store, keys), read_manifest(store, keys)
    except KeyMissing as error:
        raise LedgerBroken(
            f"{store.url(keys.root)} holds no published run: it has no run.json or no manifest.json."
        ) from error
    yield from _proof(store, run, manifest)
    yield from _snapshot(store, manifest)
    for stage, ledger in manifest.ledgers.items():
        yield from _stage(store, keys, stage, ledger, manifest, cleaned=run.cleaned)
    for file in (*manifest.plans.values(), *manifest.results, *manifest.quarantine):
        yield from _file(store, file)


def _proof(store: Store, run: RunRecord, manifest: Manifest) -> Iterator[Finding]:
    """The proof that Publish made, once more, and whether the manifest says what it shows."""
    keys = RunKeys(run.job, run.run_id)
    try:
        proof = prove(store, run)
    except FanfoldError as error:
        yield Finding(store.url(keys.root), str(error))
        return
    map_plan = run.plans["map"]
    shown = {
        "results": tuple(proof.results),
        "quarantine": tuple(proof.quarantine),
        "quarantined": run.totals["map"].quarantined,
        "stages": run.totals,
        "ledgers": run.sealed,
        "plans": {stage: ref.plan for stage, ref in run.plans.items()},
        "snapshot": map_plan.snapshot,
        "snapshot_digest": map_plan.snapshot_digest,
        "declaration": run.declaration,
        "inputs": run.inputs,
    }
    for field, value in shown.items():
        if getattr(manifest, field) != value:
            yield Finding(
                store.url(keys.manifest), f"its `{field}` is not what the run's ledgers show"
            )


def _snapshot(store: Store, manifest: Manifest) -> Iterator[Finding]:
    where = store.url(manifest.snapshot.key)
    objects = size = 0
    try:
        digest = snapshot_digest(store, manifest.snapshot)
        for pinned in read_snapshot(store, manifest.snapshot):
            objects += 1
            size += pinned.size
    except (KeyMissing, LedgerBroken) as error:
        yield Finding(where, str(error))
        return
    if digest != manifest.snapshot_digest:
        yield Finding(where, "the snapshot is not the one of the manifest (its digest differs)")
    elif (objects, size) != (manifest.objects, manifest.bytes):
        yield Finding(
            store.url(RunKeys(manifest.job, manifest.run_id).manifest),
            f"it tells of {manifest.objects} objects and {manifest.bytes} bytes; the snapshot has "
            f"{objects} and {size}",
        )


def _stage(
    store: Store, keys: RunKeys, stage: Stage, sealed: File, manifest: Manifest, *, cleaned: bool
) -> Iterator[Finding]:
    """The entries of a stage against its sealed ledger, its totals and, unless they have been
    cleaned away, its parts."""
    try:
        with Ledger(store, keys, stage) as found:
            for line in read_lines(store, sealed):
                entry = Entry.decode(line, where=store.url(sealed.key))
                where = store.url(keys.entry(stage, entry.shard))
                if entry.shard not in found.outcomes:
                    yield Finding(where, "the entry is missing")
                elif found.body(entry.shard) != line:
                    yield Finding(where, "the entry is not the one that was sealed")
                for part in () if cleaned else entry.receipt.parts:
                    yield from _file(store, part)
            if found.totals != manifest.stages[stage]:
                yield Finding(store.url(keys.ledger(stage)), f"the totals of stage {stage} differ")
    except (KeyMissing, LedgerBroken) as error:
        yield Finding(store.url(keys.ledger(stage)), str(error))


def _file(store: Store, file: File) -> Iterator[Finding]:
    found = file_at(store, file.key)
    if found is None:
        yield Finding(store.url(file.key), "the file is missing")
    elif found.size != file.size:
        yield Finding(store.url(file.key), f"the file has {found.size} bytes, not {file.size}")
    elif found.sha256 != file.sha256:
        yield Finding(store.url(file.key), "the file's checksum differs")

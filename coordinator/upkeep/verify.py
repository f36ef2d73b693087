"""Prove a published run again: from what lies in its `published/` folder and its results alone, and,
as long as they are kept, held against the run's own record, ledgers and parts.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import zip_longest

from coordinator.errors import DuplicateName, FanfoldError, KeyMissing, LedgerBroken, NotProven
from coordinator.keys import RunKeys
from coordinator.model import File, Manifest, RunRecord, Stage
from coordinator.rules.stages import stages_of
from coordinator.state import catalogue, proof, runs
from coordinator.state.files import file_at, read_lines
from coordinator.state.ledger import Ledger
from coordinator.state.proof import Names
from coordinator.state.snapshots import read_parts, read_snapshot, snapshot_digest
from coordinator.store.ports import Store
from coordinator.store.prefetch import in_order

# Of the record: what the manifest must say alike, as long as there is one.
_TOLD = ("published", "logical_time", "source_key", "declaration", "inputs")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not what it should be, and where."""

    where: str
    problem: str


def verify(store: Store, keys: RunKeys) -> Iterator[Finding]:
    """Everything that is wrong with a published run.

    Raises:
        LedgerBroken: it is not published, or its manifest can't be read.
    """
    try:
        manifest = catalogue.read_manifest(store, keys)
    except KeyMissing as error:
        raise LedgerBroken(
            f"{store.url(keys.proof)} holds no manifest.json: run {keys.run_id} of job {keys.job} is "
            "not published."
        ) from error
    checks: tuple[Callable[[Store, RunKeys, Manifest], Iterator[Finding]], ...] = (
        _names,
        _snapshot,
        _proof,
        _results,
        _quarantine,
        _pointer,
        _record,
    )
    for check in checks:
        try:
            yield from check(store, keys, manifest)
        except (KeyMissing, LedgerBroken, NotProven, DuplicateName) as error:
            yield Finding(store.url(keys.proof), str(error))


def _names(store: Store, keys: RunKeys, manifest: Manifest) -> Iterator[Finding]:
    """The manifest is this run's, and names what lies beside it."""
    where = store.url(keys.manifest)
    if (manifest.job, manifest.run_id) != (keys.job, keys.run_id):
        yield Finding(where, f"it is of run {manifest.run_id} of job {manifest.job}")
    expected = {
        manifest.snapshot.key: keys.published_snapshot,
        manifest.results.key: keys.results_list,
        **{file.key: keys.published_ledger(stage) for stage, file in manifest.ledgers.items()},
    }
    if manifest.quarantine is not None:
        expected[manifest.quarantine.key] = keys.quarantined
    for found, wanted in expected.items():
        if found != wanted:
            yield Finding(where, f"it names {found}, which does not lie beside it")
    if not manifest.results_prefix.startswith(keys.results):
        yield Finding(where, f"its results lie in {manifest.results_prefix}")
    wanted_stages = set(stages_of(manifest.declaration))
    if not wanted_stages == set(manifest.stages) == set(manifest.ledgers) == set(manifest.shards):
        yield Finding(where, "its stages are not those of its declaration")


def _snapshot(store: Store, keys: RunKeys, manifest: Manifest) -> Iterator[Finding]:
    objects = size = 0
    for pinned in read_snapshot(store, manifest.snapshot):
        objects += 1
        size += pinned.size
    if snapshot_digest(store, manifest.snapshot) != manifest.snapshot_digest:
        yield Finding(store.url(manifest.snapshot.key), "it is not the one of the manifest")
    if (objects, size) != (manifest.objects, manifest.bytes):
        yield Finding(
            store.url(keys.manifest),
            f"it tells of {manifest.objects} objects and {manifest.bytes} bytes; the snapshot has "
            f"{objects} and {size}",
        )


def _proof(store: Store, keys: RunKeys, manifest: Manifest) -> Iterator[Finding]:
    """The proof that Publish made, once more, and what else the manifest says of the ledgers."""
    where = store.url(keys.manifest)
    proof.prove(
        store,
        manifest.ledgers,
        stages=stages_of(manifest.declaration),
        roots=manifest.shards,
        totals=manifest.stages,
        objects=read_snapshot(store, manifest.snapshot),
    )
    if proof.programs_in(store, manifest.ledgers) != manifest.programs:
        yield Finding(where, "its `programs` are not what the ledgers show")
    if manifest.quarantined != manifest.stages["map"].quarantined:
        yield Finding(where, "its `quarantined` is not what the ledgers show")
    seconds = sum(total.seconds + total.failed_seconds for total in manifest.stages.values())
    if abs(manifest.cost.worker_seconds - seconds) > 0.001:
        yield Finding(where, "its `cost` is not what the ledgers show")


def _results(store: Store, keys: RunKeys, manifest: Manifest) -> Iterator[Finding]:
    yield from _looked_up(store, _of_results(store, keys, manifest))


def _of_results(store: Store, keys: RunKeys, manifest: Manifest) -> _Checked:
    """The results list against the ledgers, every result against the list, and nothing besides."""
    where = store.url(manifest.results.key)
    objects = size = 0
    with closing(Names()) as named:
        listed = read_lines(store, manifest.results)
        for line, result in zip_longest(listed, proof.results_in(store, manifest.ledgers)):
            if line is None or result is None or File.decode(line, where=where) != result:
                yield Finding(where, "it is not what the ledgers show")
                return
            objects += 1
            size += result.size
            named.add(result.key, result.key)
            if not result.key.startswith(manifest.results_prefix):
                yield Finding(where, f"{result.key} does not lie in {manifest.results_prefix}")
            yield result
        for stat in store.list(manifest.results_prefix):
            if named.find(stat.key) is None:
                yield Finding(store.url(stat.key), "no such result is named by the run")
    if (objects, size) != (manifest.result_objects, manifest.result_bytes):
        yield Finding(
            store.url(keys.manifest),
            f"it tells of {manifest.result_objects} results and {manifest.result_bytes} bytes; there "
            f"are {objects} and {size}",
        )


def _quarantine(store: Store, keys: RunKeys, manifest: Manifest) -> Iterator[Finding]:
    lines = 0
    if manifest.quarantine is not None:
        lines = sum(1 for _ in read_lines(store, manifest.quarantine))
    if lines != manifest.quarantined:
        yield Finding(
            store.url(keys.manifest),
            f"it tells of {manifest.quarantined} quarantined records; their list has {lines}",
        )


def _pointer(store: Store, keys: RunKeys, manifest: Manifest) -> Iterator[Finding]:
    """The pointer stands on this run as the manifest has it, or on a newer one."""
    where = store.url(keys.latest(manifest.source_key))
    standing = catalogue.read_pointer(store, keys.job, manifest.source_key)
    own = catalogue.pointer_to(keys, manifest)
    if standing is None:
        yield Finding(where, "the pointer is missing")
    elif standing != own and catalogue.order_of(standing) <= catalogue.order_of(own):
        yield Finding(where, f"it points at run {standing.run_id}, not at this newer one")
    elif standing != own and not catalogue.holds(store, standing):
        yield Finding(where, f"it is not what the manifest of run {standing.run_id} says, if any")


# ------------------------------------------------------------------------------------------------
# The run itself, as long as it is kept
# ------------------------------------------------------------------------------------------------


def _record(store: Store, keys: RunKeys, manifest: Manifest) -> Iterator[Finding]:
    run = runs.find(store, keys)
    if run is None:
        return
    where = store.url(keys.manifest)
    if run.state != "published":
        yield Finding(store.url(keys.run), f"the run is {run.state}")
    for field in _TOLD:
        if getattr(manifest, field) != getattr(run, field):
            yield Finding(where, f"its `{field}` is not that of run.json")
    shown = {
        "waves": run.dispatched,
        "epochs": min(manifest.epochs, run.epoch),  # publishing may have been taken over
        "stages": run.totals,
        "shards": {stage: plan.shards for stage, plan in run.plans.items()},
        "snapshot_digest": run.plans["map"].snapshot_digest if "map" in run.plans else "",
    }
    for field, value in shown.items():
        if getattr(manifest, field) != value:
            yield Finding(where, f"its `{field}` is not that of run.json")
    if run.cleaned:
        return
    for stage in manifest.ledgers:
        yield from _stage(store, run, stage, manifest)


def _stage(store: Store, run: RunRecord, stage: Stage, manifest: Manifest) -> Iterator[Finding]:
    try:
        yield from _looked_up(store, _of_stage(store, run, stage, manifest))
    except FanfoldError as error:
        yield Finding(store.url(runs.keys_of(run).stages(stage)), str(error))


def _of_stage(store: Store, run: RunRecord, stage: Stage, manifest: Manifest) -> _Checked:
    """The entries of a stage against its published ledger, and the parts that they name; for a
    reduce stage also the list of parts that it read."""
    keys = runs.keys_of(run)
    plan = run.plans[stage]
    for file in (plan.plan, plan.snapshot, run.sealed.get(stage), plan.inherits):
        if file is not None:
            yield file
    with Ledger.of_run(store, run, stage) as found:
        named = set()
        for entry in proof.read_entries(store, manifest.ledgers[stage]):
            named.add(entry.shard)
            where = store.url(keys.entry(stage, entry.shard))
            if entry.shard not in found.outcomes:
                yield Finding(where, "the entry is missing")
            elif found.body(entry.shard) != entry.encode():
                yield Finding(where, "the entry is not the one that was published")
            yield from entry.receipt.parts
            if entry.receipt.quarantine is not None:
                yield entry.receipt.quarantine
        for shard in found.outcomes.keys() - named:
            yield Finding(store.url(keys.entry(stage, shard)), "the entry was not published")
    if stage == "reduce" and plan.snapshot is not None:
        read = read_parts(store, plan.snapshot)
        gave = (
            part
            for entry in proof.read_entries(store, manifest.ledgers["map"])
            for part in entry.receipt.parts
        )
        if any(one != other for one, other in zip_longest(read, gave)):
            yield Finding(store.url(plan.snapshot.key), "it does not list what map gave")


# ------------------------------------------------------------------------------------------------
# Files
# ------------------------------------------------------------------------------------------------

# What a check has found, or a file to hold against what lies there.
_Checked = Generator[Finding | File, None, None]


def _looked_up(store: Store, checked: _Checked) -> Iterator[Finding]:
    """What is found, in order, of the files too: several are read at a time."""

    def look(each: Finding | File) -> Finding | None:
        return each if isinstance(each, Finding) else _wrong_with(store, each)

    with closing(checked):
        for _, found in in_order(store.lanes, checked, look):
            if found is not None:
                yield found


def _wrong_with(store: Store, file: File) -> Finding | None:
    where, found = store.url(file.key), file_at(store, file.key)
    if found is None:
        return Finding(where, "the file is missing")
    if found.size != file.size:
        return Finding(where, f"the file has {found.size} bytes, not {file.size}")
    if found.sha256 != file.sha256:
        return Finding(where, "the file's checksum differs")
    return None

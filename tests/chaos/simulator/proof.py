"""A published result, proven once more from the outside: by plain code, from `published/` alone.

Nothing here is shared with what it checks: keys are spelled out, documents are plain JSON.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
Peek = Callable[[str], bytes | None]

ADDED = (
    "records_in",
    "records_out",
    "mapped",
    "quarantined",
    "blank",
    "bytes_in",
    "bytes_out",
)
SECONDS_OFF = 1e-3


@dataclass(frozen=True, slots=True)
class Published:
    """What lies in the folder of a published run: the manifest and the lists that it names."""

    manifest: Json
    snapshot: list[list[Any]]
    ledgers: Mapping[str, list[Json]]
    results: list[Json]
    quarantine: list[Json]


def read(peek: Peek, job: str, run_id: str, wrong: Callable[[str], None]) -> Published:
    """Read all that proves a run; what is missing or is not as recorded is told."""
    folder = f"{job}/published/{run_id}/"
    told = peek(f"{folder}manifest.json") or b"{}"
    manifest: Json = json.loads(told)
    rest, _, _ = told.rpartition(b',"digest":"')
    if hashlib.sha256(rest).hexdigest() != manifest.get("digest"):
        wrong(f"the digest of the manifest of {run_id} is another")

    def body(file: Json | None, name: str) -> bytes:
        if file is None:
            return b""
        found = peek(file["key"])
        if file["key"] != f"{folder}{name}" or found is None:
            wrong(f"the manifest of {run_id} names {file['key']} as its {name}")
            return b""
        if (len(found), hashlib.sha256(found).hexdigest()) != (file["size"], file["sha256"]):
            wrong(f"{file['key']} is not what the manifest of {run_id} says")
        return found

    zipped = body(manifest["snapshot"], "snapshot.jsonl.gz")
    rows = gzip.decompress(zipped) if zipped else b""
    if hashlib.sha256(rows).hexdigest() != manifest["snapshot_digest"]:
        wrong(f"the digest of the snapshot of {run_id} is another")
    return Published(
        manifest,
        lines_of(rows),
        {
            stage: lines_of(body(file, f"{stage}.ledger.jsonl"))
            for stage, file in manifest["ledgers"].items()
        },
        lines_of(body(manifest["results"], "results.jsonl")),
        lines_of(body(manifest.get("quarantine"), "quarantine.jsonl")),
    )


def lines_of(body: bytes) -> list[Any]:
    return [json.loads(line) for line in body.splitlines()]


def problems(found: Published, bound: Iterable[str]) -> Iterator[str]:
    """What does not fit together of it. `bound` are the versions that the run was ever bound to."""
    manifest = found.manifest
    sizes = {row[0]: row[1] for row in found.snapshot}
    if (len(sizes), sum(sizes.values())) != (manifest["objects"], manifest["bytes"]):
        yield "the manifest counts other objects or bytes than the snapshot has"
    if len(sizes) != len(found.snapshot) or list(sizes) != sorted(sizes):
        yield "the snapshot is out of order, or has an object twice"
    given = None
    for stage, entries in found.ledgers.items():
        yield from _tree(stage, manifest["shards"][stage], entries)
        yield from _sums(stage, manifest["stages"][stage], entries)
        if stage == "merge" and given != manifest["stages"][stage].get("records_in", 0):
            yield f"merge took other records than the {given} that it was given"
        given = manifest["stages"][stage].get("records_out", 0)
    yield from _coverage(sizes, found.ledgers["map"])
    listed = [it for entry in found.ledgers["merge"] for it in entry["receipt"].get("results", ())]
    if listed != found.results or len({it["key"] for it in listed}) != len(listed):
        yield "the list of results is not what the ledger of merge has, each name once"
    told = (manifest["result_objects"], manifest["result_bytes"])
    if told != (len(listed), sum(it["size"] for it in listed)):
        yield "the manifest counts other results"
    quarantined = sum(it["receipt"].get("quarantined", 0) for it in found.ledgers["map"])
    if not quarantined == len(found.quarantine) == manifest["quarantined"]:
        yield f"{quarantined} records were refused, and {len(found.quarantine)} are listed"
    yield from _programs(found, set(bound))
    stages = manifest["stages"].values()
    seconds = sum(it.get("seconds", 0.0) + it.get("failed_seconds", 0.0) for it in stages)
    if abs(seconds - manifest["cost"]["worker_seconds"]) > SECONDS_OFF:
        yield "the manifest charges other seconds than its stages have"


def _tree(stage: str, roots: int, entries: list[Json]) -> Iterator[str]:
    """Every shard of the plan and of its splits has one entry, in order, and no other has."""
    by_shard = {entry["shard"]: entry for entry in entries}
    waiting = [str(root) for root in range(roots)]
    wanted = []
    while waiting:
        shard = waiting.pop(0)
        wanted.append(shard)
        if shard not in by_shard:
            yield f"shard {shard} of stage {stage} has no entry"
            continue
        children = by_shard[shard].get("children", ())
        waiting += [f"{shard}.{child}" for child in range(len(children))]
        if bool(children) != (by_shard[shard]["outcome"] == "split"):
            yield f"the entry of shard {shard} of stage {stage} is no outcome"
    in_order = sorted(wanted, key=lambda shard: [int(step) for step in shard.split(".")])
    if [entry["shard"] for entry in entries] != in_order:
        yield f"the ledger of stage {stage} has {list(by_shard)}, not {in_order}"
    if any(entry["stage"] != stage for entry in entries):
        yield f"the ledger of stage {stage} has an entry of another"


def _sums(stage: str, totals: Json, entries: list[Json]) -> Iterator[str]:
    receipts = [entry["receipt"] for entry in entries]
    for receipt in receipts:
        parts = sum(receipt.get(name, 0) for name in ("mapped", "quarantined", "blank"))
        if parts != receipt.get("records_in", 0):
            yield f"a receipt of stage {stage} does not add up: {receipt}"
        if receipt.get("seconds", 0.0) < 0:
            yield f"a receipt of stage {stage} took less than no time: {receipt['seconds']}"
    for name in ADDED:
        if sum(receipt.get(name, 0) for receipt in receipts) != totals.get(name, 0):
            yield f"the {name} of stage {stage} are not the sum of its entries"
    seconds = sum(receipt.get("seconds", 0.0) for receipt in receipts)
    if abs(seconds - totals.get("seconds", 0.0)) > SECONDS_OFF:
        yield f"the seconds of stage {stage} are not the sum of its entries"
    splits = sum(entry["outcome"] == "split" for entry in entries)
    if (len(entries), splits) != (totals.get("shards", 0), totals.get("splits", 0)):
        yield f"stage {stage} counts other shards or splits"


def _coverage(sizes: Mapping[str, int], entries: list[Json]) -> Iterator[str]:
    """Every byte of every object in exactly one slice of exactly one entry."""
    ranges: dict[str, list[Json]] = {key: [] for key in sizes}
    for entry in entries:
        for piece in entry.get("covered", ()):
            if piece["size"] != sizes.get(piece["key"]):
                yield f"{piece['key']} of {piece['size']} bytes is not in the snapshot"
                return
            ranges[piece["key"]].append(piece)
    for key, pieces in ranges.items():
        if not tiles(pieces, sizes[key]):
            yield f"{key} is not read exactly once: {pieces}"


def tiles(pieces: list[Json], size: int) -> bool:
    """Whether ranges of one object, in any order, lie side by side from its start to its end."""
    in_bytes = [piece for piece in pieces if piece.get("unit", "bytes") == "bytes"]
    if in_bytes and len(in_bytes) < len(pieces):
        return False
    end = size if in_bytes else -1
    place = 0
    for piece in sorted(pieces, key=lambda it: (it.get("start", 0), it["stop"])):
        if piece.get("start", 0) != place:
            return False
        place = piece["stop"]
    return place == end and bool(pieces)


def _programs(found: Published, bound: set[str]) -> Iterator[str]:
    """What the manifest says of versions is what the entries say, and the run was bound to each."""
    shown: dict[tuple[str, str], set[str]] = {}
    for stage, entries in found.ledgers.items():
        for entry in entries:
            version = entry["receipt"].get("code_version", "")
            shown.setdefault((version, stage), set()).add(entry["shard"])
    told = {
        (program["code_version"], stage): set(_spelled_out(text))
        for program in found.manifest["programs"]
        for stage, text in program["shards"].items()
    }
    if told != shown:
        yield f"the manifest tells of programs {told}, and the entries of {shown}"
    if not {version for version, _ in shown} <= bound:
        yield f"entries are of {sorted(shown)}, and the run was bound to {sorted(bound)}"


def _spelled_out(text: str) -> Iterator[str]:
    """`0-2,4,4.1` as single ids."""
    for piece in text.split(","):
        first, dash, last = piece.partition("-")
        if dash:
            yield from map(str, range(int(first), int(last) + 1))
        else:
            yield piece

"""What has to come of some objects, worked out the plain way, by code that shares nothing with Fanfold."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tests.chaos.playing import Objects
from tests.chaos.simulator.containers import loaded
from tests.chaos.simulator.watch import Expected

LOUDER = Path(__file__).parent / "jobs" / "spelled_louder.py"


def sizes(objects: Objects) -> dict[str, int]:
    return {key: len(body) for key, body in objects.items()}


def lines_of(objects: Objects) -> list[tuple[str, int, bytes]]:
    """Every line of every object: key, offset, and the line without its end."""
    found = []
    for key in sorted(objects):
        body = gzip.decompress(objects[key]) if key.endswith(".gz") else objects[key]
        offset = 0
        for line in body.splitlines(keepends=True):
            found.append((key, offset, line.rstrip(b"\n")))
            offset += len(line)
    return found


def crc_partition(key: str, partitions: int) -> int:
    """The partition of a key: CRC-32 of its JSON, modulo their number."""
    return zlib.crc32(json.dumps(key, ensure_ascii=False).encode()) % partitions


def by_partition(records: Mapping[str, Any], partitions: int, name: str) -> dict[str, bytes]:
    """One result object: partition after partition, each in the order of its keys."""
    ordered = sorted(records, key=lambda key: (crc_partition(key, partitions), key))
    return {name: b"".join(json_line(records[key]) for key in ordered)}


def json_line(record: Any) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def word_counts(objects: Objects, partitions: int) -> Expected:
    lines = lines_of(objects)
    counts = Counter(word for _, _, line in lines for word in line.decode().split())
    records = {word: {"word": word, "count": count} for word, count in counts.items()}
    return Expected(
        by_partition(records, partitions, "wordcount.jsonl"), sizes(objects), len(lines)
    )


def collected(objects: Objects, partitions: int) -> Expected:
    lines = lines_of(objects)
    values: dict[str, list[str]] = defaultdict(list)
    for _, _, line in lines:
        key, _, value = line.decode().partition(" ")
        values[key].append(value)
    records = {key: {"key": key, "values": found} for key, found in values.items()}
    return Expected(by_partition(records, partitions, "slow.jsonl"), sizes(objects), len(lines))


def doubled(objects: Objects) -> Expected:
    lines = lines_of(objects)
    good, bad = [], set()
    for key, offset, line in lines:
        number = json.loads(line)["number"]
        if isinstance(number, int):
            good.append(json_line({"number": number * 2, "twice": number}))
        else:
            bad.add((key, offset))
    return Expected({"poison.jsonl": b"".join(good)}, sizes(objects), len(lines), frozenset(bad))


def spelled(objects: Objects) -> Expected:
    return Expected({}, sizes(objects), len(lines_of(objects)), retold=partial(respelled, objects))


def respelled(objects: Objects, entries: list[dict[str, Any]]) -> dict[str, bytes]:
    """What each shard's version of the job makes of the lines that start in its slices."""
    louder = loaded(str(LOUDER)).program.version
    result = b""
    for entry in entries:
        for piece in entry.get("covered", ()):
            for key, offset, line in lines_of(objects):
                if key == piece["key"] and piece.get("start", 0) <= offset < piece["stop"]:
                    loud = entry["receipt"]["code_version"] == louder
                    result += json.dumps((line.upper() if loud else line).decode()).encode() + b"\n"
    return {"spelled.jsonl": result}


def copied(objects: Objects) -> Expected:
    results = {key.rsplit("/", 1)[1].split("+")[0]: body.upper() for key, body in objects.items()}
    return Expected(results, sizes(objects), len(objects))

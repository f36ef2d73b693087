"""The inputs of the benchmarks, made once and kept in the temporary folder."""

from __future__ import annotations

import hashlib
import json
import os
import random
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path

CACHE = Path(tempfile.gettempdir()) / "fanfold-benchmarks"
FILE_BYTES = 26_000_000


def texts(size: int) -> Path:
    """A folder with this many bytes, or a little more, of Python's own sources and those of the
    packages installed here, in files of 26 MB."""
    return _made(f"texts-{size}", lambda folder: _write_texts(folder, size))


def small_files(count: int) -> Path:
    """A folder of so many files of one line each."""
    return _made(f"small-{count}", lambda folder: _write_small_files(folder, count))


def orders(lines: int) -> Path:
    """A folder with a file of so many JSON lines."""
    return _made(f"orders-{lines}", lambda folder: _write_orders(folder, lines))


def _made(name: str, write: Callable[[Path], None]) -> Path:
    """A folder of the cache; written beside its name, so that it is there whole or not at all."""
    folder = CACHE / name
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(dir=CACHE))
        write(making)
        making.rename(folder)
    return folder


def _write_texts(folder: Path, size: int) -> None:
    held: list[bytes] = []
    held_bytes = written = 0
    for number, text in enumerate(_sources()):
        held.append(text)
        held_bytes += len(text)
        enough = written + held_bytes >= size
        if enough or held_bytes >= FILE_BYTES:
            (folder / f"text-{number:06d}.txt").write_bytes(b"".join(held))
            written += held_bytes
            held, held_bytes = [], 0
        if enough:
            return


def _sources() -> Iterator[bytes]:
    """Source files in a mixed order that is the same every time, over and over."""
    found = []
    for root in map(Path, map(sysconfig.get_path, ("stdlib", "purelib"))):
        below = [path.relative_to(root) for path in root.rglob("*.py")]
        found += [(path, root) for path in below if path.parts[0] != "site-packages"]
    mixed = sorted(found, key=lambda item: hashlib.sha256(os.fsencode(item[0])).digest())
    order = [root / path for path, root in mixed]
    for path in cycle(order):
        body = path.read_bytes()
        try:
            body.decode()
        except UnicodeDecodeError:
            continue
        if body:
            yield body if body.endswith(b"\n") else body + b"\n"


def _write_small_files(folder: Path, count: int) -> None:
    for number in range(count):
        below = folder / f"{number // 1000:03d}"
        below.mkdir(exist_ok=True)
        (below / f"{number:06d}.txt").write_text(f"line {number} of {count}\n")


def _write_orders(folder: Path, lines: int) -> None:
    chance = random.Random(20261101)
    began = datetime(2026, 11, 1, tzinfo=UTC)
    with (folder / "orders.jsonl").open("w") as file:
        for number in range(lines):
            order = {
                "id": f"order-{number:09d}",
                "at": (began + timedelta(seconds=number)).isoformat(),
                "customer": chance.randrange(1, 1_000_000),
                "country": chance.choice(("DE", "FR", "IT", "PL", "SE")),
                "items": [
                    {"sku": f"sku-{chance.randrange(10_000)}", "count": chance.randrange(1, 9)}
                    for _ in range(chance.randrange(1, 4))
                ],
                "total": round(chance.uniform(1, 500), 2),
            }
            file.write(json.dumps(order) + "\n")

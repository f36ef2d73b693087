"""The rows of the table: what is run, what it is held against, and what it must reach."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import corpora
from benchmarks.measure import MB, REPOSITORY, Sample, interleaved

FANFOLD = str(Path(sys.executable).with_name("fanfold"))
JOBS = REPOSITORY / "benchmarks" / "jobs"


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything."""

    runs: int
    text_bytes: int
    shards: int
    lines: int
    objects: tuple[int, int]
    starts: int


FULL = Scale(
    runs=3,
    text_bytes=208_000_000,
    shards=20_000,
    lines=1_000_000,
    objects=(100_000, 1_000_000),
    starts=15,
)
QUICK = Scale(
    runs=1,
    text_bytes=26_000_000,
    shards=2_000,
    lines=100_000,
    objects=(10_000, 100_000),
    starts=5,
)


@dataclass(frozen=True, slots=True)
class Line:
    """A measured line of the table. `reached` is the number that a target is about."""

    what: str
    sample: Sample
    reached: str = ""
    target: str = ""
    met: bool | None = None


Row = Callable[[Scale], Iterator[Line]]


def wordcount(scale: Scale) -> Iterator[Line]:
    """Words of real text."""
    texts = corpora.texts(scale.text_bytes)
    with _room() as room:
        baseline, ours = interleaved(
            [
                _baseline("pool_wordcount", texts, room / "result", "--workers", "2"),
                _fanfold("wordcount", texts, room, workers=2),
            ],
            scale.runs,
            room,
        )
    size = sum(path.stat().st_size for path in texts.iterdir()) / MB
    yield Line(f"{size:.0f} MB of text, multiprocessing.Pool(2)", baseline)
    yield _against(baseline, ours, "the same, fanfold run --workers 2", 1.10)


def shards(scale: Scale) -> Iterator[Line]:
    """The cost of a shard that does nothing."""
    files = corpora.small_files(scale.shards)
    job = JOBS / "one_line_files.py"
    with _room() as room:
        baseline, ours = interleaved(
            [
                _baseline("bare_tasks", scale.shards, "--workers", "2"),
                _fanfold(job, files, room, "--shard-items", "1", workers=2),
            ],
            scale.runs,
            room,
        )
    each = (ours.wall_seconds - baseline.wall_seconds) / scale.shards * 1000
    yield Line(f"{scale.shards:,} no-ops, ProcessPoolExecutor(2)", baseline)
    yield Line(
        f"{scale.shards:,} files, a shard each, fanfold run --workers 2",
        ours,
        f"{each:.3f} ms a shard more",
        "0.5 ms",
        each <= 0.5,
    )


def model(scale: Scale) -> Iterator[Line]:
    """JSON lines through a pydantic model."""
    orders = corpora.orders(scale.lines)
    job = JOBS / "orders.py"
    with _room() as room:
        baseline, one, two = interleaved(
            [
                _baseline("plain_loop", orders / "orders.jsonl", room / "result"),
                _fanfold(job, orders, room, workers=1),
                _fanfold(job, orders, room, workers=2),
            ],
            scale.runs,
            room,
        )
    yield Line(f"{scale.lines:,} JSON lines and a model, a plain loop", baseline)
    yield _against(baseline, one, "the same, fanfold run --workers 1", 1.15)
    yield _against(baseline, two, "the same, fanfold run --workers 2")


def planning(scale: Scale) -> Iterator[Line]:
    """The memory of planning."""
    few, many = scale.objects
    with _room() as room:
        small, large = interleaved(
            [_module("planning", few, room / "few"), _module("planning", many, room / "many")],
            scale.runs,
            room,
        )
    yield Line(f"plan {few:,} objects", small)
    flat = large.peak_bytes / small.peak_bytes
    yield Line(
        f"plan {many:,} objects",
        large,
        f"{large.peak_bytes / MB:.0f} MB, {flat:.2f} × the memory",
        "200 MB, flat",
        large.peak_bytes < 200 * MB and flat < 1.25,
    )


def start(scale: Scale) -> Iterator[Line]:
    """How long the command takes to say what it can."""
    with _room() as room:
        python, ours = interleaved(
            [[sys.executable, "-c", "pass"], [FANFOLD, "--help"]], scale.starts, room
        )
    yield Line("python -c pass", python)
    seconds = ours.wall_seconds
    yield Line("fanfold --help", ours, f"{seconds:.2f} s", "0.3 s", seconds < 0.3)


ROWS: dict[str, Row] = {
    "wordcount": wordcount,
    "shards": shards,
    "model": model,
    "planning": planning,
    "start": start,
}


# ------------------------------------------------------------------------------------------------
# Commands
# ------------------------------------------------------------------------------------------------


def _fanfold(job: Path | str, inputs: Path, room: Path, *more: str, workers: int) -> Sequence[str]:
    return [
        *(FANFOLD, "run", str(job), str(inputs), "--output", str(room / "out")),
        *("--workers", str(workers), *more),
    ]


def _baseline(name: str, *arguments: object) -> Sequence[str]:
    return _module(f"baselines.{name}", *arguments)


def _module(name: str, *arguments: object) -> Sequence[str]:
    return [sys.executable, "-m", f"benchmarks.{name}", *map(str, arguments)]


def _against(baseline: Sample, ours: Sample, what: str, most: float | None = None) -> Line:
    ratio = ours.wall_seconds / baseline.wall_seconds
    if most is None:
        return Line(what, ours, f"{ratio:.2f} × the time")
    return Line(what, ours, f"{ratio:.2f} × the time", f"{most:.2f} ×", ratio <= most)


@contextmanager
def _room() -> Iterator[Path]:
    """An empty folder for what the commands write."""
    corpora.CACHE.mkdir(parents=True, exist_ok=True)
    room = Path(tempfile.mkdtemp(prefix="room-", dir=corpora.CACHE))
    try:
        yield room
    finally:
        shutil.rmtree(room)

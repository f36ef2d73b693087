"""The rows of the table: what is run, what it is held against, and what it must reach."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
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
    segments: int
    starts: int


FULL = Scale(
    runs=3,
    text_bytes=208_000_000,
    shards=20_000,
    lines=1_000_000,
    objects=(100_000, 1_000_000),
    segments=475,
    starts=15,
)
QUICK = Scale(
    runs=1,
    text_bytes=26_000_000,
    shards=2_000,
    lines=100_000,
    objects=(10_000, 100_000),
    segments=95,
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


Row = Callable[[Scale, Path], Iterator[Line]]


def wordcount(scale: Scale, room: Path) -> Iterator[Line]:
    """Words of real text."""
    texts = corpora.texts(scale.text_bytes)
    baseline, ours = interleaved(
        [
            lambda folder: _baseline("pool_wordcount", texts, folder / "result", "--workers", 2),
            lambda folder: _fanfold("wordcount", texts, folder, workers=2),
        ],
        scale.runs,
        room,
    )
    size = sum(path.stat().st_size for path in texts.iterdir()) / MB
    yield Line(f"{size:.0f} MB of text, multiprocessing.Pool(2)", baseline)
    yield _against(baseline, ours, "the same, fanfold run --workers 2", 1.10)


def shards(scale: Scale, room: Path) -> Iterator[Line]:
    """The cost of a shard that does nothing."""
    files = corpora.small_files(scale.shards)
    job = JOBS / "one_line_files.py"
    baseline, ours = interleaved(
        [
            lambda folder: _baseline("bare_tasks", scale.shards, "--workers", 2),
            lambda folder: _fanfold(job, files, folder, "--shard-items", 1, workers=2),
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


def model(scale: Scale, room: Path) -> Iterator[Line]:
    """JSON lines through a pydantic model."""
    orders = corpora.orders(scale.lines)
    job = JOBS / "orders.py"
    baseline, one, two = interleaved(
        [
            lambda folder: _baseline("plain_loop", orders / "orders.jsonl", folder / "result"),
            lambda folder: _fanfold(job, orders, folder, workers=1),
            lambda folder: _fanfold(job, orders, folder, workers=2),
        ],
        scale.runs,
        room,
    )
    yield Line(f"{scale.lines:,} JSON lines and a model, a plain loop", baseline)
    yield _against(baseline, one, "the same, fanfold run --workers 1", 1.15)
    yield _against(baseline, two, "the same, fanfold run --workers 2")


def planning(scale: Scale, room: Path) -> Iterator[Line]:
    """The memory of planning."""
    few, many = scale.objects
    small, large = interleaved(
        [
            lambda folder: _module("planning", few, folder),
            lambda folder: _module("planning", many, folder),
        ],
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


def gathering(scale: Scale, room: Path) -> Iterator[Line]:
    """Segments that are far away."""
    baseline, ours = interleaved(
        [
            lambda folder: _module("gathering", scale.segments, 1),
            lambda folder: _module("gathering", scale.segments, 32),
        ],
        scale.runs,
        room,
    )
    yield Line(f"{scale.segments} segments, 30 ms each, one after another", baseline)
    yield _against(baseline, ours, "the same, 32 lanes", 0.20)


def start(scale: Scale, room: Path) -> Iterator[Line]:
    """How long the command takes to say what it can."""
    python, ours = interleaved(
        [lambda folder: [sys.executable, "-c", "pass"], lambda folder: [FANFOLD, "--help"]],
        scale.starts,
        room,
    )
    yield Line("python -c pass", python)
    seconds = ours.wall_seconds
    yield Line("fanfold --help", ours, f"{seconds:.2f} s", "0.3 s", seconds < 0.3)


ROWS: dict[str, Row] = {
    "wordcount": wordcount,
    "shards": shards,
    "model": model,
    "planning": planning,
    "gathering": gathering,
    "start": start,
}


# ------------------------------------------------------------------------------------------------
# Commands
# ------------------------------------------------------------------------------------------------


def _fanfold(
    job: Path | str, inputs: Path, folder: Path, *more: object, workers: int
) -> Sequence[str]:
    return [
        *(FANFOLD, "run", str(job), str(inputs), "--output", str(folder)),
        *("--workers", str(workers), *map(str, more)),
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

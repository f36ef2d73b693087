"""Wordcount by hand: a `multiprocessing.Pool` over byte ranges aligned to lines.

python -m benchmarks.baselines.pool_wordcount FOLDER RESULT --workers 2

It maps with the job's own `words`, counts in a dict a range, merges the dicts in the parent, and
writes the result of the job: JSON lines, sorted.
"""

from __future__ import annotations

import argparse
import json
from multiprocessing import Pool
from pathlib import Path

from jobs.wordcount import count, words

CHUNK_BYTES = 16 * 1024 * 1024
READ_BYTES = 1024 * 1024

Range = tuple[Path, int, int]


def line_aligned_ranges(path: Path, size: int) -> list[Range]:
    """A file cut near every multiple of a size, where the next line begins."""
    total = path.stat().st_size
    cuts = [0]
    with path.open("rb") as file:
        for near in range(size, total, size):
            file.seek(near)
            file.readline()
            cuts.append(min(file.tell(), total))
    return [(path, start, stop) for start, stop in zip(cuts, [*cuts[1:], total], strict=True)]


def count_words(piece: Range) -> dict[str, int]:
    """The words of a range and how often each occurs."""
    path, start, stop = piece
    counts: dict[str, int] = {}
    with path.open("rb") as file:
        file.seek(start)
        while start < stop:
            lines = file.readlines(min(READ_BYTES, stop - start))
            for line in lines:
                for word, one in words(line.decode()):
                    counts[word] = counts.get(word, 0) + one
            start = file.tell()
    return counts


def main() -> None:
    """Count, merge, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    ranges = [
        piece
        for path in sorted(asked.folder.iterdir())
        for piece in line_aligned_ranges(path, CHUNK_BYTES)
    ]
    totals: dict[str, int] = {}
    with Pool(asked.workers) as pool:
        for counts in pool.imap_unordered(count_words, ranges):
            for word, number in counts.items():
                totals[word] = totals.get(word, 0) + number
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    with asked.result.open("w") as result:
        for word in sorted(totals):
            result.write(encode(count(word, totals[word])) + "\n")


if __name__ == "__main__":
    main()

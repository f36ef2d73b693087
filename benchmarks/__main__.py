"""The benchmarks, side by side.

python -m benchmarks [--quick] [--runs N] [ROW...]
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import corpora
from benchmarks.measure import MB, CommandFailed
from benchmarks.rows import FULL, QUICK, ROWS, Line, Scale


def main() -> None:
    """Measure the rows asked for and print the table; exits with 1 where a target is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__.split("\n", 1)[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of: {', '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, once")
    parser.add_argument("--runs", type=int, help="how often each command is run")
    asked = parser.parse_args()
    if unknown := [name for name in asked.rows if name not in ROWS]:
        parser.error(f"no row {unknown[0]!r}; there are: {', '.join(ROWS)}")
    scale = QUICK if asked.quick else FULL
    if asked.runs:
        scale = replace(scale, runs=asked.runs)
    try:
        corpora.CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="room-", dir=corpora.CACHE) as room:
            lines = measure(asked.rows or list(ROWS), scale, Path(room))
    except CommandFailed as error:
        sys.exit(str(error))
    if not asked.quick and any(line.met is False for line in lines):
        sys.exit(1)


def measure(names: list[str], scale: Scale, room: Path) -> list[Line]:
    """Measure rows by name and print them as they come."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 130)
    began = time.monotonic()
    table = Table(
        title=f"Medians of {scale.runs} interleaved runs, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}",
        title_justify="left",
    )
    table.add_column("what")
    for heading in ("wall s", "cpu s", "peak MB"):
        table.add_column(heading, justify="right")
    for heading in ("against the line above it", "at most", ""):
        table.add_column(heading)
    lines = []
    for name in names:
        console.print(f"{name} ...", style="dim")
        for line in ROWS[name](scale, room):
            lines.append(line)
            _add(table, line)
        table.add_section()
    console.print(table)
    console.print(f"{time.monotonic() - began:.0f} s in all", style="dim")
    return lines


def _add(table: Table, line: Line) -> None:
    sample = line.sample
    table.add_row(
        line.what,
        f"{sample.wall_seconds:.2f}",
        f"{sample.cpu_seconds:.2f}",
        f"{sample.peak_bytes / MB:.0f}",
        line.reached,
        line.target,
        {None: "", True: "met", False: "missed"}[line.met],
    )


if __name__ == "__main__":
    main()

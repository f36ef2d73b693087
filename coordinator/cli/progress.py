"""What a person sees while a run goes on: live lines on a terminal, plain lines in a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from coordinator.cli.output import show_bytes, show_seconds
from coordinator.errors import Fate
from coordinator.machine.local import Watch
from coordinator.model import Answer, Message, RunRecord, Stage
from coordinator.steps.attempts import Again, Answered, Failed, Verdict

LINE_SECONDS = 5.0
INDENT = 10
DISPENSABLE = ("rate", "bytes", "retries", "records")  # in a narrow line, in this order


class Progress(Watch):
    """Counts what a run tells of itself, and shows it. Use as a context manager."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self.clock = clock
        self.began = clock()
        self.stage = "plan"
        self.shards = self.done = self.done_before = 0
        self.records = self.bytes = self.retries = self.failures = self.quarantined = 0
        self.stage_began = self.began
        self.stage_bytes = 0
        self._said = self.began
        self.begun = self.hopeless = False
        # A terminal that is dumb, or wanted without colours, gets lines as a pipe does.
        lively = console.is_terminal and not (console.is_dumb_terminal or console.no_color)
        self._live = (
            Live(self, console=console, refresh_per_second=8, transient=True) if lively else None
        )

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    # -- what is told ----------------------------------------------------------------------------

    def claimed(self, run: RunRecord) -> None:
        """The run is ours: from here on it can be taken up again."""
        self.begun = True

    def planning(self) -> None:
        """The inputs are being listed and cut."""
        self._say("plan: listing the inputs")

    def wave(self, run: RunRecord, stage: Stage, wave: int, shards: int) -> None:
        """A wave of shards is sent out."""
        total = run.plans[stage].shards
        self.stage, self.shards, self.done = stage, total, max(total - shards, 0)
        self.done_before = self.done
        self.stage_began, self.stage_bytes = self.clock(), 0
        self._say(f"{stage}: {shards} of {total} shards to do (wave {wave})")

    def heard(self, verdict: Verdict) -> None:
        """A shard has an entry, is tried again, or failed for good in this wave."""
        if isinstance(verdict, Answered):
            self._count(verdict.answer)
        elif isinstance(verdict, Again):
            self.retries += 1
            note = verdict.note
            line = f"{note.stage}: shard {note.shard} is tried again: {note.reason}"
            self._say(line, always=True)
        elif isinstance(verdict, Failed):
            self.failures += 1
            note = verdict.note
            self.hopeless |= note.fate is Fate.SHARD
            line = f"{note.stage}: shard {note.shard} failed: {note.error}: {note.reason}"
            self._say(line, always=True)

    def _count(self, answer: Answer) -> None:
        self.done += answer.outcome == "done"
        self.shards += answer.outcome == "split"
        self.stage_bytes += answer.bytes_in
        if self.stage == "map":
            self.records += answer.records_in
            self.bytes += answer.bytes_in
            self.quarantined += answer.quarantined
        if not self._live and self.clock() - self._said >= LINE_SECONDS:
            self._say(f"{self.stage}: {self._counts()}")

    def lost(self, message: Message, reason: str) -> None:
        """A worker died, and its message is received again."""
        self._say(
            f"{message.stage}: shard {message.shard.id} is received again: {reason}", always=True
        )

    def publishing(self) -> None:
        """All shards are done."""
        self.stage, self.shards, self.done = "publish", 0, 0
        self._say("publish: proving that nothing is missing or doubled")

    # -- how it looks ----------------------------------------------------------------------------

    def _say(self, line: str, *, always: bool = False) -> None:
        if self._live is None or always:
            self.console.print(Text(line), soft_wrap=self._live is None)
            self._said = self.clock()

    def _counts(self) -> str:
        return "  ".join([*self._way(), *self._sums().values()])

    def _way(self) -> list[str]:
        """How far the stage is."""
        pieces = [f"{self.done}/{self.shards} shards"] if self.shards else []
        if self.done_before < self.done < self.shards:
            each = (self.clock() - self.stage_began) / (self.done - self.done_before)
            pieces.append(f"{show_seconds(each * (self.shards - self.done))} left")
        return pieces

    def _sums(self) -> dict[str, str]:
        """What has been read, how fast, and what went wrong."""
        pieces = {"records": f"{self.records:,} records", "bytes": show_bytes(self.bytes)}
        if self.stage_bytes:
            seconds = max(self.clock() - self.stage_began, 1e-6)
            pieces["rate"] = f"{show_bytes(self.stage_bytes / seconds)}/s"
        if self.retries:
            pieces["retries"] = "1 retry" if self.retries == 1 else f"{self.retries:,} retries"
        if self.failures:
            pieces["failures"] = f"{self.failures:,} failed"
        if self.quarantined:
            pieces["quarantined"] = f"{self.quarantined:,} quarantined"
        return pieces

    def _fitting_sums(self, width: int) -> str:
        """The sums in one line, without the first of those that can be done without where it is
        too long."""
        pieces = self._sums()
        for name in DISPENSABLE:
            if len("  ".join(pieces.values())) > width:
                pieces.pop(name, None)
        return "  ".join(pieces.values())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        first = Table.grid(padding=(0, 2, 0, 0), expand=True)
        first.add_column(width=INDENT - 2)
        first.add_column(ratio=1)
        first.add_column(no_wrap=True)
        first.add_column(no_wrap=True, justify="right")
        first.add_row(
            Text(self.stage, style="bold"),
            ProgressBar(total=self.shards or None, completed=self.done, pulse=not self.shards),
            Text("  ".join(self._way())),
            Text(show_seconds(self.clock() - self.began), style="dim"),
        )
        sums = self._fitting_sums(options.max_width - INDENT)
        yield first
        yield Text(f"{'':{INDENT}}{sums}", style="dim", no_wrap=True, overflow="ellipsis")

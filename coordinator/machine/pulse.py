"""The pulse of a worker: signs that its attempt makes progress.

A record, a key, a piece read or written is a sign; time on the processor is none. The worker tells
its crew of them now and then, and the crew ends a worker that gives none for `timeout_seconds`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import copy
from functools import partial, wraps
from pathlib import Path
from types import GeneratorType
from typing import Any, Self

from coordinator.job import Job
from coordinator.model import File, Pinned
from coordinator.store.file.inputs import FileInputs
from coordinator.store.file.store import FileStore
from coordinator.store.ports import Got, Readable, Writer


class Pulse:
    """Counts the signs of progress of one process."""

    def __init__(self) -> None:
        self.beats = 0

    def beat(self) -> None:
        """There was progress."""
        self.beats += 1

    def through(self, supply: Iterable[Any]) -> Iterator[Any]:
        """The same items; each one taken is a sign."""
        for item in supply:
            self.beats += 1
            yield item


class Hurry:
    """The guard of a worker process: trips when the crew asks it to split off its rest. That it is
    asked is a sign of progress: a record is done."""

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse
        self._hurried = False

    def trip(self, *_: object) -> None:
        """SIGUSR1: stop the present shard at its next record."""
        self._hurried = True

    def reset(self) -> None:
        """Another shard begins."""
        self._hurried = False

    def tripped(self) -> bool:
        """Whether the present shard has to stop."""
        self._pulse.beats += 1
        return self._hurried


# ------------------------------------------------------------------------------------------------
# The job's code: what it takes and gives
# ------------------------------------------------------------------------------------------------


def beating(job: Job, pulse: Pulse) -> Job:
    """The same job; a record that its map of shards takes, a list that its map of lists is given,
    a key or a value that its reduce takes, and each output it yields, are signs."""
    changed = copy(job)
    if job.map_function is not None and job.form != "map":
        takes = pulse.through if job.form == "map_shard" else None
        changed.map_function = _beating(job.map_function, pulse, takes)
    if job.reduce_function is not None:
        changed.reduce_function = _beating_reduce(
            job.reduce_function, pulse, folded=job.combine_function is not None
        )
    return changed


def _beating(
    function: Callable[..., Any], pulse: Pulse, takes: Callable[[Any], Any] | None
) -> Callable[..., Any]:
    """A map of many records; `takes` is what it gets them through."""

    @wraps(_whole(function))
    def call(records: Any) -> Any:
        pulse.beats += 1
        return _given(function(takes(records) if takes else records), pulse)

    return call


def _beating_reduce(
    function: Callable[..., Any], pulse: Pulse, *, folded: bool
) -> Callable[..., Any]:
    @wraps(_whole(function))
    def call(key: Any, values: Any) -> Any:
        pulse.beats += 1
        return _given(function(key, values if folded else pulse.through(values)), pulse)

    return call


def _whole(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that others are made of by giving it some arguments: its annotations count."""
    while isinstance(function, partial):
        function = function.func
    return function


def _given(outputs: Any, pulse: Pulse) -> Any:
    return pulse.through(outputs) if type(outputs) is GeneratorType else outputs


# ------------------------------------------------------------------------------------------------
# Store and inputs: what is read and written
# ------------------------------------------------------------------------------------------------


class BeatingStore(FileStore):
    """A store of which every piece read and written is a sign."""

    def __init__(self, root: Path | str, pulse: Pulse) -> None:
        super().__init__(root)
        self._pulse = pulse

    def get(self, key: str) -> Got:
        self._pulse.beat()
        return super().get(key)

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        self._pulse.beat()
        return super().get_range(key, start, stop)

    def open(self, key: str, start: int = 0, stop: int | None = None) -> Readable:
        return _BeatingReader(super().open(key, start, stop), self._pulse)

    def writer(  # type: ignore[override]  # of the port, it is the same
        self, key: str, *, exclusive: bool = False
    ) -> Writer:
        return _BeatingWriter(super().writer(key, exclusive=exclusive), self._pulse)


class BeatingInputs(FileInputs):
    """Inputs of which every piece read is a sign."""

    def __init__(self, pulse: Pulse) -> None:
        super().__init__()
        self._pulse = pulse

    def open(self, pinned: Pinned, start: int, stop: int) -> Readable:
        return _BeatingReader(super().open(pinned, start, stop), self._pulse)


class _BeatingReader:
    def __init__(self, stream: Readable, pulse: Pulse) -> None:
        self._stream = stream
        self._pulse = pulse

    def read(self, size: int = -1, /) -> bytes:
        self._pulse.beats += 1
        return self._stream.read(size)

    def close(self) -> None:
        self._stream.close()


class _BeatingWriter:
    def __init__(self, writer: Writer, pulse: Pulse) -> None:
        self._writer = writer
        self._pulse = pulse

    def write(self, body: bytes, /) -> object:
        self._pulse.beats += 1
        return self._writer.write(body)

    def close(self) -> File:
        self._pulse.beats += 1
        return self._writer.close()

    def abort(self) -> None:
        self._writer.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._writer.__exit__(*exc)

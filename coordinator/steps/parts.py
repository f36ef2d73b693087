"""The outputs of one map attempt on their way into the store: encoded as they come, or scattered
by key, to a part; what was refused to a quarantine file.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Protocol, Self

from coordinator.formats.base import Encode
from coordinator.formats.jsonlines import encode_json
from coordinator.model import File, Part
from coordinator.rules.sharding import partitions
from coordinator.shuffle.scatter import WAITING_BYTES, Scatter
from coordinator.steps.workplace import Workplace
from coordinator.store.ports import Writer


class Outlet(Protocol):
    """Where outputs go: `take` those of one record, all or none; `settle` all taken so far.

    `take` raises for a record that is seen to have no encoding, and what was taken before stays.
    `settle` gives the records that turned out to have none, by their number among those taken
    since the last time, and why. In between, an outlet holds no more than it has room for.
    """

    def take(self, outputs: Iterable[Any], /) -> None: ...

    def settle(self) -> list[tuple[int, Exception]]: ...


class MapParts:
    """What a map attempt writes. Use as a context manager: what is not closed is not there.

    `outlet` takes the outputs of the map, `refuse` its quarantined records.
    """

    def __init__(self, place: Workplace, shard: str, attempt: str) -> None:
        self.place = place
        self.shard = shard
        self.attempt = attempt
        self.first_refusal = ""
        self._files = ExitStack()
        self._part: Writer | None = None
        self._quarantine: Writer | None = None
        self._encoded = Encoded(place.job.sink.encoder(), self._write)
        self._scatter: Scatter | None = None
        if place.job.keyed:
            limits = place.job.limits
            self._scatter = self._files.enter_context(
                Scatter(
                    partitions(place.run.plans["map"].bytes, limits),
                    place.job.combine_function,
                    limits.buffer_bytes,
                    place.job.declared_types(),
                )
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._files.__exit__(kind, error, trace)

    @property
    def outlet(self) -> Outlet:
        return self._encoded if self._scatter is None else self._scatter

    def refuse(self, key: str, offset: int, number: int | None, reason: str) -> None:
        """Quarantine a record: where it lies and why, nothing of its contents."""
        if self._quarantine is None:
            self.first_refusal = f"{key} at {offset}: {reason}"
            name = self.place.keys.quarantine("map", self.shard, self.attempt)
            self._quarantine = self._files.enter_context(self.place.store.writer(name))
        line = {"key": key, "offset": offset, "record": number, "reason": reason}
        if number is None:
            del line["record"]
        self._quarantine.write(encode_json(line) + b"\n")

    def close(self) -> tuple[tuple[Part, ...], File | None]:
        """Make the part and the quarantine file visible; gives them."""
        return self._close_part(), self._quarantine.close() if self._quarantine else None

    def _close_part(self) -> tuple[Part, ...]:
        segments: list[tuple[int, int]] = []
        records = self._encoded.records
        if self._scatter is not None:
            records = self._scatter.records
            for segment in self._scatter.segments():
                segments.append(self._write_segment(segment))
        if self._part is None:
            return ()
        file = self._part.close()
        return (Part(**file.model_dump(), records=records, segments=tuple(segments)),)

    def _write_segment(self, pieces: Iterable[bytes]) -> tuple[int, int]:
        length = crc = 0
        for piece in pieces:
            self._write(piece)
            length += len(piece)
            crc = zlib.crc32(piece, crc)
        return length, crc

    def _write(self, body: bytes) -> None:
        if self._part is None:
            extension = "pairs" if self._scatter else self.place.job.sink.extension
            name = self.place.keys.part("map", self.shard, self.attempt, extension)
            self._part = self._files.enter_context(self.place.store.writer(name))
        self._part.write(body)


class Encoded:
    """The outlet of a job without a reduce: outputs, encoded by the sink."""

    def __init__(self, encode: Encode, write: Callable[[bytes], None]) -> None:
        self.encode = encode
        self.write = write
        self.records = 0
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    def take(self, outputs: Iterable[Any], /) -> None:
        """Encode the outputs of one record; they are written once all of them are encoded."""
        encode = self.encode
        lines = [encode(output) for output in outputs]
        self._waiting += lines
        self.records += len(lines)
        self._waiting_bytes += len(lines[0]) if len(lines) == 1 else sum(map(len, lines))
        if self._waiting_bytes > WAITING_BYTES:
            self.settle()

    def settle(self) -> list[tuple[int, Exception]]:
        """Write what was taken; whatever has no encoding was found out before."""
        body = b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        if body:
            self.write(body)
        return []

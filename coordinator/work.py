"""Work: one shard, from its message to its entry.

The entry is the commit; all after it can be repeated. An attempt that finds an entry answers with
it; one that loses the race for it leaves parts that nothing names.
"""

from __future__ import annotations

import hashlib
import io
import resource
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from typing import IO, Any

from pydantic_core import from_json

from coordinator import ledger
from coordinator.errors import (
    AlreadyExists,
    AttemptFailed,
    DuplicateName,
    FanfoldError,
    KeyMissing,
    LedgerBroken,
    OutputInvalid,
    ReduceFailed,
)
from coordinator.job import Context, Job, outputs_of
from coordinator.keys import RunKeys
from coordinator.mapping import Guard, MapShard, reason_of
from coordinator.merging import result_name
from coordinator.model import (
    Answer,
    Entry,
    File,
    Message,
    Part,
    Receipt,
    RunRecord,
    Shard,
    ShardRef,
    Slice,
)
from coordinator.pacing import pieces
from coordinator.planning import read_shard
from coordinator.sharding import partitions, slice_bytes
from coordinator.shuffle import Gather, Scatter, segment_range
from coordinator.sinks import encode_json, encoder_of, extension_of, preamble_of
from coordinator.sources import Reader, reader_of
from coordinator.splitting import Slices, spread, walk, without_model
from coordinator.store import Inputs, Readable, Store, Writer

COPY_BYTES = 1024 * 1024
ATTEMPT_HOURS = 12


@dataclass(frozen=True, slots=True)
class Place:
    """Everything a worker of one run stands on."""

    store: Store
    inputs: Inputs
    job: Job
    run: RunRecord
    code_version: str
    clock: Callable[[], float]

    @property
    def keys(self) -> RunKeys:
        return RunKeys(self.run.job, self.run.run_id)


@dataclass(frozen=True, slots=True)
class Done:
    """What an attempt has to commit: with children, the shard was split."""

    receipt: Receipt
    covered: tuple[Slice, ...] = ()
    children: tuple[Slices, ...] = ()


def perform(
    place: Place,
    message: Message,
    *,
    attempt: str,
    guard: Guard,
    begin: Callable[[], bool] = lambda: False,
) -> Answer:
    """Do a shard, unless it has an entry already, and commit it.

    Args:
        attempt: random; names the parts of this attempt.
        guard: trips when the shard has to stop at a record boundary and split off its rest.
        begin: asked before any work is done; tells whether earlier attempts died of this shard.

    Raises:
        FanfoldError: with the fate of the shard; nothing was committed.
    """
    keys, stage, shard_id = place.keys, message.stage, message.shard.id
    standing = ledger.find(place.store, keys, stage, shard_id)
    if standing is None:
        shard = read_shard(place.store, keys, stage, message.shard)
        began = place.clock()
        done = _dissect(place, shard, attempt) if begin() else None
        if done is None:
            done = _execute(place, message, shard, attempt, guard)
        seconds = place.clock() - began
        if seconds > ATTEMPT_HOURS * 3600:
            raise AttemptFailed(
                f"The attempt took more than {ATTEMPT_HOURS} hours and does not commit."
            )
        standing = ledger.commit(place.store, keys, _entry(message.shard, stage, done, seconds))
    return answer_of(standing)


def answer_of(entry: Entry) -> Answer:
    """What is said of a shard that has an entry."""
    receipt = entry.receipt
    return Answer(
        shard=entry.shard,
        outcome=entry.outcome,
        attempt=receipt.attempt,
        records_in=receipt.records_in,
        records_out=receipt.records_out,
        quarantined=receipt.quarantined,
        bytes_in=receipt.bytes_in,
        bytes_out=receipt.bytes_out,
        seconds=receipt.seconds,
        peak_memory_bytes=receipt.peak_memory_bytes,
    )


def _entry(ref: ShardRef, stage: Any, done: Done, seconds: float) -> Entry:
    receipt = done.receipt.model_copy(
        update={"seconds": round(seconds, 6), "peak_memory_bytes": peak_memory_bytes()}
    )
    return Entry(
        shard=ref.id,
        stage=stage,
        outcome="split" if done.children else "done",
        digest=ref.digest,
        receipt=receipt,
        covered=done.covered,
        children=done.children,
    )


def _execute(place: Place, message: Message, shard: Shard, attempt: str, guard: Guard) -> Done:
    if message.stage == "map":
        return MapAttempt(place, shard, attempt).run(guard)
    if message.stage == "reduce":
        return _reduce(place, shard, attempt)
    return _merge(place, shard, attempt)


def peak_memory_bytes() -> int:
    """The most memory that this process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# ------------------------------------------------------------------------------------------------
# map
# ------------------------------------------------------------------------------------------------


class MapAttempt:
    """One attempt at a map shard: output either encoded as it comes, or scattered by key."""

    def __init__(self, place: Place, shard: Shard, attempt: str) -> None:
        self.place = place
        self.shard = shard
        self.attempt = attempt
        self.files = ExitStack()
        self.encode = encoder_of(place.job.sink)
        self.waiting: list[bytes] = []
        self.records_out = 0
        self.part: Writer | None = None
        self.quarantine: Writer | None = None
        self.scatter: Scatter | None = None

    def run(self, guard: Guard) -> Done:
        """Map the shard and close its parts."""
        place, job = self.place, self.place.job
        plan = place.run.plans["map"]
        with self.files:
            if job.keyed:
                self.scatter = self.files.enter_context(
                    Scatter(
                        partition_count(place.run, job),
                        job.combine_function,
                        job.limits.buffer_bytes,
                    )
                )
            reader = reader_of(job.source, place.inputs, job.limits.record_bytes, plan.header)
            mapped = MapShard(
                job,
                reader,
                self.shard.slices,
                outlet=self if self.scatter is None else self.scatter,
                refuse=self.refuse,
                guard=guard,
                context=lambda key, offset: Context(
                    job.name, place.run.run_id, self.shard.id, key, offset
                ),
            )
            mapped.run()
            parts = self._close_parts()
            refused = self.quarantine.close() if self.quarantine else None
        return Done(
            Receipt(
                attempt=self.attempt,
                records_in=mapped.records_in,
                records_out=sum(part.records for part in parts),
                mapped=mapped.records_in - mapped.quarantined - mapped.blank,
                quarantined=mapped.quarantined,
                blank=mapped.blank,
                bytes_in=sum(map(slice_bytes, mapped.covered)),
                bytes_out=sum(part.size for part in parts),
                code_version=place.code_version,
                parts=parts,
                quarantine=refused,
            ),
            covered=mapped.covered,
            children=_cut_rest(job, reader, mapped),
        )

    def take(self, outputs: Iterable[Any]) -> None:
        """Encode the outputs of one record; they are written once all of them are encoded."""
        encode = self.encode
        lines = [encode(output) for output in outputs]
        self.waiting += lines
        self.records_out += len(lines)

    def settle(self) -> list[tuple[int, Exception]]:
        """Write what was taken; whatever has no encoding was found out before."""
        body = b"".join(self.waiting)
        self.waiting.clear()
        if body:
            self._writer().write(body)
        return []

    def refuse(self, key: str, offset: int, number: int | None, reason: str) -> None:
        """Quarantine a record: where it lies and why, nothing of its contents."""
        if self.quarantine is None:
            name = self.place.keys.quarantine("map", self.shard.id, self.attempt)
            self.quarantine = self.files.enter_context(self.place.store.writer(name))
        line = {"key": key, "offset": offset, "record": number, "reason": reason}
        if number is None:
            del line["record"]
        self.quarantine.write(encode_json(line) + b"\n")

    def _writer(self) -> Writer:
        if self.part is None:
            extension = "pairs" if self.scatter else extension_of(self.place.job.sink)
            name = self.place.keys.part("map", self.shard.id, self.attempt, extension)
            self.part = self.files.enter_context(self.place.store.writer(name))
        return self.part

    def _close_parts(self) -> tuple[Part, ...]:
        segments: list[tuple[int, int]] = []
        records = self.records_out
        if self.scatter is not None:
            records = self.scatter.records
            for segment in self.scatter.segments():
                segments.append(self._write_segment(segment))
        if self.part is None:
            return ()
        file = self.part.close()
        return (Part(**file.model_dump(), records=records, segments=tuple(segments)),)

    def _write_segment(self, pieces: Iterable[bytes]) -> tuple[int, int]:
        length = crc = 0
        for piece in pieces:
            self._writer().write(piece)
            length += len(piece)
            crc = zlib.crc32(piece, crc)
        return length, crc


def _cut_rest(job: Job, reader: Reader, mapped: MapShard) -> tuple[Slices, ...]:
    """What a shard stopped before, as children. For a map of batches it is one child, so that
    batches stay cut at multiples of their size."""
    if not mapped.rest:
        return ()
    if job.form == "map_batch":
        return (mapped.rest,)
    done = sum(map(slice_bytes, mapped.covered))
    left = sum(map(slice_bytes, mapped.rest))
    return spread(mapped.rest, pieces(done, left), reader)


def _dissect(place: Place, shard: Shard, attempt: str) -> Done | None:
    """Take apart a shard that kills its workers, running no code of the job's: cut it into
    children, or, when one record is left, quarantine that. None where there is nothing to cut."""
    job = place.job
    if not shard.slices or not job.splittable:
        return None
    plan = place.run.plans["map"]
    reader = reader_of(
        without_model(job.source), place.inputs, job.limits.record_bytes, plan.header
    )
    walked = walk(job, reader, shard.slices)
    if walked.children:
        return Done(
            Receipt(attempt=attempt, code_version=place.code_version), children=walked.children
        )
    if not walked.records:
        return None
    refusing = job.with_map(_refuse_killer)
    refusing.source = without_model(job.source)
    return MapAttempt(replace(place, job=refusing), shard, attempt).run(NEVER)


def _refuse_killer(record: object) -> Iterator[object]:
    raise PoisonRecord("it killed its worker")


class PoisonRecord(ValueError):
    """A record that ended every process that mapped it."""


class _Never:
    """A guard for what has no deadline."""

    tripped = False


NEVER = _Never()


def partition_count(run: RunRecord, job: Job) -> int:
    """The number of reduce shards, from what the run is pinned to."""
    return partitions(run.plans["map"].bytes, job.limits)


# ------------------------------------------------------------------------------------------------
# reduce
# ------------------------------------------------------------------------------------------------


def _reduce(place: Place, shard: Shard, attempt: str) -> Done:
    """Gather one partition from every part of the map stage, in shard order, and reduce its keys."""
    job, keys = place.job, place.keys
    snapshot = place.run.plans["reduce"].snapshot
    partition = shard.partition
    if snapshot is None or partition is None:
        raise LedgerBroken(f"The plan of the reduce stage of run {keys.run_id} lists no parts.")
    encode = encoder_of(job.sink)
    name = keys.part("reduce", shard.id, attempt, extension_of(job.sink))
    read = groups = records = 0
    with Gather(job.combine_function, job.limits.buffer_bytes) as gathered:
        for part in ledger.read_parts(place.store, snapshot):
            read += part.segments[partition][0]
            lines = _segment_lines(place.store, part, partition)
            with _damage_first(lines):
                gathered.take(lines)
        with place.store.writer(name) as writer:
            waiting: list[bytes] = []
            for key, values in gathered.groups():
                groups += 1
                waiting += _reduced(job, key, values, encode)
                if len(waiting) >= 1000:
                    records += len(waiting)
                    writer.write(b"".join(waiting))
                    waiting.clear()
            records += len(waiting)
            writer.write(b"".join(waiting))
            file = writer.close()
    return Done(
        Receipt(
            attempt=attempt,
            records_in=groups,
            records_out=records,
            mapped=groups,
            bytes_in=read,
            bytes_out=file.size,
            code_version=place.code_version,
            parts=(Part(**file.model_dump(), records=records),),
        )
    )


def _reduced(job: Job, key: Any, values: Any, encode: Callable[[Any], bytes]) -> list[bytes]:
    """The encoded output records of one key."""
    function = job.reduce_function
    assert function is not None  # noqa: S101  a reduce stage is planned for keyed jobs only
    try:
        result = function(key, values)
        records = outputs_of(result, "reduce") if isinstance(result, Iterator) else [result]
        return [encode(record) for record in records if record is not None]
    except FanfoldError:
        raise
    except Exception as error:
        raise ReduceFailed(f"reduce of key {str(key)[:80]!r} raised {reason_of(error)}") from error


def _segment_lines(store: Store, part: Part, partition: int) -> Iterator[bytes]:
    """The lines of one partition's segment of a part, held against its checksum."""
    start, stop = segment_range(part.segments, partition)
    if start == stop:
        return
    crc = 0
    length = 0
    with closing(_open_part(store, part, start, stop)) as stream:
        for line in io.BufferedReader(RawStream(stream), COPY_BYTES):
            crc = zlib.crc32(line, crc)
            length += len(line)
            if length <= stop - start:
                yield line
    if (length, crc) != tuple(part.segments[partition]):
        raise _broken(store, part)


@contextmanager
def _damage_first(pieces: Iterator[bytes]) -> Iterator[None]:
    """Should the reader of a part fail, hold all of the part against its checksum: where it is
    damaged, that is to blame and nobody's code."""
    try:
        yield
    except Exception:
        for _ in pieces:
            pass
        raise


def _open_part(store: Store, part: Part, start: int = 0, stop: int | None = None) -> Readable:
    try:
        return store.open(part.key, start, stop)
    except KeyMissing as error:
        raise _broken(store, part) from error


def _broken(store: Store, part: Part | File) -> LedgerBroken:
    return LedgerBroken(
        f"{store.url(part.key)} is missing or is not what its entry says. Set the entry aside with "
        "`fanfold repair`; then take the run up again."
    )


class RawStream(io.RawIOBase):
    """A `Readable` as a raw stream, so that the standard library can buffer it."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        body = self._stream.read(len(buffer))
        buffer[: len(body)] = body
        return len(body)


# ------------------------------------------------------------------------------------------------
# merge
# ------------------------------------------------------------------------------------------------


def _merge(place: Place, shard: Shard, attempt: str) -> Done:
    """Fold parts back into results, in order, checking every part on its way."""
    if place.job.sink.kind == "Objects":
        results = list(_unpack(place, shard.parts))
    else:
        results = [_concatenate(place, shard)]
    return Done(
        Receipt(
            attempt=attempt,
            records_in=sum(part.records for part in shard.parts),
            records_out=sum(part.records for part in shard.parts),
            mapped=sum(part.records for part in shard.parts),
            bytes_in=sum(part.size for part in shard.parts),
            bytes_out=sum(result.size for result in results),
            code_version=place.code_version,
            results=tuple(results),
        )
    )


def _concatenate(place: Place, shard: Shard) -> File:
    key = place.keys.result(result_name(place.job, shard.id))
    pieces = (piece for part in shard.parts for piece in _checked(place.store, part))
    return _write_result(place.store, key, preamble_of(place.job.sink), pieces)


def _unpack(place: Place, parts: Sequence[Part]) -> Iterator[File]:
    """The blobs of an Objects sink, each as a result of its own."""
    for part in parts:
        pieces = _checked(place.store, part)
        with (
            _damage_first(pieces),
            closing(io.BufferedReader(RawStream(_Pieces(pieces)), COPY_BYTES)) as stream,
        ):
            while header := stream.readline():
                name, size = from_json(header)
                key = place.keys.result(name)
                yield _write_result(place.store, key, b"", _take(stream, size))


def _take(stream: IO[bytes], size: int) -> Iterator[bytes]:
    while size:
        piece = stream.read(min(size, COPY_BYTES))
        if not piece:
            raise OutputInvalid("A part ends within a blob.")
        size -= len(piece)
        yield piece


def _checked(store: Store, part: Part) -> Iterator[bytes]:
    """A part in pieces; after the last, its size and checksum are held against its entry."""
    digest = hashlib.sha256()
    size = 0
    with closing(_open_part(store, part)) as stream:
        while piece := stream.read(COPY_BYTES):
            digest.update(piece)
            size += len(piece)
            yield piece
    if (size, digest.hexdigest()) != (part.size, part.sha256):
        raise _broken(store, part)


def _write_result(store: Store, key: str, preamble: bytes, pieces: Iterable[bytes]) -> File:
    """Write a result, put-if-absent; one that is there already must be the same.

    Raises:
        DuplicateName: another result has this name.
    """
    digest = hashlib.sha256(preamble)
    size = len(preamble)
    with store.writer(key, exclusive=True) as writer:
        writer.write(preamble)
        for piece in pieces:
            digest.update(piece)
            size += len(piece)
            writer.write(piece)
        wanted = File(key=key, size=size, sha256=digest.hexdigest())
        try:
            return writer.close()
        except AlreadyExists:
            if file_at(store, key) == wanted:
                return wanted
    raise DuplicateName(
        f"There is another result {store.url(key)}. Two outputs have one name, or the job's code "
        "changed while its results were being merged: take a new run id."
    )


def file_at(store: Store, key: str) -> File | None:
    """What lies under a key, read whole; None where nothing does."""
    digest = hashlib.sha256()
    size = 0
    try:
        stream = store.open(key)
    except KeyMissing:
        return None
    with closing(stream):
        while piece := stream.read(COPY_BYTES):
            digest.update(piece)
            size += len(piece)
    return File(key=key, size=size, sha256=digest.hexdigest())


class _Pieces:
    """An iterator of pieces as a `Readable`."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""

    def read(self, size: int = -1, /) -> bytes:
        if not self._held:
            self._held = next(self._pieces, b"")
        taken, self._held = self._held[:size], self._held[size:]
        return taken

    def close(self) -> None:
        """The pieces close what they read."""

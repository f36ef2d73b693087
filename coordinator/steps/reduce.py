"""Reduce: one partition, gathered from every part of the map stage, key by key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from reprlib import Repr
from typing import Any

from coordinator.errors import FanfoldError, LedgerBroken, ReduceFailed, Unencodable, reason_of
from coordinator.formats.base import Encode
from coordinator.job import Job
from coordinator.limits import MIB
from coordinator.model import Part, Receipt, Shard
from coordinator.shuffle.gather import Gather
from coordinator.state.files import damage_first, segments_in_order
from coordinator.state.snapshots import read_parts
from coordinator.steps.workplace import Done, Workplace

WRITE_BYTES = 1 * MIB
KEY_LETTERS = 80

_KEY = Repr()
_KEY.maxstring = _KEY.maxother = _KEY.maxlong = KEY_LETTERS


def reduce_shard(place: Workplace, shard: Shard, attempt: str) -> Done:
    """Gather one partition from every part of the map stage, in shard order, and reduce its keys."""
    job, keys = place.job, place.keys
    snapshot = place.run.plans["reduce"].snapshot
    partition = shard.partition
    if snapshot is None or partition is None:
        raise LedgerBroken(f"The plan of the reduce stage of run {keys.run_id} lists no parts.")
    encode = job.sink.encoder()
    name = keys.part("reduce", shard.id, attempt, job.sink.extension)
    read = groups = records = 0
    with Gather(job.combine_function, job.limits.buffer_bytes, job.declared_types()) as gathered:
        for part, lines in segments_in_order(
            place.store,
            read_parts(place.store, snapshot),
            partition,
            lanes=place.lanes("reduce"),
            ahead_bytes=job.limits.buffer_bytes,
        ):
            read += part.segments[partition][0]
            with damage_first(lines):
                gathered.take(lines)
        with place.store.writer(name) as writer:
            waiting = bytearray()
            for key, values in gathered.groups():
                groups += 1
                for line in _reduced(job, key, values, encode):
                    records += 1
                    waiting += line
                    if len(waiting) >= WRITE_BYTES:
                        writer.write(bytes(waiting))
                        waiting.clear()
            writer.write(bytes(waiting))
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


def _reduced(job: Job, key: Any, values: Any, encode: Encode) -> Iterable[bytes]:
    """The encoded output records of one key.

    Raises:
        ReduceFailed: the job's reduce raised, or gave what its sink can't take.
    """
    function = job.reduce_function
    assert function is not None  # noqa: S101  a reduce stage is planned for keyed jobs only
    try:
        result = function(key, values)
        if type(result) is not dict and isinstance(result, Iterator):
            return _yielded(key, result, encode)
        return () if result is None else (encode(result),)
    except FanfoldError:
        raise
    except Exception as error:
        raise _failed(key, error) from error


def _yielded(key: Any, records: Iterator[Any], encode: Encode) -> Iterator[bytes]:
    """What the job's reduce yields for one key, encoded."""
    try:
        for record in records:
            if record is not None:
                yield encode(record)
    except FanfoldError:
        raise
    except Exception as error:
        raise _failed(key, error) from error


def _failed(key: Any, error: Exception) -> ReduceFailed:
    if isinstance(error, Unencodable):
        return ReduceFailed(f"reduce of key {told(key)} gave what it may not: {error}")
    return ReduceFailed(f"reduce of key {told(key)} raised {reason_of(error)}")


def told(key: Any) -> str:
    """A key as an error names it, of whatever size it is."""
    try:
        return _KEY.repr(key)
    except ValueError:  # Python refuses the decimal text of the longest integers
        return f"of type {type(key).__name__}"

"""Reduce: one partition, gathered from every part of the map stage, key by key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from coordinator.errors import FanfoldError, LedgerBroken, ReduceFailed, reason_of
from coordinator.formats.base import Encode
from coordinator.job import Job
from coordinator.model import Part, Receipt, Shard
from coordinator.shuffle.gather import Gather
from coordinator.state.files import damage_first, segment_lines
from coordinator.state.snapshots import read_parts
from coordinator.steps.workplace import Done, Workplace, each_output

RECORDS_A_WRITE = 1000


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
    with Gather(job.combine_function, job.limits.buffer_bytes) as gathered:
        for part in read_parts(place.store, snapshot):
            read += part.segments[partition][0]
            lines = segment_lines(place.store, part, partition)
            with damage_first(lines):
                gathered.take(lines)
        with place.store.writer(name) as writer:
            waiting: list[bytes] = []
            for key, values in gathered.groups():
                groups += 1
                waiting += _reduced(job, key, values, encode)
                if len(waiting) >= RECORDS_A_WRITE:
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


def _reduced(job: Job, key: Any, values: Any, encode: Encode) -> list[bytes]:
    """The encoded output records of one key."""
    function = job.reduce_function
    assert function is not None  # noqa: S101  a reduce stage is planned for keyed jobs only
    try:
        result = function(key, values)
        records = each_output(result, "reduce") if isinstance(result, Iterator) else [result]
        return [encode(record) for record in records if record is not None]
    except FanfoldError:
        raise
    except Exception as error:
        raise ReduceFailed(f"reduce of key {str(key)[:80]!r} raised {reason_of(error)}") from error

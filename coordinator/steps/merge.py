"""Merge: parts folded back into results, in order, every part checked on its way."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain

from coordinator.errors import AlreadyExists, DuplicateName
from coordinator.model import File, Part, Receipt, Shard
from coordinator.rules.stages import result_name
from coordinator.state.files import COPY_BYTES, damage_first, parts_in_order, write_once
from coordinator.steps.workplace import Done, Workplace
from coordinator.store.ports import Store
from coordinator.store.streams import Pieces, RawStream


def merge_shard(place: Workplace, shard: Shard, attempt: str) -> Done:
    """Fold parts back into results, in order, checking every part on its way."""
    if place.job.sink.names_results:
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


def _concatenate(place: Workplace, shard: Shard) -> File:
    key = place.keys.result(result_name(place.job, shard.id), place.results_draft)
    with closing(parts_in_order(place.store, shard.parts, place.lanes("merge"))) as parts:
        pieces = chain.from_iterable(pieces for _, pieces in parts)
        return _write_result(place.store, key, place.job.sink.preamble(), pieces)


def _unpack(place: Workplace, parts: Sequence[Part]) -> Iterator[File]:
    """The blobs of an Objects sink, each as a result of its own."""
    for _, pieces in parts_in_order(place.store, parts, place.lanes("merge")):
        with (
            damage_first(pieces),
            closing(io.BufferedReader(RawStream(Pieces(pieces)), COPY_BYTES)) as stream,
        ):
            for name, body in place.job.sink.unpack(stream):
                key = place.keys.result(name, place.results_draft)
                yield _write_result(place.store, key, b"", body)


def _write_result(store: Store, key: str, preamble: bytes, pieces: Iterable[bytes]) -> File:
    """Write a result, put-if-absent; one that is there already must be the same.

    Raises:
        DuplicateName: another result has this name.
    """
    try:
        return write_once(store, key, chain((preamble,), pieces))
    except AlreadyExists as error:
        raise DuplicateName(
            f"There is another result {store.url(key)}. Two outputs have one name, or the job's code "
            "changed while its results were being merged: take a new run id."
        ) from error

"""Cutting what is left of a shard into children, and walking a shard that kills its worker.

Children follow the prefix and each other in record order, so the result is the same as of the
shard uncut. A cut lies between two records; of byte ranges any byte will do, because a range owns
the records that start in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from coordinator.job import Job, Source
from coordinator.mapping import cut_slice
from coordinator.model import Slice
from coordinator.pacing import MOST_CHILDREN
from coordinator.sharding import slice_bytes
from coordinator.sources import Batch, Reader

Slices = tuple[Slice, ...]


def spread(rest: Slices, pieces: int, reader: Reader) -> tuple[Slices, ...]:
    """What is left of a shard, as at most `pieces` children of about the same number of bytes."""
    total = sum(map(_weight, rest))
    share = max(-(-total // max(pieces, 1)), 1)
    children: list[Slices] = []
    child: list[Slice] = []
    filled = 0
    for piece in rest:
        left: Slice | None = piece
        while left is not None:
            room = share - filled
            head, left = _cut_at(left, room, cuttable=reader.cuts_bytes(left.key))
            child.append(head)
            filled += _weight(head)
            if filled >= share and len(children) < pieces - 1:
                children.append(tuple(child))
                child, filled = [], 0
    if child:
        children.append(tuple(child))
    return tuple(children)


def _cut_at(piece: Slice, room: int, *, cuttable: bool) -> tuple[Slice, Slice | None]:
    """The first `room` bytes of a slice, and the rest of it, if it can be cut there."""
    if not cuttable or piece.unit != "bytes" or piece.stop - piece.start <= room:
        return piece, None
    place = piece.start + max(room, 1)
    return piece.model_copy(update={"stop": place}), piece.model_copy(update={"start": place})


def _weight(piece: Slice) -> int:
    return max(slice_bytes(piece), 1)


# ------------------------------------------------------------------------------------------------
# A shard that kills its worker
# ------------------------------------------------------------------------------------------------


def without_model(source: Source) -> Source:
    """A source whose records are not validated: reading it runs no code of the user's."""
    return replace(source, model=None) if hasattr(source, "model") else source  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Walked:
    """What a walk over a shard's records found: how many there are, and the children.

    With one record there are no children; `suspect` is the batch it lies in.
    """

    records: int
    children: tuple[Slices, ...]


def walk(job: Job, reader: Reader, slices: Sequence[Slice]) -> Walked:
    """Cut a shard into up to 100 children of about the same number of records, running no code
    of the job's. `reader` reads without a model.

    A map of batches keeps its cuts at multiples of its size while it has more than one batch.
    """
    records = sum(len(batch.records) for batch in _batches(reader, slices))
    if records <= 1:
        return Walked(records, ())
    each = -(-records // MOST_CHILDREN)
    size = job.batch_size
    if size > 1 and records > size:
        each = -(-each // size) * size
    return Walked(records, tuple(_children(reader, slices, each)))


def _children(reader: Reader, slices: Sequence[Slice], each: int) -> Iterator[Slices]:
    """The slices between every `each` records."""
    child: list[Slice] = []
    number = 0
    for piece in slices:
        left = piece
        for batch in reader.batches(piece):
            for record in range(-number % each, len(batch.records), each):
                if number + record == 0:
                    continue  # whatever lies before the shard's first record goes with it
                unit = batch.unit(record)
                head, tail = cut_slice(
                    left,
                    batch.offset(unit),
                    batch.ordinal + unit,
                    bytewise=reader.cuts_bytes(piece.key),
                )
                yield (*child, *head)
                child = []
                (left,) = tail
            number += len(batch.records)
        child.append(left)
    yield tuple(child)


def _batches(reader: Reader, slices: Iterable[Slice]) -> Iterator[Batch]:
    for piece in slices:
        yield from reader.batches(piece)

"""Split: when a shard stops before its end, and how what is left of it is cut into children.

Children follow the prefix and each other in record order, so the result is the same as of the
shard uncut. A cut lies between two records; of byte ranges any byte will do, because a range owns
the records that start in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from coordinator.errors import RunCancelled, Superseded
from coordinator.formats.base import Batch, Reader
from coordinator.job import Job
from coordinator.model import Message, Slice
from coordinator.rules.decide import unwanted
from coordinator.rules.pacing import MOST_CHILDREN, is_skewed, pieces
from coordinator.rules.slices import Slices, cut_bytes, cut_slice, slice_bytes, slice_weight
from coordinator.state import ledger, runs
from coordinator.steps.workplace import Workplace

SAMPLED = 9


def look_around(place: Workplace, message: Message) -> Callable[[float], bool]:
    """Whether a shard that has run so many seconds should split off its rest.

    Raises (when called):
        RunCancelled: the run was cancelled.
        Superseded: another owner or epoch has the run.
    """

    def look(elapsed_seconds: float) -> bool:
        run = runs.read(place.store, place.keys)
        if (reason := unwanted(run, message)) is not None:
            raise (RunCancelled if run.state == "cancelled" else Superseded)(reason)
        if message.stage != "map":
            return False
        done = list(place.store.list(place.keys.ledger("map")))
        sample = list(islice(done, 0, None, max(len(done) // SAMPLED, 1)))
        taken = ledger.seconds_of(place.store, sample)
        return is_skewed(elapsed_seconds, taken, len(done), run.plans["map"].shards)

    return look


def share_rest(job: Job, reader: Reader, covered: Slices, rest: Slices) -> tuple[Slices, ...]:
    """What a shard stopped before, as children. For a map of batches it is one child, so that
    batches stay cut at multiples of their size."""
    if not rest:
        return ()
    if job.form == "map_batch":
        return (rest,)
    done, left = sum(map(slice_bytes, covered)), sum(map(slice_bytes, rest))
    return share_out(rest, pieces(done, left), reader)


def share_out(rest: Slices, pieces: int, reader: Reader) -> tuple[Slices, ...]:
    """What is left of a shard, as at most `pieces` children of about the same number of bytes."""
    total = sum(map(slice_weight, rest))
    share = -(-total // pieces)
    children: list[Slices] = []
    child: list[Slice] = []
    filled = 0
    for piece in rest:
        left: Slice | None = piece
        while left is not None:
            room = share - filled
            head, left = cut_bytes(left, room, cuttable=reader.cuts_bytes(left.key))
            child.append(head)
            filled += slice_weight(head)
            if filled >= share:
                children.append(tuple(child))
                child, filled = [], 0
    if child:
        children.append(tuple(child))
    return tuple(children)


# ------------------------------------------------------------------------------------------------
# A shard that kills its worker
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Walked:
    """What a walk over a shard's records found: how many there are, and the children. With one
    record there are none."""

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
    if records > size:
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

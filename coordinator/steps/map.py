"""Map: one shard from its slices to its parts, stopping between any two records when asked to.

A record that the source or the map refuses goes to quarantine with its place and reason; nothing
of it reaches the output. An error of the tree is nobody's record: it passes through, also where it
was raised within the job's code, by what the framework gave it to read, and that code caught it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from coordinator.errors import FanfoldError, MapFailed, Retry, reason_of
from coordinator.formats.base import Batch, Reader, places
from coordinator.job import Job
from coordinator.model import Receipt, Shard, Slice
from coordinator.rules.slices import cut_slice, slice_bytes
from coordinator.steps.parts import MapParts, Outlet
from coordinator.steps.split import share_rest
from coordinator.steps.workplace import Done, Guard, Workplace, each_output

OUTPUTS_AT_ONCE = 1000
RECORDS_A_SETTLE = 256
_END = object()


@dataclass(frozen=True, slots=True)
class Context:
    """What a map with a second parameter learns of its record.

    `idempotency_key` is the same for the same record in every attempt of the run: a map that
    writes elsewhere hands it on, because a record may be mapped more than once. `resource` is what
    the job's setup has made.
    """

    job: str
    run_id: str
    shard: str
    key: str
    offset: int
    resource: Any = None

    @property
    def idempotency_key(self) -> str:
        return f"{self.job}/{self.run_id}/{self.key}@{self.offset}"


def map_shard(place: Workplace, shard: Shard, attempt: str, guard: Guard) -> Done:
    """One attempt at a map shard; what it stopped before becomes children."""
    job, run = place.job, place.run
    reader = job.source.reader(place.inputs, job.limits.record_bytes, run.plans["map"].header)
    resource = job.resource()
    with MapParts(place, shard.id, attempt) as parts:
        mapped = MapShard(
            job,
            reader,
            shard.slices,
            outlet=parts.outlet,
            refuse=parts.refuse,
            guard=guard,
            context=lambda key, offset: Context(
                job.name, run.run_id, shard.id, key, offset, resource
            ),
            insist=place.insist,
        )
        mapped.run()
        written, refused = parts.close()
    return Done(
        Receipt(
            attempt=attempt,
            records_in=mapped.records_in,
            records_out=sum(part.records for part in written),
            mapped=mapped.records_in - mapped.quarantined - mapped.blank,
            quarantined=mapped.quarantined,
            blank=mapped.blank,
            bytes_in=sum(map(slice_bytes, mapped.covered)),
            bytes_out=sum(part.size for part in written),
            code_version=place.code_version,
            parts=written,
            quarantine=refused,
        ),
        covered=mapped.covered,
        children=share_rest(job, reader, mapped.covered, mapped.rest),
        first_refusal=parts.first_refusal,
    )


class Refuse(Protocol):
    """Takes a quarantined record: object, offset in bytes, its number in an object that is cut
    by record numbers, and the reason."""

    def __call__(self, key: str, offset: int, number: int | None, reason: str, /) -> None: ...


class MapShard:
    """Maps the slices of one shard, and keeps count of where it is.

    After `run`, `covered` and `rest` are the slices done and not done.
    """

    def __init__(
        self,
        job: Job,
        reader: Reader,
        slices: Sequence[Slice],
        *,
        outlet: Outlet,
        refuse: Refuse,
        guard: Guard,
        context: Callable[[str, int], Context],
        insist: Callable[[Callable[[], None], Retry], None],
    ) -> None:
        self.job = job
        self.reader = reader
        self.slices = slices
        self.outlet = outlet
        self.refuse = refuse
        self.guard = guard
        self.context = context
        self.insist = insist
        self.records_in = 0
        self.quarantined = 0
        self.blank = 0
        self.rest: tuple[Slice, ...] = ()
        self.covered: tuple[Slice, ...] = tuple(slices)
        self._call = _caller(job)
        self._wants_context = job.wants_context
        self._supplied = False  # whether a map of whole shards was given all there is
        self._met: BaseException | None = None  # what it was given instead

    def run(self) -> None:
        """Map every record, or all up to where the guard tripped.

        Raises:
            InputChanged: an object is not as pinned, also where only a part of it was read.
        """
        with closing(self._batches()) as found:
            try:
                self._map(found)
            except Exception:
                self._raise_what_was_met()  # the cause, where this is what the job made of it
                raise
            self._raise_what_was_met()

    def _map(self, found: Iterator[Batch]) -> None:
        if self.job.form == "map_shard":
            self._map_shard(found)
        elif self.job.form == "map_batch":
            self._map_batches(found)
        else:
            self._map_records(found)

    def _raise_what_was_met(self) -> None:
        """Raise what went wrong with reading within the job's code, which may have caught it."""
        if self._met is not None:
            raise self._met
        self.reader.settle()

    # -- the three forms -------------------------------------------------------------------------

    def _map_records(self, found: Iterator[Batch]) -> None:
        for batch in found:
            refusals: list[tuple[int, str]] = []
            done = self._map_each(batch, refusals)
            if done < len(batch.records):
                batch, tail = batch.split(done)
                self._account(batch, refusals)
                self._stop_before(tail)
                return
            self._account(batch, refusals)

    def _map_each(self, batch: Batch, refusals: list[tuple[int, str]]) -> int:
        """Map the records of a batch one by one; gives how many before the guard tripped."""
        for start in range(0, len(batch.records), RECORDS_A_SETTLE):
            stop = min(start + RECORDS_A_SETTLE, len(batch.records))
            done = self._map_some(batch, start, stop, refusals)
            if done < stop:
                return done
        return len(batch.records)

    def _map_some(
        self, batch: Batch, start: int, stop: int, refusals: list[tuple[int, str]]
    ) -> int:
        """Map the records [start, stop) of a batch; gives how far it came."""
        call, take, guard, wants_context = (
            self._call,
            self.outlet.take,
            self.guard,
            self._wants_context,
        )
        anything = self.records_in > 0
        done = stop
        taken: list[int] = []
        for number, record in enumerate(batch.records[start:stop], start):
            if guard.tripped() and (anything or number):
                done = number
                break
            try:
                if wants_context:
                    place = self.context(batch.slice.key, batch.offset(batch.unit(number)))
                    take(call(record, place))
                else:
                    take(call(record))
                taken.append(number)
            except Retry as error:
                try:
                    refused = self._map_again(batch, number, error)
                except Retry:
                    if not (anything or number):
                        raise
                    done = number  # what is done is kept, and the rest tried again as another shard
                    break
                if refused is None:
                    taken.append(number)
                else:
                    refusals.append((batch.unit(number), reason_of(refused)))
            except FanfoldError:
                raise
            except Exception as error:  # noqa: BLE001  a record its map refuses
                refusals.append((batch.unit(number), reason_of(error)))
        self.reader.settle()
        for which, refusal in self.outlet.settle():
            refusals.append((batch.unit(taken[which]), reason_of(refusal)))
        return done

    def _map_again(self, batch: Batch, number: int, error: Retry) -> Exception | None:
        """Map a record again, as its job wants; gives the error by which it is refused, if it is."""
        record = batch.records[number]
        place = self.context(batch.slice.key, batch.offset(batch.unit(number)))
        given = (record, place) if self._wants_context else (record,)
        try:
            self.insist(lambda: self.outlet.take(self._call(*given)), error)
        except FanfoldError:
            raise
        except Exception as refused:  # noqa: BLE001  as of any record
            return refused
        return None

    def _map_batches(self, found: Iterator[Batch]) -> None:
        for group in _groups(found, self.job.batch_size):
            if self.guard.tripped() and self.records_in:
                self._stop_before(group[0])
                return
            refusals: list[list[tuple[int, str]]] = [[] for _ in group]
            records = [record for batch in group for record in batch.records]
            try:
                blamed = self._try(records) if records else None
            except Retry:
                if not self.records_in:
                    raise
                self._stop_before(group[0])
                return
            if blamed is not None:
                self._map_one_at_a_time(group, refusals)
            for batch, refused in zip(group, refusals, strict=True):
                self._account(batch, refused)

    def _map_one_at_a_time(self, group: list[Batch], refusals: list[list[tuple[int, str]]]) -> None:
        """Find the records of a failed group that are to blame, by mapping each by itself."""
        for batch, refused in zip(group, refusals, strict=True):
            for number, record in enumerate(batch.records):
                if (refusal := self._try([record])) is not None:
                    refused.append((batch.unit(number), reason_of(refusal)))

    def _try(self, records: list[Any]) -> Exception | None:
        """Map a list of records; nothing of it reaches the output if it gives an error."""

        def once() -> None:
            self.outlet.take(self._call(records))

        refused: Exception | None = None
        try:
            try:
                once()
            except Retry as error:
                self.insist(once, error)
        except FanfoldError:
            raise
        except Exception as error:  # noqa: BLE001  the map refuses some record of these
            refused = error
        self.reader.settle()
        if refused is not None:
            return refused
        return next((refusal for _, refusal in self.outlet.settle()), None)

    def _map_shard(self, found: Iterator[Batch]) -> None:
        supply = self._supply(found)
        try:
            outputs = iter(self._call(supply))
            while chunk := list(islice(outputs, OUTPUTS_AT_ONCE)):
                self.outlet.take(chunk)
                for _, error in self.outlet.settle():
                    raise error
        except FanfoldError:
            raise
        except Exception as error:
            raise MapFailed(f"map_shard raised {reason_of(error)}") from error
        if next(supply, _END) is not _END or not self._supplied:
            raise MapFailed("map_shard ended before it had read all of its shard's records.")

    def _supply(self, found: Iterator[Batch]) -> Iterator[Any]:
        """The records of the shard one by one, accounted for batch by batch."""
        can_stop = self.job.splittable
        try:
            for batch in found:
                for number, record in enumerate(batch.records):
                    if can_stop and self.guard.tripped() and (self.records_in or number):
                        head, tail = batch.split(number)
                        self._account(head, [])
                        self._stop_before(tail)
                        self._supplied = True
                        return
                    yield record
                self._account(batch, [])
            self._supplied = True
        except GeneratorExit:  # the job wants no more of it
            raise
        except BaseException as error:
            self._met = error
            raise

    # -- where we are ----------------------------------------------------------------------------

    def _batches(self) -> Generator[Batch, None, None]:
        for piece in self.slices:
            yield from self.reader.batches(piece)

    def _account(self, batch: Batch, refusals: list[tuple[int, str]]) -> None:
        """Count a finished batch, and quarantine what was refused in it, in order."""
        self.records_in += batch.records_in
        self.blank += len(batch.blank)
        refused = [*batch.refused, *refusals]
        if refused:
            self.quarantined += len(refused)
            key = batch.slice.key
            numbered = not self.reader.cuts_bytes(key)
            for offset, number, reason in places(batch, refused):
                self.refuse(key, offset, number if numbered else None, reason)

    def _stop_before(self, batch: Batch) -> None:
        """Leave everything from this batch on for others."""
        at = next(n for n, piece in enumerate(self.slices) if piece is batch.slice)
        head, tail = cut_slice(
            self.slices[at], batch.offset(0), batch.ordinal, bytewise=self._bytewise(batch)
        )
        self.covered = (*self.slices[:at], *head)
        self.rest = (*tail, *self.slices[at + 1 :])

    def _bytewise(self, batch: Batch) -> bool:
        return self.reader.cuts_bytes(batch.slice.key)


def _groups(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Batches cut and put together so that each group holds `size` records, the last fewer."""
    group: list[Batch] = []
    held = 0
    for batch in batches:
        rest = batch
        while held + len(rest.records) >= size:
            head, rest = rest.split(size - held)
            yield [*group, head]
            group, held = [], 0
        if rest.units:
            group.append(rest)
            held += len(rest.records)
    if group:
        yield group


def _caller(job: Job) -> Callable[..., Iterable[Any]]:
    """The map function; one that is no generator has what it returns looked at."""
    function = job.function()
    if inspect.isgeneratorfunction(function):
        return function
    role = f"{job.form} `{getattr(function, '__name__', 'map')}`"
    return lambda *arguments: each_output(function(*arguments), role)

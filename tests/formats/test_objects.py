"""Objects in the hands of a job: what goes wrong with them is told, even where the job passes over it."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress

import pytest

from coordinator.errors import InputChanged, OutputInvalid, StoreUnavailable
from coordinator.formats import objects
from coordinator.formats.objects import Blob, Object, ObjectReader, Objects
from coordinator.model import Pinned, Slice
from coordinator.store.memory import MemoryInputs
from coordinator.store.ports import Readable
from tests.support import pin

MIB = 1 << 20


class Counting(MemoryInputs):
    """Inputs that know which of their streams are open."""

    def __init__(self, bodies: dict[str, bytes]) -> None:
        super().__init__(bodies)
        self.open_now = 0
        self.when_read: Callable[[], None] = lambda: None

    def open(self, pinned: Pinned, start: int, stop: int) -> Readable:
        self.open_now += 1
        return CountedStream(super().open(pinned, start, stop), self)


class CountedStream:
    def __init__(self, stream: Readable, counting: Counting) -> None:
        self.stream = stream
        self.counting = counting

    def read(self, size: int = -1, /) -> bytes:
        self.counting.when_read()
        return self.stream.read(size)

    def close(self) -> None:
        self.counting.open_now -= 1
        self.stream.close()


def opened(bodies: dict[str, bytes]) -> tuple[ObjectReader, Object, Counting]:
    """A reader, the record of the object `in`, and the inputs."""
    inputs = Counting(bodies)
    reader = Objects().reader(inputs, MIB)
    (batch,) = reader.batches(Slice.whole(pin(inputs, "in")))
    assert (batch.units, list(batch.starts()), batch.end) == (1, [0], len(bodies["in"]))
    return reader, batch.records[0], inputs


def test_an_object_is_known_by_its_key_and_its_name_and_its_size() -> None:
    record = Object("a/b/c.jpg", 3, io.BytesIO)

    assert (record.name, Object("c", 0, io.BytesIO).name) == ("c.jpg", "c")
    assert repr(record) == "Object(key='a/b/c.jpg', size=3)"
    assert record == Object("a/b/c.jpg", 3, lambda: io.BytesIO(b"abc"))


def test_an_object_is_read_whole_or_as_a_stream() -> None:
    body = bytes(range(256)) * 9000  # of more than one piece
    reader, record, inputs = opened({"in": body})

    assert record.read() == body
    assert inputs.open_now == 0
    stream = record.open()
    assert (stream.read(3), stream.read(2), stream.read()) == (body[:3], body[3:5], body[5:])
    stream.close()
    stream.close()
    assert inputs.open_now == 0
    reader.settle()


def test_a_stream_that_is_closed_is_not_read_on() -> None:
    _, record, _ = opened({"in": b"bytes"})
    stream = record.open()
    stream.close()

    with pytest.raises(ValueError, match="The stream of this object is closed"):
        stream.read()


def test_what_a_job_left_open_is_closed_when_its_record_was_mapped() -> None:
    reader, record, inputs = opened({"in": b"bytes"})
    streams = [record.open(), record.open()]
    assert inputs.open_now == 2

    reader.settle()

    assert inputs.open_now == 0
    with pytest.raises(ValueError, match="closed"):
        streams[0].read()
    reader.settle()


def test_a_stream_that_a_job_lets_go_of_is_closed() -> None:
    _, record, inputs = opened({"in": b"bytes"})
    stream = record.open()
    assert inputs.open_now == 1

    del stream

    assert inputs.open_now == 0


Change = Callable[[], None]


def read_and_pass_over(record: Object, change: Change) -> None:
    change()
    for _ in range(2):
        with pytest.raises(InputChanged):
            record.read()


def read_to_its_end(record: Object, change: Change) -> None:
    stream = record.open()
    change()
    with suppress(InputChanged):
        while stream.read(1):
            pass
    with suppress(InputChanged):
        stream.close()


def close_and_pass_over(record: Object, change: Change) -> None:
    stream = record.open()
    change()
    with pytest.raises(InputChanged):
        stream.close()


def let_go(record: Object, change: Change) -> None:
    stream = record.open()
    change()
    del stream


def leave_open(record: Object, change: Change) -> Readable:
    stream = record.open()
    change()
    return stream


@pytest.mark.parametrize(
    "job", [read_and_pass_over, read_to_its_end, close_and_pass_over, let_go, leave_open]
)
def test_a_change_is_told_whatever_the_job_does_about_it(
    job: Callable[[Object, Change], object],
) -> None:
    bodies = {"in": b"before"}
    reader, record, _ = opened(bodies)

    held = job(record, lambda: bodies.update({"in": b"after!"}))

    assert (held is not None) is (job is leave_open)
    with pytest.raises(InputChanged, match="in was changed under the run"):
        reader.settle()
    reader.settle()  # it is told once


def test_a_change_while_an_object_is_read_whole_is_told_to_the_job() -> None:
    bodies = {"in": b"before"}
    _, record, inputs = opened(bodies)
    inputs.when_read = lambda: bodies.update({"in": b"after!"})

    with pytest.raises(InputChanged, match="in was changed under the run"):
        record.read()


class Failing(MemoryInputs):
    """Inputs that can't be opened, or not read, for one reason after another."""

    errors: list[Exception]
    when = "open"

    def open(self, pinned: Pinned, start: int, stop: int) -> Readable:
        if self.when == "open":
            raise self.errors.pop(0)
        stream = super().open(pinned, start, stop)
        setattr(stream, self.when, self.fail)
        return stream

    def fail(self, size: int = -1, /) -> bytes:
        raise self.errors.pop(0)


def use(stream: Readable, when: str) -> None:
    if when == "close":
        stream.close()
    stream.read(1)


def test_of_many_troubles_the_first_is_told_and_of_a_jobs_own_none() -> None:
    for when in ("open", "read", "close"):
        inputs = Failing({"in": b"bytes"})
        inputs.when = when
        inputs.errors = [StoreUnavailable("first"), StoreUnavailable("then"), ValueError("own")]
        reader = Objects().reader(inputs, MIB)
        (batch,) = reader.batches(Slice.whole(pin(inputs, "in")))
        for error in (StoreUnavailable, StoreUnavailable, ValueError):
            with pytest.raises(error):
                use(batch.records[0].open(), when)

        with pytest.raises(StoreUnavailable, match="first"):
            reader.settle()
        inputs.errors = [ValueError("own")]
        with pytest.raises(ValueError, match="own"):
            use(batch.records[0].open(), when)
        reader.settle()


def test_an_object_lies_in_the_slice_that_has_its_number() -> None:
    inputs = MemoryInputs({"in": b"bytes"})
    reader = Objects().reader(inputs, MIB)
    whole = Slice.whole(pin(inputs, "in"))
    for start, stop, units in ((0, -1, 1), (0, 1, 1), (1, -1, 0), (1, 2, 0), (0, 0, 0)):
        piece = whole.model_copy(update={"unit": "records", "start": start, "stop": stop})
        assert sum(batch.units for batch in reader.batches(piece)) == units


# ------------------------------------------------------------------------------------------------
# Blobs
# ------------------------------------------------------------------------------------------------


def test_the_blobs_of_a_part_are_unpacked_as_they_were_packed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blobs = [Blob("a", b"0123456789"), Blob("b/c.é", b""), Blob("d", b'["a",1]\n\n')]
    sink = Objects()
    part = b"".join(map(sink.encoder(), blobs))
    assert sink.names_results

    found: list[tuple[str, list[bytes]]] = []
    for most in (objects.COPY_BYTES, 4):
        monkeypatch.setattr(objects, "COPY_BYTES", most)
        found = [(name, list(pieces)) for name, pieces in sink.unpack(io.BytesIO(part))]
        assert [(name, b"".join(pieces)) for name, pieces in found] == [
            (blob.name, blob.body) for blob in blobs
        ]
        assert len(found[0][1][0]) == min(most, 10)


def test_a_part_that_ends_within_a_blob_is_an_error() -> None:
    part = io.BytesIO(Objects().encoder()(Blob("a", b"bytes"))[:-1])

    with pytest.raises(OutputInvalid, match="A part ends within a blob"):
        [list(pieces) for _, pieces in Objects().unpack(part)]

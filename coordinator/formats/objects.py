"""Objects: every input object is one record; outputs are objects with names of their own."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass as record, field
from typing import IO, ClassVar

from pydantic.dataclasses import dataclass
from pydantic_core import from_json

from coordinator.errors import FanfoldError, OutputInvalid, Unencodable
from coordinator.formats.base import STRICT, Batch, Encode, Reader, Sink, Source, within
from coordinator.formats.jsonlines import encode_json
from coordinator.keys import check_result_name
from coordinator.limits import MIB
from coordinator.model import Pinned, Slice
from coordinator.store.ports import Inputs, Readable

COPY_BYTES = 1 * MIB


@record(frozen=True, slots=True)
class Object:
    """A whole input object, as the map of an `Objects` source gets it; size in bytes."""

    key: str
    size: int
    opener: Callable[[], Readable] = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """The last step of the key."""
        return self.key.rsplit("/", 1)[-1]

    def open(self) -> Readable:
        """Stream the object's bytes from the start. What is left open is closed once the record
        has been mapped."""
        return self.opener()

    def read(self) -> bytes:
        """The object's bytes, all in memory."""
        stream = self.opener()
        try:
            pieces = []
            while piece := stream.read(MIB):
                pieces.append(piece)
        finally:
            stream.close()
        return b"".join(pieces)


@record(frozen=True, slots=True)
class Blob:
    """A result object, as the map of an `Objects` sink yields it.

    `name` is a relative path below the run's results; each name at most once a run.
    """

    name: str
    body: bytes


@dataclass(frozen=True, config=STRICT)
class Objects(Source, Sink):
    """Source: every input object is one record, an `Object`. Sink: the map yields `Blob`s."""

    glob: str = "*"

    extension: ClassVar[str] = "blobs"
    names_results: ClassVar[bool] = True

    def reader(
        self, inputs: Inputs, record_bytes: int, header: tuple[str, ...] | None = None
    ) -> ObjectReader:
        return ObjectReader(self, inputs, record_bytes)

    def encoder(self) -> Encode:
        return encode_blob

    def unpack(self, stream: IO[bytes]) -> Iterator[tuple[str, Iterator[bytes]]]:
        while header := stream.readline():
            name, size = from_json(header)
            yield name, _take(stream, size)


class ObjectReader(Reader):
    """Every object is one record. It is read by the job's own code, so the reader keeps an eye on
    the streams that this opens."""

    def __init__(self, source: Objects, inputs: Inputs, record_bytes: int) -> None:
        super().__init__(source, inputs, record_bytes)
        self._trouble: FanfoldError | None = None
        self._opened: list[weakref.ref[ObjectStream]] = []

    def batches(self, piece: Slice) -> Generator[Batch, None, None]:
        pinned = piece.pinned
        record = Object(pinned.key, pinned.size, lambda: self._open(pinned))
        batch = Batch(piece, [record], 1, lambda: (0,), piece.size)
        yield within(batch, piece) if piece.unit == "records" else batch

    def settle(self) -> None:
        """Close what the job left open, which tells whether it was as pinned to the end."""
        opened, self._opened = self._opened, []
        for reference in opened:
            if (stream := reference()) is not None:
                with suppress(FanfoldError):
                    stream.close()
        trouble, self._trouble = self._trouble, None
        if trouble is not None:
            raise trouble

    def _open(self, pinned: Pinned) -> ObjectStream:
        try:
            stream = ObjectStream(self.inputs.open(pinned, 0, pinned.size), self._remember)
        except FanfoldError as error:
            self._remember(error)
            raise
        self._opened.append(weakref.ref(stream))  # in one step: a job may read in threads
        return stream

    def _remember(self, error: FanfoldError) -> None:
        self._trouble = self._trouble or error


class ObjectStream:
    """A `Readable` in the hands of a job. Whatever goes wrong is remembered for its reader, since
    the job may pass over it; one that the job lets go of is closed."""

    def __init__(self, stream: Readable, remember: Callable[[FanfoldError], None]) -> None:
        self._stream: Readable | None = stream
        self._remember = remember

    def read(self, size: int = -1, /) -> bytes:
        if self._stream is None:
            raise ValueError("The stream of this object is closed.")
        try:
            return self._stream.read(size)
        except FanfoldError as error:
            self._remember(error)
            raise

    def close(self) -> None:
        """Close it, and refuse an object that was changed while it was read."""
        stream, self._stream = self._stream, None
        try:
            if stream is not None:
                stream.close()
        except FanfoldError as error:
            self._remember(error)
            raise

    def __del__(self) -> None:
        with suppress(FanfoldError):
            self.close()


def encode_blob(record: object) -> bytes:
    """One output of an Objects sink: a line with its name and size, then its bytes.

    Raises:
        Unencodable: it is no `Blob` of bytes, or its name can't name a result.
    """
    if not isinstance(record, Blob):
        raise Unencodable(f"An Objects sink takes Blob(name, body), not {type(record).__name__}.")
    if not isinstance(record.body, bytes):
        raise Unencodable(f"The body of a Blob must be bytes, not {type(record.body).__name__}.")
    return encode_json([check_result_name(record.name), len(record.body)]) + b"\n" + record.body


def _take(stream: IO[bytes], size: int) -> Iterator[bytes]:
    while size:
        piece = stream.read(min(size, COPY_BYTES))
        if not piece:
            raise OutputInvalid("A part ends within a blob.")
        size -= len(piece)
        yield piece

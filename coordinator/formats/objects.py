"""Objects: every input object is one record; outputs are objects with names of their own."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass as record
from dataclasses import field
from typing import IO, ClassVar

from pydantic.dataclasses import dataclass
from pydantic_core import from_json

from coordinator.errors import OutputInvalid
from coordinator.formats.base import STRICT, Batch, Encode, Reader, Sink, Source
from coordinator.formats.jsonlines import encode_json
from coordinator.keys import check_result_name
from coordinator.limits import MIB
from coordinator.model import Slice
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
        """Stream the object's bytes from the start."""
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
    """Every object is one record."""

    def batches(self, piece: Slice) -> Generator[Batch, None, None]:
        pinned = piece.pinned
        record = Object(pinned.key, pinned.size, lambda: self.inputs.open(pinned, 0, pinned.size))
        yield Batch(piece, [record], 1, lambda: (0,), piece.size)


def encode_blob(record: object) -> bytes:
    """One output of an Objects sink: a line with its name and size, then its bytes."""
    if not isinstance(record, Blob):
        raise OutputInvalid(f"An Objects sink takes Blob(name, body), not {type(record).__name__}.")
    if not isinstance(record.body, bytes):
        raise OutputInvalid(f"The body of a Blob must be bytes, not {type(record.body).__name__}.")
    return encode_json([check_result_name(record.name), len(record.body)]) + b"\n" + record.body


def _take(stream: IO[bytes], size: int) -> Iterator[bytes]:
    while size:
        piece = stream.read(min(size, COPY_BYTES))
        if not piece:
            raise OutputInvalid("A part ends within a blob.")
        size -= len(piece)
        yield piece

"""What every document is made of: objects, ranges of them, files and parts."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from coordinator.errors import LedgerBroken

ShardId = Annotated[str, Field(pattern=r"^(0|[1-9]\d*)(\.(0|[1-9]\d*))*$")]
Stage = Literal["map", "reduce", "merge"]
Unit = Literal["bytes", "records"]
EntryOutcome = Literal["done", "split"]
State = Literal["planning", "running", "publishing", "published", "cancelled"]
OPEN: tuple[State, ...] = ("planning", "running")
COMMITTED: tuple[State, ...] = ("publishing", "published")  # what a run is never taken back from


class Document(BaseModel):
    """Base of everything that is written or sent: immutable, nothing unknown accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    def encode(self) -> bytes:
        """The document as compact JSON; fields at their defaults are left out."""
        return self.__pydantic_serializer__.to_json(self, exclude_defaults=True)

    @classmethod
    def decode(cls, body: bytes, *, where: str) -> Self:
        """Parse what `encode` wrote.

        Raises:
            LedgerBroken: the bytes are not such a document; `where` names them.
        """
        try:
            return cls.model_validate_json(body)
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise LedgerBroken(
                f"{where} is not a readable {cls.__name__} ({reason}). "
                "`fanfold repair` can set a broken entry aside; the rest needs a new run id."
            ) from error


class Pinned(Document):
    """One object of the snapshot. `key` is an `s3://bucket/key` or an absolute path."""

    key: str
    size: int = Field(ge=0)
    etag: str
    version_id: str | None = None


class Slice(Document):
    """A range of one pinned object: bytes, or record numbers where bytes can't be cut.

    `stop` is exclusive; for `unit="records"` a stop of -1 means to the object's end.
    """

    key: str
    size: int
    etag: str
    version_id: str | None = None
    start: int = 0
    stop: int
    unit: Unit = "bytes"

    @classmethod
    def whole(cls, pinned: Pinned) -> Slice:
        """All of an object."""
        return cls.of(pinned, 0, pinned.size)

    @classmethod
    def of(cls, pinned: Pinned, start: int, stop: int) -> Slice:
        """The bytes [start, stop) of an object."""
        return cls(
            key=pinned.key,
            size=pinned.size,
            etag=pinned.etag,
            version_id=pinned.version_id,
            start=start,
            stop=stop,
        )

    @property
    def pinned(self) -> Pinned:
        """The object that this is a range of."""
        return Pinned(key=self.key, size=self.size, etag=self.etag, version_id=self.version_id)


class File(Document):
    """An object of ours, by key, with what it must hold."""

    key: str
    size: int
    sha256: str


class Part(File):
    """A data object that an attempt wrote, and how many records lie in it.

    `segments` are the length in bytes and the CRC-32 of the consecutive pieces for each reduce
    partition.
    """

    records: int
    segments: tuple[tuple[int, int], ...] = ()

    def plain(self) -> File:
        """The part as a file, without what lies in it."""
        return File(key=self.key, size=self.size, sha256=self.sha256)

    def segment(self, partition: int) -> tuple[int, int]:
        """The byte range [start, stop) of a partition's segment."""
        start = sum(length for length, _ in self.segments[:partition])
        return start, start + self.segments[partition][0]

"""The two ports of Fanfold: the store it writes to, and the inputs it reads.

Three twins of each keep one contract, shown by `tests/contracts/`: a directory (`file`), memory
(`memory`) and S3 (`s3`). Conditional writes are words, not flags: `create` is put-if-absent,
`replace` is compare-and-swap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, Self

from coordinator.model import File, Pinned


class Got(NamedTuple):
    """The whole body of an object, and the tag that `replace` takes."""

    body: bytes
    tag: str


class Stat(NamedTuple):
    """An object as a listing shows it; `modified` is in seconds since the epoch."""

    key: str
    size: int
    tag: str
    modified: float


class Page(NamedTuple):
    """One page of a listing of inputs, and the cursor to go on from; None after the last."""

    objects: list[Pinned]
    cursor: str | None


class Readable(Protocol):
    """A stream of bytes. `read(n)` gives at most n bytes, and b"" only at the end."""

    def read(self, size: int = -1, /) -> bytes: ...

    def close(self) -> None: ...


class Writer(Protocol):
    """A new object being written: nothing is visible under its key before `close`.

    As a context manager it aborts when an error passes through, and otherwise leaves closing
    to its user.
    """

    def write(self, body: bytes, /) -> object: ...

    def close(self) -> File:
        """Make the object visible, and say what it holds.

        Raises:
            AlreadyExists: the writer is exclusive and the key is taken.
        """
        ...

    def abort(self) -> None:
        """Leave nothing behind. Safe to call twice, and after `close`."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class Store(Protocol):
    """Where a run's state lies. Keys are `/`-separated, relative, and ordered by UTF-8 bytes.

    Every method may raise `StoreUnavailable`; writes may raise `OutcomeUnknown` and, on one
    machine, `OutputUnwritable`.
    """

    @property
    def lanes(self) -> int:
        """How many requests it serves well at a time. With more than one, threads may share it."""
        ...

    def get(self, key: str) -> Got:
        """Read an object whole.

        Raises:
            KeyMissing: nothing lies there.
        """
        ...

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """The bytes [start, stop) of an object; fewer when it ends before.

        Raises:
            KeyMissing: nothing lies there.
        """
        ...

    def open(self, key: str, start: int = 0, stop: int | None = None) -> Readable:
        """Stream the bytes [start, stop) of an object.

        Raises:
            KeyMissing: nothing lies there.
        """
        ...

    def exists(self, key: str) -> bool:
        """Whether an object lies under the key."""
        ...

    def create(self, key: str, body: bytes) -> str:
        """put-if-absent; gives the tag of what was written.

        Raises:
            AlreadyExists: the key is taken. It may be our own write, sent again by a retry.
        """
        ...

    def replace(self, key: str, body: bytes, tag: str) -> str:
        """compare-and-swap: write if the object still has this tag; gives the new tag.

        Raises:
            Changed: it has another tag, or is not there.
        """
        ...

    def writer(self, key: str, *, exclusive: bool = False) -> Writer:
        """Stream a new object. `exclusive` makes `close` put-if-absent, and lasting: what it wrote
        survives a power failure."""
        ...

    def list(self, prefix: str, *, after: str = "") -> Iterator[Stat]:
        """All objects whose key begins with `prefix` and is greater than `after`, in key order."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; a missing one is no error."""
        ...

    def identity(self, key: str) -> str:
        """Two keys with one identity can't both be kept (a directory may fold case)."""
        ...

    def url(self, key: str) -> str:
        """The key as a person finds it: a path or an `s3://` address."""
        ...


class Inputs(Protocol):
    """Where the objects of a snapshot are listed and read."""

    def pages(self, patterns: Sequence[str], cursor: str = "") -> Iterator[Page]:
        """List what the patterns name, from a cursor on, in any order, repeats allowed.

        Raises:
            InputInvalid: a pattern, or a name that it finds, can't be used.
            InputUnreadable: a folder or object can't be read.
        """
        ...

    def open(self, pinned: Pinned, start: int, stop: int) -> Readable:
        """Stream a pinned object from `start`; `stop` is how far the caller expects to read.

        Reading may go on past `stop`. `close` checks once more that the object is as pinned.

        Raises:
            InputChanged: it is not.
            InputUnreadable: it can't be opened.
        """
        ...

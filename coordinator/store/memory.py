"""The twin in memory: for tests, for simulations, and for users who test their own jobs."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from typing import NamedTuple, Self, TypeVar

from coordinator.errors import AlreadyExists, Changed, InputChanged, InputInvalid, KeyMissing
from coordinator.model import File, Pinned
from coordinator.store.globs import compile_glob, compile_step, has_magic
from coordinator.store.ports import Got, Page, Readable, Stat

_T = TypeVar("_T")
_Stats = list[Stat]


class _Held(NamedTuple):
    body: bytes
    tag: str
    modified: float


class MemoryStore:
    """A store in a dict; tags are a counter. Threads may share it.

    Every operation goes through `perform`: a simulator overrides it to fail, delay or duplicate.

    Args:
        clock: gives the time of a write, in seconds since the epoch.
    """

    lanes = 1

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._objects: dict[str, _Held] = {}
        self._tags = count(1)

    def perform(self, operation: str, key: str, action: Callable[[], _T]) -> _T:
        """Do one operation on one key; `action` is atomic, and may be called more than once.

        `operation` is get, get_range, open, exists, create, replace, put (a writer's close that
        is not exclusive; an exclusive one is a create), list (`key` is the prefix) or delete. An
        override raises before calling `action` for a fault, and after it for a lost answer.
        """
        return action()

    # -- reading ---------------------------------------------------------------------------------

    def get(self, key: str) -> Got:
        def action() -> Got:
            held = self._held(key)
            return Got(held.body, held.tag)

        return self.perform("get", key, action)

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        def action() -> bytes:
            return self._held(key).body[start : max(start, stop)]

        return self.perform("get_range", key, action)

    def open(self, key: str, start: int = 0, stop: int | None = None) -> Readable:
        body = self.perform("open", key, lambda: self._held(key).body)
        return _Stream(body[:stop], start)

    def exists(self, key: str) -> bool:
        return self.perform("exists", key, lambda: key in self._objects)

    def list(self, prefix: str, *, after: str = "") -> Iterator[Stat]:
        def action() -> _Stats:
            with self._lock:
                found = [key for key in self._objects if key.startswith(prefix) and key > after]
                return [self._stat(key) for key in sorted(found)]

        # str compares by code point, which is the order of UTF-8 bytes
        return iter(self.perform("list", prefix, action))

    # -- writing ---------------------------------------------------------------------------------

    def create(self, key: str, body: bytes) -> str:
        def action() -> str:
            with self._lock:
                if key in self._objects:
                    raise AlreadyExists(f"{self.url(key)} is there already.")
                return self._put(key, body)

        return self.perform("create", key, action)

    def replace(self, key: str, body: bytes, tag: str) -> str:
        def action() -> str:
            with self._lock:
                held = self._objects.get(key)
                if held is None or held.tag != tag:
                    raise Changed(f"{self.url(key)} is no longer the version {tag}.")
                return self._put(key, body)

        return self.perform("replace", key, action)

    def writer(self, key: str, *, exclusive: bool = False) -> MemoryWriter:
        def publish(body: bytes) -> None:
            if exclusive:
                self.create(key, body)
            else:
                self.perform("put", key, lambda: self._put(key, body))

        return MemoryWriter(key, publish)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.perform("delete", key, partial(self._objects.pop, key, None))

    # -- names -----------------------------------------------------------------------------------

    def identity(self, key: str) -> str:
        return key

    def url(self, key: str) -> str:
        return f"memory:{key}"

    def _held(self, key: str) -> _Held:
        held = self._objects.get(key)
        if held is None:
            raise KeyMissing(f"Nothing lies under {self.url(key)}.")
        return held

    def _put(self, key: str, body: bytes) -> str:
        with self._lock:
            tag = str(next(self._tags))
            self._objects[key] = _Held(bytes(body), tag, self._clock())
            return tag

    def _stat(self, key: str) -> Stat:
        held = self._objects[key]
        return Stat(key, len(held.body), held.tag, held.modified)


class MemoryWriter:
    """A `Writer` that keeps its pieces until `close`."""

    def __init__(self, key: str, publish: Callable[[bytes], None]) -> None:
        self._key = key
        self._publish = publish
        self._pieces: list[bytes] | None = []
        self._file: File | None = None

    def write(self, body: bytes, /) -> int:
        if self._pieces is None:
            raise ValueError(f"The writer of {self._key} is closed.")
        self._pieces.append(bytes(body))
        return len(body)

    def close(self) -> File:
        if self._file is not None:
            return self._file
        if self._pieces is None:
            raise ValueError(f"The writer of {self._key} was aborted.")
        body = b"".join(self._pieces)
        self._pieces = None
        self._publish(body)
        self._file = File(key=self._key, size=len(body), sha256=hashlib.sha256(body).hexdigest())
        return self._file

    def abort(self) -> None:
        self._pieces = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if exc[0] is not None:
            self.abort()


class MemoryInputs:
    """Inputs in a dict of bodies by key; the tag of a body is its digest.

    The dict is looked at anew in every call: a test changes it to change an input under a run.

    Args:
        objects: the bodies.
        glob: what the last step of a key must match to be found by a prefix.
        page_size: objects in a page, at most.
    """

    def __init__(
        self, objects: Mapping[str, bytes], *, glob: str = "*", page_size: int = 1000
    ) -> None:
        self.objects = objects
        self._name = compile_step(glob)
        self._page_size = page_size
        self._etags: dict[str, tuple[bytes, str]] = {}

    def pages(self, patterns: Sequence[str], cursor: str = "") -> Iterator[Page]:
        """List in key order. A pattern is a key, else a glob, else a prefix; `cursor` is a key."""
        matches = [self._matcher(pattern) for pattern in patterns]
        found = sorted(key for key in self.objects if key > cursor and any(m(key) for m in matches))
        for start in range(0, max(1, len(found)), self._page_size):
            keys = found[start : start + self._page_size]
            last = start + self._page_size >= len(found)
            yield Page([self._pin(key) for key in keys], None if last else keys[-1])

    def open(self, pinned: Pinned, start: int, stop: int) -> Readable:
        self._check(pinned)
        return _Stream(self.objects[pinned.key], start, lambda: self._check(pinned))

    def _matcher(self, pattern: str) -> Callable[[str], bool]:
        if not pattern:
            raise InputInvalid("An empty pattern names no input.")
        if pattern in self.objects:
            return lambda key: key == pattern
        if has_magic(pattern):
            expression = compile_glob(pattern)
            return lambda key: expression.fullmatch(key) is not None
        name = self._name
        return lambda key: key.startswith(pattern) and bool(name.fullmatch(key.rsplit("/", 1)[-1]))

    def _pin(self, key: str) -> Pinned:
        return Pinned(key=key, size=len(self.objects[key]), etag=self._etag(key))

    def _etag(self, key: str) -> str:
        body = self.objects[key]
        known = self._etags.get(key)
        if known is None or known[0] is not body:
            known = self._etags[key] = (body, hashlib.sha256(body).hexdigest())
        return known[1]

    def _check(self, pinned: Pinned) -> None:
        key = pinned.key
        if key not in self.objects:
            raise InputChanged(f"The input {key} was deleted under the run. Start a new run.")
        if self._etag(key) != pinned.etag:
            raise InputChanged(f"The input {key} was changed under the run. Start a new run.")


class _Stream:
    """A `Readable` over bytes, which checks something when it is closed."""

    def __init__(self, body: bytes, start: int, check: Callable[[], None] | None = None) -> None:
        self._body = body
        self._at = start
        self._check = check

    def read(self, size: int = -1, /) -> bytes:
        stop = len(self._body) if size < 0 else self._at + size
        piece = self._body[self._at : stop]
        self._at += len(piece)
        return piece

    def close(self) -> None:
        check, self._check = self._check, None
        if check is not None:
            check()

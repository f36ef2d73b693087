"""Places where a test keeps a store: how time passes there, and how the answer to a write is lost."""

from __future__ import annotations

import os
import time
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pytest
from botocore.exceptions import ReadTimeoutError
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from coordinator.errors import ConditionRefused, OutcomeUnknown
from coordinator.store.file.store import FileStore
from coordinator.store.memory import MemoryStore
from coordinator.store.ports import Store
from coordinator.store.s3.store import S3Store
from tests.contracts.faults import Faults, new_bucket, new_client, no_sleep

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")
WRITES = {"create", "replace", "put"}

# What becomes of a write whose answer is lost: it did not take place, it did, or it did and was
# sent once more by what lies below the store.
Lost = Literal["before", "after", "sent twice"]
LOSSES: tuple[Lost, ...] = ("before", "after", "sent twice")


class Place:
    """A place with a store, empty at first.

    `folds` tells that two names which differ in their case or in the composition of a letter are
    one there; it is found out without the store.
    """

    store: Store
    folds = False

    def fill(self, keys: Iterable[str]) -> None:
        """Put empty objects under many keys."""
        for key in keys:
            self.store.create(key, b"")

    def age(self, key: str, seconds: float) -> None:
        """Let what lies under a key have been written that much earlier."""
        raise NotImplementedError

    def losing(self, lost: Lost) -> Store:
        """A store in the same place which loses the answer to its next write."""
        raise NotImplementedError


class _Losing(MemoryStore):
    """A store in memory that loses the answer to a write when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: Lost | None = None

    def perform(self, operation: str, key: str, action: Callable[[], T]) -> T:
        lost = self.lost
        if lost is None or operation not in WRITES:
            return action()
        self.lost = None
        if lost != "before":
            action()
        if lost == "sent twice":
            try:
                return action()
            except ConditionRefused as error:
                raise OutcomeUnknown(f"{key} may be our own.") from error
        raise OutcomeUnknown(f"Nobody knows of {key}.")


class MemoryPlace(Place):
    def __init__(self) -> None:
        self.store: _Losing = _Losing()

    def age(self, key: str, seconds: float) -> None:
        held = self.store._objects[key]
        self.store._objects[key] = held._replace(modified=held.modified - seconds)

    def losing(self, lost: Lost) -> Store:
        self.store.lost = lost
        return self.store


class FilePlace(Place):
    """A directory; the system call that gives a file its name is the one whose answer is lost."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.store: FileStore = FileStore(directory / "out")
        self._patch = patch
        probe = directory / unicodedata.normalize("NFC", "é")
        probe.touch()
        self.folds = any((directory / name).exists() for name in ("É", "e\u0301"))

    def age(self, key: str, seconds: float) -> None:
        then = time.time() - seconds
        os.utime(f"{self.store.root}/{key}", (then, then))

    def losing(self, lost: Lost) -> Store:
        calls = {call: getattr(os, call) for call in ("link", "replace")}

        def losing(call: str) -> Callable[..., None]:
            def lose(*arguments: Any) -> None:
                self._patch.undo()
                if lost != "before":
                    calls[call](*arguments)
                if lost == "sent twice":
                    calls[call](*arguments)
                else:
                    raise TimeoutError(110, "Connection timed out")

            return lose

        for call in calls:
            self._patch.setattr(os, call, losing(call))
        return self.store


def _moto() -> Any:
    return s3_backends[DEFAULT_ACCOUNT_ID]["aws"]


class S3Place(Place):
    def __init__(self, client: S3Client, patch: pytest.MonkeyPatch) -> None:
        self.bucket = new_bucket(client)
        self.store: S3Store = S3Store(self.bucket, client, "some/prefix", sleep=no_sleep)
        self._patch = patch

    def fill(self, keys: Iterable[str]) -> None:
        for key in keys:  # behind the client, which takes its time
            _moto().put_object(self.bucket, self.store.prefix + key, b"")

    def age(self, key: str, seconds: float) -> None:
        found = _moto().buckets[self.bucket].keys[self.store.prefix + key]
        found.last_modified = type(found.last_modified).fromtimestamp(
            found.last_modified.timestamp() - seconds, found.last_modified.tzinfo
        )

    def losing(self, lost: Lost) -> Store:
        self._patch.setattr("botocore.endpoint.time.sleep", no_sleep)
        client = new_client(tries=2 if lost == "sent twice" else 1)
        faults = Faults(client)
        for operation in ("PutObject", "CompleteMultipartUpload"):
            error = ReadTimeoutError(endpoint_url="https://s3")
            faults.lose(operation, error, carried_out=lost != "before")
        return S3Store(self.bucket, client, "some/prefix", sleep=no_sleep)

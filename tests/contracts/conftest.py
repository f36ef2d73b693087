"""The twins under test: three stores, four rooms of inputs, and S3 on moto."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.awsrequest import AWSResponse
from moto import mock_aws
from moto.core.botocore_stubber import BotocoreStubber

from coordinator.store.ports import Store
from tests.contracts.faults import Faults, new_bucket, new_client
from tests.contracts.places import FilePlace, MemoryPlace, Place, S3Place
from tests.contracts.rooms import FileRoom, MemoryRoom, Room, S3Room

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture(scope="module")
def aws() -> Iterator[None]:
    """AWS on moto, one request at a time: moto checks a condition and writes in two steps."""
    one_at_a_time = threading.RLock()
    answer = BotocoreStubber.__call__

    def locked(self: BotocoreStubber, *args: Any, **kwargs: Any) -> AWSResponse | None:
        with one_at_a_time:
            return answer(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.setattr(BotocoreStubber, "__call__", locked)
        yield


@pytest.fixture(scope="module")
def shared_client(aws: None) -> S3Client:
    return new_client()


@pytest.fixture
def client(aws: None) -> S3Client:
    """A client of the test's own, which it may hang handlers on. It never tries again."""
    return new_client()


@pytest.fixture
def bucket(client: S3Client) -> str:
    return new_bucket(client)


@pytest.fixture(params=["memory", "file", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A place of each kind, with an empty store."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "memory":
            yield MemoryPlace()
        elif request.param == "file":
            yield FilePlace(tmp_path, patch)
        else:
            yield S3Place(request.getfixturevalue("shared_client"), patch)


@pytest.fixture
def store(place: Place) -> Store:
    """Each of the three stores, empty."""
    return place.store


@pytest.fixture(params=["memory", "file", "s3", "s3-versioned"])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Room:
    """A room of each kind, empty."""
    if request.param == "memory":
        return MemoryRoom()
    if request.param == "file":
        return FileRoom(tmp_path / "in")
    client: S3Client = request.getfixturevalue("shared_client")
    return S3Room(client, versioned=request.param == "s3-versioned")


@pytest.fixture
def faults(client: S3Client) -> Faults:
    return Faults(client)

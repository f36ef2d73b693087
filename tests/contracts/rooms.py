"""Places with inputs that a test fills and changes, and the twin that reads each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.store.file.inputs import FileInputs
from coordinator.store.memory import MemoryInputs
from coordinator.store.ports import Inputs
from coordinator.store.s3.inputs import S3Inputs
from tests.contracts.faults import new_bucket, no_sleep

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Room:
    """A place with inputs that a test fills and changes, and the twin that reads them."""

    base: str

    def put(self, name: str, body: bytes) -> None:
        raise NotImplementedError

    def delete(self, name: str) -> None:
        raise NotImplementedError

    def inputs(self, *, glob: str = "*", page_size: int = 1000) -> Inputs:
        raise NotImplementedError

    def kept(self) -> dict[str, bytes]:
        """What lies there by name, seen without the twin: a place may take two names for one."""
        raise NotImplementedError

    def at(self, name: str) -> str:
        """The key of an input."""
        return self.base + name


class MemoryRoom(Room):
    def __init__(self) -> None:
        self.base = "in/"
        self._bodies: dict[str, bytes] = {}

    def put(self, name: str, body: bytes) -> None:
        self._bodies[self.at(name)] = body

    def delete(self, name: str) -> None:
        del self._bodies[self.at(name)]

    def inputs(self, *, glob: str = "*", page_size: int = 1000) -> Inputs:
        return MemoryInputs(self._bodies, glob=glob, page_size=page_size)

    def kept(self) -> dict[str, bytes]:
        return {key.removeprefix(self.base): body for key, body in self._bodies.items()}


class FileRoom(Room):
    def __init__(self, directory: Path) -> None:
        self.base = f"{directory}/"

    def put(self, name: str, body: bytes) -> None:
        path = Path(self.at(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)

    def delete(self, name: str) -> None:
        Path(self.at(name)).unlink()

    def inputs(self, *, glob: str = "*", page_size: int = 1000) -> Inputs:
        return FileInputs(glob=glob, page_size=page_size)

    def kept(self) -> dict[str, bytes]:
        files = (path for path in Path(self.base).rglob("*") if path.is_file())
        return {str(path).removeprefix(self.base): path.read_bytes() for path in files}


class S3Room(Room):
    def __init__(self, client: S3Client, *, versioned: bool) -> None:
        self.client = client
        self.bucket = new_bucket(client)
        self.base = f"s3://{self.bucket}/in/"
        if versioned:
            client.put_bucket_versioning(
                Bucket=self.bucket, VersioningConfiguration={"Status": "Enabled"}
            )

    def put(self, name: str, body: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=f"in/{name}", Body=body)

    def delete(self, name: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=f"in/{name}")

    def inputs(self, *, glob: str = "*", page_size: int = 1000) -> Inputs:
        return S3Inputs(self.client, glob=glob, page_size=page_size, sleep=no_sleep)

    def kept(self) -> dict[str, bytes]:
        found = self.client.list_objects_v2(Bucket=self.bucket, Prefix="in/")
        rows = {row["Key"].removeprefix("in/"): row["Key"] for row in found["Contents"]}
        return {name: self._body(key) for name, key in rows.items()}

    def _body(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

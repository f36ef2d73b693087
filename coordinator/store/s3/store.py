"""The twin in S3: a run's state in a bucket, below a prefix."""

from __future__ import annotations

import hashlib
import time
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from coordinator.errors import (
    AlreadyExists,
    Changed,
    FanfoldError,
    KeyMissing,
    OutcomeUnknown,
    OutputInvalid,
    OutputUnwritable,
    StoreUnavailable,
)
from coordinator.store.ports import Got, Readable, Stat
from coordinator.store.s3.listing import goes_on
from coordinator.store.s3.requests import (
    THREADS,
    Cause,
    Trouble,
    cause_of_code,
    fetched,
    full_jitter,
    make_client,
    requesting,
)
from coordinator.store.s3.transfers import (
    WINDOW_BYTES,
    Fetched,
    PartWriter,
    RangedReader,
    UploadedPart,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import (
        CompleteMultipartUploadRequestTypeDef,
        GetObjectRequestTypeDef,
        ListObjectsV2RequestTypeDef,
        ObjectIdentifierTypeDef,
        PutObjectRequestTypeDef,
    )

__all__ = ["S3Store", "make_client"]

CONFLICT_TRIES = 6
DELETE_BATCH = 1000
KEY_BYTES = 1024
_T = TypeVar("_T")


class S3Store:
    """A store in a bucket, below a prefix. Tags are etags; encryption is the bucket's default.

    Args:
        bucket: a general-purpose bucket, which lists by UTF-8 bytes (a directory bucket doesn't).
        client: see `make_client`. Threads share it.
        prefix: where keys begin in the bucket; a slash is put behind it.
        lanes: how many requests to have under way at a time: the client's connections, or fewer.
        sleep: waits that many seconds before a try.
    """

    def __init__(
        self,
        bucket: str,
        client: S3Client,
        prefix: str = "",
        *,
        lanes: int = THREADS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.bucket = bucket
        self.client = client
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.lanes = lanes
        self._sleep = sleep

    # -- reading ---------------------------------------------------------------------------------

    def get(self, key: str) -> Got:
        source = _Source(self, key)
        reader = self._reader(source, 0, None, first=None)
        try:
            return Got(reader.begin().read(), source.tag)
        finally:
            reader.close()

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        stream = self.open(key, start, stop)
        try:
            return stream.read()
        finally:
            stream.close()

    def open(self, key: str, start: int = 0, stop: int | None = None) -> Readable:
        if stop is not None and stop <= start:
            if not self.exists(key):
                raise self._missing(key)
            stop = start
        return self._reader(_Source(self, key), start, stop, first=start + WINDOW_BYTES).begin()

    def exists(self, key: str) -> bool:
        try:
            with requesting():
                self.client.head_object(Bucket=self.bucket, Key=self.prefix + key)
        except Trouble as trouble:
            if trouble.cause is Cause.MISSING:
                return False
            raise self.read_error(trouble, key) from trouble
        return True

    def list(self, prefix: str, *, after: str = "") -> Iterator[Stat]:
        request: ListObjectsV2RequestTypeDef = {
            "Bucket": self.bucket,
            "Prefix": self.prefix + prefix,
        }
        if after:
            request["StartAfter"] = self.prefix + after
        while True:
            try:
                with requesting():
                    page = self.client.list_objects_v2(**request)
            except Trouble as trouble:
                raise self.read_error(trouble, prefix, "s3:ListBucket") from trouble
            for found in page.get("Contents", []):
                key = found["Key"].removeprefix(self.prefix)
                modified = found["LastModified"].timestamp()
                yield Stat(key, found["Size"], found["ETag"], modified)
            if not goes_on(page, "NextContinuationToken", self.url(prefix)):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    # -- writing ---------------------------------------------------------------------------------

    def create(self, key: str, body: bytes) -> str:
        return self.put(key, body, hashlib.sha256(body).digest(), exclusive=True)

    def replace(self, key: str, body: bytes, tag: str) -> str:
        request = self._put_request(key, body, hashlib.sha256(body).digest())
        request["IfMatch"] = tag
        try:
            return self.without_conflict(lambda: self.client.put_object(**request))["ETag"]
        except Trouble as trouble:
            refused = trouble.cause in {Cause.REFUSED, Cause.MISSING}
            if refused and trouble.retried:
                raise OutcomeUnknown(
                    f"{self.url(key)} has another version, which may be the one just written: "
                    "the request was sent more than once. Read it back."
                ) from trouble
            if refused:
                raise Changed(f"{self.url(key)} is no longer the version {tag}.") from trouble
            raise self.write_error(trouble, key) from trouble

    def writer(self, key: str, *, exclusive: bool = False) -> PartWriter:
        return PartWriter(_Upload(self, key, exclusive), key, self.url(key))

    def delete(self, keys: Iterable[str]) -> None:
        rest = iter(keys)
        while batch := [*islice(rest, DELETE_BATCH)]:
            objects: list[ObjectIdentifierTypeDef] = [{"Key": self.prefix + key} for key in batch]
            try:
                with requesting():
                    answer = self.client.delete_objects(
                        Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True}
                    )
            except Trouble as trouble:
                raise self._delete_error(trouble, batch[0]) from trouble
            for failed in answer.get("Errors", []):
                code = failed.get("Code", "")
                left = Trouble(cause_of_code(code, 500), failed.get("Message", code))
                raise self._delete_error(left, failed.get("Key", "").removeprefix(self.prefix))

    # -- names -----------------------------------------------------------------------------------

    def identity(self, key: str) -> str:
        return key

    def url(self, key: str) -> str:
        return f"s3://{self.bucket}/{self.prefix}{key}"

    # -- requests, shared with the writer and the reader -----------------------------------------

    def put(self, key: str, body: bytes, sha256: bytes, *, exclusive: bool) -> str:
        """One PutObject, which S3 accepts only with these bytes; gives the etag."""
        request = self._put_request(key, body, sha256)
        if exclusive:
            request["IfNoneMatch"] = "*"
        try:
            return self.without_conflict(lambda: self.client.put_object(**request))["ETag"]
        except Trouble as trouble:
            raise self.create_error(trouble, key) from trouble

    def without_conflict(self, request: Callable[[], _T]) -> _T:
        """Make a request again, after a random wait, while others write to the same key."""
        for attempt in range(CONFLICT_TRIES):
            try:
                with requesting():
                    return request()
            except Trouble as trouble:
                if trouble.cause is not Cause.CONFLICT or attempt == CONFLICT_TRIES - 1:
                    raise
                self.pause(attempt)
        raise AssertionError("unreachable")

    def pause(self, attempt: int) -> None:
        """Wait before the try after this one, counted from 0."""
        self._sleep(full_jitter(attempt))

    def create_error(self, trouble: Trouble, key: str) -> FanfoldError:
        """What a put or a put-if-absent that failed is to its caller."""
        if trouble.cause is Cause.REFUSED:
            return AlreadyExists(f"{self.url(key)} is there already.")
        return self.write_error(trouble, key)

    def write_error(self, trouble: Trouble, key: str) -> FanfoldError:
        """What a write that failed is to its caller."""
        if len((self.prefix + key).encode()) > KEY_BYTES:
            return OutputInvalid(f"{self.url(key)} is too long a key for S3. Shorten it.")
        return trouble.on_writing(self.url(key), "s3:PutObject")

    def read_error(
        self, trouble: Trouble, key: str, permission: str = "s3:GetObject and s3:ListBucket"
    ) -> FanfoldError:
        """What a read that failed is to its caller. Without s3:ListBucket, S3 answers a request
        for what is not there as forbidden."""
        if trouble.cause is Cause.MISSING:
            return self._missing(key)
        return trouble.on_reading(self.url(key), permission, OutputUnwritable)

    def _missing(self, key: str) -> KeyMissing:
        return KeyMissing(f"Nothing lies under {self.url(key)}.")

    def _delete_error(self, trouble: Trouble, key: str) -> FanfoldError:
        if trouble.passing:
            return StoreUnavailable(f"{self.url(key)} can't be deleted now ({trouble.reason}).")
        return trouble.on_writing(self.url(key), "s3:DeleteObject")

    def _put_request(self, key: str, body: bytes, sha256: bytes) -> PutObjectRequestTypeDef:
        return {
            "Bucket": self.bucket,
            "Key": self.prefix + key,
            "Body": body,
            "ChecksumSHA256": b64encode(sha256).decode(),
        }

    def _reader(
        self, source: _Source, start: int, stop: int | None, *, first: int | None
    ) -> RangedReader:
        return RangedReader(
            self.url(source.key),
            source.fetch,
            start,
            stop,
            first=first,
            window=WINDOW_BYTES,
            pause=self.pause,
        )


class _Source:
    """Range requests for one object, of one version from the first answer on."""

    def __init__(self, store: S3Store, key: str) -> None:
        self.key = key
        self.tag = ""
        self._store = store

    def fetch(self, start: int, stop: int | None) -> Fetched | None:
        store = self._store
        request: GetObjectRequestTypeDef = {"Bucket": store.bucket, "Key": store.prefix + self.key}
        if start or stop is not None:
            request["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        if self.tag:
            request["IfMatch"] = self.tag
        try:
            with requesting():
                answer = store.client.get_object(**request)
        except Trouble as trouble:
            if trouble.cause is Cause.BEYOND:
                return None
            if trouble.cause is Cause.REFUSED:
                raise StoreUnavailable(
                    f"{store.url(self.key)} was replaced while it was read. Try again."
                ) from trouble
            raise store.read_error(trouble, self.key) from trouble
        self.tag = answer["ETag"]
        return fetched(answer, store.url(self.key))


class _Upload:
    """The requests of a `PartWriter`. Until the last one nothing is visible, so that a failure
    before it leaves no doubt."""

    def __init__(self, store: S3Store, key: str, exclusive: bool) -> None:
        self._store = store
        self._key = key
        self._exclusive = exclusive
        self._id = ""

    def put(self, body: bytes, sha256: bytes) -> None:
        self._store.put(self._key, body, sha256, exclusive=self._exclusive)

    def begin(self) -> None:
        store = self._store
        with self._unseen():
            answer = store.client.create_multipart_upload(
                Bucket=store.bucket, Key=store.prefix + self._key, ChecksumAlgorithm="CRC32"
            )
        self._id = answer["UploadId"]

    def part(self, number: int, body: bytes) -> UploadedPart:
        store = self._store
        crc32 = b64encode(zlib.crc32(body).to_bytes(4)).decode()
        with self._unseen():
            answer = store.client.upload_part(
                Bucket=store.bucket,
                Key=store.prefix + self._key,
                UploadId=self._id,
                PartNumber=number,
                Body=body,
                ChecksumCRC32=crc32,
            )
        return UploadedPart(number, answer["ETag"], crc32)

    def finish(self, parts: list[UploadedPart]) -> None:
        store = self._store
        request: CompleteMultipartUploadRequestTypeDef = {
            "Bucket": store.bucket,
            "Key": store.prefix + self._key,
            "UploadId": self._id,
            "MultipartUpload": {
                "Parts": [
                    {"PartNumber": part.number, "ETag": part.etag, "ChecksumCRC32": part.crc32}
                    for part in parts
                ]
            },
        }
        if self._exclusive:
            request["IfNoneMatch"] = "*"
        try:
            store.without_conflict(lambda: store.client.complete_multipart_upload(**request))
        except Trouble as trouble:
            if trouble.cause is Cause.MISSING:  # the upload ended: by an earlier try, or by others
                raise OutcomeUnknown(
                    f"The upload of {store.url(self._key)} has ended ({trouble.reason}). "
                    "Read it back."
                ) from trouble
            raise store.create_error(trouble, self._key) from trouble

    def abandon(self) -> None:
        store = self._store
        try:
            with requesting():
                store.client.abort_multipart_upload(
                    Bucket=store.bucket, Key=store.prefix + self._key, UploadId=self._id
                )
        except Trouble:
            return  # the bucket's lifecycle removes uploads that were never finished

    @contextmanager
    def _unseen(self) -> Iterator[None]:
        try:
            with requesting():
                yield
        except Trouble as trouble:
            problem = self._store.write_error(trouble, self._key)
            if isinstance(problem, OutcomeUnknown):
                problem = StoreUnavailable(
                    f"{self._store.url(self._key)} can't be written just now ({trouble.reason})."
                )
            raise problem from trouble

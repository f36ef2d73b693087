"""Inputs in S3: objects, prefixes and globs of any bucket, pinned by etag and version id."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from coordinator.errors import FanfoldError, InputChanged, InputInvalid, InputUnreadable
from coordinator.model import Pinned
from coordinator.store.globs import compile_glob, compile_step, has_magic, literal_prefix
from coordinator.store.ports import Page, Readable
from coordinator.store.s3.listing import goes_on
from coordinator.store.s3.requests import Cause, Trouble, fetched, full_jitter, requesting
from coordinator.store.s3.transfers import Fetched, RangedReader

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import (
        GetObjectRequestTypeDef,
        HeadObjectRequestTypeDef,
        ListObjectsV2RequestTypeDef,
        ListObjectVersionsRequestTypeDef,
        ObjectTypeDef,
        ObjectVersionTypeDef,
    )

PAGE_SIZE = 1000
BEYOND_BYTES = 64 * 1024

_ADDRESS = re.compile(
    r"s3://(?P<bucket>[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9])(?:/(?P<key>.*))?", re.DOTALL
)
_ARCHIVES = {"GLACIER", "DEEP_ARCHIVE"}


class _Cursor(NamedTuple):
    """Where to go on: behind this version of this key, in what the pattern with this number
    lists."""

    pattern: int = 0
    after: str = ""
    version: str = ""

    def encode(self) -> str:
        return json.dumps(self._asdict())

    @classmethod
    def decode(cls, text: str) -> _Cursor:
        return cls(**json.loads(text)) if text else cls()


class _Rows(NamedTuple):
    """One answer of S3, and the key and version to go on from, if there is more."""

    rows: Sequence[ObjectTypeDef | ObjectVersionTypeDef]
    following: tuple[str, str] | None


class S3Inputs:
    """Finds and reads objects. A key is `s3://bucket/key`; of a versioned bucket, the current
    versions are taken, each with its id.

    A pattern is the address of an object that exists, else a glob (see `globs`), else a prefix;
    `s3://bucket/logs` is a prefix of `logs-old/1` too, `s3://bucket/logs/` is not. The objects
    of no bytes that consoles make to show a folder (their keys end in a slash) are left out.

    Args:
        client: see `requests.make_client`. It follows a bucket to its region.
        glob: what the last step of a key must match to be found by a prefix.
        page_size: keys in a page at most; S3 gives no more than 1,000.
        requester_pays: whether requests say that their sender pays for them, where buckets ask it.
        sleep: waits that many seconds before a broken read is resumed.
    """

    def __init__(
        self,
        client: S3Client,
        *,
        glob: str = "*",
        page_size: int = PAGE_SIZE,
        requester_pays: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._name = compile_step(glob)
        self._page_size = page_size
        self._pays = requester_pays
        self._sleep = sleep
        self._versioned: dict[str, bool] = {}

    def pages(self, patterns: Sequence[str], cursor: str = "") -> Iterator[Page]:
        addresses = [_parse(pattern) for pattern in patterns]
        at = _Cursor.decode(cursor)
        while at.pattern < len(addresses):
            bucket, key = addresses[at.pattern]
            answer = self._named(bucket, key, at) or self._matching(bucket, key, at)
            objects = [self._pin(bucket, row) for row in answer.rows]
            if answer.following is None:
                at = _Cursor(at.pattern + 1)
            else:
                at = _Cursor(at.pattern, *answer.following)
            yield Page(objects, at.encode() if at.pattern < len(addresses) else None)
        if not addresses:
            yield Page([], None)

    def open(self, pinned: Pinned, start: int, stop: int) -> Readable:
        """Stream from `start`. The first range ends 64 KiB after `stop`, those after it grow.

        Every request names etag and version, so that `close` has nothing left to check.
        """
        source = _PinnedSource(self._client, pinned, pays=self._pays)
        if start >= pinned.size:
            source.check()
        return RangedReader(
            pinned.key,
            source.fetch,
            start,
            pinned.size,
            first=max(start, stop) + BEYOND_BYTES,
            window=BEYOND_BYTES,
            pause=lambda attempt: self._sleep(full_jitter(attempt)),
        ).begin()

    # -- listing ---------------------------------------------------------------------------------

    def _named(self, bucket: str, key: str, at: _Cursor) -> _Rows | None:
        """The object that has a pattern for its key. Asked only where a listing begins, so that
        an object made meanwhile doesn't cut it short."""
        if at.after or not key or key.endswith("/"):
            return None
        rows = self._list(bucket, key, at, 1).rows  # a key comes first of all that begin with it
        return _Rows(rows, None) if rows and rows[0]["Key"] == key else None

    def _matching(self, bucket: str, key: str, at: _Cursor) -> _Rows:
        """What a glob matches, or a prefix holds."""
        if has_magic(key):
            prefix, matches, whole = literal_prefix(key), compile_glob(key).fullmatch, True
        else:
            prefix, matches, whole = key, self._name.fullmatch, False
        answer = self._list(bucket, prefix, at, self._page_size)
        rows = [
            row
            for row in answer.rows
            if matches(row["Key"] if whole else row["Key"].rpartition("/")[2])
            and not (row["Key"].endswith("/") and row["Size"] == 0)
        ]
        return _Rows(rows, answer.following)

    def _list(self, bucket: str, prefix: str, at: _Cursor, limit: int) -> _Rows:
        address = f"s3://{bucket}/{prefix}"
        permission = "s3:ListBucket"
        try:
            versioned = self._is_versioned(bucket)
            permission = "s3:ListBucketVersions" if versioned else "s3:ListBucket"
            list_some = self._list_versions if versioned else self._list_objects
            return list_some(bucket, prefix, at, limit)
        except Trouble as trouble:
            raise trouble.on_reading(address, permission, InputUnreadable) from trouble

    def _list_objects(self, bucket: str, prefix: str, at: _Cursor, limit: int) -> _Rows:
        request: ListObjectsV2RequestTypeDef = {
            "Bucket": bucket,
            "Prefix": prefix,
            "MaxKeys": limit,
            "OptionalObjectAttributes": ["RestoreStatus"],
        }
        if self._pays:
            request["RequestPayer"] = "requester"
        if at.after:
            request["StartAfter"] = at.after
        while True:  # S3 may give pages without a key that are not the last
            with requesting():
                answer = self._client.list_objects_v2(**request)
            rows = answer.get("Contents", [])
            if not goes_on(answer, "NextContinuationToken", f"s3://{bucket}/{prefix}"):
                return _Rows(rows, None)
            if rows:
                return _Rows(rows, (rows[-1]["Key"], ""))
            request["ContinuationToken"] = answer["NextContinuationToken"]

    def _list_versions(self, bucket: str, prefix: str, at: _Cursor, limit: int) -> _Rows:
        request: ListObjectVersionsRequestTypeDef = {
            "Bucket": bucket,
            "Prefix": prefix,
            "MaxKeys": limit,
            "OptionalObjectAttributes": ["RestoreStatus"],
        }
        if self._pays:
            request["RequestPayer"] = "requester"
        if at.after:
            request["KeyMarker"] = at.after
        if at.version:
            request["VersionIdMarker"] = at.version
        while True:
            with requesting():
                answer = self._client.list_object_versions(**request)
            rows = [row for row in answer.get("Versions", []) if row["IsLatest"]]
            if not goes_on(answer, "NextKeyMarker", f"s3://{bucket}/{prefix}"):
                return _Rows(rows, None)
            following = answer["NextKeyMarker"], answer.get("NextVersionIdMarker", "")
            if answer.get("Versions") or answer.get("DeleteMarkers"):
                return _Rows(rows, following)
            request["KeyMarker"], request["VersionIdMarker"] = following

    def _is_versioned(self, bucket: str) -> bool:
        """Whether the bucket keeps versions, or has kept them. Only the account that it belongs to
        is told: objects of another's are pinned by their etags."""
        if bucket not in self._versioned:
            try:
                with requesting():
                    answer = self._client.get_bucket_versioning(Bucket=bucket)
                self._versioned[bucket] = "Status" in answer
            except Trouble as trouble:
                if trouble.cause is not Cause.DENIED:
                    raise
                self._versioned[bucket] = False
        return self._versioned[bucket]

    def _pin(self, bucket: str, row: ObjectTypeDef | ObjectVersionTypeDef) -> Pinned:
        address = f"s3://{bucket}/{row['Key']}"
        storage = row.get("StorageClass", "")
        restored = "RestoreExpiryDate" in row.get("RestoreStatus", {})
        if storage in _ARCHIVES and not restored:
            raise InputUnreadable(
                f"{address} is archived ({storage}). Restore it first, then run the same command "
                "again; or leave it out."
            )
        version: str | None = row.get("VersionId")  # type: ignore[assignment]
        return Pinned(
            key=address, size=row["Size"], etag=row["ETag"].strip('"'), version_id=version
        )


class _PinnedSource:
    """Range requests for exactly one version of an object."""

    def __init__(self, client: S3Client, pinned: Pinned, *, pays: bool) -> None:
        self._client = client
        self._pinned = pinned
        self._pays = pays
        self._bucket, self._key = _parse(pinned.key)

    def fetch(self, start: int, stop: int | None) -> Fetched:
        end = self._pinned.size if stop is None else stop
        request: GetObjectRequestTypeDef = {
            "Bucket": self._bucket,
            "Key": self._key,
            "IfMatch": f'"{self._pinned.etag}"',
            "Range": f"bytes={start}-{end - 1}",
        }
        if self._pays:
            request["RequestPayer"] = "requester"
        if self._pinned.version_id is not None:
            request["VersionId"] = self._pinned.version_id
        try:
            with requesting():
                answer = self._client.get_object(**request)
        except Trouble as trouble:
            raise self._error(trouble) from trouble
        return fetched(answer, self._pinned.key)

    def check(self) -> None:
        """Refuse an object that is not as pinned, where there is nothing to read."""
        request: HeadObjectRequestTypeDef = {
            "Bucket": self._bucket,
            "Key": self._key,
            "IfMatch": f'"{self._pinned.etag}"',
        }
        if self._pays:
            request["RequestPayer"] = "requester"
        if self._pinned.version_id is not None:
            request["VersionId"] = self._pinned.version_id
        try:
            with requesting():
                self._client.head_object(**request)
        except Trouble as trouble:
            raise self._error(trouble) from trouble

    def _error(self, trouble: Trouble) -> FanfoldError:
        key = self._pinned.key
        if trouble.cause is Cause.MISSING:
            return InputChanged(f"The input {key} was deleted under the run. Start a new run.")
        if trouble.cause in {Cause.REFUSED, Cause.BEYOND}:
            return InputChanged(
                f"The input {key} was overwritten under the run. Start a new run for it as it is "
                "now; in a versioned bucket, a run reads the version that it was planned with."
            )
        version = self._pinned.version_id
        permission = "s3:GetObject" if version is None else "s3:GetObjectVersion"
        return trouble.on_reading(key, f"{permission} and s3:ListBucket", InputUnreadable)


def _parse(pattern: str) -> tuple[str, str]:
    """Bucket and key of an address."""
    found = _ADDRESS.fullmatch(pattern)
    if found is None:
        raise InputInvalid(
            f"The input {pattern!r} is no S3 address: write s3://bucket/ and a key, prefix or glob."
        )
    return found["bucket"], found["key"] or ""

"""What the store in S3 promises beyond the contract: its requests, and what becomes of faults."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import (
    ConnectionClosedError,
    EndpointConnectionError,
    FlexibleChecksumError,
    NoCredentialsError,
    ReadTimeoutError,
)

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
from coordinator.store.s3 import store as s3, transfers as s3_streams
from coordinator.store.s3.requests import full_jitter, make_client
from coordinator.store.s3.store import S3Store
from coordinator.store.s3.transfers import PartWriter, UploadedPart
from tests.contracts.faults import Answer, Faults, break_off, new_client, no_sleep, refusal

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIB = 1024**2
URL = "https://s3.amazonaws.com"


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def store(bucket: str, client: S3Client, waits: list[float]) -> S3Store:
    return S3Store(bucket, client, "pre/fix/", sleep=waits.append)


def uploads(store: S3Store) -> int:
    """Multipart uploads that were begun and neither finished nor abandoned."""
    return len(store.client.list_multipart_uploads(Bucket=store.bucket).get("Uploads", []))


class TestRequests:
    """One request an operation, with the words that make it safe."""

    def test_create_is_one_conditional_put_that_s3_verifies(
        self, store: S3Store, faults: Faults
    ) -> None:
        store.create("a", b"body")
        (headers,) = faults.of("PutObject")
        assert headers["if-none-match"] == "*"
        assert headers["x-amz-checksum-sha256"] == _sha256(b"body")
        assert len(faults.requests) == 1

    def test_replace_names_the_tag(self, store: S3Store, faults: Faults) -> None:
        tag = store.create("a", b"body")
        store.replace("a", b"new", tag)
        assert faults.of("PutObject")[1]["if-match"] == tag
        assert len(faults.requests) == 2

    def test_a_plain_writer_sets_no_condition(self, store: S3Store, faults: Faults) -> None:
        with store.writer("a") as writer:
            writer.write(b"body")
            writer.close()
        (headers,) = faults.of("PutObject")
        assert "if-none-match" not in headers
        assert headers["x-amz-checksum-sha256"] == _sha256(b"body")
        assert len(faults.requests) == 1

    def test_encryption_is_left_to_the_bucket(self, store: S3Store, faults: Faults) -> None:
        store.create("a", b"body")
        with store.writer("b") as writer:
            writer.write(bytes(9 * MIB))
            writer.close()
        for _, headers in faults.requests:
            assert not any("encryption" in name for name in headers)

    def test_reading_takes_one_request(self, store: S3Store, faults: Faults) -> None:
        store.create("a", b"0123456789")
        faults.requests.clear()
        assert store.get("a").body == b"0123456789"
        assert store.get_range("a", 2, 5) == b"234"
        with closing(store.open("a", 3)) as stream:
            assert stream.read(3) == b"345"
        assert store.exists("a")
        assert [name for name, _ in faults.requests] == ["GetObject"] * 3 + ["HeadObject"]
        assert faults.of("GetObject")[1]["range"] == "bytes=2-4"

    def test_a_stream_reads_by_bounded_ranges(
        self, store: S3Store, faults: Faults, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(s3, "WINDOW_BYTES", 10)
        monkeypatch.setattr(s3_streams, "WINDOW_BYTES", 20)
        body = bytes(range(65))
        tag = store.create("a", body)
        with closing(store.open("a")) as stream:
            assert stream.read() == body
        ranges = [headers["range"] for headers in faults.of("GetObject")]
        assert ranges == ["bytes=0-9", "bytes=10-19", "bytes=20-39", "bytes=40-59", "bytes=60-64"]
        matches = [headers.get("if-match") for headers in faults.of("GetObject")]
        assert matches == [None, tag, tag, tag, tag]

    def test_keys_lie_below_the_prefix(self, store: S3Store, client: S3Client) -> None:
        store.create("a", b"")
        client.put_object(Bucket=store.bucket, Key="pre/fixed", Body=b"")
        client.put_object(Bucket=store.bucket, Key="other", Body=b"")
        assert store.url("a") == f"s3://{store.bucket}/pre/fix/a"
        assert client.get_object(Bucket=store.bucket, Key="pre/fix/a")["ContentLength"] == 0
        assert [found.key for found in store.list("")] == ["a"]
        assert S3Store(store.bucket, client, "/").url("a") == f"s3://{store.bucket}/a"
        assert len(list(S3Store(store.bucket, client).list(""))) == 3

    def test_listings_are_paged(
        self, store: S3Store, faults: Faults, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
        keys = [f"a/{number}" for number in range(8)]
        for key in keys:
            store.create(key, b"")
        assert [found.key for found in store.list("a/")] == keys
        assert [found.key for found in store.list("a/", after="a/2")] == keys[3:]
        assert len(faults.of("ListObjectsV2")) == 3 + 2

    def test_deletes_are_batched(
        self, store: S3Store, faults: Faults, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(s3, "DELETE_BATCH", 2)
        for key in "abcde":
            store.create(key, b"")
        store.delete("abcd")
        assert [found.key for found in store.list("")] == ["e"]
        assert len(faults.of("DeleteObjects")) == 2

    def test_the_client_waits_and_retries_within_bounds(self) -> None:
        config: Any = make_client(threads=50, region="eu-west-1").meta.config
        assert config.max_pool_connections >= 50
        assert config.connect_timeout <= 10
        assert config.read_timeout <= 60
        assert config.retries == {"mode": "standard", "total_max_attempts": 5}

    def test_jitter_is_full_and_bounded(self) -> None:
        assert full_jitter(3, lambda: 0.0) == 0
        assert full_jitter(3, lambda: 1.0) == pytest.approx(0.8)
        assert full_jitter(30, lambda: 1.0) == 5


def _sha256(body: bytes) -> str:
    return b64encode(hashlib.sha256(body).digest()).decode()


def _create(store: S3Store) -> object:
    return store.create("new", b"body")


def _replace(store: S3Store) -> object:
    return store.replace("there", b"body", store.client.head_object(**_there(store))["ETag"])


def _put(store: S3Store) -> object:
    return store.writer("new").close()


def _there(store: S3Store) -> Any:
    return {"Bucket": store.bucket, "Key": "pre/fix/there"}


def _deep(store: S3Store) -> object:
    return [found.key for found in store.list("")]


Use = Callable[[S3Store], object]
WRITES: list[Use] = [_create, _replace, _put]
READS: list[tuple[str, Use]] = [
    ("GetObject", lambda store: store.get("there")),
    ("GetObject", lambda store: store.get_range("there", 0, 1)),
    ("GetObject", lambda store: store.open("there")),
    ("HeadObject", lambda store: store.exists("there")),
    ("ListObjectsV2", _deep),
]
LOST = [
    ConnectionClosedError(endpoint_url=URL),
    ReadTimeoutError(endpoint_url=URL),
    EndpointConnectionError(endpoint_url=URL, error="no route"),
]


class TestConflicts:
    @pytest.mark.parametrize("write", WRITES[:2])
    def test_a_conflict_is_tried_again_after_a_random_wait(
        self, store: S3Store, faults: Faults, waits: list[float], write: Use
    ) -> None:
        store.create("there", b"old")
        conflict = refusal("ConditionalRequestConflict", 409)
        faults.refuse("PutObject", conflict, conflict)
        write(store)
        assert len(waits) == 2
        assert all(0 <= wait <= 0.1 * 2**attempt for attempt, wait in enumerate(waits))
        assert len(faults.of("PutObject")) == 1 + 3

    @pytest.mark.parametrize("write", WRITES[:2])
    def test_conflicts_without_end_are_no_outcome(
        self, store: S3Store, faults: Faults, waits: list[float], write: Use
    ) -> None:
        store.create("there", b"old")
        faults.refuse("PutObject", *[refusal("ConditionalRequestConflict", 409)] * 50)
        with pytest.raises(StoreUnavailable, match="pre/fix"):
            write(store)
        assert len(waits) == s3.CONFLICT_TRIES - 1

    def test_a_replace_of_nothing_has_changed(self, store: S3Store, faults: Faults) -> None:
        store.create("a", b"")
        faults.refuse("PutObject", refusal("NoSuchKey", 404))
        with pytest.raises(Changed):
            store.replace("a", b"", '"tag"')


class TestLostAnswers:
    """Refused and unknown are different: only of what was surely not written is it said so."""

    @pytest.mark.parametrize("error", LOST)
    @pytest.mark.parametrize("carried_out", [False, True])
    @pytest.mark.parametrize("write", WRITES)
    def test_a_lost_answer_to_a_write_is_an_unknown_outcome(
        self, store: S3Store, faults: Faults, write: Use, carried_out: bool, error: Exception
    ) -> None:
        store.create("there", b"old")
        faults.lose("PutObject", error, carried_out=carried_out)
        with pytest.raises(OutcomeUnknown, match="Read it back"):
            write(store)
        written = store.exists("new") or store.get("there").body == b"body"
        assert written is carried_out
        if write is _create and carried_out:
            with pytest.raises(AlreadyExists):
                store.create("new", b"other")
            assert store.get("new").body == b"body"

    @pytest.mark.parametrize("write", WRITES)
    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            (refusal("InternalError", 500), OutcomeUnknown),
            (refusal("ServiceUnavailable", 503), OutcomeUnknown),
            (refusal("RequestTimeout", 400), OutcomeUnknown),
            (refusal("SlowDown", 503), StoreUnavailable),
            (refusal("SlowDown", 503, retries=4), OutcomeUnknown),
            (refusal("BadDigest", 400), StoreUnavailable),
            (refusal("KeyTooLongError", 400), OutputUnwritable),
        ],
    )
    def test_which_refusals_leave_a_doubt(
        self,
        store: S3Store,
        faults: Faults,
        write: Use,
        answer: Answer,
        error: type[FanfoldError],
    ) -> None:
        store.create("there", b"old")
        faults.refuse("PutObject", answer)
        with pytest.raises(error) as raised:
            write(store)
        assert type(raised.value) is error
        assert f"s3://{store.bucket}/pre/fix/" in str(raised.value)

    def test_the_sdk_s_own_retry_meets_its_success(
        self, store: S3Store, aws: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The first try was carried out, its answer lost, the second refused."""
        monkeypatch.setattr("botocore.endpoint.time.sleep", no_sleep)
        retrying = S3Store(store.bucket, new_client(tries=3), "pre/fix")
        lost: list[Exception | None] = [ConnectionClosedError(endpoint_url=URL), None]
        Faults(retrying.client).lose("PutObject", *lost, *lost, carried_out=True)
        with pytest.raises(AlreadyExists):
            retrying.create("a", b"first")
        body, tag = store.get("a")
        assert body == b"first"
        with pytest.raises(OutcomeUnknown, match="may be the one just written"):
            retrying.replace("a", b"second", tag)
        assert store.get("a").body == b"second"

    @pytest.mark.parametrize(("operation", "read"), READS)
    @pytest.mark.parametrize("code", ["SlowDown", "InternalError"])
    def test_a_read_that_failed_may_be_tried_again(
        self, store: S3Store, faults: Faults, operation: str, read: Use, code: str
    ) -> None:
        store.create("there", b"body")
        faults.refuse(operation, refusal(code, 503))
        with pytest.raises(StoreUnavailable, match="pre/fix"):
            read(store)
        read(store)

    @pytest.mark.parametrize(("operation", "read"), READS)
    @pytest.mark.parametrize("error", LOST)
    def test_a_connection_lost_on_reading(
        self, store: S3Store, faults: Faults, operation: str, read: Use, error: Exception
    ) -> None:
        store.create("there", b"body")
        faults.lose(operation, error, carried_out=False)
        with pytest.raises(StoreUnavailable):
            read(store)

    def test_deletes_may_always_be_tried_again(self, store: S3Store, faults: Faults) -> None:
        faults.lose("DeleteObjects", *LOST, carried_out=False)
        for _ in LOST:
            with pytest.raises(StoreUnavailable):
                store.delete(["a"])
        store.delete(["a"])

    @pytest.mark.parametrize(
        ("code", "error"),
        [
            ("InternalError", StoreUnavailable),
            ("SlowDown", StoreUnavailable),
            ("AccessDenied", OutputUnwritable),
        ],
    )
    def test_one_delete_of_a_batch_that_failed(
        self, store: S3Store, faults: Faults, code: str, error: type[FanfoldError]
    ) -> None:
        failed = {"Key": "pre/fix/b", "Code": code, "Message": "scripted"}
        faults.change("DeleteObjects", lambda parsed: parsed.update(Errors=[failed]))
        with pytest.raises(error, match="pre/fix/b"):
            store.delete(["a", "b"])


class TestRefusals:
    """What is missing is named: the permission, the bucket, the credentials."""

    @pytest.mark.parametrize("write", WRITES)
    def test_writing(self, store: S3Store, faults: Faults, write: Use) -> None:
        store.create("there", b"old")
        faults.refuse("PutObject", refusal("AccessDenied", 403))
        with pytest.raises(OutputUnwritable, match=r"pre/fix/.*needs s3:PutObject"):
            write(store)

    @pytest.mark.parametrize(("operation", "read"), READS)
    def test_reading(self, store: S3Store, faults: Faults, operation: str, read: Use) -> None:
        store.create("there", b"old")
        code = "403" if operation == "HeadObject" else "AccessDenied"
        permission = "s3:ListBucket" if operation == "ListObjectsV2" else "s3:GetObject"
        faults.refuse(operation, refusal(code, 403))
        with pytest.raises(OutputUnwritable, match=f"needs {permission}"):
            read(store)

    def test_deleting(self, store: S3Store, faults: Faults) -> None:
        faults.refuse("DeleteObjects", refusal("AccessDenied", 403))
        with pytest.raises(OutputUnwritable, match="needs s3:DeleteObject"):
            store.delete(["a"])

    def test_a_bucket_that_is_not_there(self, client: S3Client) -> None:
        store = S3Store("no-such-bucket-anywhere", client)
        uses: list[Use] = [_create, _put, _deep, lambda store: store.get("a")]
        for use in uses:
            with pytest.raises(OutputUnwritable, match="bucket does not exist"):
                use(store)

    def test_no_credentials(self, store: S3Store, faults: Faults) -> None:
        faults.lose("PutObject", NoCredentialsError(), carried_out=False)
        with pytest.raises(OutputUnwritable, match="credentials"):
            store.create("a", b"")

    def test_a_bucket_name_that_is_none(self, client: S3Client) -> None:
        with pytest.raises(OutputUnwritable, match="Invalid bucket name"):
            S3Store("no bucket/name", client).create("a", b"")

    def test_a_key_that_is_too_long(self, store: S3Store, faults: Faults) -> None:
        faults.refuse("PutObject", refusal("KeyTooLongError", 400))
        with pytest.raises(OutputInvalid, match="too long"):
            store.create("é" * 600, b"")


class TestBrokenBodies:
    BODY = bytes(range(100))

    @pytest.mark.parametrize(
        "error", [ReadTimeoutError(endpoint_url=URL), ConnectionResetError(), None]
    )
    @pytest.mark.parametrize("piece", [-1, 7, 1000])
    def test_reading_goes_on_where_it_broke_in_the_same_version(
        self, store: S3Store, faults: Faults, error: Exception | None, piece: int
    ) -> None:
        tag = store.create("a", self.BODY)
        break_off(faults, 10, 0, 30, 5, error=error)
        with closing(store.open("a")) as stream:
            pieces = []
            while got := stream.read(piece):
                pieces.append(got)
        assert b"".join(pieces) == self.BODY
        ranges = [headers["range"] for headers in faults.of("GetObject")[1:]]
        assert ranges == ["bytes=10-99", "bytes=10-99", "bytes=40-99", "bytes=45-99"]
        assert {headers["if-match"] for headers in faults.of("GetObject")[1:]} == {tag}

    def test_get_and_get_range_too(self, store: S3Store, faults: Faults) -> None:
        tag = store.create("a", self.BODY)
        break_off(faults, 10, 5, 10, error=ConnectionResetError())
        assert store.get("a") == (self.BODY, tag)
        assert store.get_range("a", 50, 90) == self.BODY[50:90]

    def test_breaks_without_progress_come_to_an_end(
        self, store: S3Store, faults: Faults, waits: list[float]
    ) -> None:
        store.create("a", self.BODY)
        break_off(faults, 10, *[0] * 50, error=ConnectionResetError())
        with pytest.raises(StoreUnavailable, match=r"pre/fix/a broke off at byte 10"):
            store.get("a")
        assert len(waits) == s3_streams.RESUMES

    def test_an_object_replaced_meanwhile_is_not_mixed_in(
        self, store: S3Store, client: S3Client, faults: Faults
    ) -> None:
        store.create("a", self.BODY)
        break_off(faults, 10, error=ConnectionResetError())
        with closing(store.open("a")) as stream:
            assert stream.read(10) == self.BODY[:10]
            client.put_object(Bucket=store.bucket, Key="pre/fix/a", Body=self.BODY[::-1])
            with pytest.raises(StoreUnavailable, match="was replaced"):
                stream.read(10)

    def test_an_object_deleted_meanwhile_is_missing(self, store: S3Store, faults: Faults) -> None:
        store.create("a", self.BODY)
        break_off(faults, 10, error=ConnectionResetError())
        with closing(store.open("a")) as stream:
            assert stream.read(10) == self.BODY[:10]
            store.delete(["a"])
            with pytest.raises(KeyMissing):
                stream.read(10)

    def test_a_body_that_arrives_corrupted_is_not_given_out_whole(
        self, store: S3Store, faults: Faults
    ) -> None:
        store.create("a", self.BODY)
        break_off(faults, 100, error=FlexibleChecksumError(error_msg="crc"))
        with pytest.raises(StoreUnavailable, match="corrupted"):
            store.get("a")


class TestMultipart:
    def test_parts_are_sent_as_they_fill(self, store: S3Store, faults: Faults) -> None:
        writer = store.writer("a")
        for _ in range(20):
            writer.write(bytes(MIB))
        assert [name for name, _ in faults.requests] == [
            "CreateMultipartUpload",
            "UploadPart",
            "UploadPart",
        ]
        file = writer.close()
        assert file.size == 20 * MIB
        assert len(faults.of("UploadPart")) == 3
        assert all("x-amz-checksum-crc32" in headers for headers in faults.of("UploadPart"))
        assert "if-none-match" not in faults.of("CompleteMultipartUpload")[0]
        assert store.get("a").body == bytes(20 * MIB)

    def test_an_exclusive_one_is_put_if_absent(self, store: S3Store, faults: Faults) -> None:
        first = store.writer("a", exclusive=True)
        second = store.writer("a", exclusive=True)
        first.write(b"1" * 9 * MIB)
        second.write(b"2" * 9 * MIB)
        first.close()
        with pytest.raises(AlreadyExists):
            second.close()
        assert store.get("a").body == b"1" * 9 * MIB
        assert uploads(store) == 0
        assert faults.of("CompleteMultipartUpload")[0]["if-none-match"] == "*"

    def test_abort_and_errors_leave_no_upload(self, store: S3Store, faults: Faults) -> None:
        writer = store.writer("a")
        writer.write(bytes(9 * MIB))
        assert uploads(store) == 1
        writer.abort()
        assert uploads(store) == 0
        faults.refuse("UploadPart", refusal("BadDigest", 400))
        writer = store.writer("a")
        with pytest.raises(StoreUnavailable):
            writer.write(bytes(9 * MIB))
        assert uploads(store) == 0
        assert not store.exists("a")

    @pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart"])
    def test_before_the_last_request_nothing_is_in_doubt(
        self, store: S3Store, faults: Faults, operation: str
    ) -> None:
        for error in LOST:
            faults.lose(operation, error, carried_out=True)
            with pytest.raises(StoreUnavailable):
                store.writer("a").write(bytes(9 * MIB))
        faults.refuse(operation, refusal("AccessDenied", 403))
        with pytest.raises(OutputUnwritable, match="s3:PutObject"):
            store.writer("a").write(bytes(9 * MIB))

    @pytest.mark.parametrize("carried_out", [False, True])
    def test_the_last_request_s_lost_answer_is_an_unknown_outcome(
        self, store: S3Store, faults: Faults, carried_out: bool
    ) -> None:
        faults.lose("CompleteMultipartUpload", LOST[0], carried_out=carried_out)
        writer = store.writer("a", exclusive=True)
        writer.write(bytes(9 * MIB))
        with pytest.raises(OutcomeUnknown):
            writer.close()
        assert store.exists("a") is carried_out

    def test_an_upload_that_has_ended_is_an_unknown_outcome(
        self, store: S3Store, faults: Faults
    ) -> None:
        faults.refuse("CompleteMultipartUpload", refusal("NoSuchUpload", 404))
        writer = store.writer("a")
        writer.write(bytes(9 * MIB))
        with pytest.raises(OutcomeUnknown, match="has ended"):
            writer.close()

    def test_an_abort_that_fails_is_left_to_the_bucket_s_lifecycle(
        self, store: S3Store, faults: Faults
    ) -> None:
        faults.refuse("AbortMultipartUpload", refusal("InternalError", 500))
        writer = store.writer("a")
        writer.write(bytes(9 * MIB))
        writer.abort()
        assert not store.exists("a")

    def test_a_conflict_at_the_end_is_tried_again(
        self, store: S3Store, faults: Faults, waits: list[float]
    ) -> None:
        faults.refuse("CompleteMultipartUpload", refusal("ConditionalRequestConflict", 409))
        writer = store.writer("a", exclusive=True)
        writer.write(bytes(9 * MIB))
        writer.close()
        assert len(waits) == 1
        assert store.exists("a")

    def test_parts_grow_so_that_ten_thousand_suffice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(s3_streams, "PART_BYTES", 8)
        upload = Uploading()
        writer = PartWriter(upload, "a", "s3://b/a")

        def write_for_ever() -> None:
            while True:
                writer.write(b"1234")

        with pytest.raises(OutputInvalid, match=r'merge="parts"'):
            write_for_ever()
        sizes = upload.sizes
        assert len(sizes) == 10_000
        assert sizes[0] == 8
        assert sizes[-1] == 8 * 20
        assert sum(sizes) * MIB > 800 * 1024**3
        assert upload.abandoned


class Uploading:
    """An upload that only remembers."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.abandoned = False

    def put(self, body: bytes, sha256: bytes) -> None:
        self.sizes.append(len(body))

    def begin(self) -> None:
        return

    def part(self, number: int, body: bytes) -> UploadedPart:
        assert number == len(self.sizes) + 1
        self.sizes.append(len(body))
        return UploadedPart(number, "etag", "crc")

    def finish(self, parts: list[UploadedPart]) -> None:
        assert len(parts) == len(self.sizes)

    def abandon(self) -> None:
        self.abandoned = True

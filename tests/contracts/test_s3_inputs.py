"""What inputs in S3 promise beyond the contract: versions, pages, archives, ranges, refusals."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from coordinator.errors import InputChanged, InputInvalid, InputUnreadable, StoreUnavailable
from coordinator.model import Pinned
from coordinator.store.s3.inputs import BEYOND_BYTES, S3Inputs
from tests.contracts.faults import Faults, break_off, no_sleep, refusal

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KIB = 1024


@pytest.fixture
def inputs(client: S3Client) -> S3Inputs:
    return S3Inputs(client, sleep=no_sleep)


def put(client: S3Client, bucket: str, *keys: str) -> None:
    for key in keys:
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())


def keep_versions(client: S3Client, bucket: str, status: str = "Enabled") -> None:
    client.put_bucket_versioning(
        Bucket=bucket,
        VersioningConfiguration={"Status": status},  # type: ignore[typeddict-item]
    )


def found(inputs: S3Inputs, *patterns: str) -> list[Pinned]:
    return [pinned for page in inputs.pages(patterns) for pinned in page.objects]


def keys(inputs: S3Inputs, *patterns: str) -> list[str]:
    return [pinned.key.split("/", 3)[3] for pinned in found(inputs, *patterns)]


def read(inputs: S3Inputs, pinned: Pinned) -> bytes:
    with closing(inputs.open(pinned, 0, pinned.size)) as stream:
        return stream.read()


class TestPatterns:
    def test_a_prefix_may_end_anywhere(
        self, inputs: S3Inputs, client: S3Client, bucket: str
    ) -> None:
        put(client, bucket, "logs/1", "logs/2", "logs-old/1", "other")
        assert keys(inputs, f"s3://{bucket}/logs/") == ["logs/1", "logs/2"]
        assert keys(inputs, f"s3://{bucket}/logs") == ["logs-old/1", "logs/1", "logs/2"]
        assert len(keys(inputs, f"s3://{bucket}")) == 4
        assert len(keys(inputs, f"s3://{bucket}/")) == 4

    def test_the_marks_that_consoles_make_for_folders_are_left_out(
        self, inputs: S3Inputs, client: S3Client, bucket: str
    ) -> None:
        client.put_object(Bucket=bucket, Key="a/", Body=b"")
        client.put_object(Bucket=bucket, Key="full/", Body=b"body")
        put(client, bucket, "a/1")
        assert keys(inputs, f"s3://{bucket}/") == ["a/1", "full/"]
        assert keys(inputs, f"s3://{bucket}/a/") == ["a/1"]

    @pytest.mark.parametrize(
        "key",
        ["../up", "a/./b", "/absolute", "a//b", "tab\t", "new\nline", "*", "a?b#c%20+&", "é😀"],
    )
    def test_a_key_may_hold_anything(
        self, inputs: S3Inputs, client: S3Client, bucket: str, key: str
    ) -> None:
        put(client, bucket, key)
        for pattern in (f"s3://{bucket}/", f"s3://{bucket}/{key}"):
            (pinned,) = found(inputs, pattern)
            assert pinned.key == f"s3://{bucket}/{key}"
            assert read(inputs, pinned) == key.encode()

    @pytest.mark.parametrize(
        "pattern",
        ["", "s3://", "s3:///key", "s3://a", "s3://bad bucket/key", "s3://b*cket/k", "/local", "a"],
    )
    def test_what_is_no_address_is_refused_before_anything_is_listed(
        self, inputs: S3Inputs, bucket: str, pattern: str
    ) -> None:
        with pytest.raises(InputInvalid, match="s3://bucket/"):
            next(inputs.pages([f"s3://{bucket}/", pattern]))

    def test_only_the_literal_part_of_a_glob_is_listed(
        self, inputs: S3Inputs, client: S3Client, bucket: str, faults: Faults
    ) -> None:
        put(client, bucket, "2024/01/a.csv", "2024/02/a.csv", "2025/01/a.csv")
        seen = []

        def remember(params: dict[str, object], **_: object) -> None:
            seen.append(params["url_path"])
            assert isinstance(params["query_string"], dict)
            seen.append(params["query_string"]["prefix"])

        client.meta.events.register("before-call.s3.ListObjectsV2", remember)
        assert keys(inputs, f"s3://{bucket}/2024/*/a.csv") == ["2024/01/a.csv", "2024/02/a.csv"]
        assert seen[1::2] == ["2024/*/a.csv", "2024/"]


class TestPages:
    @pytest.mark.parametrize("versioned", [False, True])
    def test_a_cursor_serves_another_process(
        self, client: S3Client, bucket: str, versioned: bool
    ) -> None:
        if versioned:
            keep_versions(client, bucket)
        put(client, bucket, "a/1", "a/2", "a/2", "a/2", "a/3", "b/1", "b/2", "c")
        client.delete_object(Bucket=bucket, Key="a/3")
        patterns = [f"s3://{bucket}/{pattern}" for pattern in ("a/", "b/*", "c", "none")]
        cursor: str | None = ""
        listed = []
        cursors = []
        while cursor is not None:
            page = next(S3Inputs(client, page_size=2).pages(patterns, cursor))
            listed += [pinned.key.removeprefix(f"s3://{bucket}/") for pinned in page.objects]
            cursor = page.cursor
            cursors.append(cursor)
        assert listed == ["a/1", "a/2", "b/1", "b/2", "c"]
        assert all(json.loads(one)["pattern"] < 4 for one in cursors if one is not None)

    def test_nothing_is_listed_for_no_pattern(self, inputs: S3Inputs) -> None:
        assert [page.cursor for page in inputs.pages([])] == [None]

    def test_an_object_made_under_a_listing_does_not_cut_it_short(
        self, client: S3Client, bucket: str
    ) -> None:
        put(client, bucket, "logs/1", "logs/2", "logs/3")
        inputs = S3Inputs(client, page_size=2)
        first = next(inputs.pages([f"s3://{bucket}/logs"]))
        put(client, bucket, "logs")
        (rest,) = inputs.pages([f"s3://{bucket}/logs"], first.cursor or "")
        assert [pinned.key for pinned in rest.objects] == [f"s3://{bucket}/logs/3"]

    def test_a_pattern_costs_a_request_a_page_and_one(
        self, client: S3Client, bucket: str, faults: Faults
    ) -> None:
        put(client, bucket, *(f"logs/{number}" for number in range(10)))
        list(S3Inputs(client, page_size=2).pages([f"s3://{bucket}/logs"]))
        assert len(faults.of("ListObjectsV2")) == 1 + 5
        assert len(faults.of("GetBucketVersioning")) == 1


class TestVersions:
    def test_the_current_versions_are_pinned_and_read_after_an_overwrite(
        self, inputs: S3Inputs, client: S3Client, bucket: str
    ) -> None:
        keep_versions(client, bucket)
        client.put_object(Bucket=bucket, Key="a", Body=b"older")
        client.put_object(Bucket=bucket, Key="a", Body=b"current")
        (pinned,) = found(inputs, f"s3://{bucket}/")
        assert pinned.version_id
        client.put_object(Bucket=bucket, Key="a", Body=b"newer")
        assert read(inputs, pinned) == b"current"
        client.delete_object(Bucket=bucket, Key="a")
        assert read(inputs, pinned) == b"current"
        assert found(inputs, f"s3://{bucket}/") == []
        assert found(inputs, f"s3://{bucket}/a") == []

    def test_a_version_that_was_removed_is_a_change(
        self, inputs: S3Inputs, client: S3Client, bucket: str
    ) -> None:
        keep_versions(client, bucket)
        put(client, bucket, "a")
        (pinned,) = found(inputs, f"s3://{bucket}/a")
        assert pinned.version_id
        client.delete_object(Bucket=bucket, Key="a", VersionId=pinned.version_id)
        with pytest.raises(InputChanged, match=f"{bucket}/a.*deleted"):
            read(inputs, pinned)

    def test_a_bucket_that_no_longer_keeps_versions(
        self, inputs: S3Inputs, client: S3Client, bucket: str
    ) -> None:
        put(client, bucket, "before")
        keep_versions(client, bucket)
        put(client, bucket, "during")
        keep_versions(client, bucket, "Suspended")
        pinned = {one.key.rpartition("/")[2]: one for one in found(inputs, f"s3://{bucket}/")}
        assert pinned.keys() == {"before", "during"}
        assert all(one.version_id for one in pinned.values())
        assert read(inputs, pinned["during"]) == b"during"

    def test_without_versions_there_is_no_id(
        self, inputs: S3Inputs, client: S3Client, bucket: str
    ) -> None:
        put(client, bucket, "a")
        (pinned,) = found(inputs, f"s3://{bucket}/a")
        assert pinned.version_id is None
        assert '"' not in pinned.etag


class TestReading:
    def test_ranges_begin_small_and_grow_as_one_reads_on(
        self, inputs: S3Inputs, client: S3Client, bucket: str, faults: Faults
    ) -> None:
        body = bytes(1000 * KIB)
        client.put_object(Bucket=bucket, Key="a", Body=body)
        (pinned,) = found(inputs, f"s3://{bucket}/a")
        with closing(inputs.open(pinned, 100 * KIB, 200 * KIB)) as stream:
            assert len(faults.of("GetObject")) == 1
            assert len(stream.read(100 * KIB)) > 0
            while stream.read(100 * KIB):
                pass
        bounds = [headers["range"].removeprefix("bytes=") for headers in faults.of("GetObject")]
        starts = [int(bound.split("-")[0]) // KIB for bound in bounds]
        assert starts == [100, 264, 328, 456, 712]
        assert bounds[-1] == f"{712 * KIB}-{1000 * KIB - 1}"
        assert {headers["if-match"] for headers in faults.of("GetObject")} == {f'"{pinned.etag}"'}

    def test_the_first_range_is_what_the_caller_expects_and_a_little(
        self, inputs: S3Inputs, client: S3Client, bucket: str, faults: Faults
    ) -> None:
        client.put_object(Bucket=bucket, Key="a", Body=bytes(300 * KIB))
        (pinned,) = found(inputs, f"s3://{bucket}/a")
        inputs.open(pinned, 0, 1000).close()
        (headers,) = faults.of("GetObject")
        assert headers["range"] == f"bytes=0-{1000 + BEYOND_BYTES - 1}"

    def test_nothing_to_read_is_checked_all_the_same(
        self, inputs: S3Inputs, client: S3Client, bucket: str, faults: Faults
    ) -> None:
        client.put_object(Bucket=bucket, Key="a", Body=b"")
        (pinned,) = found(inputs, f"s3://{bucket}/a")
        assert read(inputs, pinned) == b""
        assert faults.of("GetObject") == []
        assert len(faults.of("HeadObject")) == 1

    def test_a_broken_body_goes_on_where_it_broke(
        self, inputs: S3Inputs, client: S3Client, bucket: str, faults: Faults
    ) -> None:
        body = bytes(range(256)) * 4
        client.put_object(Bucket=bucket, Key="a", Body=body)
        (pinned,) = found(inputs, f"s3://{bucket}/a")
        break_off(faults, 100, 0, 7, error=ConnectionResetError())
        assert read(inputs, pinned) == body
        break_off(faults, *[0] * 50, error=ConnectionResetError())
        with pytest.raises(StoreUnavailable, match=f"{bucket}/a"):
            read(inputs, pinned)

    def test_an_overwrite_amid_a_broken_body_is_a_change(
        self, inputs: S3Inputs, client: S3Client, bucket: str, faults: Faults
    ) -> None:
        client.put_object(Bucket=bucket, Key="a", Body=b"0123456789")
        (pinned,) = found(inputs, f"s3://{bucket}/a")
        break_off(faults, 3, error=ConnectionResetError())
        with closing(inputs.open(pinned, 0, 10)) as stream:
            assert stream.read(10) == b"012"
            client.put_object(Bucket=bucket, Key="a", Body=b"9876543210")
            with pytest.raises(InputChanged, match=f"{bucket}/a.*overwritten"):
                stream.read(10)


class TestRefusals:
    @pytest.mark.parametrize("storage", ["GLACIER", "DEEP_ARCHIVE"])
    def test_an_archived_object_is_refused_by_name(
        self, inputs: S3Inputs, client: S3Client, bucket: str, storage: str
    ) -> None:
        put(client, bucket, "warm")
        client.put_object(
            Bucket=bucket,
            Key="cold/a",
            Body=b"",
            StorageClass=storage,  # type: ignore[arg-type]
        )
        with pytest.raises(InputUnreadable, match=rf"{bucket}/cold/a is archived \({storage}\)"):
            found(inputs, f"s3://{bucket}/")
        assert keys(inputs, f"s3://{bucket}/w*") == ["warm"]
        assert keys(S3Inputs(client, glob="warm"), f"s3://{bucket}/") == ["warm"]

    def test_an_archived_object_that_was_restored_is_not(
        self, inputs: S3Inputs, client: S3Client, bucket: str, faults: Faults
    ) -> None:
        client.put_object(Bucket=bucket, Key="cold", Body=b"", StorageClass="GLACIER")
        faults.change(
            "ListObjectsV2",
            lambda parsed: parsed["Contents"][0].update(
                RestoreStatus={"IsRestoreInProgress": False, "RestoreExpiryDate": "soon"}
            ),
        )
        assert keys(inputs, f"s3://{bucket}/") == ["cold"]

    def test_an_object_archived_under_the_run(
        self, inputs: S3Inputs, client: S3Client, bucket: str, faults: Faults
    ) -> None:
        put(client, bucket, "a")
        (pinned,) = found(inputs, f"s3://{bucket}/a")
        faults.refuse("GetObject", refusal("InvalidObjectState", 403))
        with pytest.raises(InputUnreadable, match=f"{bucket}/a.*archived"):
            read(inputs, pinned)

    @pytest.mark.parametrize("versioned", [False, True])
    def test_a_missing_permission_is_named(
        self, client: S3Client, bucket: str, faults: Faults, versioned: bool
    ) -> None:
        if versioned:
            keep_versions(client, bucket)
        put(client, bucket, "a")
        faults.refuse("ListObjectVersions", refusal("AccessDenied", 403))
        faults.refuse("ListObjectsV2", refusal("AccessDenied", 403))
        wanted = "s3:ListBucketVersions" if versioned else "s3:ListBucket"
        with pytest.raises(InputUnreadable, match=f"needs {wanted} "):
            found(S3Inputs(client), f"s3://{bucket}/")
        (pinned,) = found(S3Inputs(client), f"s3://{bucket}/")
        faults.refuse("GetObject", refusal("AccessDenied", 403))
        wanted = "s3:GetObjectVersion" if versioned else "s3:GetObject"
        with pytest.raises(InputUnreadable, match=f"{bucket}/a.*needs {wanted} "):
            read(S3Inputs(client), pinned)

    def test_objects_of_another_accounts_bucket_are_pinned_by_their_etags(
        self, client: S3Client, bucket: str, faults: Faults
    ) -> None:
        keep_versions(client, bucket)
        put(client, bucket, "a")
        faults.refuse("GetBucketVersioning", refusal("AccessDenied", 403))
        inputs = S3Inputs(client, sleep=no_sleep)
        (pinned,) = found(inputs, f"s3://{bucket}/")
        assert pinned.version_id is None
        assert read(inputs, pinned) == b"a"
        client.put_object(Bucket=bucket, Key="a", Body=b"b")
        with pytest.raises(InputChanged, match="overwritten"):
            read(inputs, pinned)

    @pytest.mark.parametrize("versioned", [False, True])
    def test_whoever_pays_says_so_in_every_request(
        self, client: S3Client, bucket: str, faults: Faults, versioned: bool
    ) -> None:
        if versioned:
            keep_versions(client, bucket)
        put(client, bucket, "a")
        client.put_object(Bucket=bucket, Key="empty", Body=b"")
        for pays in (True, False):
            faults.requests.clear()
            inputs = S3Inputs(client, requester_pays=pays, sleep=no_sleep)
            for pinned in found(inputs, f"s3://{bucket}/"):
                read(inputs, pinned)
            listing = "ListObjectVersions" if versioned else "ListObjectsV2"
            for operation in (listing, "GetObject", "HeadObject"):
                calls = faults.of(operation)
                assert calls
                assert [call.get("x-amz-request-payer") for call in calls] == (
                    ["requester" if pays else None] * len(calls)
                ), operation

    def test_a_bucket_that_is_not_there(self, inputs: S3Inputs) -> None:
        with pytest.raises(InputUnreadable, match=r"no-such-bucket-at-all.*does not exist"):
            found(inputs, "s3://no-such-bucket-at-all/a")

    @pytest.mark.parametrize("code", ["SlowDown", "InternalError"])
    def test_what_passes_may_be_tried_again(
        self, inputs: S3Inputs, client: S3Client, bucket: str, faults: Faults, code: str
    ) -> None:
        put(client, bucket, "a")
        (pinned,) = found(inputs, f"s3://{bucket}/a")
        faults.refuse("ListObjectsV2", refusal(code, 503))
        faults.refuse("GetObject", refusal(code, 503))
        with pytest.raises(StoreUnavailable):
            found(inputs, f"s3://{bucket}/a")
        with pytest.raises(StoreUnavailable):
            read(inputs, pinned)
        assert read(inputs, pinned) == b"a"

"""A listing of S3 ends when S3 says so, and not with a page that happens to hold no key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders

from coordinator.errors import StoreUnavailable
from coordinator.store.s3.inputs import S3Inputs
from coordinator.store.s3.store import S3Store
from tests.contracts.faults import no_sleep

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEYS = [f"in/{number}" for number in range(5)]


@pytest.fixture
def filled(client: S3Client, bucket: str) -> str:
    for key in KEYS:
        client.put_object(Bucket=bucket, Key=key, Body=b"body")
    return bucket


def list_inputs(client: S3Client, bucket: str, page_size: int = 1000) -> list[str]:
    inputs = S3Inputs(client, page_size=page_size, sleep=no_sleep)
    pages = inputs.pages([f"s3://{bucket}/in/"])
    return [pinned.key.split("/", 3)[3] for page in pages for pinned in page.objects]


def list_store(client: S3Client, bucket: str, page_size: int = 1000) -> list[str]:
    return [stat.key for stat in S3Store(bucket, client, "", sleep=no_sleep).list("in/")]


Lister = Callable[..., list[str]]
on_both = pytest.mark.parametrize("lister", [list_inputs, list_store])


def script(client: S3Client, operation: str, *pages: dict[str, Any]) -> list[dict[str, Any]]:
    """Answer an operation with these pages, one a request; gives the parameters asked with."""
    left: Iterator[dict[str, Any]] = iter(pages)
    asked: list[dict[str, Any]] = []

    def answer(params: dict[str, Any], **_: object) -> Any:
        page = next(left, None)
        if page is None:
            return None
        asked.append(dict(params["query_string"]))
        return AWSResponse("https://s3", 200, HTTPHeaders(), b""), dict(page)

    client.meta.events.register(f"before-call.s3.{operation}", answer)
    return asked


def rows(client: S3Client, bucket: str) -> list[Any]:
    return list(client.list_objects_v2(Bucket=bucket)["Contents"])


@on_both
def test_pages_without_a_key_are_not_the_last(
    lister: Lister, client: S3Client, filled: str
) -> None:
    there = rows(client, filled)
    asked = script(
        client,
        "ListObjectsV2",
        {"IsTruncated": True, "NextContinuationToken": "1"},
        {"IsTruncated": True, "Contents": [], "NextContinuationToken": "2"},
        {"IsTruncated": True, "Contents": there[:3], "NextContinuationToken": "3"},
        {"IsTruncated": True, "Contents": [], "NextContinuationToken": "4"},
        {"IsTruncated": False, "Contents": there[3:]},
    )

    assert lister(client, filled) == KEYS
    assert [one.get("continuation-token") for one in asked][:3] == [None, "1", "2"]
    assert asked[-1]["continuation-token"] == "4"


@on_both
def test_a_token_alone_says_that_there_is_more(
    lister: Lister, client: S3Client, filled: str
) -> None:
    there = rows(client, filled)
    script(
        client,
        "ListObjectsV2",
        {"IsTruncated": False, "NextContinuationToken": "1"},
        {"IsTruncated": False, "Contents": there},
    )

    assert lister(client, filled) == KEYS


@on_both
def test_a_listing_that_does_not_say_how_to_go_on_is_no_listing(
    lister: Lister, client: S3Client, filled: str
) -> None:
    there = rows(client, filled)
    for page in ({"IsTruncated": True}, {"IsTruncated": True, "Contents": there[:2]}):
        script(client, "ListObjectsV2", page)
        with pytest.raises(StoreUnavailable, match=f"{filled}/in/ broke off"):
            lister(client, filled)


def test_one_object_is_found_behind_pages_without_a_key(client: S3Client, filled: str) -> None:
    client.put_object(Bucket=filled, Key="in/1-too", Body=b"")
    there = {row["Key"]: row for row in rows(client, filled)}
    script(
        client,
        "ListObjectsV2",
        {"IsTruncated": True, "NextContinuationToken": "1"},
        {"IsTruncated": True, "Contents": [there["in/1"]], "NextContinuationToken": "2"},
    )

    inputs = S3Inputs(client, sleep=no_sleep)
    pages = list(inputs.pages([f"s3://{filled}/in/1"]))

    assert [pinned.key for page in pages for pinned in page.objects] == [f"s3://{filled}/in/1"]


@pytest.mark.parametrize("page_size", [1, 2, 1000])
def test_of_a_versioned_bucket_too(client: S3Client, bucket: str, page_size: int) -> None:
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for key in [*KEYS, *KEYS]:
        client.put_object(Bucket=bucket, Key=key, Body=b"body")
    client.delete_object(Bucket=bucket, Key=KEYS[2])
    there = client.list_object_versions(Bucket=bucket)["Versions"]
    assert len(there) == 10
    more = {"IsTruncated": True, "NextKeyMarker": "k", "NextVersionIdMarker": "v"}
    asked = script(
        client,
        "ListObjectVersions",
        more,
        more | {"Versions": []},
        more | {"Versions": there[:5]},
        more | {"DeleteMarkers": [{"Key": KEYS[2]}]},
        more,
        {"IsTruncated": False, "Versions": there[5:]},
    )

    found = list_inputs(client, bucket, page_size)

    assert found == [key for key in KEYS if key != KEYS[2]]
    assert all(one["key-marker"] == "k" for one in asked[1:])
    assert all(one["version-id-marker"] == "v" for one in asked[1:])


def test_versions_that_do_not_say_how_to_go_on_are_no_listing(
    client: S3Client, bucket: str
) -> None:
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    script(client, "ListObjectVersions", {"IsTruncated": True})

    with pytest.raises(StoreUnavailable, match=f"{bucket}/in/ broke off"):
        list_inputs(client, bucket)

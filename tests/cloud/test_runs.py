"""Whole runs on the real state machine with the real handlers."""

from __future__ import annotations

from tests.cloud.conftest import MakeCloud


def put(cloud, key, body):
    cloud.s3.put_object(Bucket=cloud.bucket, Key=key, Body=body)


def test_a_run_ends_with_a_published_result(make_cloud: MakeCloud) -> None:
    cloud = make_cloud("wordcount")
    for n in range(5):
        put(cloud, f"wordcount/inputs/{n}.txt", b"to be or not to be\n" * 10)
    ended = cloud.run({"run_id": "r1"}, name="r1")
    print(ended)
    assert ended.succeeded
    print(cloud.records.api_counts("work"), cloud.records.count("work"))
    print(cloud.s3.get_object(Bucket=cloud.bucket, Key="wordcount/results/r1/wordcount.jsonl")["Body"].read())

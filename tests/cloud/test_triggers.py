"""What starts a run: schedules, uploads and people; twice, late, or with nonsense."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cloud.account import Account
from tests.cloud.conftest import MakeCloud
from tests.cloud.test_faults import lines, upper

WriteJob = Callable[..., Path]
SCHEDULE = "arn:aws:scheduler:us-east-1:123456789012:schedule/default/fanfold-words-1"
HOW_TO = (
    'Send {\\"inputs\\": [\\"s3://bucket/prefix/\\"], \\"run_id\\": \\"...\\", \\"limits\\": {...}}'
)


@pytest.fixture
def cloud(make_cloud: MakeCloud, write_job: WriteJob) -> Account:
    return make_cloud(write_job())


def scheduled(time: str = "2026-11-21T05:00:00Z") -> dict[str, Any]:
    return {"schedule": SCHEDULE, "scheduled_time": time}


def uploaded(
    cloud: Account, key: str, body: bytes, sequencer: str = "00617F08299329D189"
) -> dict[str, Any]:
    """Upload an object; gives the event that S3 sends of it."""
    answer = cloud.put(key, body)
    item = {
        "key": key,
        "size": len(body),
        "etag": answer["ETag"].strip('"'),
        "sequencer": sequencer,
    }
    if "VersionId" in answer:
        item["version-id"] = answer["VersionId"]
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": "123456789012",
        "time": "2026-11-21T05:00:00Z",
        "region": "us-east-1",
        "resources": [f"arn:aws:s3:::{cloud.bucket}"],
        "detail": {
            "version": "0",
            "bucket": {"name": cloud.bucket},
            "object": item,
            "request-id": "N4N7GDK58NMKJ12R",
            "requester": "123456789012",
            "source-ip-address": "192.0.2.3",
            "reason": "PutObject",
        },
    }


# Schedules ----------------------------------------------------------------------------------------


def test_a_schedule_starts_a_run_named_after_its_time(cloud: Account) -> None:
    cloud.give(lines(2))
    ended = cloud.run(scheduled())
    run_id = ended.output["run"]["run_id"]
    assert run_id.startswith("at-20261121T050000Z-")
    assert cloud.manifest(run_id)["logical_time"] == 1795237200.0
    assert cloud.result(run_id) == upper(lines(2))


def test_a_second_delivery_of_a_schedule_starts_nothing(cloud: Account) -> None:
    cloud.give(lines(2))
    hold = cloud.faults.slow("work", nth=1)
    first = cloud.start(scheduled())
    hold.wait_reached()
    during = cloud.run(scheduled())
    hold.release()
    assert cloud.wait(first).output["status"] == "published"
    after = cloud.run(scheduled())
    assert during.output["reason"].startswith("RunBusy")
    assert after.output["reason"].endswith("was published before.")
    assert cloud.worked_on() == Counter({"0": 1, "1": 1})


def test_the_next_time_of_a_schedule_is_another_run(cloud: Account) -> None:
    cloud.give(lines(1))
    one, other = cloud.run(scheduled()), cloud.run(scheduled("2026-11-22T05:00:00Z"))
    assert one.output["run"]["run_id"] != other.output["run"]["run_id"]
    assert cloud.latest() == other.output["run"]["run_id"]


def test_two_schedules_of_the_same_moment_are_two_runs(cloud: Account) -> None:
    cloud.give(lines(1))
    one = cloud.run(scheduled())
    other = cloud.run({**scheduled(), "schedule": SCHEDULE.replace("-1", "-2")})
    assert one.output["run"]["run_id"] != other.output["run"]["run_id"]


# Uploads ------------------------------------------------------------------------------------------


def test_an_upload_starts_a_run_over_that_object_alone(cloud: Account) -> None:
    cloud.give(lines(2))
    ended = cloud.run(uploaded(cloud, "incoming/new.txt", b"new\n"))
    run_id = ended.output["run"]["run_id"]
    assert run_id.startswith("up-00617f08299329d18900000000000000-")
    assert cloud.result(run_id) == b"NEW\n"
    pointers = cloud.listed("words/latest")
    assert len(pointers) == 1
    assert pointers[0].startswith("words/latest/")


@pytest.mark.parametrize("versioned", [False, True])
def test_a_second_delivery_of_an_upload_starts_nothing(
    make_cloud: MakeCloud, write_job: WriteJob, versioned: bool
) -> None:
    cloud = make_cloud(write_job(), versioned=versioned)
    event = uploaded(cloud, "incoming/new.txt", b"new\n")
    hold = cloud.faults.slow("work", nth=1)
    first = cloud.start(event)
    hold.wait_reached()
    during = cloud.run({**event, "id": "another delivery has its own id"})
    hold.release()
    assert cloud.wait(first).output["status"] == "published"
    after = cloud.run(event)
    assert during.output["reason"].startswith("RunBusy")
    assert after.output["reason"].endswith("was published before.")
    assert cloud.worked_on() == Counter({"0": 1})


def test_an_overwritten_key_starts_anew_and_readers_see_the_newer(cloud: Account) -> None:
    one = cloud.run(uploaded(cloud, "incoming/new.txt", b"one\n", "00617F08299329D189"))
    two = cloud.run(uploaded(cloud, "incoming/new.txt", b"two\n", "00617F08299329D190"))
    ids = [ended.output["run"]["run_id"] for ended in (one, two)]
    assert [cloud.result(run_id) for run_id in ids] == [b"ONE\n", b"TWO\n"]
    (pointer,) = cloud.listed("words/latest/")
    assert cloud.document(pointer)["run_id"] == ids[1]


def test_uploads_of_the_same_bytes_under_one_key_are_two_runs(cloud: Account) -> None:
    one = cloud.run(uploaded(cloud, "incoming/new.txt", b"one\n", "00617F08299329D189"))
    two = cloud.run(uploaded(cloud, "incoming/new.txt", b"one\n", "00617F08299329D190"))
    assert one.output["run"]["run_id"] < two.output["run"]["run_id"]


@pytest.mark.parametrize("gone", [False, True], ids=["replaced", "deleted"])
def test_a_replaced_object_ends_its_execution_as_superseded_not_failed(
    cloud: Account, gone: bool
) -> None:
    late = uploaded(cloud, "incoming/new.txt", b"one\n")
    if gone:
        cloud.s3.delete_object(Bucket=cloud.bucket, Key="incoming/new.txt")
    else:
        cloud.put("incoming/new.txt", b"two\n")
    ended = cloud.run(late)
    assert ended.succeeded
    assert ended.output["run"] is None
    assert ended.output["reason"] == (
        "Superseded: s3://fanfold-test/incoming/new.txt has been replaced or deleted since it was "
        "uploaded."
    )
    assert cloud.listed("words/runs/") == []


def test_a_key_with_signs_of_globs_is_only_itself(cloud: Account) -> None:
    cloud.put("incoming/a.txt", b"not this\n")
    ended = cloud.run(uploaded(cloud, "incoming/[a-z] ü+%20*.txt", b"this\n"))
    assert cloud.result(ended.output["run"]["run_id"]) == b"THIS\n"


def test_an_uploaded_list_starts_a_run_over_what_it_lists(cloud: Account) -> None:
    cloud.put("a/1.txt", b"one\n")
    cloud.put("b/2.txt", b"two\n")
    cloud.put("b/3.txt", b"three\n")
    listed = {"inputs": ["s3://fanfold-test/a/", "s3://fanfold-test/b/2.txt"]}
    ended = cloud.run(uploaded(cloud, "incoming/x.inputs.json", json.dumps(listed).encode()))
    assert cloud.result(ended.output["run"]["run_id"]) == b"ONE\nTWO\n"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"inputs": []}', b'{"inputs": [1]}', b"\xff"]
)
def test_a_list_that_is_none_is_refused_by_name(cloud: Account, body: bytes) -> None:
    ended = cloud.run(uploaded(cloud, "incoming/x.inputs.json", body))
    assert (ended.status, ended.error) == ("FAILED", "InputInvalid")
    assert "s3://fanfold-test/incoming/x.inputs.json must hold" in (ended.cause or "")


# People -------------------------------------------------------------------------------------------


def test_an_empty_input_runs_over_the_usual_place_under_the_executions_name(
    cloud: Account,
) -> None:
    cloud.give(lines(2))
    ended = cloud.run({}, name="by-hand")
    assert ended.output["run"]["run_id"] == "by-hand"
    assert cloud.result("by-hand") == upper(lines(2))


def test_a_person_may_name_inputs_and_limits(cloud: Account) -> None:
    cloud.put("here/a.txt", b"a\nb\nc\nd\n")
    asked = {"inputs": ["s3://fanfold-test/here/"], "limits": {"shard_bytes": 2, "concurrency": 7}}
    assert cloud.run(asked, name="r1").succeeded
    assert len(cloud.entries("r1")) == 4
    assert cloud.result("r1") == b"A\nB\nC\nD\n"


def test_a_run_id_takes_a_run_up_with_the_inputs_it_began_with(cloud: Account) -> None:
    cloud.put("here/a.txt", b"a\n")
    cloud.faults.fail("publish", error=ValueError("not today"))
    asked = {"run_id": "r1", "inputs": ["s3://fanfold-test/here/"]}
    assert not cloud.run(asked).succeeded
    cloud.faults.clear()
    assert cloud.run({"run_id": "r1"}).succeeded
    assert cloud.result("r1") == b"A\n"


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ([1, 2], "no JSON object"),
        ("go", "no JSON object"),
        (None, "no JSON object"),
        ({"run": "r1"}, "run: Extra inputs are not permitted"),
        ({"inputs": "s3://bucket/"}, "inputs: Input should be a valid list"),
        ({"inputs": []}, "inputs: List should have at least 1 item"),
        ({"inputs": [3]}, "inputs.0: Input should be a valid string"),
        ({"run_id": 7}, "run_id: Input should be a valid string"),
        (
            {"limits": {"concurrency": "many"}},
            "limits.concurrency: Input should be a valid integer",
        ),
        ({"limits": {"speed": 1}}, "limits.speed: Extra inputs are not permitted"),
        ({"logical_time": "now"}, "logical_time: Input should be a valid number"),
        ({"schedule": SCHEDULE}, "scheduled_time: Field required"),
        (
            {"schedule": SCHEDULE, "scheduled_time": "soon"},
            "scheduled_time: Input should be a valid",
        ),
        ({"detail-type": "Object Created"}, "Field required"),
    ],
)
def test_bad_input_ends_the_execution_and_says_what_to_send(
    cloud: Account, asked: Any, problem: str
) -> None:
    ended = cloud.run(asked)
    assert (ended.status, ended.error) == ("FAILED", "InputInvalid")
    assert problem in (ended.cause or "")
    assert HOW_TO in (ended.cause or "")
    assert cloud.listed("words/") == []


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"run_id": "../x"}, "Run id '../x' can't be used"),
        ({"run_id": ""}, "Run id '' can't be used"),
        ({"inputs": ["/etc/passwd"]}, "'/etc/passwd' is no S3 address"),
        ({"limits": {"memory_mb": 4096}}, "limits.memory_mb is fixed when the job is deployed"),
        ({"inputs": ["s3://bucket/" + "ü" * 70_000]}, "more than 131072. Name prefixes"),
        ({"limits": {"shards": 20_000}}, "a stage on AWS has at most 10000"),
    ],
)
def test_bad_input_is_refused_by_name(cloud: Account, asked: Any, problem: str) -> None:
    cloud.give(lines(1))
    ended = cloud.run(asked)
    assert (ended.status, ended.error) == ("FAILED", "InputInvalid")
    assert problem in (ended.cause or "")
    assert cloud.listed("words/results") == []


def test_a_run_id_that_belongs_to_other_inputs_is_refused(cloud: Account) -> None:
    cloud.give(lines(1))
    cloud.put("here/a.txt", b"a\n")
    cloud.faults.fail("publish", error=ValueError("not today"))
    cloud.run({"run_id": "r1"})
    cloud.faults.clear()
    ended = cloud.run({"run_id": "r1", "inputs": ["s3://fanfold-test/here/"]})
    assert ended.error == "RunMismatch"
    assert "begun over other inputs" in (ended.cause or "")

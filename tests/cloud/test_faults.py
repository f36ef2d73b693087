"""Whole runs in which something goes wrong: each ends, and with the result of a run without faults."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from coordinator.testing import run_job
from functions import wiring
from tests.cloud.account import Account, forget_everything
from tests.cloud.conftest import JOBS, MakeCloud
from tests.cloud.harness import ApiCall, about_shard, key_contains

WriteJob = Callable[..., Path]
RUN = {"run_id": "r1"}


def lines(shards: int) -> dict[str, bytes]:
    """One input a shard, three lines in each."""
    return {f"{n:03}.txt": f"line {n}.1\nline {n}.2\nline {n}.3\n".encode() for n in range(shards)}


def upper(inputs: dict[str, bytes]) -> bytes:
    """What the smallest job makes of it."""
    return b"".join(body for _, body in sorted(inputs.items())).upper()


@pytest.fixture(params=["inline", "distributed"])
def fan_out(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of sending shards out."""
    if request.param == "distributed":
        monkeypatch.setattr("functions.reconcile.INLINE_ITEMS", 0)
    return str(request.param)


def aws_error(code: str, status: int, operation: str) -> ClientError:
    """What botocore raises for an answer of AWS."""
    response: Any = {"Error": {"Code": code, "Message": code}}
    response["ResponseMetadata"] = {"HTTPStatusCode": status, "RetryAttempts": 0}
    return ClientError(response, operation)


def states_entered(cloud: Account, arn: str) -> list[str]:
    return [
        event["stateEnteredEventDetails"]["name"]
        for event in cloud.history(arn)
        if "stateEnteredEventDetails" in event
    ]


# Workers that fail --------------------------------------------------------------------------------


def test_a_worker_that_always_crashes_fails_the_run_by_name_and_the_rest_is_done(
    make_cloud: MakeCloud, write_job: WriteJob, fan_out: str
) -> None:
    cloud = make_cloud(write_job())
    inputs = lines(4)
    cloud.give(inputs)
    cloud.faults.crash("work", match=about_shard("2"))

    ended = cloud.run(RUN)

    assert (ended.status, ended.error) == ("FAILED", "ShardsFailed")
    assert states_entered(cloud, ended.arn)[-1] == "Reconcile"
    message = json.loads(ended.cause or "")["errorMessage"]
    assert "shard 2" in message
    assert "s3://fanfold-test/words/inputs/002.txt" in message
    assert sorted(cloud.entries("r1")) == ["0", "1", "3"]
    notes = [key for key in cloud.listed(f"{cloud.keys('r1').root}map/") if "/notes/" in key]
    assert [key.rsplit("/", 1)[-1] for key in notes] == ["2.1.json", "2.2.json"]
    note = cloud.document(notes[0])
    assert note["error"] == "AttemptFailed"
    assert "crashed, ran out of memory or out of time" in note["reason"]
    assert note["receives"] == 5

    cloud.faults.clear()
    cloud.records.reset()
    again = cloud.run(RUN)

    assert again.succeeded
    assert cloud.worked_on() == Counter({"2": 1})
    assert cloud.result("r1") == upper(inputs)


def test_after_the_code_is_fixed_the_same_run_id_does_what_is_missing(
    make_cloud: MakeCloud, write_job: WriteJob
) -> None:
    failing = (
        "from coordinator.errors import MapFailed\n    if line == 'line 1.2': raise MapFailed(line)"
    )
    cloud = make_cloud(write_job(failing))
    inputs = lines(3)
    cloud.give(inputs)
    ended = cloud.run(RUN)
    assert ended.error == "ShardsFailed"
    assert "shard 1" in (ended.cause or "")
    assert cloud.worked_on() == Counter({"0": 1, "1": 1, "2": 1})

    write_job()
    forget_everything()
    cloud.records.reset()
    assert cloud.run(RUN).succeeded
    assert cloud.worked_on() == Counter({"1": 1})
    assert cloud.result("r1") == upper(inputs)
    programs = [each["shards"] for each in cloud.manifest("r1")["programs"]]
    assert sorted(programs, key=len) == [{"map": "0,2"}, {"map": "1", "merge": "0"}]


def test_a_redrive_does_only_what_is_missing(
    make_cloud: MakeCloud, write_job: WriteJob, fan_out: str
) -> None:
    cloud = make_cloud(write_job())
    inputs = lines(4)
    cloud.give(inputs)
    cloud.faults.crash("work", match=about_shard("1"))
    ended = cloud.run(RUN)
    assert ended.error == "ShardsFailed"

    cloud.faults.clear()
    cloud.records.reset()
    cloud.redrive(ended.arn)

    assert cloud.wait(ended.arn).succeeded
    assert cloud.worked_on() == Counter({"1": 1})
    assert cloud.records.count("plan") == 0
    assert cloud.result("r1") == upper(inputs)


def test_a_redrive_that_fails_again_has_had_one_more_wave(
    make_cloud: MakeCloud, write_job: WriteJob
) -> None:
    cloud = make_cloud(write_job("from coordinator.errors import MapFailed; raise MapFailed(line)"))
    cloud.give(lines(1))
    ended = cloud.run(RUN)
    for _ in range(2):
        cloud.records.reset()
        cloud.redrive(ended.arn)
        assert cloud.wait(ended.arn).error == "ShardsFailed"
        assert cloud.worked_on() == Counter({"0": 1})


def test_a_worker_that_dies_now_and_then_costs_nothing_but_tries(
    make_cloud: MakeCloud, write_job: WriteJob, fan_out: str
) -> None:
    cloud = make_cloud(write_job())
    inputs = lines(4)
    cloud.give(inputs)
    cloud.faults.crash("work", match=about_shard("1"), nth=1)
    cloud.faults.die_at("s3.PutObject", match=key_contains("/ledger/2"), nth=1)
    cloud.faults.die_at("s3.PutObject", match=key_contains("/ledger/3"), nth=1, after=True)
    assert cloud.run(RUN).succeeded
    assert cloud.worked_on() == Counter({"0": 1, "1": 2, "2": 2, "3": 2})
    assert len(cloud.parts("r1")) == 5  # what the attempt at 2 wrote is named by nothing
    assert cloud.result("r1") == upper(inputs)


def test_a_failure_that_may_pass_goes_back_to_the_queue_with_a_delay(
    make_cloud: MakeCloud, write_job: WriteJob
) -> None:
    cloud = make_cloud(write_job())
    inputs = lines(2)
    cloud.give(inputs)
    slow_down = aws_error("SlowDown", 503, "GetObject")
    cloud.faults.refuse(
        "s3.GetObject", error=slow_down, match=key_contains("inputs/001.txt"), nth={1, 2}
    )
    assert cloud.run(RUN).succeeded
    assert cloud.worked_on() == Counter({"0": 1, "1": 3})
    assert cloud.records.api_counts("work")["sqs.ChangeMessageVisibility"] == 2
    note = cloud.document(cloud.keys("r1").note("map", "1", 1))
    assert (note["error"], note["failures"]) == ("StoreUnavailable", 2)
    assert cloud.result("r1") == upper(inputs)


def test_a_delay_that_could_not_be_set_is_no_failure(
    make_cloud: MakeCloud, write_job: WriteJob
) -> None:
    cloud = make_cloud(write_job())
    cloud.give(lines(1))
    slow_down = aws_error("SlowDown", 503, "GetObject")
    cloud.faults.refuse("s3.GetObject", error=slow_down, match=key_contains("inputs/"), nth=1)
    gone = aws_error("ReceiptHandleIsInvalid", 404, "ChangeMessageVisibility")
    fault = cloud.faults.refuse("sqs.ChangeMessageVisibility", error=gone)
    assert cloud.run(RUN).succeeded
    assert fault.hits == 1


def test_throttled_invocations_are_only_slower(make_cloud: MakeCloud, write_job: WriteJob) -> None:
    cloud = make_cloud(write_job())
    inputs = lines(2)
    cloud.give(inputs)
    for function in ("plan", "reconcile", "work", "publish"):
        cloud.faults.throttle(function, nth={1, 2})
    assert cloud.run(RUN).succeeded
    assert cloud.result("r1") == upper(inputs)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("function", ["plan", "reconcile", "publish"])
def test_a_function_of_the_machine_may_die(
    make_cloud: MakeCloud, write_job: WriteJob, function: str, after: bool
) -> None:
    cloud = make_cloud(write_job())
    inputs = lines(2)
    cloud.give(inputs)
    cloud.faults.crash(function, nth={1, 2}, after=after)
    assert cloud.run(RUN).succeeded
    assert set(cloud.worked_on().values()) == {1}
    assert cloud.result("r1") == upper(inputs)


def test_a_shard_near_its_deadline_commits_what_it_has_and_children_do_the_rest(
    make_cloud: MakeCloud, write_job: WriteJob
) -> None:
    cloud = make_cloud(write_job())
    inputs = lines(2)
    cloud.give(inputs)
    cloud.faults.deadline("work", 0, match=about_shard("0"), nth=1)
    assert cloud.run(RUN).succeeded
    children = [shard for shard in cloud.entries("r1") if shard.startswith("0.")]
    assert children
    assert cloud.document(cloud.keys("r1").entry("map", "0"))["outcome"] == "split"
    assert cloud.result("r1") == upper(inputs)


# Messages and answers -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["words", "wordcount"])
def test_every_message_delivered_twice_gives_the_same_result(
    make_cloud: MakeCloud, write_job: WriteJob, name: str
) -> None:
    job = write_job() if name == "words" else JOBS / f"{name}.py"
    cloud = make_cloud(job, pollers=2)
    inputs = lines(5)
    cloud.give(inputs)
    cloud.faults.deliver_twice()
    assert cloud.run({**RUN, "limits": {"shard_items": 1}}).succeeded
    cloud.drain()
    assert cloud.worked_on() == Counter({str(shard): 2 for shard in range(5)})
    assert len(cloud.entries("r1")) == 5
    undisturbed = run_job(job, inputs)
    assert list(cloud.results("r1").values()) == list(undisturbed.results.values())


def test_messages_in_any_order_give_the_same_result(
    make_cloud: MakeCloud, write_job: WriteJob
) -> None:
    cloud = make_cloud(write_job())
    inputs = lines(8)
    cloud.give(inputs)
    cloud.faults.shuffle(seed=3)
    assert cloud.run(RUN).succeeded
    assert cloud.result("r1") == upper(inputs)


def test_an_answer_that_does_not_arrive_is_given_again_with_the_message(
    make_cloud: MakeCloud, write_job: WriteJob
) -> None:
    cloud = make_cloud(write_job())
    inputs = lines(2)
    cloud.give(inputs)
    broken = ConnectionAbortedError()
    cloud.faults.refuse("states.SendTaskSuccess", error=broken, nth=1)
    assert cloud.run(RUN).succeeded
    assert sorted(cloud.worked_on().values()) == [1, 2]
    assert len(cloud.parts("r1")) == 2
    assert cloud.result("r1") == upper(inputs)


def test_an_answer_whose_receipt_is_lost_is_not_an_error(
    make_cloud: MakeCloud, write_job: WriteJob
) -> None:
    cloud = make_cloud(write_job())
    cloud.give(lines(2))
    fault = cloud.faults.lose_response("states.SendTaskSuccess", nth=1)
    assert cloud.run(RUN).succeeded
    assert fault.hits == 1
    assert cloud.worked_on() == Counter({"0": 1, "1": 1})


def test_a_run_ends_though_an_answer_is_lost_for_good(
    make_cloud: MakeCloud, write_job: WriteJob, fan_out: str
) -> None:
    cloud = make_cloud(write_job())
    inputs = lines(3)
    cloud.give(inputs)
    spent = aws_error("TaskTimedOut", 400, "SendTaskSuccess")  # so nobody answers again
    cloud.faults.refuse("states.SendTaskSuccess", error=spent, nth=1)
    assert cloud.run(RUN).succeeded
    assert len(cloud.records.expired_tokens) == 1
    # an inline wave is given up at once, and what it had not done yet is sent again
    assert max(cloud.worked_on().values()) <= (2 if fan_out == "inline" else 1)
    assert cloud.result("r1") == upper(inputs)


def test_a_message_that_is_buried_after_its_commit_is_answered_with_the_entry(
    make_cloud: MakeCloud, write_job: WriteJob
) -> None:
    cloud = make_cloud(write_job())
    inputs = lines(2)
    cloud.give(inputs)
    cloud.faults.die_at(
        "states.SendTaskSuccess",
        match=lambda call: call.actor == "work" and b'\\"shard\\":\\"1\\"' in call.body,
    )
    assert cloud.run(RUN).succeeded
    assert cloud.records.count("bury") == 1
    assert cloud.listed(f"{cloud.keys('r1').root}map/notes/") == []
    assert cloud.result("r1") == upper(inputs)


def test_a_burial_that_fails_is_tried_again(make_cloud: MakeCloud, write_job: WriteJob) -> None:
    cloud = make_cloud(write_job(limits="waves=1"))
    cloud.give(lines(2))
    cloud.faults.crash("work", match=about_shard("1"))
    crashed = cloud.faults.crash("bury", nth=1)
    failed = cloud.faults.fail("bury", nth=1)  # it never sees the one that crashed
    ended = cloud.run(RUN)
    assert (crashed.hits, failed.hits) == (1, 1)
    assert cloud.records.count("bury") == 3
    assert ended.error == "ShardsFailed"
    assert "out of memory" in (ended.cause or "")


@pytest.mark.parametrize("body", ["hello", '{"version": 1, "token": "mine"}', "[]", ""])
def test_a_message_that_is_not_ours_ends_as_a_log_line(
    make_cloud: MakeCloud, write_job: WriteJob, body: str
) -> None:
    cloud = make_cloud(write_job())
    cloud.give(lines(1))
    cloud.sqs.send_message(QueueUrl=cloud.queue_url, MessageBody=body or " ")
    assert cloud.run(RUN).succeeded
    cloud.drain()
    assert cloud.records.count("work") == 5 + 2
    assert cloud.records.count("bury") == 1


@pytest.mark.parametrize("buried", [False, True])
def test_a_message_of_a_run_that_is_gone_is_dropped(
    make_cloud: MakeCloud, write_job: WriteJob, buried: bool
) -> None:
    cloud = make_cloud(write_job())
    cloud.give(lines(2))
    late = cloud.faults.deliver_twice(late=True, match=about_shard("0"))
    assert cloud.run(RUN).succeeded
    cloud.s3.delete_object(Bucket=cloud.bucket, Key=cloud.keys("r1").run)
    wiring.forget()
    if buried:
        (event, *_) = cloud.records.events("work")
        cloud.sqs.send_message(
            QueueUrl=cloud.dead_letter_url, MessageBody=event["Records"][0]["body"]
        )
    else:
        late.release()
    cloud.drain()
    assert cloud.records.count("bury") == buried
    assert "Its run is gone." in cloud.answers()[-1]["cause"]
    assert len(cloud.parts("r1")) == 2


# Calls whose outcome is not what it seems ---------------------------------------------------------


def test_an_entry_whose_answer_is_lost_to_the_sdk_is_read_back(
    make_cloud: MakeCloud, write_job: WriteJob
) -> None:
    cloud = make_cloud(write_job())
    cloud.give(lines(2))
    cloud.faults.lose_response("s3.PutObject", match=key_contains("/ledger/1"), nth=1)
    assert cloud.run(RUN).succeeded
    assert cloud.worked_on() == Counter({"0": 1, "1": 1})
    key = cloud.keys("r1").entry("map", "1")
    calls = [call for call in cloud.records.api_calls if call.key == key and call.actor == "work"]
    assert [(call.operation, call.status) for call in calls] == [
        ("GetObject", 404), ("PutObject", 200), ("PutObject", 412), ("GetObject", 200),
    ]  # fmt: skip


def test_an_entry_whose_answer_is_lost_for_good_is_read_back(
    make_cloud: MakeCloud, write_job: WriteJob
) -> None:
    cloud = make_cloud(write_job())
    cloud.give(lines(2))
    cloud.faults.lose_response(
        "s3.PutObject", match=key_contains("/ledger/1"), nth=1, seen_by="caller"
    )
    assert cloud.run(RUN).succeeded
    assert cloud.worked_on() == Counter({"0": 1, "1": 1})


def test_a_conflict_with_another_writer_is_tried_again(
    make_cloud: MakeCloud, write_job: WriteJob
) -> None:
    cloud = make_cloud(write_job())
    inputs = lines(2)
    cloud.give(inputs)
    conflict = aws_error("ConditionalRequestConflict", 409, "PutObject")
    for part in ("/ledger/1", "run.json", "latest.json", "manifest.json"):
        cloud.faults.refuse("s3.PutObject", error=conflict, match=key_contains(part), nth=1)
    assert cloud.run(RUN).succeeded
    assert cloud.worked_on() == Counter({"0": 1, "1": 1})
    assert cloud.result("r1") == upper(inputs)


@pytest.mark.parametrize("part", ["run.json", "latest.json", "manifest.json", "results/r1/"])
def test_a_write_of_the_machine_whose_answer_is_lost_is_no_failure(
    make_cloud: MakeCloud, write_job: WriteJob, part: str
) -> None:
    cloud = make_cloud(write_job())
    inputs = lines(2)
    cloud.give(inputs)
    fault = cloud.faults.lose_response("s3.PutObject", match=key_contains(part), nth=1)
    assert cloud.run(RUN).succeeded
    assert fault.hits
    assert cloud.result("r1") == upper(inputs)
    assert cloud.latest() == "r1"


def test_s3_that_is_busy_is_asked_again_by_the_machine(
    make_cloud: MakeCloud, write_job: WriteJob
) -> None:
    cloud = make_cloud(write_job())
    inputs = lines(2)
    cloud.give(inputs)
    slow_down = aws_error("SlowDown", 503, "ListObjectsV2")
    fault = cloud.faults.refuse("s3.ListObjectsV2", error=slow_down, nth={1, 3, 5})
    assert cloud.run(RUN).succeeded
    assert fault.hits == 3
    assert cloud.result("r1") == upper(inputs)


# Inputs that change -------------------------------------------------------------------------------


def change_the_other(cloud: Account, body: bytes | None) -> list[str]:
    """Overwrite, or delete, one of two inputs when the other is first read; gives its key then."""
    changed: list[str] = []

    def act(call: ApiCall) -> None:
        changed.append(f"words/inputs/{'001' if '000' in call.key else '000'}.txt")
        if body is None:
            cloud.s3.delete_object(Bucket=cloud.bucket, Key=changed[0])
        else:
            cloud.put(changed[0], body)

    cloud.faults.do_at("s3.GetObject", act, match=key_contains("inputs/00"), nth=1)
    return changed


@pytest.mark.parametrize("body", [b"something else\n", None], ids=["overwritten", "deleted"])
def test_in_a_versioned_bucket_the_pinned_version_is_read(
    make_cloud: MakeCloud, write_job: WriteJob, body: bytes | None
) -> None:
    cloud = make_cloud(write_job(), versioned=True)
    inputs = lines(2)
    cloud.give(inputs)
    change_the_other(cloud, body)
    assert cloud.run(RUN).succeeded
    assert cloud.result("r1") == upper(inputs)


@pytest.mark.parametrize("body", [b"something else\n", None], ids=["overwritten", "deleted"])
def test_an_input_that_changes_under_the_run_is_an_error_that_names_it(
    make_cloud: MakeCloud, write_job: WriteJob, body: bytes | None
) -> None:
    cloud = make_cloud(write_job())
    cloud.give(lines(2))
    changed = change_the_other(cloud, body)
    ended = cloud.run(RUN)
    assert (ended.status, ended.error) == ("FAILED", "InputChanged")
    assert f"s3://fanfold-test/{changed[0]} was" in (ended.cause or "")
    assert cloud.results("r1") == {}
    assert cloud.listed("words/latest") == []
    assert cloud.worked_on() == Counter({"0": 1, "1": 1})


def test_too_many_refused_records_fail_the_run_by_name(
    make_cloud: MakeCloud, write_job: WriteJob
) -> None:
    refusing = "if line.endswith('2'): raise ValueError('no twos')"
    cloud = make_cloud(write_job(refusing, limits="tolerated=1"))
    cloud.give(lines(3))
    ended = cloud.run(RUN)
    assert (ended.status, ended.error) == ("FAILED", "ToleranceExceeded")
    assert "3 records were quarantined and the job tolerates 1" in (ended.cause or "")

    cloud.records.reset()
    assert cloud.run({**RUN, "limits": {"tolerated": 3}}).succeeded
    assert cloud.worked_on() == Counter()
    assert cloud.manifest("r1")["quarantined"] == 3

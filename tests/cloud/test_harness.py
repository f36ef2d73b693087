"""The harness itself, with handlers that do nothing but keep the contract."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest

from tests.cloud.fakes import Fakes
from tests.cloud.harness import (
    PAYLOAD_LIMIT_BYTES,
    Cloud,
    Invocation,
    about_shard,
    key_contains,
    message_of,
)
from tests.cloud.harness.mapping import _succeeded


@contextmanager
def running(fakes: Fakes, **settings: Any) -> Iterator[Cloud]:
    with Cloud(fakes.handlers, **settings) as cloud:
        yield cloud
    assert cloud.faults.without_effect() == []


def order(shards: int, run_id: str = "r1", **more: Any) -> dict[str, Any]:
    return {"run_id": run_id, "shards": shards, **more}


def ledger(cloud: Cloud, run_id: str = "r1") -> set[str]:
    pages = cloud.s3.get_paginator("list_objects_v2").paginate(
        Bucket=cloud.bucket, Prefix=f"{run_id}/ledger/"
    )
    keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    return {key.rpartition("/")[2] for key in keys}


def worked_on(cloud: Cloud) -> Counter[str]:
    return Counter(message_of(event)["shard"]["id"] for event in cloud.records.events("work"))


def states_entered(cloud: Cloud, arn: str) -> list[str]:
    return [
        event["stateEnteredEventDetails"]["name"]
        for event in cloud.history(arn)
        if "stateEnteredEventDetails" in event
    ]


@pytest.fixture(params=["inline", "distributed"])
def fakes(request: pytest.FixtureRequest) -> Fakes:
    fakes = Fakes()
    fakes.inline_max = 40 if request.param == "inline" else 0
    return fakes


def fan_out(fakes: Fakes) -> str:
    return "FanOutInline" if fakes.inline_max else "FanOut"


# A run in which nothing goes wrong ----------------------------------------------------------------


def test_a_run_goes_through_every_state(fakes: Fakes) -> None:
    with running(fakes) as cloud:
        ended = cloud.run(order(5), name="r1")

        assert ended.status == "SUCCEEDED"
        assert ended.output["status"] == "published"
        assert ledger(cloud) == {"0", "1", "2", "3", "4"}
        assert worked_on(cloud) == Counter({"0": 1, "1": 1, "2": 1, "3": 1, "4": 1})
        states = [name for name in states_entered(cloud, ended.arn) if name != "ShardInline"]
        assert states == [
            "Trigger", "Plan", "Planned", "Reconcile", "Reconciled", fan_out(fakes),
            "Reconcile", "Reconciled", "Publish", "Done",
        ]  # fmt: skip


def test_a_map_that_is_distributed_writes_its_results_under_the_prefix() -> None:
    fakes = Fakes()
    fakes.inline_max = 0
    with running(fakes) as cloud:
        cloud.run(order(2))
        found = cloud.s3.list_objects_v2(Bucket=cloud.bucket, Prefix="r1/waves/1/results/")
        assert [item["Key"].rpartition("/")[2] for item in found["Contents"]] == ["manifest.json"]


def test_the_event_of_the_queue_has_the_documented_shape() -> None:
    with running(Fakes()) as cloud:
        cloud.run(order(1))
        (event,) = cloud.records.events("work")
        (record,) = event["Records"]
        assert record["eventSource"] == "aws:sqs"
        assert record["eventSourceARN"].endswith(":fanfold-work")
        assert record["attributes"]["ApproximateReceiveCount"] == "1"
        assert int(record["attributes"]["SentTimestamp"]) > 0
        body = message_of(event)
        assert sorted(body) == [
            "draft", "epoch", "job", "run_id", "shard", "stage", "token", "version", "wave",
        ]  # fmt: skip
        assert body["shard"] == {"id": "0", "offset": 0, "length": 1, "digest": "d"}


def test_the_functions_see_the_execution_as_aws_describes_it() -> None:
    with running(Fakes()) as cloud:
        ended = cloud.run(order(1), name="by-name")
        (event,) = cloud.records.events("plan")
        execution = event["execution"]
        assert execution["Id"] == ended.arn
        assert execution["Name"] == "by-name"
        assert execution["Input"] == order(1)
        assert execution["RedriveCount"] == 0
        assert execution["StartTime"].endswith("Z")
        assert event["state_machine"] == cloud.state_machine_arn
        assert event["run"] is None


def test_plan_is_called_again_until_its_listing_is_done() -> None:
    with running(Fakes(plan_calls=3)) as cloud:
        ended = cloud.run(order(1))
        assert ended.succeeded
        runs = [event["run"] for event in cloud.records.events("plan")]
        assert runs[0] is None
        assert [run["run_id"] for run in runs[1:]] == ["r1", "r1"]


def test_a_duplicate_trigger_ends_at_done_with_its_reason() -> None:
    with running(Fakes()) as cloud:
        ended = cloud.run(order(1, duplicate=True))
        assert ended.succeeded
        assert ended.output["reason"] == "a run with this id has an owner"
        assert cloud.records.count("reconcile") == 0


def test_two_executions_at_once_do_not_mix() -> None:
    with running(Fakes()) as cloud:
        first = cloud.start(order(4, "a"))
        second = cloud.start(order(4, "b"))
        assert cloud.wait(first).succeeded
        assert cloud.wait(second).succeeded
        assert ledger(cloud, "a") == ledger(cloud, "b") == {"0", "1", "2", "3"}


def test_the_bucket_may_keep_versions() -> None:
    with running(Fakes(), versioned=True) as cloud:
        first = cloud.s3.put_object(Bucket=cloud.bucket, Key="in", Body=b"1")
        cloud.s3.put_object(Bucket=cloud.bucket, Key="in", Body=b"2")
        pinned = cloud.s3.get_object(Bucket=cloud.bucket, Key="in", VersionId=first["VersionId"])
        assert pinned["Body"].read() == b"1"


def test_an_execution_can_be_described_from_within() -> None:
    fakes = Fakes()
    seen: list[str] = []

    def publish(event: Any, context: Any) -> Any:
        states = boto3.client("stepfunctions")
        seen.append(states.describe_execution(executionArn=event["execution"]["Id"])["status"])
        return fakes.publish(event, context)

    with Cloud({**fakes.handlers, "publish": publish}) as cloud:
        ended = cloud.run(order(1))
        assert seen == ["RUNNING"]
        assert cloud.describe(ended.arn)["status"] == "SUCCEEDED"


# Functions that fail ------------------------------------------------------------------------------


def test_a_worker_that_fails_once_gets_its_message_again(fakes: Fakes) -> None:
    with running(fakes) as cloud:
        fault = cloud.faults.fail("work", match=about_shard("1"), nth=1)
        assert cloud.run(order(3)).succeeded
        assert fault.hits == 1
        assert worked_on(cloud) == Counter({"0": 1, "1": 2, "2": 1})
        receives = [
            each.receives
            for each in cloud.records.deliveries
            if json.loads(each.body)["shard"]["id"] == "1"
        ]
        assert receives == [1, 2]


def test_a_worker_that_always_crashes_is_buried_and_reconcile_names_the_shard(
    fakes: Fakes,
) -> None:
    fakes.waves = 1
    with running(fakes, max_receives=3) as cloud:
        cloud.faults.crash("work", match=about_shard("2"))
        ended = cloud.run(order(4))

        assert ended.status == "FAILED"
        assert ended.error == "ShardsFailed"
        assert ended.cause is not None
        assert "the worker died" in ended.cause
        assert states_entered(cloud, ended.arn)[-1] == "Reconcile"
        assert ledger(cloud) == {"0", "1", "3"}
        assert worked_on(cloud)["2"] == 3
        (buried,) = cloud.records.events("bury")
        assert message_of(buried)["shard"]["id"] == "2"
        source = buried["Records"][0]["attributes"]["DeadLetterQueueSourceArn"]
        assert source.endswith(":fanfold-work")


def test_a_partial_batch_failure_leaves_the_message_and_its_backoff_is_honoured() -> None:
    fakes = Fakes()
    refused: list[str] = []

    def work(event: Any, context: Any) -> Any:
        record = event["Records"][0]
        if not refused:
            refused.append(record["messageId"])
            boto3.client("sqs").change_message_visibility(
                QueueUrl=cloud.queue_url,
                ReceiptHandle=record["receiptHandle"],
                VisibilityTimeout=600,
            )
            return {"batchItemFailures": [{"itemIdentifier": record["messageId"]}]}
        return fakes.work(event, context)

    with Cloud({**fakes.handlers, "work": work}, pollers=1) as cloud:
        assert cloud.run(order(1)).succeeded
        assert [each.receives for each in cloud.records.deliveries] == [1, 2]
        assert cloud.records.api_counts("work")["sqs.ChangeMessageVisibility"] == 1


@pytest.mark.parametrize(
    ("answer", "success"),
    [
        (None, True),
        ({}, True),
        ({"batchItemFailures": []}, True),
        ({"batchItemFailures": None}, True),
        ({"batchItemFailures": [{"itemIdentifier": "m1"}]}, False),
        ({"batchItemFailures": [{"itemIdentifier": ""}]}, False),
        ({"batchItemFailures": [{"identifier": "m1"}]}, False),
        ("fine", False),
    ],
)
def test_partial_batch_responses_are_read_as_lambda_reads_them(answer: Any, success: bool) -> None:
    assert _succeeded(Invocation("work", 1, {}, "answered", answer=answer)) is success


def test_an_error_of_plan_is_judged_by_reconcile() -> None:
    with running(Fakes()) as cloud:
        cloud.faults.fail("plan", error=ValueError("no such bucket"))
        ended = cloud.run(order(1))
        assert (ended.status, ended.error) == ("FAILED", "RuntimeError")
        (event,) = cloud.records.events("reconcile")
        assert event["state"]["error"]["Error"] == "ValueError"
        assert "no such bucket" in event["state"]["error"]["Cause"]


def test_an_error_of_publish_is_judged_by_reconcile() -> None:
    with running(Fakes()) as cloud:
        cloud.faults.fail("publish", nth=1)
        assert cloud.run(order(1)).succeeded
        assert cloud.records.count("publish") == 2
        assert cloud.records.count("reconcile") == 3


def test_an_error_of_the_item_reader_is_judged_by_reconcile() -> None:
    fakes = Fakes()
    fakes.inline_max = 0

    def reconcile(event: Any, context: Any) -> Any:
        decision = fakes.reconcile(event, context)
        if cloud.records.count("reconcile") == 0:
            decision["items"]["key"] = "not/there.json"
        return decision

    with Cloud({**fakes.handlers, "reconcile": reconcile}) as cloud:
        assert cloud.run(order(2)).succeeded
        assert "error" in cloud.records.events("reconcile")[1]["state"]


@pytest.mark.parametrize("function", ["plan", "reconcile", "publish"])
def test_a_throttled_function_is_tried_again_without_waiting(function: str) -> None:
    with running(Fakes()) as cloud:
        cloud.faults.throttle(function, nth={1, 2})
        assert cloud.run(order(1)).succeeded
        assert len(cloud.records.retry_waits) == 2
        assert cloud.records.transition_counts()[function.capitalize()] >= 3


@pytest.mark.parametrize("function", ["plan", "reconcile", "publish"])
def test_a_function_that_dies_is_tried_again(function: str) -> None:
    with running(Fakes()) as cloud:
        cloud.faults.crash(function, nth=1)
        assert cloud.run(order(1)).succeeded


def test_the_context_tells_a_scripted_deadline() -> None:
    fakes = Fakes()
    remaining: dict[str, int] = {}

    def work(event: Any, context: Any) -> Any:
        shard = message_of(event)["shard"]["id"]
        remaining[shard] = context.get_remaining_time_in_millis()
        return fakes.work(event, context)

    with Cloud({**fakes.handlers, "work": work}) as cloud:
        cloud.faults.deadline("work", 0, match=about_shard("1"))
        cloud.run(order(2))
    assert remaining["1"] == 0
    assert remaining["0"] > 800_000


# Messages that come twice, late or never ----------------------------------------------------------


def test_every_message_delivered_twice_changes_nothing(fakes: Fakes) -> None:
    with running(fakes) as cloud:
        cloud.faults.deliver_twice()
        assert cloud.run(order(6)).succeeded
        cloud.drain()
        assert set(worked_on(cloud).values()) == {2}
        assert sum(each.copy for each in cloud.records.deliveries) == 6
        assert len(fakes.refused_answers) == 6
        assert set(fakes.refused_answers) <= {"TaskTimedOut", "InvalidToken"}


def test_a_message_delivered_again_after_the_run_finds_its_token_gone() -> None:
    fakes = Fakes()
    with running(fakes) as cloud:
        again = cloud.faults.deliver_twice(late=True, match=about_shard("0"))
        assert cloud.run(order(2)).succeeded
        assert cloud.records.count("work") == 2
        again.release()
        cloud.drain()
        assert worked_on(cloud) == Counter({"0": 2, "1": 1})
        assert len(fakes.refused_answers) == 1


def test_a_message_held_back_comes_last() -> None:
    with running(Fakes(), pollers=1) as cloud:
        hold = cloud.faults.deliver_late(match=about_shard("0"))
        arn = cloud.start(order(3))
        cloud.until(lambda: cloud.records.count("work") == 2)
        hold.release()
        assert cloud.wait(arn).succeeded
        ids = [message_of(event)["shard"]["id"] for event in cloud.records.events("work")]
        assert ids[-1] == "0"


def test_messages_can_be_shuffled() -> None:
    with running(Fakes()) as cloud:
        shuffled = cloud.faults.shuffle(seed=7)
        assert cloud.run(order(10)).succeeded
        assert shuffled.hits


def test_a_fault_that_never_struck_is_told() -> None:
    with Cloud(Fakes().handlers) as cloud:
        cloud.faults.crash("bury")
        cloud.faults.throttle("work", nth={1, 99})
        cloud.faults.throttle("plan", nth=1)
        assert cloud.run(order(2)).succeeded
    first, second = cloud.faults.without_effect()
    assert first == "bury, before: struck 0 times of 0 calls"
    assert second.startswith("work, before: struck 1 times of ")


def test_a_lost_answer_times_the_child_out_and_the_next_wave_finds_nothing_missing(
    fakes: Fakes,
) -> None:
    with running(fakes) as cloud:
        cloud.faults.refuse(
            "states.SendTaskSuccess", error=ConnectionAbortedError(), match=by_work, nth=1
        )
        fakes.lose_answers = True
        ended = cloud.run(order(3))
        assert ended.succeeded
        assert len(cloud.records.expired_tokens) == 1
        assert cloud.records.count("work") == 3


def by_work(call: Any) -> bool:
    return bool(call.actor == "work")


# Calls whose answer is lost -----------------------------------------------------------------------


def test_a_response_lost_to_the_sdk_meets_its_own_success() -> None:
    with running(Fakes()) as cloud:
        fault = cloud.faults.lose_response("s3.PutObject", match=key_contains("ledger/1"), nth=1)
        assert cloud.run(order(2)).succeeded
        assert fault.hits == 1
        puts = [each for each in cloud.records.api_calls if each.key == "r1/ledger/1"]
        assert [(each.attempt, each.status) for each in puts] == [(1, 200), (2, 412)]
        assert worked_on(cloud) == Counter({"0": 1, "1": 1})


def test_a_response_lost_to_the_caller_is_an_error_though_it_took_effect() -> None:
    with running(Fakes()) as cloud:
        cloud.faults.lose_response(
            "s3.PutObject", seen_by="caller", match=key_contains("ledger/1"), nth=1
        )
        assert cloud.run(order(2)).succeeded
        first = next(each for each in cloud.records.invocations if each.outcome == "raised")
        assert first.error == "ReadTimeoutError"
        statuses = [each.status for each in cloud.records.api_calls if each.key == "r1/ledger/1"]
        assert statuses == [200, 412]


def test_a_worker_that_dies_after_its_entry_is_not_doubled() -> None:
    with running(Fakes()) as cloud:
        cloud.faults.die_at("s3.PutObject", after=True, match=key_contains("ledger/0"), nth=1)
        assert cloud.run(order(1)).succeeded
        outcomes = [e.outcome for e in cloud.records.invocations if e.function == "work"]
        assert outcomes == ["died", "answered"]


def test_something_else_can_happen_at_a_call() -> None:
    with running(Fakes()) as cloud:
        cloud.faults.do_at(
            "s3.PutObject",
            lambda call: cloud.s3.put_object(Bucket=cloud.bucket, Key="other", Body=b"!"),
            match=key_contains("ledger/0"),
        )
        assert cloud.run(order(1)).succeeded
        assert cloud.s3.get_object(Bucket=cloud.bucket, Key="other")["Body"].read() == b"!"


# Stopping and redriving ---------------------------------------------------------------------------


def test_a_stopped_execution_ends_at_once_and_a_late_answer_is_refused(fakes: Fakes) -> None:
    with running(fakes) as cloud:
        hold = cloud.faults.slow("work")
        arn = cloud.start(order(3))
        hold.wait_reached()
        cloud.stop(arn, error="Cancelled", cause="by hand")
        ended = cloud.wait(arn)
        assert (ended.status, ended.error, ended.cause) == ("ABORTED", "Cancelled", "by hand")
        hold.release()
        cloud.drain()
        assert set(fakes.refused_answers) <= {"TaskTimedOut", "InvalidToken"}
        assert fakes.refused_answers


def test_a_new_execution_takes_up_what_a_stopped_one_left(fakes: Fakes) -> None:
    with running(fakes, pollers=1) as cloud:
        hold = cloud.faults.slow("work", nth=2)
        arn = cloud.start(order(3))
        hold.wait_reached()
        cloud.stop(arn)
        cloud.wait(arn)
        hold.release()
        cloud.drain()
        assert cloud.run(order(3)).succeeded
        assert ledger(cloud) == {"0", "1", "2"}


def test_a_redriven_execution_enters_reconcile_again_and_does_what_is_missing(
    fakes: Fakes,
) -> None:
    fakes.waves = 1
    with running(fakes, max_receives=2) as cloud:
        cloud.faults.crash("work", match=about_shard("2"))
        ended = cloud.run(order(4), name="r1")
        assert ended.status == "FAILED"

        cloud.faults.clear()
        before = worked_on(cloud)
        cloud.redrive(ended.arn)
        again = cloud.wait(ended.arn)

        assert again.succeeded
        assert worked_on(cloud) - before == Counter({"2": 1})
        assert cloud.records.count("plan") == 1
        failed, redriven = cloud.records.events("reconcile")[1:3]
        assert redriven["state"] == failed["state"]
        assert redriven["execution"]["Id"] == failed["execution"]["Id"]
        assert redriven["execution"]["Input"] == order(4)
        counts = [e["execution"]["RedriveCount"] for e in cloud.records.events("reconcile")]
        assert counts == [0, 0, 1, 1]
        assert states_entered(cloud, ended.arn).count("Publish") == 1
        assert cloud.describe(ended.arn)["status"] == "SUCCEEDED"


def test_a_redrive_of_a_stopped_execution_enters_the_fan_out_again(fakes: Fakes) -> None:
    with running(fakes) as cloud:
        hold = cloud.faults.slow("work")
        arn = cloud.start(order(2))
        hold.wait_reached()
        cloud.stop(arn)
        cloud.wait(arn)
        cloud.faults.clear()
        cloud.drain()
        cloud.redrive(arn)
        assert cloud.wait(arn).succeeded
        assert cloud.records.count("plan") == 1


def test_only_what_failed_can_be_redriven() -> None:
    with running(Fakes()) as cloud:
        ended = cloud.run(order(1))
        with pytest.raises(ValueError, match="SUCCEEDED"):
            cloud.redrive(ended.arn)


# What is counted ----------------------------------------------------------------------------------


def test_calls_and_transitions_are_counted_by_who_made_them(fakes: Fakes) -> None:
    with running(fakes) as cloud:
        ended = cloud.run(order(7))
        records = cloud.records
        assert records.api_counts("work") == Counter(
            {"s3.PutObject": 7, "states.SendTaskSuccess": 7}
        )
        assert records.api_counts("mapping") == Counter(
            {"sqs.ReceiveMessage": 7, "sqs.DeleteMessage": 7}
        )
        assert records.api_counts("states")["sqs.SendMessage"] == 7
        transitions = records.transition_counts(ended.arn)
        assert transitions.pop("ShardInline" if fakes.inline_max else "Shard") == 7
        assert transitions == Counter(
            {
                "Trigger": 1, "Plan": 1, "Planned": 1, "Reconcile": 2, "Reconciled": 2,
                fan_out(fakes): 1, "Publish": 1, "Done": 1,
            }
        )  # fmt: skip
        assert all(each.child == each.state.startswith("Shard") for each in records.transitions)


def test_payloads_are_measured_at_every_state(fakes: Fakes) -> None:
    with running(fakes) as cloud:
        cloud.run(order(2, padding="x" * 50_000))
        sizes = cloud.records.payload_bytes()
        assert sizes["function plan"] > 50_000
        assert {"Plan", "Reconcile", fan_out(fakes), "Publish", "Done"} <= set(sizes)
        assert max(sizes.values()) < PAYLOAD_LIMIT_BYTES


def test_the_concurrency_of_the_payload_is_asked_for_and_bounded() -> None:
    with running(Fakes()) as cloud:
        cloud.run(order(2))
        assert cloud.records.requested_concurrency == [3000]


def test_a_hundred_shards() -> None:
    with running(Fakes()) as cloud:
        assert cloud.run(order(100)).succeeded
        assert len(ledger(cloud)) == 100
        assert set(worked_on(cloud).values()) == {1}

"""Who executes a run: one owner at a time, whoever started, stopped or redrove what."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.state import runs
from functions import wiring
from tests.cloud.account import Account
from tests.cloud.conftest import MakeCloud
from tests.cloud.harness import Hold
from tests.cloud.test_faults import RUN, fan_out, lines, upper

__all__ = ["fan_out"]

WriteJob = Callable[..., Path]


@pytest.fixture
def cloud(make_cloud: MakeCloud, write_job: WriteJob) -> Account:
    """Four inputs of a shard each, and room for a worker that is held up."""
    cloud = make_cloud(write_job(), pollers=2)
    cloud.give(lines(4))
    return cloud


def of_epoch(epoch: int) -> Callable[[Any], bool]:
    """Matches the messages of an epoch."""

    def match(body: Any) -> bool:
        found: bool = json.loads(body)["epoch"] == epoch
        return found

    return match


def stop_in_fan_out(cloud: Account) -> tuple[str, Hold]:
    """Stop an execution whose messages are all still in the queue, held back."""
    held = cloud.faults.deliver_late(match=of_epoch(1))
    arn = cloud.start(RUN, name="first")
    held.wait_reached()
    cloud.until(lambda: cloud.records.api_counts("states")["sqs.SendMessage"] == 4)
    cloud.stop(arn)
    return arn, held


def test_two_executions_of_one_run_id_one_after_the_other(cloud: Account) -> None:
    hold = cloud.faults.slow("work", nth=1)
    first = cloud.start(RUN, name="first")
    hold.wait_reached()

    second = cloud.run(RUN, name="second")
    assert second.succeeded
    assert second.output["next"] == "stop"
    assert second.output["reason"].startswith("RunBusy: Run r1 of job words is being executed by")
    assert first in second.output["reason"]

    hold.release()
    assert cloud.wait(first).output["status"] == "published"
    third = cloud.run(RUN, name="third")
    assert (third.status, third.output["reason"]) == ("SUCCEEDED", "Run r1 was published before.")
    assert cloud.worked_on() == Counter({"0": 1, "1": 1, "2": 1, "3": 1})
    assert cloud.result("r1") == upper(lines(4))


def test_two_executions_of_one_run_id_at_the_same_moment(cloud: Account) -> None:
    arns = [cloud.start(RUN, name=name) for name in ("first", "second", "third")]
    ended = [cloud.wait(arn) for arn in arns]
    assert all(each.succeeded for each in ended)
    assert sum(each.output.get("status") == "published" for each in ended) == 1
    assert cloud.worked_on() == Counter({"0": 1, "1": 1, "2": 1, "3": 1})
    assert cloud.result("r1") == upper(lines(4))
    assert cloud.record("r1").get("epoch", 1) == 1


def test_a_stopped_execution_is_taken_over_and_its_messages_are_dropped(
    cloud: Account, fan_out: str
) -> None:
    _, held = stop_in_fan_out(cloud)

    assert cloud.run(RUN, name="second").succeeded
    assert cloud.record("r1")["epoch"] == 2
    assert cloud.worked_on() == Counter({"0": 1, "1": 1, "2": 1, "3": 1})

    parts = cloud.parts("r1")
    held.release()
    cloud.drain()
    assert cloud.worked_on() == Counter({"0": 2, "1": 2, "2": 2, "3": 2})
    assert cloud.parts("r1") == parts  # they were received, and nothing was done
    dropped = [each for each in cloud.answers() if each.get("error") == "Superseded"]
    assert len(dropped) == 4
    assert "Epoch 1 of run r1 has ended" in dropped[0]["cause"]
    assert cloud.result("r1") == upper(lines(4))


def test_a_worker_of_the_stopped_execution_that_is_still_at_it_does_no_harm(
    cloud: Account,
) -> None:
    hold = cloud.faults.pause_at("s3.PutObject", match=lambda call: "/ledger/" in call.key, nth=1)
    first = cloud.start(RUN, name="first")
    hold.wait_reached()
    cloud.stop(first)
    second = cloud.start(RUN, name="second")
    cloud.until(lambda: cloud.records.count("publish") == 1)
    assert cloud.wait(second).succeeded
    result, entries = cloud.result("r1"), cloud.entries("r1")

    hold.release()
    cloud.drain()
    assert cloud.result("r1") == result == upper(lines(4))
    assert cloud.entries("r1") == entries == ["0", "1", "2", "3"]
    late = [c for c in cloud.records.api_calls if "/ledger/" in c.key and c.status == 412]
    assert len(late) == 1


def test_a_redrive_of_the_old_owner_after_a_takeover_ends_without_doing_anything(
    cloud: Account, fan_out: str
) -> None:
    first, held = stop_in_fan_out(cloud)
    assert cloud.run(RUN, name="second").succeeded
    held.release()
    cloud.drain()
    cloud.records.reset()

    cloud.redrive(first)

    ended = cloud.wait(first)
    assert ended.succeeded
    assert ended.output["reason"].startswith("Superseded: Run r1 of job words now belongs to")
    assert cloud.records.api_counts("work", "reconcile", "publish")["s3.PutObject"] == 0
    assert cloud.records.count("publish") == 0
    assert cloud.result("r1") == upper(lines(4))
    assert cloud.latest() == "r1"


def test_a_redrive_of_the_old_owner_while_the_new_one_is_at_work(cloud: Account) -> None:
    first, held = stop_in_fan_out(cloud)
    hold = cloud.faults.deliver_late(match=of_epoch(2))
    second = cloud.start(RUN, name="second")
    hold.wait_reached()
    cloud.until(lambda: cloud.record("r1")["wave"] == 2)

    held.release()
    cloud.redrive(first)
    ended = cloud.wait(first)
    assert ended.succeeded
    assert ended.output["reason"].startswith("Superseded")
    assert cloud.parts("r1") == []

    hold.release()
    assert cloud.wait(second).output["status"] == "published"
    assert len(cloud.parts("r1")) == 4
    assert cloud.result("r1") == upper(lines(4))


def test_a_reconcile_that_was_overtaken_stops(cloud: Account) -> None:
    """The old owner is stopped while Reconcile runs; its function goes on, and must not harm."""
    hold = cloud.faults.pause_at(
        "s3.ListObjectsV2", match=lambda call: call.actor == "reconcile", nth=1
    )
    first = cloud.start(RUN, name="first")
    hold.wait_reached()
    cloud.stop(first)
    assert cloud.run(RUN, name="second").succeeded

    hold.release()
    cloud.until(lambda: cloud.records.count("reconcile") == 4)
    late = next(
        call for call in cloud.records.invocations
        if call.function == "reconcile" and call.event["execution"]["Name"] == "first"
    )  # fmt: skip
    assert late.answer["next"] == "stop"
    assert late.answer["reason"].startswith("Superseded")
    assert cloud.worked_on() == Counter({"0": 1, "1": 1, "2": 1, "3": 1})


def test_a_run_that_failed_before_it_was_planned_is_taken_up_by_redrive(
    make_cloud: MakeCloud, write_job: WriteJob
) -> None:
    cloud = make_cloud(write_job())
    ended = cloud.run(RUN, name="first")
    assert ended.error == "NoInput"
    assert "No input matches s3://fanfold-test/words/inputs/" in (ended.cause or "")

    cloud.give(lines(2))
    cloud.redrive(ended.arn)
    assert cloud.wait(ended.arn).output["status"] == "published"
    assert cloud.result("r1") == upper(lines(2))


def test_a_cancelled_run_stops_and_is_taken_up_by_the_same_run_id(cloud: Account) -> None:
    held = cloud.faults.deliver_late(match=of_epoch(1))
    first = cloud.start(RUN, name="first")
    held.wait_reached()
    cloud.until(lambda: cloud.records.api_counts("states")["sqs.SendMessage"] == 4)
    runs.cancel(wiring.store(), cloud.keys("r1"))
    held.release()
    ended = cloud.wait(first)
    assert (ended.status, ended.error) == ("FAILED", "RunCancelled")
    assert cloud.entries("r1") == []

    assert cloud.run(RUN, name="second").succeeded
    assert cloud.record("r1")["epoch"] == 2
    assert cloud.result("r1") == upper(lines(4))


def test_two_runs_that_finish_in_the_wrong_order_leave_readers_with_the_newer(
    cloud: Account,
) -> None:
    hold = cloud.faults.slow("publish", nth=1)
    older = cloud.start({"run_id": "older", "logical_time": 1000.0})
    hold.wait_reached()
    newer = cloud.run({"run_id": "newer", "logical_time": 2000.0})
    assert newer.output["latest"] is True
    assert cloud.latest() == "newer"

    hold.release()
    ended = cloud.wait(older)
    assert (ended.output["status"], ended.output["latest"]) == ("published", False)
    assert cloud.latest() == "newer"
    assert cloud.manifest("older")["run_id"] == "older"
    assert cloud.result("older") == cloud.result("newer")


def test_a_publish_that_was_overtaken_does_not_double(cloud: Account) -> None:
    hold = cloud.faults.slow("publish", nth=1)
    first = cloud.start(RUN, name="first")
    hold.wait_reached()
    cloud.stop(first)
    assert cloud.run(RUN, name="second").succeeded
    manifest = cloud.body(cloud.keys("r1").manifest)
    hold.release()
    cloud.until(lambda: cloud.records.count("publish") == 2)
    assert cloud.body(cloud.keys("r1").manifest) == manifest
    outcomes = [
        (call.outcome, call.error)
        for call in cloud.records.invocations
        if call.function == "publish"
    ]
    assert outcomes == [("answered", None), ("raised", "Superseded")]

"""Each function by itself: what it answers, logs and measures, at its bounds and with little said."""

from __future__ import annotations

import io
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from coordinator.errors import Fate, JobInvalid, NotProven, StoreUnavailable, Superseded
from coordinator.model import Note
from coordinator.rules.decide import SILENT_SECONDS
from coordinator.state import runs
from functions import answers, plan, reconcile, settings, telemetry, wiring, work
from tests.cloud.account import Account, forget_everything
from tests.cloud.conftest import MakeCloud
from tests.cloud.harness import LambdaContext, key_contains
from tests.cloud.test_faults import RUN, aws_error, lines
from tests.cloud.test_messages import batch, dispatched, failures, order, send
from tests.cloud.test_observability import emitted, log, logged

__all__ = ["log"]

WriteJob = Callable[..., Path]
ARN = "arn:aws:states:us-east-1:123456789012:execution:fanfold-words:r1"
EXECUTION = {"Id": ARN, "Input": RUN, "Name": "r1", "StartTime": "2026-11-21T05:00:01.482Z"}


@pytest.fixture
def cloud(make_cloud: MakeCloud, write_job: WriteJob) -> Account:
    return make_cloud(write_job())


def line_of(log: io.StringIO, function: str, message: str) -> dict[str, Any]:
    """The one line of a function with this message."""
    (found,) = [line for line in logged(log, function) if line["message"] == message]
    return found


def reconciled(cloud: Account, state: dict[str, Any], redrives: int | None = None) -> Any:
    """What Reconcile answers; an execution that was never redriven need not say so."""
    execution: dict[str, Any] = dict(EXECUTION)
    if redrives is not None:
        execution["RedriveCount"] = redrives
    event = {"execution": execution, "state": state, "queue": cloud.queue_url}
    return cloud.functions.invoke("reconcile", json.dumps(event))


# Plan ---------------------------------------------------------------------------------------------


def test_plan_says_how_many_shards_it_cut(cloud: Account, log: io.StringIO) -> None:
    cloud.give(lines(3))

    answer = send(cloud, "plan", {"execution": EXECUTION, "run": None})

    assert answer == {
        "run": {"job": "words", "run_id": "r1", "owner": ARN, "epoch": 1},
        "next": "reconcile",
        "reason": None,
        "redrives": 0,
    }
    line = line_of(log, "plan", "planned")
    assert (line["shards"], line["run"], line["epoch"], line["job"]) == (3, "r1", 1, "words")
    assert line["service"] == "fanfold"
    assert cloud.record("r1").get("tenure", {}).get("redrives", 0) == 0


def test_plan_counts_the_redrives_before_it(cloud: Account) -> None:
    cloud.give(lines(1))
    execution = {**EXECUTION, "RedriveCount": 2}

    assert send(cloud, "plan", {"execution": execution, "run": None})["redrives"] == 2
    assert cloud.record("r1")["tenure"]["redrives"] == 2


def test_plan_says_why_there_is_nothing_to_do(cloud: Account, log: io.StringIO) -> None:
    cloud.give(lines(1))
    first = send(cloud, "plan", {"execution": EXECUTION, "run": None})
    taken = {**first["run"], "owner": "somebody"}

    answer = send(cloud, "plan", {"execution": EXECUTION, "run": taken})

    assert (answer["run"], answer["next"]) == (taken, "stop")
    assert answer["reason"] == f"Superseded: {line_of(log, 'plan', 'nothing to do')['reason']}"


def test_a_plan_that_is_cut_in_several_invocations_goes_on_where_it_stopped(
    cloud: Account, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    """So that listing may take longer than a function has."""
    monkeypatch.setattr(plan, "PAGES_AN_INVOCATION", 1)
    for page in range(3):
        cloud.put(f"here/{page}/a.txt", b"a\n")
    inputs = [f"s3://{cloud.bucket}/here/{page}/" for page in range(3)]
    execution = {**EXECUTION, "Input": {**RUN, "inputs": inputs}}
    run: Any = None
    answered: list[str] = []
    while not answered or answered[-1] == "plan":
        answer = send(cloud, "plan", {"execution": execution, "run": run})
        run = answer["run"]
        answered.append(answer["next"])

    assert len(answered) > 1
    assert answered[-1] == "reconcile"
    assert line_of(log, "plan", "planned")["shards"] == 3


@pytest.mark.parametrize("code", ["ExecutionDoesNotExist", "InvalidArn"])
def test_an_owner_that_step_functions_does_not_know_is_not_alive(
    monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    asked: list[str] = []

    def describe_execution(executionArn: str) -> Any:  # noqa: N803
        asked.append(executionArn)
        raise aws_error(code, 400, "DescribeExecution")

    clients = SimpleNamespace(describe_execution=describe_execution)
    monkeypatch.setattr(wiring, "states", lambda: clients)

    assert plan._is_live("local-owner") is False
    assert asked == ["local-owner"]


def test_an_owner_that_can_not_be_asked_for_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def describe_execution(executionArn: str) -> Any:  # noqa: N803
        raise aws_error("ThrottlingException", 400, "DescribeExecution")

    clients = SimpleNamespace(describe_execution=describe_execution)
    monkeypatch.setattr(wiring, "states", lambda: clients)

    with pytest.raises(StoreUnavailable, match=r"Whether the-owner is still going.*Throttling"):
        plan._is_live("the-owner")


def test_a_call_that_gets_no_answer_is_known_by_its_own_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By which the state machine tries again, and the queue."""

    def broken(**of: object) -> Any:
        raise ReadTimeoutError(endpoint_url="https://states")

    clients = SimpleNamespace(describe_execution=broken, send_task_failure=broken)
    monkeypatch.setattr(wiring, "states", lambda: clients)

    with pytest.raises(ReadTimeoutError):
        plan._is_live("arn")
    with pytest.raises(ReadTimeoutError):
        answers.failed(SimpleNamespace(token="mine"), "NotProven", "why")  # type: ignore[arg-type]


# Reconcile ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shards", "way"), [(2, "inline"), (3, "map")])
def test_as_many_shards_as_fit_are_sent_inline_and_more_through_a_file(
    cloud: Account, monkeypatch: pytest.MonkeyPatch, log: io.StringIO, shards: int, way: str
) -> None:
    monkeypatch.setattr(reconcile, "INLINE_ITEMS", 2)
    cloud.give(lines(shards))
    state = send(cloud, "plan", {"execution": EXECUTION, "run": None})

    answer = reconciled(cloud, state).answer

    keys = cloud.keys("r1")
    items: Any = answer["shards"] if way == "inline" else cloud.document(answer["items"]["key"])
    assert (answer["next"], len(items), answer["redrives"]) == (way, shards, 0)
    assert [item["id"] for item in items] == [str(number) for number in range(shards)]
    assert (answer["shards"] == []) is (way == "map")
    assert answer["items"] == {"bucket": cloud.bucket, "key": keys.items(1)}
    assert answer["results"]["bucket"] == cloud.bucket
    assert bool(cloud.listed(keys.items(1))) is (way == "map")
    line = line_of(log, "reconcile", "dispatching")
    assert (line["stage"], line["wave"], line["shards"]) == ("map", 1, shards)
    assert (line["run"], line["epoch"]) == ("r1", 1)


@pytest.mark.parametrize(
    ("hidden", "error", "goes_on"),
    [
        pytest.param(0, None, False, id="no worker is at any message"),
        pytest.param(1, None, True, id="one is at another's"),
        pytest.param(0, "AccessDenied", True, id="nobody knows"),
    ],
)
def test_a_silent_run_is_given_up_when_no_worker_is_at_any_message(
    cloud: Account,
    monkeypatch: pytest.MonkeyPatch,
    log: io.StringIO,
    hidden: int,
    error: str | None,
    goes_on: bool,
) -> None:
    state = dispatched(cloud, 1)
    asked: list[dict[str, Any]] = []

    class Queue:
        def get_queue_attributes(self, **given: Any) -> Any:
            asked.append(given)
            if error:
                raise aws_error(error, 403, "GetQueueAttributes")
            return {"Attributes": {"ApproximateNumberOfMessagesNotVisible": str(hidden)}}

    monkeypatch.setattr(wiring, "sqs", Queue)
    later = wiring.now() + SILENT_SECONDS + 1
    monkeypatch.setattr(wiring, "now", lambda: later)

    told = reconciled(cloud, state)

    name = "ApproximateNumberOfMessagesNotVisible"
    assert asked == [{"QueueUrl": cloud.queue_url, "AttributeNames": [name]}]
    assert told.error == (None if goes_on else "RunStalled")
    assert ("can't be asked" in log.getvalue()) is (error is not None)


def test_how_long_a_run_goes_on_is_told_since_it_was_taken_up(
    cloud: Account, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("POWERTOOLS_METRICS_DISABLED")
    state = dispatched(cloud, 1)
    capsys.readouterr()
    began, now = cloud.record("r1")["tenure"]["began"], [0.0]
    monkeypatch.setattr(wiring, "now", lambda: now[0])

    now[0] = began + 1000.0
    reconciled(cloud, state)
    assert emitted(capsys.readouterr().out)["RunSeconds", "job=words"] == [1000.0]

    now[0] = began + 3 * 86_400.0
    reconciled(cloud, state, 1)
    assert emitted(capsys.readouterr().out)["RunSeconds", "job=words"] == [0.0]


def test_a_plan_that_failed_is_told_of_once_and_a_redrive_makes_it_again(cloud: Account) -> None:
    error = {"Error": "NoInput", "Cause": '{"errorMessage": "No input matches."}'}

    for redrives in (None, 0):
        told = reconciled(cloud, {"run": None, "error": error}, redrives)
        assert (told.error, told.message) == ("NoInput", "No input matches.")
    assert reconciled(cloud, {"run": None, "error": error}, 1).answer == {
        "run": None,
        "next": "plan",
        "redrives": 1,
    }
    again = reconciled(cloud, {"run": None, "error": error, "redrives": 1}, 1)
    assert again.error == "NoInput"
    assert reconciled(cloud, {"run": None}).answer["next"] == "plan"


def test_an_error_ends_a_run_until_it_is_redriven(cloud: Account) -> None:
    state = dispatched(cloud, 1)
    error = {"Error": "RunCancelled", "Cause": '{"errorMessage": "Enough."}'}
    failed = {"run": state["run"], "error": error}

    for redrives in (None, 0):
        ended = reconciled(cloud, failed, redrives)
        assert (ended.outcome, ended.error, ended.message) == ("raised", "RunCancelled", "Enough.")
    goes_on = reconciled(cloud, failed, 1)
    assert (goes_on.outcome, goes_on.answer["redrives"]) == ("answered", 1)
    assert reconciled(cloud, {**failed, "redrives": 1}, 1).error == "RunCancelled"


def test_a_run_that_is_not_planned_yet_is_planned(
    cloud: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plan claimed it and failed then."""

    def fail(*of: object, **more: object) -> None:
        raise StoreUnavailable("Not now.")

    cloud.give(lines(1))
    monkeypatch.setattr(plan, "plan", fail)
    cloud.functions.invoke("plan", json.dumps({"execution": EXECUTION, "run": None}))
    reference = {"job": "words", "run_id": "r1", "owner": ARN, "epoch": 1}

    assert reconciled(cloud, {"run": reference}, 3).answer == {
        "run": reference,
        "next": "plan",
        "redrives": 3,
    }


def test_a_run_that_is_done_is_to_be_published(cloud: Account) -> None:
    state = dispatched(cloud, 1)
    send(cloud, "work", batch("work", order(cloud, state["shards"][0], state)))
    state = reconciled(cloud, state).answer
    send(cloud, "work", batch("work", order(cloud, state["shards"][0], state)))

    assert reconciled(cloud, state).answer == {
        "run": state["run"],
        "next": "publish",
        "redrives": 0,
    }


def test_a_run_that_somebody_else_has_is_left_alone_and_it_is_said_why(
    cloud: Account, log: io.StringIO
) -> None:
    state = dispatched(cloud, 1)
    before = cloud.record("r1")
    taken = {**state["run"], "owner": "somebody"}

    answer = reconciled(cloud, {"run": taken}).answer

    assert (answer["run"], answer["next"]) == (taken, "stop")
    reason = line_of(log, "reconcile", "superseded")["reason"]
    assert answer["reason"] == f"Superseded: {reason}"
    assert cloud.record("r1") == before


def test_what_can_not_be_read_fails_reconcile(cloud: Account) -> None:
    """The state machine tries again, and does not take the run for somebody else's."""
    state = dispatched(cloud, 1)
    refused = aws_error("AccessDenied", 403, "GetObject")
    cloud.faults.refuse("s3.GetObject", error=refused, match=key_contains("run.json"))

    assert reconciled(cloud, state).outcome == "raised"


def test_an_error_without_a_cause_is_known_by_its_name() -> None:
    assert str(reconcile.error_of({"Error": "NotProven"})) == ""
    assert isinstance(reconcile.error_of({"Error": "NotProven"}), NotProven)
    assert "killed" in str(reconcile.error_of({"Cause": "killed"}))


# Work and Bury ------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["work", "bury"])
def test_a_message_whose_run_can_not_be_read_comes_back(cloud: Account, function: str) -> None:
    """It is not dropped: only a run that is gone is."""
    state = dispatched(cloud, 1)
    body = order(cloud, state["shards"][0], state)
    wiring.forget()
    refused = aws_error("AccessDenied", 403, "GetObject")
    cloud.faults.refuse("s3.GetObject", error=refused, match=key_contains("run.json"))

    assert failures(send(cloud, function, batch(function, body, receives=5))) == ["m0"]
    assert cloud.answers() == []


@pytest.mark.parametrize("function", ["work", "bury"])
def test_a_message_that_nobody_wants_is_dropped_and_it_is_said_why(
    cloud: Account, log: io.StringIO, function: str
) -> None:
    state = dispatched(cloud, 1)
    body = order(cloud, state["shards"][0], state)
    runs.cancel(wiring.store(), cloud.keys("r1"))
    wiring.forget()

    assert failures(send(cloud, function, batch(function, body))) == []

    (told,) = cloud.answers()
    assert (told["error"], told["cause"]) == (Superseded.__name__, "Run r1 is cancelled.")
    assert told["taskToken"] == "token-of-0"
    assert line_of(log, function, "dropped")["reason"] == "Run r1 is cancelled."
    assert cloud.entries("r1") == []


@pytest.mark.parametrize(("receives", "noted"), [(1, 1), (2, 1), (3, 2), (6, 5)])
def test_a_burial_does_not_count_its_own_receipt(
    cloud: Account, log: io.StringIO, receives: int, noted: int
) -> None:
    state = dispatched(cloud, 1)
    body = order(cloud, state["shards"][0], state)

    send(cloud, "bury", batch("dead", body, receives=receives))

    assert cloud.document(cloud.keys("r1").note("map", "0", 1))["receives"] == noted
    line = line_of(log, "bury", "buried")
    assert line["receives"] == noted
    assert line["reason"] == cloud.answers()[0]["cause"]
    assert (line["job"], line["stage"], line["epoch"], line["wave"]) == ("words", "map", 1, 1)


def test_a_message_that_is_not_ours_is_told_of(cloud: Account, log: io.StringIO) -> None:
    assert failures(send(cloud, "bury", batch("dead", "hello"))) == []

    line = line_of(log, "bury", "not a message of ours")
    assert line["reason"].startswith("A dead message")
    assert line["level"] == "ERROR"


def test_what_became_of_a_shard_is_logged_once_with_its_counts(
    cloud: Account, log: io.StringIO
) -> None:
    state = dispatched(cloud, 1)
    event = batch("work", order(cloud, state["shards"][0], state), receives=2)

    send(cloud, "work", event)
    send(cloud, "work", event)

    first, second = (line for line in logged(log, "work") if line["message"] == "done")
    assert (first["records_in"], first["quarantined"], first["bytes_in"]) == (3, 0, 27)
    assert first["seconds"] >= 0
    assert (first["fresh"], second["fresh"]) == (True, False)
    assert (first["receives"], first["epoch"], first["shard"]) == (2, 1, "0")
    assert first["attempt"] != second["attempt"]


def test_why_an_attempt_failed_is_logged(cloud: Account, log: io.StringIO) -> None:
    state = dispatched(cloud, 1)
    slow_down = aws_error("SlowDown", 503, "GetObject")
    cloud.faults.refuse("s3.GetObject", error=slow_down, match=key_contains("inputs/"))

    send(cloud, "work", batch("work", order(cloud, state["shards"][0], state)))

    line = line_of(log, "work", "attempt failed")
    assert (line["error"], line["fate"], line["level"]) == ("StoreUnavailable", "retry", "WARNING")
    note = cloud.document(cloud.keys("r1").note("map", "0", 1))
    assert line["reason"] == note["reason"]


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        ("MapFailed", False),
        ("ReduceFailed", False),
        ("AttemptFailed", True),
        ("StoreUnavailable", True),
    ],
)
def test_what_the_code_of_a_job_says_is_not_logged(error: str, shown: bool) -> None:
    note = Note(
        shard="0",
        stage="map",
        wave=1,
        attempt="a",
        receives=1,
        error=error,
        reason="record 7",
        fate=Fate.SHARD,
        at=0.0,
    )

    assert ("record 7" in work.loggable(note)) is shown


def test_a_token_is_told_the_counts_that_a_person_wants(cloud: Account) -> None:
    state = dispatched(cloud, 1)

    send(cloud, "work", batch("work", order(cloud, state["shards"][0], state)))

    (told,) = cloud.answers()
    assert told["taskToken"] == "token-of-0"
    output = json.loads(told["output"])
    assert (output["shard"], output["outcome"], output["records_in"]) == ("0", "done", 3)
    assert not {"mapped", "blank", "peak_memory_bytes"} & set(output)


@pytest.mark.parametrize(("late", "outcome"), [(79.95, "done"), (80.05, "split")])
def test_a_shard_stops_when_four_fifths_of_the_time_of_its_function_are_over(
    cloud: Account, monkeypatch: pytest.MonkeyPatch, late: float, outcome: str
) -> None:
    state = dispatched(cloud, 1)
    context = LambdaContext("work", "00000000-0000-0000-0000-000000000000", 0.0)
    monkeypatch.setattr(
        LambdaContext, "get_remaining_time_in_millis", lambda self: 100_000, raising=True
    )
    seen: list[float] = []

    def monotonic() -> float:
        seen.append(0.0)
        return 1000.0 if len(seen) == 1 else 1000.0 + late

    monkeypatch.setattr(work, "time", SimpleNamespace(monotonic=monotonic))
    monkeypatch.setattr(work, "look_around", lambda place, message: lambda seconds: False)

    work.handler(batch("work", order(cloud, state["shards"][0], state)), context)  # type: ignore[arg-type]

    assert cloud.document(cloud.keys("r1").entry("map", "0"))["outcome"] == outcome


def test_a_delay_that_can_not_be_set_matters_to_nobody(cloud: Account) -> None:
    record = SimpleNamespace(
        queue_url="https://sqs.us-east-1.amazonaws.com/1/no", receipt_handle="h"
    )

    answers.delay(record, 3.7)  # type: ignore[arg-type]


def test_a_token_that_can_not_be_answered_fails_the_message(cloud: Account) -> None:
    state = dispatched(cloud, 1)
    broken = ConnectionAbortedError()
    cloud.faults.refuse("states.SendTaskSuccess", error=broken)

    answer = send(cloud, "work", batch("work", order(cloud, state["shards"][0], state)))

    assert failures(answer) == ["m0"]


def test_a_container_reads_the_record_of_a_run_once_for_many_shards(cloud: Account) -> None:
    state = dispatched(cloud, 4)
    wiring.forget()
    cloud.records.reset()

    for shard in state["shards"]:
        send(cloud, "work", batch("work", order(cloud, shard, state)))

    key = cloud.keys("r1").run
    reads = [call for call in cloud.records.api_calls if call.key == key and call.actor == "work"]
    assert len(reads) == 1


def test_a_container_keeps_the_record_of_the_latest_run_alone(cloud: Account) -> None:
    """It may serve runs for days."""
    state = dispatched(cloud, 1)
    wiring._seen[cloud.keys("older")] = wiring._Seen(runs.read(wiring.store(), cloud.keys("r1")), 0)

    send(cloud, "work", batch("work", order(cloud, state["shards"][0], state)))

    assert [keys.run_id for keys in wiring._seen] == ["r1"]


# Publish ------------------------------------------------------------------------------------------


def published(cloud: Account) -> Any:
    state = dispatched(cloud, 1)
    while state["next"] != "publish":
        for shard in state["shards"]:
            send(cloud, "work", batch("work", order(cloud, shard, state)))
        state = reconciled(cloud, state).answer
    return send(cloud, "publish", {"execution": EXECUTION, "run": state["run"]})


def test_publish_answers_where_everything_lies(cloud: Account, log: io.StringIO) -> None:
    answer = published(cloud)

    manifest = cloud.manifest("r1")
    assert answer == {
        "run": {"job": "words", "run_id": "r1", "owner": ARN, "epoch": 1},
        "status": "published",
        "results": 1,
        "manifest": f"s3://{cloud.bucket}/{cloud.keys('r1').manifest}",
        "results_prefix": f"s3://{cloud.bucket}/words/results/r1/",
        "latest": True,
        "records_in": 3,
        "quarantined": 0,
        "dollars": manifest["cost"]["dollars"],
    }
    line = line_of(log, "publish", "published")
    assert (line["quarantined"], line["latest"], line["run"]) == (0, True, "r1")
    assert line["objects"] == manifest["objects"]


# Metrics and settings -----------------------------------------------------------------------------


def test_every_metric_has_the_unit_that_dashboards_show(
    cloud: Account, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("POWERTOOLS_METRICS_DISABLED")

    published(cloud)

    units: dict[str, str] = {}
    for line in capsys.readouterr().out.splitlines():
        if '"_aws"' in line:
            for group in json.loads(line)["_aws"]["CloudWatchMetrics"]:
                units |= {metric["Name"]: metric["Unit"] for metric in group["Metrics"]}
    seconds = {"ShardSeconds", "FreshnessSeconds", "RunSeconds"}
    sizes = {"Bytes", "PeakMemoryBytes"}
    assert {name for name, unit in units.items() if unit == "Seconds"} == seconds
    assert {name for name, unit in units.items() if unit == "Bytes"} == sizes
    assert {units[name] for name in set(units) - seconds - sizes} == {"Count"}


def test_a_function_that_measured_nothing_writes_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("POWERTOOLS_METRICS_DISABLED", raising=False)
    monkeypatch.setenv("POWERTOOLS_TRACE_DISABLED", "true")
    telemetry.metrics.clear_metrics()

    @telemetry.entry_point
    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        return {"fine": True}

    context: Any = LambdaContext("work", "00000000-0000-0000-0000-000000000000", 1e12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert handler({}, context) == {"fine": True}

    assert emitted(capsys.readouterr().out) == {}


def test_a_failed_shard_is_counted_once_in_all_and_once_by_its_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("POWERTOOLS_METRICS_DISABLED", raising=False)
    telemetry.metrics.clear_metrics()
    telemetry.metrics.set_default_dimensions(job="words")

    telemetry.count_by_reason("ShardsFailed", "MapFailed", job="words")
    telemetry.metrics.flush_metrics()

    assert emitted(capsys.readouterr().out) == {
        ("ShardsFailed", "job=words"): [1],
        ("ShardsFailed", "job=words", "reason=MapFailed"): [1],
    }


def test_an_error_that_nobody_caught_is_not_logged_with_what_it_holds() -> None:
    assert sys.excepthook is sys.__excepthook__


@pytest.mark.parametrize(("untraced", "spans"), [("true", 0), (None, 2)])
def test_a_handler_is_one_span_where_traces_are_wanted(
    monkeypatch: pytest.MonkeyPatch, untraced: str | None, spans: int
) -> None:
    if untraced:
        monkeypatch.setenv("POWERTOOLS_TRACE_DISABLED", untraced)
    else:
        monkeypatch.delenv("POWERTOOLS_TRACE_DISABLED", raising=False)
    seen: list[Any] = []

    class Tracer:
        def capture_lambda_handler(self, handler: Any, capture_response: bool) -> Any:
            assert not capture_response

            def spanned(event: dict[str, Any], context: Any) -> Any:
                seen.append(event)
                return handler(event, context)

            return spanned

    monkeypatch.setattr(telemetry, "tracer", Tracer)

    @telemetry.entry_point
    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        return {"fine": True}

    context: Any = LambdaContext("work", "00000000-0000-0000-0000-000000000000", 1e12)
    assert handler({}, context) == handler({}, context) == {"fine": True}
    assert len(seen) == spans


def test_traces_are_of_one_service() -> None:
    assert telemetry.tracer().service == "fanfold"


def test_a_call_that_is_not_answered_is_given_up_after_half_a_minute(cloud: Account) -> None:
    clients: list[Any] = [wiring.sqs(), wiring.states()]
    for client in clients:
        assert client.meta.config.read_timeout == 30


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("FANFOLD_BUCKET", "abc")
    monkeypatch.setenv("FANFOLD_JOB_MODULE", "jobs.wordcount")
    monkeypatch.setenv("FANFOLD_TIMEOUT_SECONDS", "300")
    monkeypatch.delenv("FANFOLD_INPUTS", raising=False)
    forget_everything()
    return monkeypatch


def test_the_deployed_job_is_found_by_its_module_or_its_path(
    environment: pytest.MonkeyPatch, write_job: WriteJob
) -> None:
    assert settings.loaded_job().job.name == "wordcount"
    forget_everything()
    environment.setenv("FANFOLD_JOB_MODULE", str(write_job()))
    assert settings.loaded_job().job.name == "words"
    forget_everything()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FANFOLD_BUCKET", "ab"),
        ("FANFOLD_JOB_MODULE", ""),
        ("FANFOLD_TIMEOUT_SECONDS", "0"),
        ("FANFOLD_INPUTS", '["s3://lake/", 3]'),
    ],
)
def test_what_is_wrong_in_the_environment_is_named(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)

    with pytest.raises(JobInvalid, match=f"lacks {name}, or has it wrong"):
        settings.settings()


def test_the_shortest_names_are_taken(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("FANFOLD_JOB_MODULE", "j")

    found = settings.settings()

    assert (found.bucket, found.job_module) == ("abc", "j")
    forget_everything()


def test_settings_do_not_change(environment: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings.settings().bucket = "other"  # type: ignore[misc]
    forget_everything()

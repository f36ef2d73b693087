"""What becomes of each message of a batch, when it is seen again, and what its token is told."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from coordinator.errors import StoreUnavailable
from coordinator.model import Message, RunRecord
from coordinator.rules.pacing import LOOK_SECONDS
from coordinator.state import runs
from functions import answers, plan, settings, telemetry, wiring, work
from functions.reconcile import error_of
from tests.cloud.account import Account
from tests.cloud.conftest import MakeCloud
from tests.cloud.harness import LambdaContext, key_contains
from tests.cloud.test_faults import RUN, aws_error, lines
from tests.cloud.test_observability import emitted

WriteJob = Callable[..., Path]
MESSAGE = {"version": 1, "job": "words", "run_id": "r1", "epoch": 1}


def order(cloud: Account, shard: dict[str, Any], state: dict[str, Any]) -> str:
    """The message of a shard as the state machine sends it."""
    sent = {name: state[name] for name in ("stage", "draft", "wave")}
    return json.dumps({**MESSAGE, **sent, "shard": shard, "token": f"token-of-{shard['id']}"})


def batch(queue: str, *bodies: str, receives: int = 1) -> dict[str, Any]:
    """An event of the event source mapping."""
    return {
        "Records": [
            {
                "messageId": f"m{number}",
                "receiptHandle": f"handle-{number}",
                "body": body,
                "attributes": {"ApproximateReceiveCount": str(receives)},
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": f"arn:aws:sqs:us-east-1:123456789012:fanfold-words-{queue}",
                "awsRegion": "us-east-1",
            }
            for number, body in enumerate(bodies)
        ]
    }


def dispatched(cloud: Account, shards: int) -> dict[str, Any]:
    """A run whose first wave was sent, by calling its functions in turn; the state after that."""
    cloud.give(lines(shards))
    execution = {
        "Id": "arn:aws:states:us-east-1:123456789012:execution:fanfold-words:r1",
        "Input": RUN,
        "Name": "r1",
        "StartTime": "2026-11-21T05:00:01.482Z",
        "RedriveCount": 0,
    }
    state = send(cloud, "plan", {"execution": execution, "run": None})
    found: dict[str, Any] = send(cloud, "reconcile", {"execution": execution, "state": state})
    assert len(found["shards"]) == shards
    return found


def send(cloud: Account, function: str, event: dict[str, Any]) -> Any:
    """Invoke a function, which has to answer."""
    invocation = cloud.functions.invoke(function, json.dumps(event))
    assert invocation.outcome == "answered", invocation
    return invocation.answer


def failures(answer: dict[str, Any]) -> list[str]:
    return [each["itemIdentifier"] for each in answer["batchItemFailures"]]


# Batches ------------------------------------------------------------------------------------------


def test_of_a_batch_that_is_buried_only_what_failed_comes_back(
    make_cloud: MakeCloud, write_job: WriteJob
) -> None:
    cloud = make_cloud(write_job())
    state = dispatched(cloud, 4)
    bodies = [order(cloud, shard, state) for shard in state["shards"]]
    refused = aws_error("AccessDeniedException", 400, "SendTaskFailure")
    cloud.faults.refuse(
        "states.SendTaskFailure",
        error=refused,
        match=lambda call: b"token-of-1" in call.body or b"token-of-3" in call.body,
    )

    answer = send(cloud, "bury", batch("dead", *bodies, receives=6))

    assert failures(answer) == ["m1", "m3"]
    noted = [cloud.document(cloud.keys("r1").note("map", str(n), 1)) for n in range(4)]
    assert [note["failures"] for note in noted] == [5, 5, 5, 5]
    told = {each["taskToken"]: each for each in cloud.answers()}
    assert {f"token-of-{n}" for n in (0, 2)} <= set(told)


def test_a_batch_of_which_nothing_can_be_buried_comes_back_as_a_whole(
    make_cloud: MakeCloud, write_job: WriteJob
) -> None:
    cloud = make_cloud(write_job())
    state = dispatched(cloud, 2)
    bodies = [order(cloud, shard, state) for shard in state["shards"]]
    refused = aws_error("AccessDeniedException", 400, "SendTaskFailure")
    cloud.faults.refuse("states.SendTaskFailure", error=refused)

    assert failures(send(cloud, "bury", batch("dead", *bodies, receives=6))) == ["m0", "m1"]


def test_an_answer_that_is_denied_is_an_error_of_its_own_and_a_metric(
    make_cloud: MakeCloud,
    write_job: WriteJob,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cloud = make_cloud(write_job())
    state = dispatched(cloud, 1)
    refused = aws_error("AccessDeniedException", 400, "SendTaskSuccess")
    cloud.faults.refuse("states.SendTaskSuccess", error=refused)
    monkeypatch.delenv("POWERTOOLS_METRICS_DISABLED", raising=False)
    log = io.StringIO()
    monkeypatch.setattr(telemetry.logger.registered_handler, "stream", log)
    capsys.readouterr()

    answer = send(cloud, "work", batch("work", order(cloud, state["shards"][0], state)))

    assert failures(answer) == ["m0"]
    told = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [line["error"] for line in told if line["level"] == "ERROR"] == ["AnswerDenied"]
    assert emitted(capsys.readouterr().out)["AnswersDenied", "job=words"] == [1]
    assert cloud.document(cloud.keys("r1").entry("map", "0"))["outcome"] == "done"


@pytest.mark.parametrize("code", ["TaskTimedOut", "InvalidToken", "TaskDoesNotExist"])
def test_a_token_that_nobody_waits_for_is_no_failure(
    make_cloud: MakeCloud, write_job: WriteJob, code: str
) -> None:
    cloud = make_cloud(write_job())
    state = dispatched(cloud, 1)
    body = order(cloud, state["shards"][0], state)
    for operation, function in (("SendTaskSuccess", "work"), ("SendTaskFailure", "bury")):
        spent = aws_error(code, 400, operation)
        if function == "bury":
            cloud.s3.delete_object(Bucket=cloud.bucket, Key=cloud.keys("r1").entry("map", "0"))
        cloud.faults.refuse(f"states.{operation}", error=spent)
        assert failures(send(cloud, function, batch(function, body, receives=5))) == []


def test_a_burial_charges_every_attempt_that_left_nothing_a_whole_timeout(
    make_cloud: MakeCloud, write_job: WriteJob
) -> None:
    cloud = make_cloud(write_job(limits="timeout_seconds=120"))
    state = dispatched(cloud, 1)
    body = order(cloud, state["shards"][0], state)

    send(cloud, "bury", batch("dead", body, receives=6))

    note = cloud.document(cloud.keys("r1").note("map", "0", 1))
    assert (note["receives"], note["failures"], note["seconds"]) == (5, 5, 600.0)


def test_a_burial_needs_nothing_of_the_job(make_cloud: MakeCloud, write_job: WriteJob) -> None:
    """Whose module may be why the message is dead."""
    job = write_job(limits="timeout_seconds=120")
    cloud = make_cloud(job)
    state = dispatched(cloud, 2)
    bodies = [order(cloud, shard, state) for shard in state["shards"]]
    job.write_text("raise SystemExit('it can not be imported')")
    settings.loaded_job.cache_clear()
    wiring.forget()
    assert failures(send(cloud, "work", batch("work", bodies[0]))) == ["m0"]

    assert failures(send(cloud, "bury", batch("dead", *bodies, receives=6))) == []

    note = cloud.document(cloud.keys("r1").note("map", "0", 1))
    assert (note["error"], note["receives"], note["seconds"]) == ("AttemptFailed", 5, 600.0)
    assert [(each["taskToken"], each["error"]) for each in cloud.answers()] == [
        ("token-of-0", "AttemptFailed"),
        ("token-of-1", "AttemptFailed"),
    ]


# Seen again ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("receives", "seconds"), [(1, 1), (2, 3), (3, 6), (4, 12), (9, 225), (50, 225)]
)
def test_a_failed_attempt_is_seen_again_after_its_backoff(
    make_cloud: MakeCloud,
    write_job: WriteJob,
    monkeypatch: pytest.MonkeyPatch,
    receives: int,
    seconds: int,
) -> None:
    """Three quarters of two seconds, of four, of eight, and of five minutes at most."""
    cloud = make_cloud(write_job(limits="attempts=100"))
    monkeypatch.setattr(work, "SystemRandom", lambda: SimpleNamespace(random=lambda: 0.75))
    state = dispatched(cloud, 1)
    slow_down = aws_error("SlowDown", 503, "GetObject")
    cloud.faults.refuse("s3.GetObject", error=slow_down, match=key_contains("inputs/"))
    hidden: list[dict[str, Any]] = []
    cloud.faults.do_at(
        "sqs.ChangeMessageVisibility", lambda call: hidden.append(json.loads(call.body))
    )
    body = order(cloud, state["shards"][0], state)

    answer = send(cloud, "work", batch("work", body, receives=receives))

    assert failures(answer) == ["m0"]
    (delayed,) = hidden
    assert (delayed["ReceiptHandle"], delayed["VisibilityTimeout"]) == ("handle-0", seconds)
    assert delayed["QueueUrl"].endswith("/fanfold-words-work")
    assert cloud.answers() == []


# What a token is told -----------------------------------------------------------------------------


def test_an_error_and_its_cause_are_cut_to_what_step_functions_takes(
    make_cloud: MakeCloud, write_job: WriteJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = make_cloud(write_job())
    state = dispatched(cloud, 1)
    message = Message.decode(order(cloud, state["shards"][0], state).encode(), where="here")

    answers.failed(message, "E" * 300, "c" * 40_000)

    (told,) = cloud.answers()
    assert (len(told["error"]), len(told["cause"])) == (256, 32_768)


@pytest.mark.parametrize(
    ("error", "cause", "name", "says"),
    [
        (
            "NotProven",
            '{"errorMessage": "A byte.", "errorType": "NotProven"}',
            "NotProven",
            "A byte.",
        ),
        ("NotProven", "A byte.", "NotProven", "A byte."),
        ("NotProven", "[1]", "NotProven", "[1]"),
        ("Runtime.ExitError", "killed", "FanfoldError", "Runtime.ExitError: killed"),
        ("KeyError", '{"errorMessage": "x"}', "FanfoldError", "KeyError: x"),
    ],
)
def test_reconcile_knows_an_error_by_what_was_caught_of_it(
    error: str, cause: str, name: str, says: str
) -> None:
    found = error_of({"Error": error, "Cause": cause})

    assert (found.name, str(found)) == (name, says)


# What a container remembers -----------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of the functions, which the test sets."""
    now = [1000.0]
    monkeypatch.setattr(wiring, "now", lambda: now[0])
    return now


def test_a_container_sees_within_half_a_minute_that_a_run_was_cancelled(
    make_cloud: MakeCloud, write_job: WriteJob, clock: list[float]
) -> None:
    cloud = make_cloud(write_job())
    state = dispatched(cloud, 3)
    bodies = [order(cloud, shard, state) for shard in state["shards"]]
    send(cloud, "work", batch("work", bodies[0]))
    runs.cancel(wiring.store(), cloud.keys("r1"))

    clock[0] += 30.0
    send(cloud, "work", batch("work", bodies[1]))
    clock[0] += 0.1
    send(cloud, "work", batch("work", bodies[2]))

    assert cloud.entries("r1") == ["0", "1"]
    assert cloud.answers()[-1]["cause"] == "Run r1 is cancelled."


def test_a_long_shard_sees_what_its_container_does_not_know_yet(
    make_cloud: MakeCloud,
    write_job: WriteJob,
    clock: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cloud = make_cloud(write_job())
    state = dispatched(cloud, 2)
    bodies = [order(cloud, shard, state) for shard in state["shards"]]
    send(cloud, "work", batch("work", bodies[0]))
    runs.cancel(wiring.store(), cloud.keys("r1"))
    passing = count(0.0, LOOK_SECONDS)
    monkeypatch.setattr(work, "time", SimpleNamespace(monotonic=lambda: next(passing)))

    send(cloud, "work", batch("work", bodies[1]))

    assert cloud.entries("r1") == ["0"]
    assert (cloud.answers()[-1]["error"], cloud.answers()[-1]["cause"]) == (
        "RunCancelled",
        "Run r1 is cancelled.",
    )


@pytest.mark.parametrize("newer", [{"epoch": 2}, {"wave": 2}])
def test_a_container_knows_of_a_run_what_its_message_knows(
    make_cloud: MakeCloud, write_job: WriteJob, clock: list[float], newer: dict[str, int]
) -> None:
    cloud = make_cloud(write_job())
    state = dispatched(cloud, 2)
    bodies = [json.loads(order(cloud, shard, state)) for shard in state["shards"]]
    send(cloud, "work", batch("work", json.dumps(bodies[0])))
    tightened = {**newer, "limits": {"attempts": 1}}

    def tighten(found: RunRecord) -> RunRecord:
        return found.model_copy(update=tightened)

    runs.change(wiring.store(), cloud.keys("r1"), tighten)
    assert wiring.workplace_of(_decoded(bodies[1])).job.limits.attempts == 5
    assert wiring.workplace_of(_decoded({**bodies[1], **newer})).job.limits.attempts == 1


def _decoded(body: dict[str, Any]) -> Any:
    return Message.decode(json.dumps(body).encode(), where="here")


# Whose execution is alive -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "live"),
    [
        ("RUNNING", True),
        ("PENDING_REDRIVE", True),
        ("SUCCEEDED", False),
        ("FAILED", False),
        ("TIMED_OUT", False),
        ("ABORTED", False),
    ],
)
def test_which_executions_are_alive(
    monkeypatch: pytest.MonkeyPatch, status: str, live: bool
) -> None:
    described = SimpleNamespace(describe_execution=lambda executionArn: {"status": status})  # noqa: N803
    monkeypatch.setattr(wiring, "states", lambda: described)

    assert plan._is_live("arn") is live


@pytest.mark.parametrize(
    ("code", "status", "raised"),
    [
        ("ThrottlingException", 400, StoreUnavailable),
        ("InternalServerError", 500, StoreUnavailable),
        ("AccessDeniedException", 400, ClientError),
    ],
)
def test_whether_an_execution_is_alive_is_asked_again_where_that_may_help(
    monkeypatch: pytest.MonkeyPatch, code: str, status: int, raised: type[Exception]
) -> None:
    def describe_execution(executionArn: str) -> dict[str, Any]:  # noqa: N803
        raise aws_error(code, status, "DescribeExecution")

    monkeypatch.setattr(
        wiring, "states", lambda: SimpleNamespace(describe_execution=describe_execution)
    )
    with pytest.raises(raised):
        plan._is_live("arn")


# Metrics and logs ---------------------------------------------------------------------------------


def test_what_was_measured_is_written_though_the_handler_raises(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("POWERTOOLS_METRICS_DISABLED", raising=False)
    monkeypatch.setenv("POWERTOOLS_TRACE_DISABLED", "true")
    telemetry.metrics.clear_metrics()
    telemetry.metrics.set_default_dimensions(job="words")

    @telemetry.entry_point
    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        telemetry.count("Attempts", 3)
        raise StoreUnavailable("down")

    with pytest.raises(StoreUnavailable):
        handler({}, LambdaContext("work", "00000000-0000-0000-0000-000000000000", 1e12))  # type: ignore[arg-type]

    assert emitted(capsys.readouterr().out) == {("Attempts", "job=words"): [3]}

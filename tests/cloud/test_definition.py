"""The state machine as a text: what must hold of `run.asl.json` whatever the functions do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

from coordinator import errors
from coordinator.errors import AttemptFailed, FanfoldError, Retry, RetryableError, error_named
from coordinator.rules.transport import COORDINATOR_SECONDS, GRACE_SECONDS
from coordinator.state.runs import RUN_DAYS

DEFINITION = Path(__file__).parents[2] / "coordinator" / "run.asl.json"
TEXT = DEFINITION.read_text()
MACHINE: dict[str, Any] = json.loads(TEXT)
TRANSIENT = {
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
}
# What a function could not know: it was killed, or its answer did not arrive.
KILLED = {"Lambda.Unknown", "Sandbox.Timedout", "Runtime.ExitError", "States.Timeout"}
CONNECTIONS = {
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "EndpointConnectionError",
    "ConnectionClosedError",
}


def states(machine: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every state by name, those inside a Map too."""
    for name, state in machine["States"].items():
        yield name, state
        if "ItemProcessor" in state:
            yield from states(state["ItemProcessor"])


ALL = dict(states(MACHINE))
TASKS = {name: state for name, state in ALL.items() if state["Type"] == "Task"}
LAMBDAS = {name: state for name, state in TASKS.items() if "lambda:invoke" in state["Resource"]}
SENDS = {name: state for name, state in TASKS.items() if name not in LAMBDAS}


def test_only_these_are_filled_in() -> None:
    assert set(re.findall(r"\$\{(\w+)\}", TEXT)) == {
        "PlanFunctionArn",
        "ReconcileFunctionArn",
        "PublishFunctionArn",
        "QueueUrl",
    }


@pytest.mark.parametrize("name", ALL)
def test_every_state_says_what_it_is_for(name: str) -> None:
    assert len(ALL[name]["Comment"]) > 20


def test_reconcile_is_the_only_state_that_fails() -> None:
    assert not [name for name, state in ALL.items() if state["Type"] == "Fail"]
    without = {
        name
        for name, state in MACHINE["States"].items()
        if state["Type"] in {"Task", "Map"} and "Catch" not in state
    }
    assert without == {"Reconcile"}


def test_every_error_comes_back_to_reconcile_with_its_name_and_cause() -> None:
    catchers = [each for state in MACHINE["States"].values() for each in state.get("Catch", [])]
    assert len(catchers) == 4
    for catcher in catchers:
        assert catcher["ErrorEquals"] == ["States.ALL"]
        assert catcher["ResultPath"] == "$.error"
        assert catcher["Next"] == "Reconcile"


@pytest.mark.parametrize("name", TASKS)
def test_every_task_retries_with_backoff_and_full_jitter(name: str) -> None:
    assert TASKS[name]["Retry"]
    for retrier in TASKS[name]["Retry"]:
        assert retrier["BackoffRate"] > 1
        assert retrier["JitterStrategy"] == "FULL"
        assert retrier["MaxDelaySeconds"] <= 60
        assert "States.ALL" not in retrier["ErrorEquals"]
        assert "States.TaskFailed" not in retrier["ErrorEquals"]


@pytest.mark.parametrize("name", LAMBDAS)
def test_every_function_is_retried_on_lambdas_transient_errors_and_has_a_timeout(
    name: str,
) -> None:
    assert set(LAMBDAS[name]["Retry"][0]["ErrorEquals"]) >= TRANSIENT
    assert LAMBDAS[name]["TimeoutSeconds"] > 900
    assert LAMBDAS[name]["Retry"] == LAMBDAS["Plan"]["Retry"]


def test_the_two_fan_outs_send_the_same_message() -> None:
    one, other = SENDS.values()
    assert one == other
    assert ALL["FanOut"]["ItemSelector"] == ALL["FanOutInline"]["ItemSelector"]


@pytest.mark.parametrize("name", LAMBDAS)
def test_a_state_waits_a_minute_longer_than_its_function_may_run(name: str) -> None:
    assert LAMBDAS[name]["TimeoutSeconds"] == COORDINATOR_SECONDS + GRACE_SECONDS


@pytest.mark.parametrize("name", LAMBDAS)
def test_which_errors_of_a_function_are_retried_how_often(name: str) -> None:
    ours = {
        kind.__name__
        for kind in RetryableError.__subclasses__()
        if kind not in {AttemptFailed, Retry} and kind.__module__ == errors.__name__
    }
    passing, killed = LAMBDAS[name]["Retry"]
    assert set(passing["ErrorEquals"]) == TRANSIENT | CONNECTIONS | ours
    assert set(killed["ErrorEquals"]) == KILLED
    assert (passing["IntervalSeconds"], passing["MaxAttempts"]) == (2, 8)
    assert (killed["IntervalSeconds"], killed["MaxAttempts"]) == (5, 2)


def test_every_name_of_an_error_is_one_that_somebody_raises() -> None:
    """A name that nobody raises retries nothing, and nothing says so."""
    named = {
        error
        for state in TASKS.values()
        for retrier in state["Retry"]
        for error in retrier["ErrorEquals"]
        if "." not in error
    }
    for name in named - CONNECTIONS:
        assert issubclass(error_named(name), FanfoldError)
        assert error_named(name).__name__ == name
    for name in CONNECTIONS:
        assert issubclass(getattr(botocore.exceptions, name), botocore.exceptions.BotoCoreError)


@pytest.mark.parametrize("name", SENDS)
def test_a_message_is_sent_again_only_when_it_was_not_sent(name: str) -> None:
    (retrier,) = SENDS[name]["Retry"]
    assert set(retrier["ErrorEquals"]) == {"SQS.AmazonSQSException", "SQS.SdkClientException"}
    assert (retrier["IntervalSeconds"], retrier["MaxAttempts"]) == (2, 5)


@pytest.mark.parametrize("name", SENDS)
def test_a_child_waits_for_its_answer_and_not_for_ever(name: str) -> None:
    assert SENDS[name]["Resource"] == "arn:aws:states:::sqs:sendMessage.waitForTaskToken"
    assert SENDS[name]["TimeoutSecondsPath"] == "$.timeout_seconds"
    assert "TimeoutSeconds" not in SENDS[name]


def test_a_message_is_all_that_a_worker_is_told() -> None:
    body = SENDS["Shard"]["Parameters"]["MessageBody"]
    given = ("job", "run_id", "stage", "draft", "wave", "epoch", "shard")
    assert body == {
        "version": 1,
        **{f"{name}.$": f"$.{name}" for name in given},
        "token.$": "$$.Task.Token",
    }
    assert ALL["FanOut"]["ItemSelector"] == {
        "shard.$": "$$.Map.Item.Value",
        **{f"{name}.$": f"$.{name}" for name in ("stage", "draft", "wave")},
        **{f"{name}.$": f"$.run.{name}" for name in ("job", "run_id", "epoch")},
        "timeout_seconds.$": "$.child_timeout_seconds",
    }


def test_one_shard_that_fails_leaves_the_others_alone() -> None:
    for fan_out, child in (("FanOut", "Shard"), ("FanOutInline", "ShardInline")):
        inside = ALL[fan_out]["ItemProcessor"]["States"]
        (catcher,) = inside[child]["Catch"]
        assert catcher["ErrorEquals"] == ["States.TaskFailed"]  # all but a timeout
        assert catcher["Next"] == "ShardFailed"
        assert inside["ShardFailed"]["End"] is True


def test_a_wave_whose_answers_do_not_come_is_given_up() -> None:
    """A Map without a bound on its failures opens its next children when the first are lost."""
    assert ALL["FanOut"]["ToleratedFailureCountPath"] == "$.lost_children"
    assert not [name for name in ALL["FanOut"] if name.startswith("ToleratedFailurePercentage")]


def test_a_pause_is_as_long_as_reconcile_says_and_then_the_wave_goes_out() -> None:
    assert (ALL["Pause"]["Type"], ALL["Pause"]["SecondsPath"]) == ("Wait", "$.pause_seconds")
    assert ALL["Pause"]["Next"] == "Paused"
    choices = ALL["Paused"]["Choices"]
    assert {each["Variable"] for each in choices} == {"$.after_pause"}
    assert {each["StringEquals"]: each["Next"] for each in choices} == {
        "map": "FanOut",
        "inline": "FanOutInline",
    }
    assert "Default" not in ALL["Paused"]


def test_an_execution_lasts_as_long_as_a_run_can_be_taken_up() -> None:
    assert MACHINE["TimeoutSeconds"] == (RUN_DAYS - 1) * 86_400


@pytest.mark.parametrize("name", ["FanOut", "FanOutInline"])
def test_a_map_opens_no_more_children_than_it_is_told_and_is_then_judged(name: str) -> None:
    assert ALL[name]["MaxConcurrencyPath"] == "$.concurrency"
    assert ALL[name]["Next"] == "Reconcile"


def test_the_items_of_a_map_and_its_results_lie_where_reconcile_says() -> None:
    assert ALL["FanOutInline"]["ItemsPath"] == "$.shards"
    assert ALL["FanOut"]["ItemReader"] == {
        "Resource": "arn:aws:states:::s3:getObject",
        "ReaderConfig": {"InputType": "JSON"},
        "Parameters": {"Bucket.$": "$.items.bucket", "Key.$": "$.items.key"},
    }
    assert ALL["FanOut"]["ResultWriter"] == {
        "Resource": "arn:aws:states:::s3:putObject",
        "Parameters": {"Bucket.$": "$.results.bucket", "Prefix.$": "$.results.prefix"},
    }


def test_the_map_has_the_label_that_roles_and_tokens_name_its_children_by() -> None:
    assert ALL["FanOut"]["Label"] == "FanOut"


def test_what_starts_a_run_is_no_state_of_it() -> None:
    trigger = ALL["Trigger"]
    assert MACHINE["StartAt"] == "Trigger"
    assert trigger["Result"] == {"run": None}
    assert not {"ResultPath", "InputPath", "OutputPath"} & set(trigger)


@pytest.mark.parametrize(
    ("state", "ways", "otherwise"),
    [
        ("Planned", {"plan": "Plan", "stop": "Done"}, "Reconcile"),
        (
            "Reconciled",
            {
                "map": "FanOut",
                "inline": "FanOutInline",
                "pause": "Pause",
                "publish": "Publish",
                "plan": "Plan",
                "stop": "Done",
            },
            None,
        ),
    ],
)
def test_where_an_answer_leads(state: str, ways: dict[str, str], otherwise: str | None) -> None:
    choices = ALL[state]["Choices"]
    assert {each["Variable"] for each in choices} == {"$.next"}
    assert {each["StringEquals"]: each["Next"] for each in choices} == ways
    assert ALL[state].get("Default") == otherwise


@pytest.mark.parametrize(
    ("name", "payload", "following"),
    [
        (
            "Plan",
            {"state_machine.$": "$$.StateMachine.Id", "run.$": "$.run"},
            "Planned",
        ),
        ("Reconcile", {"state.$": "$", "queue": "${QueueUrl}"}, "Reconciled"),
        ("Publish", {"run.$": "$.run"}, "Done"),
    ],
)
def test_what_a_function_is_given_and_what_follows(
    name: str, payload: dict[str, str], following: str
) -> None:
    given = LAMBDAS[name]["Parameters"]
    assert given["FunctionName"] == f"${{{name}FunctionArn}}"
    assert given["Payload"] == {"execution.$": "$$.Execution", **payload}
    assert LAMBDAS[name]["OutputPath"] == "$.Payload"
    assert "ResultPath" not in LAMBDAS[name]
    assert LAMBDAS[name]["Next"] == following


def test_nothing_a_worker_answers_reaches_the_state_data() -> None:
    for name in ("FanOut", "FanOutInline"):
        assert ALL[name]["ResultPath"] is None
    for name in ("Shard", "ShardInline", "ShardFailed"):
        assert ALL[name]["OutputPath"] is None


def test_the_distributed_map_leaves_judgement_to_reconcile() -> None:
    fan_out = ALL["FanOut"]
    assert fan_out["MaxConcurrencyPath"] == "$.concurrency"
    assert fan_out["ItemProcessor"]["ProcessorConfig"] == {
        "Mode": "DISTRIBUTED",
        "ExecutionType": "STANDARD",
    }


def test_every_next_exists() -> None:
    for scope in [MACHINE, *(s["ItemProcessor"] for s in ALL.values() if "ItemProcessor" in s)]:
        targets = re.findall(r'"(?:Next|Default|StartAt)": "(\w+)"', json.dumps(_flat(scope)))
        assert set(targets) <= set(scope["States"])


def _flat(scope: dict[str, Any]) -> dict[str, Any]:
    """A scope without the scopes inside it."""
    inner = {
        name: {key: value for key, value in state.items() if key != "ItemProcessor"}
        for name, state in scope["States"].items()
    }
    return {"StartAt": scope["StartAt"], "States": inner}

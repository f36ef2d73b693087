"""The state machine as a text: what must hold of `run.asl.json` whatever the functions do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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
    assert one == {key: value for key, value in other.items() if key != "Catch"}
    assert ALL["FanOut"]["ItemSelector"] == ALL["FanOutInline"]["ItemSelector"]


@pytest.mark.parametrize("name", SENDS)
def test_a_message_is_sent_again_only_when_it_was_not_sent(name: str) -> None:
    (retrier,) = SENDS[name]["Retry"]
    assert all(error.startswith("SQS.") for error in retrier["ErrorEquals"])


def test_nothing_a_worker_answers_reaches_the_state_data() -> None:
    for name in ("FanOut", "FanOutInline"):
        assert ALL[name]["ResultPath"] is None
    for name in ("Shard", "ShardInline", "ShardFailed"):
        assert ALL[name]["OutputPath"] is None


def test_the_distributed_map_leaves_judgement_to_reconcile() -> None:
    fan_out = ALL["FanOut"]
    assert fan_out["ToleratedFailurePercentage"] == 100
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

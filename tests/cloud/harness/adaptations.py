"""What moto lacks, done here as narrowly as it can be. The table is in the package's docstring."""

from __future__ import annotations

import datetime
import functools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, Protocol
from unittest.mock import patch

import botocore.endpoint
from jsonpath_ng import JSONPath
from jsonpath_ng.ext.parser import ExtendedJsonPathParser
from moto.awslambda.exceptions import LambdaClientError
from moto.awslambda_simple.models import LambdaSimpleBackend
from moto.core.base_backend import BaseBackend
from moto.core.botocore_stubber import BotocoreStubber
from moto.core.exceptions import AWSError
from moto.core.responses import ActionResult, EmptyResult
from moto.stepfunctions.parser.api import ExecutionStatus
from moto.stepfunctions.parser.asl.component.common.flow.start_at import StartAt
from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl
from moto.stepfunctions.parser.asl.component.common.retry.retry_outcome import RetryOutcome
from moto.stepfunctions.parser.asl.component.state.exec.execute_state import ExecutionState
from moto.stepfunctions.parser.asl.component.state.exec.state_map.max_concurrency import (
    MaxConcurrencyPath,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_map.result_writer.result_writer_decl import (
    ResultWriter,
)
from moto.stepfunctions.parser.asl.component.state.state import CommonStateField
from moto.stepfunctions.parser.asl.component.state.wait.wait_function.wait_function import (
    WaitFunction,
)
from moto.stepfunctions.parser.asl.eval.callback.callback import CallbackPoolManager
from moto.stepfunctions.parser.asl.eval.environment import Environment
from moto.stepfunctions.parser.asl.eval.program_state import ProgramStopped
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser
from moto.stepfunctions.parser.asl.parse.preprocessor import Preprocessor
from moto.stepfunctions.parser.asl.utils import boto_client, json_path
from moto.stepfunctions.parser.backend.execution import (
    BaseExecutionWorkerCommunication,
    Execution,
)
from moto.stepfunctions.parser.backend.execution_worker import ExecutionWorker
from moto.stepfunctions.responses import StepFunctionResponse

from tests.cloud.harness import calls
from tests.cloud.harness.calls import CallHost, text_of
from tests.cloud.harness.functions import failure_payload
from tests.cloud.harness.records import Invocation, Transition, size_bytes

_path_parser = ExtendedJsonPathParser()
_path_lock = threading.Lock()


@functools.cache
def _parsed_path(path: str) -> JSONPath:
    with _path_lock:
        return _path_parser.parse(path)


_parse_definition = AmazonStateLanguageParser.parse
_parse_trees: dict[str, Any] = {}


def _parsed_definition(definition: str) -> tuple[Any, Any]:
    """The program is made anew for every execution, from a tree that is not."""
    with _path_lock:
        if definition not in _parse_trees:
            _parse_trees[definition] = _parse_definition(definition)[1]
        tree = _parse_trees[definition]
    return Preprocessor().visit(tree), tree


class Host(CallHost, Protocol):
    """What the adaptations need of the cloud they serve."""

    concurrency_limit: int

    def invoke(self, function: str, event_json: str) -> Invocation: ...
    def ended(self, execution: Execution) -> None: ...
    def paused(self) -> None: ...
    def redrive_of(self, execution_arn: str) -> Redrive | None: ...


class Redrive:
    """How a redriven execution begins: at which state, with what, and after which history."""

    def __init__(self, count: int, state: str, state_input: Any, history: list[Any]) -> None:
        self.count = count
        self.state = state
        self.state_input = state_input
        self.history = history


@contextmanager
def adapted(host: Host) -> Iterator[None]:
    """moto with everything in the table in place, for as long as the block lasts."""
    with ExitStack() as stack:
        for target, name, replacement in _replacements(host):
            stack.enter_context(patch.object(target, name, replacement))
        yield


def _replacements(host: Host) -> list[tuple[Any, str, Any]]:
    return [
        (BotocoreStubber, "__call__", calls.observed(host)),
        (LambdaSimpleBackend, "invoke", _routed_invoke(host)),
        (CommonStateField, "_eval_body", _recorded_states(host)),
        (ExecutionState, "_handle_retry", _recorded_retries(host)),
        (MaxConcurrencyPath, "_eval_max_concurrency", _limited_concurrency(host)),
        (ExecutionWorker, "start", _start_with_environment()),
        (ExecutionWorker, "_get_evaluation_environment", _complete_environment(host)),
        (ExecutionWorker, "_get_evaluation_entrypoint", _redriven_entrypoint(host)),
        (BaseExecutionWorkerCommunication, "terminated", _announced_end(host)),
        (Execution, "stop", _prompt_stop(host)),
        (Environment, "set_error", _error_unless_stopped()),
        (CallbackPoolManager, "notify", _answer_once()),
        (StepFunctionResponse, "stop_execution", _stop_with_cause()),
        (StepFunctionResponse, "send_task_failure", _failure_with_cause()),
        (retrier_decl, "time", SimpleNamespace(sleep=_recorded_wait(host))),
        (WaitFunction, "_wait_interval", _recorded_pause(host)),
        (botocore.endpoint, "time", SimpleNamespace(sleep=_recorded_wait(host))),
        (ResultWriter, "_eval_body", _result_writer_with_state_input()),
        (BaseBackend, "urls", property(calls.urls_of)),
        (json_path, "parse", _parsed_path),
        (AmazonStateLanguageParser, "parse", staticmethod(_parsed_definition)),
        (boto_client, "boto3", SimpleNamespace(client=calls.shared_client)),
    ]


def _recorded_wait(host: Host) -> Callable[[float], None]:
    def wait(seconds: float) -> None:
        with host.records.writing():
            host.records.retry_waits.append(seconds)

    return wait


def _recorded_pause(host: Host) -> Callable[..., None]:
    def wait(self: Any, env: Any, wait_seconds: int) -> None:
        with host.records.writing():
            host.records.pauses.append(wait_seconds)
        host.paused()

    return wait


# Lambda -------------------------------------------------------------------------------------------


class TooManyRequests(LambdaClientError):
    """Lambda has no concurrency left for the function."""

    code = 429

    def __init__(self) -> None:
        super().__init__("TooManyRequestsException", "Rate Exceeded.")


def _routed_invoke(host: Host) -> Callable[..., bytes]:
    def invoke(
        self: LambdaSimpleBackend,
        function_name: str,
        qualifier: str | None,
        body: Any,
        headers: Any,
        response_headers: Any,
    ) -> bytes:
        name = function_name.rpartition(":")[2]
        invocation = host.invoke(name, text_of(body))
        if invocation.outcome == "throttled":
            raise TooManyRequests
        if invocation.outcome == "answered":
            return json.dumps(invocation.answer).encode()
        response_headers["x-amz-function-error"] = "Unhandled"
        return json.dumps(failure_payload(invocation)).encode()

    return invoke


# States -------------------------------------------------------------------------------------------


def _recorded_states(host: Host) -> Callable[..., None]:
    original = CommonStateField._eval_body

    def eval_body(self: Any, env: Any) -> None:
        entered_with = size_bytes(env.states.get_input())
        left_with: int | None = None
        try:
            original(self, env)
            left_with = size_bytes(env.states.get_input())
        finally:
            _record(host, self.name, env, entered_with, left_with, retry=False)

    return eval_body


def _recorded_retries(host: Host) -> Callable[..., Any]:
    original = ExecutionState._handle_retry

    def handle_retry(self: Any, env: Any, failure_event: Any) -> Any:
        outcome = original(self, env, failure_event)
        if outcome == RetryOutcome.CanRetry:
            _record(host, self.name, env, size_bytes(env.states.get_input()), None, retry=True)
        return outcome

    return handle_retry


def _record(
    host: Host, state: str, env: Any, entered_with: int, left_with: int | None, *, retry: bool
) -> None:
    context = env.states.context_object.context_object_data
    transition = Transition(
        context["Execution"]["Id"], state, "Map" in context, retry, entered_with, left_with
    )
    with host.records.writing():
        host.records.transitions.append(transition)


def _result_writer_with_state_input() -> Callable[..., None]:
    original = ResultWriter._eval_body

    def eval_body(self: Any, env: Any) -> None:
        env.stack.append(env.states.get_input())
        original(self, env)

    return eval_body


def _limited_concurrency(host: Host) -> Callable[..., int]:
    original = MaxConcurrencyPath._eval_max_concurrency

    def eval_max_concurrency(self: Any, env: Any) -> int:
        requested = int(original(self, env))
        with host.records.writing():
            host.records.requested_concurrency.append(requested)
        return min(requested or host.concurrency_limit, host.concurrency_limit)

    return eval_max_concurrency


# Executions ---------------------------------------------------------------------------------------


def _start_with_environment() -> Callable[..., None]:
    original: Any = ExecutionWorker.start

    def start(self: Any) -> None:
        self.env = self._get_evaluation_environment()
        original(self)

    return start


def _complete_environment(host: Host) -> Callable[..., Any]:
    original = ExecutionWorker._get_evaluation_environment

    def get_evaluation_environment(self: Any) -> Any:
        if self.env is not None:
            return self.env
        env: Any = original(self)
        execution = env.states.context_object.context_object_data["Execution"]
        redrive = host.redrive_of(execution["Id"])
        execution["StartTime"] = _iso(execution["StartTime"])
        execution["RedriveCount"] = redrive.count if redrive else 0
        if redrive is not None:
            execution["RedriveTime"] = _iso(datetime.datetime.now(datetime.UTC))
            env.states.reset(input_value=redrive.state_input)
            env.event_manager._history_event_list.extend(redrive.history)
            env.event_manager._event_id_gen._next_id = len(redrive.history) + 1
        return env

    return get_evaluation_environment


def _redriven_entrypoint(host: Host) -> Callable[..., Any]:
    original = ExecutionWorker._get_evaluation_entrypoint

    def get_evaluation_entrypoint(self: Any) -> Any:
        program: Any = original(self)
        redrive = host.redrive_of(self._evaluation_details.execution_details.arn)
        if redrive is not None:
            program.start_at = StartAt(start_at_name=redrive.state)
        return program

    return get_evaluation_entrypoint


def _announced_end(host: Host) -> Callable[..., None]:
    original = BaseExecutionWorkerCommunication.terminated

    def terminated(self: Any) -> None:
        worker = self.execution.exec_worker
        if worker is None or worker._execution_communication is not self:
            return  # An earlier worker of an execution that was redriven since.
        original(self)
        host.ended(self.execution)

    return terminated


def _prompt_stop(host: Host) -> Callable[..., None]:
    original = Execution.stop

    def stop(self: Any, stop_date: Any, error: str | None, cause: str | None) -> None:
        if self.exec_status != ExecutionStatus.RUNNING:
            return
        original(self, stop_date, error, cause)
        self.exec_status = ExecutionStatus.ABORTED
        self.stop_date, self.error, self.cause = stop_date, error, cause
        let_go(self)
        host.ended(self)

    return stop


def let_go(execution: Any) -> None:
    """Wake every child that waits for a token; each finds its execution ended."""
    for endpoint in list(execution.exec_worker.env.callback_pool_manager._pool.values()):
        endpoint.interrupt_all()


def waiting_endpoint(execution: Any, token: str) -> Any | None:
    """The endpoint that still waits for this token, if the execution is the token's."""
    endpoint = execution.exec_worker.env.callback_pool_manager.get(token)
    if endpoint is None or endpoint._notify_event.is_set():
        return None
    return endpoint


def _error_unless_stopped() -> Callable[..., None]:
    original = Environment.set_error

    def set_error(self: Any, error: Any) -> None:
        if not isinstance(self._program_state, ProgramStopped):
            original(self, error)

    return set_error


class TaskTimedOut(AWSError):
    """The token was answered before, or its child has ended."""

    TYPE = "TaskTimedOut"
    STATUS = 400

    def __init__(self) -> None:
        super().__init__(
            "Task Timed Out: 'Provided task does not exist anymore'", self.TYPE, self.STATUS
        )


def _answer_once() -> Callable[..., bool]:
    original = CallbackPoolManager.notify
    lock = threading.Lock()

    @functools.wraps(original)
    def notify(self: Any, callback_id: str, outcome: Any) -> bool:
        with lock:
            endpoint = self.get(callback_id)
            if endpoint is not None and endpoint._notify_event.is_set():
                raise TaskTimedOut
            return bool(original(self, callback_id, outcome))

    return notify


def _failure_with_cause() -> Callable[..., Any]:
    def send_task_failure(self: Any) -> Any:
        token, error, cause = (self._get_param(each) for each in ("taskToken", "error", "cause"))
        self.stepfunction_backend.send_task_failure(token, error=error, cause=cause)
        return EmptyResult()

    return send_task_failure


def _stop_with_cause() -> Callable[..., Any]:
    def stop_execution(self: Any) -> Any:
        arn, error, cause = (self._get_param(each) for each in ("executionArn", "error", "cause"))
        execution = self.stepfunction_backend.describe_execution(arn)
        execution.stop(datetime.datetime.now(datetime.UTC), error, cause)
        return ActionResult({"stopDate": execution.stop_date})

    return stop_execution


def _iso(moment: Any) -> str:
    if isinstance(moment, str):
        return moment
    utc = moment.astimezone(datetime.UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"

"""Runs handlers as Lambda runs them: JSON in, JSON out, a context with a deadline."""

from __future__ import annotations

import json
import time
import traceback
import uuid
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from tests.cloud.harness.faults import Faults, Throttled, WorkerDied
from tests.cloud.harness.records import Invocation, Records

Handler = Callable[[Any, Any], Any]
ACCOUNT = "123456789012"
REGION = "us-east-1"

running_function: ContextVar[str | None] = ContextVar("running_function", default=None)


@dataclass
class LambdaContext:
    """The context object of the Python runtime."""

    function_name: str
    aws_request_id: str
    deadline: float
    memory_limit_in_mb: int = 1769
    function_version: str = "$LATEST"
    log_stream_name: str = "2026/11/01/[$LATEST]0123456789abcdef"
    identity: None = None
    client_context: None = None

    @property
    def invoked_function_arn(self) -> str:
        return function_arn(self.function_name)

    @property
    def log_group_name(self) -> str:
        return f"/aws/lambda/{self.function_name}"

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self.deadline - time.monotonic()) * 1000))


def function_arn(name: str) -> str:
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"


class Functions:
    """The deployed functions. Replace an item of `handlers` to deploy a fix."""

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        *,
        records: Records,
        faults: Faults,
        timeout_seconds: float,
    ) -> None:
        self.handlers = dict(handlers)
        self._records = records
        self._faults = faults
        self._timeout_seconds = timeout_seconds

    def invoke(self, function: str, event_json: str) -> Invocation:
        """One invocation; never raises for what the handler does."""
        number = self._records.number(function)
        event = json.loads(event_json)
        context = self._context(function, event)
        token = running_function.set(function)
        try:
            invocation = self._attempt(function, number, event, context)
        finally:
            running_function.reset(token)
        with self._records.writing():
            self._records.invocations.append(invocation)
        return invocation

    def _attempt(
        self, function: str, number: int, event: Any, context: LambdaContext
    ) -> Invocation:
        common = (function, number, event)
        request_id = context.aws_request_id
        try:
            self._faults.at_function(function, event, "before")
            answer = self.handlers[function](json.loads(json.dumps(event)), context)
            self._faults.at_function(function, event, "after")
            answer = json.loads(json.dumps(answer))
        except Throttled:
            return Invocation(*common, "throttled", request_id=request_id)
        except WorkerDied:
            return Invocation(*common, "died", request_id=request_id)
        except Exception as error:  # noqa: BLE001 - as Lambda's runtime does
            trace = "".join(traceback.format_exception(error))
            return Invocation(
                *common,
                "raised",
                error=type(error).__name__,
                message=str(error),
                answer={"stackTrace": trace},
                request_id=request_id,
            )
        return Invocation(*common, "answered", answer=answer, request_id=request_id)

    def _context(self, function: str, event: Any) -> LambdaContext:
        remaining_ms = self._faults.remaining_ms(function, event)
        seconds = self._timeout_seconds if remaining_ms is None else remaining_ms / 1000
        return LambdaContext(function, str(uuid.uuid4()), time.monotonic() + seconds)


def failure_payload(invocation: Invocation) -> dict[str, Any]:
    """What Lambda answers, with `X-Amz-Function-Error`, for an invocation that failed."""
    if invocation.outcome == "died":
        return {
            "errorType": "Runtime.ExitError",
            "errorMessage": f"RequestId: {invocation.request_id} Error: Runtime exited with "
            "error: signal: killed",
        }
    return {
        "errorMessage": invocation.message,
        "errorType": invocation.error,
        "requestId": invocation.request_id,
        "stackTrace": [invocation.answer["stackTrace"]],
    }

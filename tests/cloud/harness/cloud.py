"""A mocked AWS account with the real state machine, its queues and its functions."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping as MappingOf
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

from moto import mock_aws
from moto.sqs.models import sqs_backends
from moto.stepfunctions.parser.api import ExecutionStatus
from moto.stepfunctions.parser.backend.execution import Execution
from moto.stepfunctions.parser.models import stepfunctions_parser_backends
from moto.stepfunctions.parser.utils import TMP_THREADS

from tests.cloud.harness import adaptations
from tests.cloud.harness.adaptations import Redrive
from tests.cloud.harness.calls import HARNESS_KEY, LOCKED_SERVICES, shared_client
from tests.cloud.harness.faults import Faults
from tests.cloud.harness.functions import ACCOUNT, REGION, Functions, Handler, function_arn
from tests.cloud.harness.mapping import Mapping
from tests.cloud.harness.records import ApiCall, Invocation, Records

DEFINITION = Path(__file__).parents[3] / "coordinator" / "run.asl.json"
DEADLINE_SECONDS = 60.0
RECURSION_LIMIT = 20_000
WORK_QUEUE = "fanfold-work"
DEAD_LETTER_QUEUE = "fanfold-work-dlq"


class Stuck(Exception):
    """An execution did not end in time; says what it waits for."""


@dataclass(frozen=True)
class Ended:
    """How an execution ended."""

    arn: str
    status: str
    output: Any
    error: str | None
    cause: str | None

    @property
    def succeeded(self) -> bool:
        return self.status == "SUCCEEDED"


class Cloud:
    """One bucket, one work queue with its dead-letter queue, one state machine, five functions.

    Args:
        handlers: callables by function name: plan, reconcile, work, bury, publish.
        versioned: whether the bucket keeps versions.
        pollers: how many messages are worked on at once.
        max_receives: the queue's maxReceiveCount.
        visibility_seconds: the queues' visibility timeout. No test waits for it.
        concurrency_limit: how many children of a Map run at once, at most (see the table).
        timeout_seconds: what a function's context says of its remaining time.
        definition: the state machine's file.
    """

    def __init__(
        self,
        handlers: MappingOf[str, Handler],
        *,
        versioned: bool = False,
        pollers: int = 4,
        max_receives: int = 5,
        visibility_seconds: int = 960,
        concurrency_limit: int = 16,
        timeout_seconds: float = 900.0,
        bucket: str = "fanfold-test",
        definition: Path = DEFINITION,
    ) -> None:
        self.records = Records()
        self.on_pause: Callable[[], object] = lambda: None  # what happens while a run pauses
        self.faults = Faults()
        self.functions = Functions(
            handlers, records=self.records, faults=self.faults, timeout_seconds=timeout_seconds
        )
        self.bucket = bucket
        self.concurrency_limit = concurrency_limit
        self._versioned = versioned
        self._pollers = pollers
        self._max_receives = max_receives
        self._visibility_seconds = visibility_seconds
        self._definition_file = definition
        self._locks = {service: threading.RLock() for service in LOCKED_SERVICES}
        self._queues_changed = threading.Condition(self._locks["sqs"])
        self._execution_ended = threading.Condition()
        self._redrives: dict[str, Redrive] = {}
        self._mappings: list[Mapping] = []
        self._stack = ExitStack()

    # Life -----------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._stack.enter_context(_moto_contained())
        region = {"AWS_DEFAULT_REGION": REGION, "AWS_REGION": REGION}
        self._stack.enter_context(patch.dict(os.environ, region))
        config: Any = {
            "lambda": {"use_docker": False},
            "stepfunctions": {"execute_state_machine": True},
        }
        self._stack.enter_context(mock_aws(config=config))
        self._stack.enter_context(adaptations.adapted(self))
        self._stack.callback(self._stop_everything)
        self._make_resources()
        self._start_mappings()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def client(self, service: str) -> Any:
        """A client of the test itself; its calls are recorded as `harness`."""
        return shared_client(
            service_name=service,
            region_name=REGION,
            aws_access_key_id=HARNESS_KEY,
            aws_secret_access_key=HARNESS_KEY,
        )

    def _make_resources(self) -> None:
        self.s3 = self.client("s3")
        self.sqs = self.client("sqs")
        self.states = self.client("stepfunctions")
        self.s3.create_bucket(Bucket=self.bucket)
        if self._versioned:
            versioning = {"Status": "Enabled"}
            self.s3.put_bucket_versioning(Bucket=self.bucket, VersioningConfiguration=versioning)
        visibility = {"VisibilityTimeout": str(self._visibility_seconds)}
        self.dead_letter_url: str = self.sqs.create_queue(
            QueueName=DEAD_LETTER_QUEUE,
            Attributes=visibility | {"MessageRetentionPeriod": "1209600"},
        )["QueueUrl"]
        redrive_policy = {
            "deadLetterTargetArn": queue_arn(DEAD_LETTER_QUEUE),
            "maxReceiveCount": self._max_receives,
        }
        self.queue_url: str = self.sqs.create_queue(
            QueueName=WORK_QUEUE,
            Attributes=visibility | {"RedrivePolicy": json.dumps(redrive_policy)},
        )["QueueUrl"]
        self.definition = substituted(
            self._definition_file.read_text(),
            {
                "PlanFunctionArn": function_arn("plan"),
                "ReconcileFunctionArn": function_arn("reconcile"),
                "PublishFunctionArn": function_arn("publish"),
                "QueueUrl": self.queue_url,
            },
        )
        self.state_machine_arn: str = self.states.create_state_machine(
            name="fanfold-run",
            definition=self.definition,
            roleArn=f"arn:aws:iam::{ACCOUNT}:role/fanfold-run",
        )["stateMachineArn"]

    def _start_mappings(self) -> None:
        common: dict[str, Any] = {
            "backend": sqs_backends[ACCOUNT][REGION],
            "functions": self.functions,
            "records": self.records,
            "faults": self.faults,
            "changed": self._queues_changed,
            "settled": self._expire_if_unanswered,
        }
        work = Mapping(WORK_QUEUE, "work", **common)
        bury = Mapping(DEAD_LETTER_QUEUE, "bury", source_arn=queue_arn(WORK_QUEUE), **common)
        self._mappings = [work, bury]
        work.start(self._pollers)
        bury.start(1)

    def _stop_everything(self) -> None:
        self.faults.clear()
        for mapping in self._mappings:
            mapping.stop()
        for execution in self._executions():
            if execution.exec_status == ExecutionStatus.RUNNING:
                self.states.stop_execution(executionArn=execution.exec_arn)

    # Executions -----------------------------------------------------------------------------------

    def start(self, execution_input: Any, name: str | None = None) -> str:
        """Start an execution; returns its ARN."""
        response = self.states.start_execution(
            stateMachineArn=self.state_machine_arn,
            name=name or str(uuid.uuid4()),
            input=json.dumps(execution_input),
        )
        return str(response["executionArn"])

    def wait(self, arn: str, deadline_seconds: float = DEADLINE_SECONDS) -> Ended:
        """Wait until an execution has ended.

        Raises:
            Stuck: it did not, and this is what it waits for.
        """
        execution = self._execution(arn)
        with self._execution_ended:
            ended = self._execution_ended.wait_for(
                lambda: execution.exec_status not in (None, ExecutionStatus.RUNNING),
                timeout=deadline_seconds,
            )
        if not ended:
            raise Stuck(self._diagnosis(arn))
        described = self.describe(arn)
        output = described.get("output")
        return Ended(
            arn,
            described["status"],
            None if output is None else json.loads(output),
            described.get("error"),
            described.get("cause"),
        )

    def run(
        self,
        execution_input: Any,
        name: str | None = None,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> Ended:
        """Start an execution and wait until it has ended."""
        return self.wait(self.start(execution_input, name), deadline_seconds)

    def stop(self, arn: str, error: str = "Stopped", cause: str = "by the test") -> None:
        """StopExecution."""
        self.states.stop_execution(executionArn=arn, error=error, cause=cause)

    def describe(self, arn: str) -> dict[str, Any]:
        """DescribeExecution."""
        response: dict[str, Any] = self.states.describe_execution(executionArn=arn)
        return response

    def history(self, arn: str) -> list[dict[str, Any]]:
        """Events of the execution itself, those before a redrive first; not its Map children's."""
        response = self.states.get_execution_history(executionArn=arn, maxResults=1000)
        events: list[dict[str, Any]] = response["events"]
        return events

    def redrive(self, arn: str) -> None:
        """Enter the unfinished state again, as RedriveExecution would.

        Same execution, name, ARN, input and definition; RedriveCount is one more; the state gets
        the input it had. Unlike AWS, a Map that was cut short sends all of its items again, not
        only its unfinished children.
        """
        execution = self._execution(arn)
        if execution.exec_status in (ExecutionStatus.RUNNING, ExecutionStatus.SUCCEEDED):
            raise ValueError(f"{arn} is {execution.status}: only a failed execution is redriven.")
        history = execution.exec_worker.env.event_manager.get_event_history()
        state, state_input = self._unfinished(history)
        before = self._redrives.get(arn)
        self._redrives[arn] = Redrive(
            (before.count if before else 0) + 1, state, state_input, history
        )
        execution.exec_worker = None
        execution.stop_date = execution.error = execution.cause = None
        with self._locks["states"]:
            execution.start()

    def drain(self, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        """Wait until no message is left to deliver and no function of a queue runs."""
        self.until(lambda: all(mapping.idle for mapping in self._mappings), deadline_seconds)

    def until(
        self, condition: Callable[[], bool], deadline_seconds: float = DEADLINE_SECONDS
    ) -> None:
        """Wait until something holds; looked at after every invocation and queue call."""
        with self._queues_changed:
            holds = self._queues_changed.wait_for(condition, timeout=deadline_seconds)
        if not holds:
            raise Stuck("; ".join(mapping.describe() for mapping in self._mappings))

    def _unfinished(self, history: list[Any]) -> tuple[str, Any]:
        states = json.loads(self.definition)["States"]
        entered: dict[str, str] = {}
        for event in history:
            if "stateEnteredEventDetails" in event:
                details = event["stateEnteredEventDetails"]
                entered[details["name"]] = details["input"]
            elif "stateExitedEventDetails" in event:
                entered.pop(event["stateExitedEventDetails"]["name"], None)
        name, state_input = next(
            (name, text) for name, text in reversed(entered.items()) if name in states
        )
        return name, json.loads(state_input)

    def _executions(self) -> list[Any]:
        backend: Any = stepfunctions_parser_backends[ACCOUNT][REGION]
        return [execution for each in backend.state_machines for execution in each.executions]

    def _execution(self, arn: str) -> Any:
        return next(each for each in self._executions() if each.exec_arn == arn)

    def _diagnosis(self, arn: str) -> str:
        events = [event["type"] for event in self.history(arn)[-5:]]
        queues = "; ".join(mapping.describe() for mapping in self._mappings)
        return f"{arn} has not ended. Last events: {', '.join(events)}. {queues}"

    # What the adaptations ask ---------------------------------------------------------------------

    def lock_of(self, service: str) -> Any:
        return self._locks.get(service) or nullcontext()

    def invoke(self, function: str, event_json: str) -> Invocation:
        invocation = self.functions.invoke(function, event_json)
        with self._queues_changed:
            self._queues_changed.notify_all()
        return invocation

    def called(self, call: ApiCall) -> None:
        if call.service == "sqs":
            with self._queues_changed:
                self._queues_changed.notify_all()

    def paused(self) -> None:
        self.on_pause()

    def ended(self, execution: Execution) -> None:
        with self._execution_ended:
            self._execution_ended.notify_all()

    def redrive_of(self, execution_arn: str) -> Redrive | None:
        return self._redrives.get(execution_arn)

    def _expire_if_unanswered(self, body: str) -> None:
        """A message is gone and its token was never answered: let the child's timeout pass."""
        try:
            token = json.loads(body)["token"]
        except (ValueError, TypeError, KeyError):
            return  # a message of someone else
        for execution in self._executions():
            endpoint = adaptations.waiting_endpoint(execution, token)
            if endpoint is not None:
                with self.records.writing():
                    self.records.expired_tokens.append(token)
                endpoint.interrupt_all()


def queue_arn(name: str) -> str:
    return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"


def substituted(template: str, values: MappingOf[str, str]) -> str:
    """The definition with its `${...}` filled in, as CDK does it; a KeyError names one unknown."""
    return re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], template)


@contextmanager
def _moto_contained() -> Iterator[None]:
    """moto recurses once a child, and keeps every thread it ever started in a list."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, RECURSION_LIMIT))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
        TMP_THREADS.clear()

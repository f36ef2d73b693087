"""An account in the world: the real handlers of `functions/`, on simulated S3, SQS, Lambda and
Step Functions. No decision is made here that the handlers make.
"""

from __future__ import annotations

import inspect
import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from types import ModuleType
from typing import Any
from unittest import mock

from botocore.exceptions import ClientError, ReadTimeoutError

from coordinator.errors import FanfoldError
from coordinator.keys import RunKeys
from coordinator.loading import LoadedJob, load_job
from coordinator.rules.pacing import Pace
from coordinator.rules.transport import (
    BURY_SECONDS,
    COORDINATOR_SECONDS,
    INLINE_ITEMS,
    receives,
    visibility_seconds,
)
from coordinator.state import runs
from functions import bury, plan, publish, reconcile, settings, telemetry, wiring, work
from tests.chaos.simulator import hurt
from tests.chaos.simulator.effects import Effect, Kind, Script, Trouble
from tests.chaos.simulator.machine import Done, Execution, Failed, Token
from tests.chaos.simulator.queue import Letter, Queue
from tests.chaos.simulator.store import SimulatedInputs, SimulatedStore
from tests.chaos.simulator.world import Process, World

BUCKET = "work-bucket"
PERSON_SECONDS = 60.0
QUEUE_ARN = "arn:aws:sqs:us-east-1:123456789012:"
MODULES: dict[str, ModuleType] = {
    "plan": plan,
    "reconcile": reconcile,
    "work": work,
    "bury": bury,
    "publish": publish,
}


@dataclass(frozen=True, slots=True)
class Request:
    """A run that is asked for: who starts it again asks for the same."""

    run_id: str
    inputs: tuple[str, ...]
    logical_time: float = 1_000.0
    limits: Mapping[str, Any] = field(default_factory=dict)

    def as_input(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "inputs": list(self.inputs),
            "logical_time": self.logical_time,
            "limits": dict(self.limits),
        }


class EarlyPace(Pace):
    """The functions' own guard on the world's clock, which may also trip after some records."""

    records: int | None = None

    def tripped(self) -> bool:
        if self.records is not None:
            self.records -= 1
            if self.records < 0:
                return True
        return super().tripped()


class Cloud:
    """Everything a run stands on. Use as a context manager: inside, the handlers work here."""

    def __init__(
        self,
        job: str,
        objects: Mapping[str, bytes],
        script: Script | None = None,
        *,
        stops_after: Callable[[int], int | None] = lambda guard: None,
        most_inline: int = INLINE_ITEMS,
        input_page: int = 2,
        pages_an_invocation: int = 200,
        lanes: int = 3,
    ) -> None:
        self.world = World(script)
        self.loaded = loaded(job)
        self.store = SimulatedStore(self.world)
        self.inputs = SimulatedInputs(self.world, objects, input_page)
        self.executions: list[Execution] = []
        self.requests: dict[str, Request] = {}
        self.answers: list[tuple[Token, str, dict[str, Any] | None]] = []
        self.on_answer: Callable[[Token, dict[str, Any] | None], None] = lambda token, answer: None
        self._attempts = count(1)
        self._stops_after = stops_after
        self._guards = count()
        self._most_inline = most_inline
        self._pages_an_invocation = pages_an_invocation
        self._random = random.Random(5)
        self._idle: dict[str, list[dict[Any, Any]]] = {name: [] for name in MODULES}
        limits = self.loaded.job.limits
        self.dead = Queue(
            self.world,
            "bury",
            invoke=self._deliver,
            visibility_seconds=visibility_seconds(BURY_SECONDS),
            lanes=lanes,
        )
        self.queue = Queue(
            self.world,
            "work",
            invoke=self._deliver,
            visibility_seconds=visibility_seconds(limits.timeout_seconds),
            most_receives=receives(limits),
            dead_letters=self.dead,
            lanes=lanes,
        )
        self.world.take_over = self.take_over
        self.world.cancel = self.cancel
        self.world.duplicate = self.queue_of_letter
        self.world.on_container = self._enter_container
        self.victim: str | None = None
        self._undo: Any = None

    # -- what a person does ----------------------------------------------------------------------

    def start(self, request: Request) -> Execution:
        """Start an execution; the state machine takes it from there."""
        self.requests[request.run_id] = request
        name = f"e{len(self.executions) + 1}"
        execution = Execution(self, name, request.as_input())
        self.executions.append(execution)
        self.world.at(self.world.now, execution.begin)
        return execution

    def executions_of(self, run_id: str) -> list[Execution]:
        return [it for it in self.executions if it.input["run_id"] == run_id]

    def take_over(self) -> None:
        """Stop the victim's executions, and start another for the same run."""
        run_id = self.victim or next(iter(self.requests))
        for execution in self.executions_of(run_id):
            execution.stop()
        self.start(self.requests[run_id])

    def cancel(self, run_id: str | None = None) -> None:
        """Cancel a run, as a person does from the command line."""
        keys = RunKeys(self.loaded.job.name, run_id or self.victim or next(iter(self.requests)))

        def body() -> None:
            with suppress(FanfoldError):  # a person reads it, and tries again or does not
                runs.cancel(self.store, keys)

        self.world.spawn("person", body, lambda process: None, limit_seconds=PERSON_SECONDS)

    def queue_of_letter(self, letter: Letter) -> None:
        """Deliver a letter once more."""
        self._queue_of(letter).duplicate(letter)

    def _queue_of(self, letter: Letter) -> Queue:
        return self.queue if letter.name.startswith("work") else self.dead

    def record(self, run_id: str) -> dict[str, Any] | None:
        """`run.json`, as it is."""
        body = self.store.peek(RunKeys(self.loaded.job.name, run_id).run)
        return json.loads(body) if body else None

    def is_published(self, run_id: str) -> bool:
        found = self.record(run_id)
        return found is not None and found.get("state") == "published"

    # -- services of the state machine -----------------------------------------------------------

    def invoke(self, function: str, payload: Any, done: Done, failed: Failed, delay: float) -> None:
        """Invoke a function and wait for its answer."""

        def ended(process: Process) -> None:
            if process.unheard:
                return
            if process.dead is not None:
                failed(process.dead, json.dumps({"errorMessage": "simulated"}))
            elif process.error is not None:
                error = process.error
                found = {"errorType": type(error).__name__, "errorMessage": str(error)}
                failed(type(error).__name__, json.dumps(found))
            else:
                done(json.loads(json.dumps(process.result)))

        event = json.loads(json.dumps(payload))
        self.world.after(
            delay, lambda: self._spawn(function, event, ended, COORDINATOR_SECONDS, None)
        )

    def send(self, body: str, *, delay: float = 0.0) -> None:
        """SendMessage to the work queue."""
        self.queue.send(body, json.loads(body)["shard"]["id"], delay=delay)

    def read_items(self, key: str) -> bytes | None:
        """The items of a distributed Map."""
        return self.store.peek(key)

    # -- Lambda ----------------------------------------------------------------------------------

    def _deliver(
        self, function: str, letter: Letter, ended: Callable[[Process], None], delay: float
    ) -> None:
        limit = self.loaded.job.limits.timeout_seconds if function == "work" else BURY_SECONDS
        record = {
            "messageId": letter.name,
            "receiptHandle": letter.name,
            "body": letter.body,
            "attributes": {"ApproximateReceiveCount": str(letter.receives)},
            "eventSource": "aws:sqs",
            "eventSourceARN": QUEUE_ARN + function,
        }
        event = {"Records": [record]}
        self._spawn(function, event, ended, float(limit), letter)

    def _spawn(
        self,
        function: str,
        event: Any,
        ended: Callable[[Process], None],
        limit_seconds: float,
        letter: Letter | None,
    ) -> None:
        idle = self._idle[function]
        container = idle.pop() if idle else {}
        module = MODULES[function]
        handler = inspect.unwrap(module.handler)

        def body() -> Any:
            return handler(event, _Context(self.world, self.world.now + limit_seconds))

        def over(process: Process) -> None:
            if process.dead is None:
                idle.append(container)
            ended(process)

        process = self.world.spawn(
            function,
            body,
            over,
            limit_seconds=limit_seconds,
            letter=letter,
            owner=event.get("execution", {}).get("Id"),
            container=container,
        )

        def again(tell: Callable[[], object], heard: bool) -> None:
            if letter is not None:
                self._queue_of(letter).duplicate(letter, tell)
                return

            def second_over(second: Process) -> None:
                second.unheard = not heard
                ended(second)
                tell()

            process.unheard = heard
            self._spawn(function, event, second_over, limit_seconds, None)

        process.again = again

    def _enter_container(self, container: dict[Any, Any]) -> None:
        """What a container remembers is its own."""
        wiring._seen = container

    def new_id(self) -> str:
        return f"{next(self._attempts):016x}"

    def make_guard(
        self, remaining: float, look: Callable[[float], bool], clock: Callable[[], float]
    ) -> EarlyPace:
        """The guard of one invocation of Work."""
        guard = EarlyPace(remaining, look, clock=lambda: self.world.now)
        guard.records = self._stops_after(next(self._guards))
        return guard

    # -- clients of the functions ----------------------------------------------------------------

    def send_task_success(self, *, taskToken: str, output: str) -> None:  # noqa: N803
        self._answer(taskToken, lambda token: token.succeed(output), json.loads(output))

    def send_task_failure(self, *, taskToken: str, error: str, cause: str) -> None:  # noqa: N803
        self._answer(taskToken, lambda token: token.fail(error, cause), None)

    def _answer(
        self, name: str, close: Callable[[Token], bool], answer: dict[str, Any] | None
    ) -> None:
        token = next(t for e in self.executions for t in e.tokens if t.name == name)

        def action() -> None:
            self.on_answer(token, answer)
            if not close(token):
                raise _client_error("TaskTimedOut", "SendTask")

        self.world.effect("answer", _succeeded(answer), action, _AWS)

    def describe_execution(self, *, executionArn: str) -> dict[str, Any]:  # noqa: N803
        def action() -> dict[str, Any]:
            for execution in self.executions:
                if execution.id == executionArn:
                    return {"status": execution.status}
            raise _client_error("ExecutionDoesNotExist", "DescribeExecution")

        return self.world.effect("describe", executionArn.rsplit(":", 1)[1], action, _AWS)

    def change_message_visibility(
        self,
        *,
        QueueUrl: str,  # noqa: N803
        ReceiptHandle: str,  # noqa: N803
        VisibilityTimeout: int,  # noqa: N803
    ) -> None:
        def action() -> None:
            self.queue.change_visibility(ReceiptHandle, VisibilityTimeout)

        self.world.effect("change visibility", ReceiptHandle, action, _AWS)

    # -- installation ----------------------------------------------------------------------------

    def __enter__(self) -> Cloud:
        self._undo = self._installed()
        self._undo.__enter__()
        hurt.enter(self.world)
        return self

    def __exit__(self, *exc: object) -> None:
        self.world.end()
        hurt.leave(self.world)
        self._undo.__exit__(None, None, None)

    @contextmanager
    def _installed(self) -> Iterator[None]:
        """The handlers' clients, clock and settings are this world's."""
        ours: dict[str, Any] = {
            "loaded_job": lambda: self.loaded,
            "settings": lambda: _SETTINGS,
        }
        replaced: list[tuple[Any, str, Any]] = [
            (wiring, "store", lambda: self.store),
            (wiring, "inputs", lambda: self.inputs),
            (wiring, "states", lambda: self),
            (wiring, "sqs", lambda: self),
            (wiring, "now", lambda: self.world.now),
            (telemetry, "logger", _SILENT),
            (telemetry, "metrics", _SILENT),
            (telemetry, "count", _SILENT),
            (telemetry, "count_by_reason", _SILENT),
            (plan, "new_draft", self.new_id),
            (reconcile, "new_draft", self.new_id),
            (work, "new_attempt", self.new_id),
            (work, "Pace", self.make_guard),
            (work, "random", self._random),
            (wiring, "_seen", {}),
            (reconcile, "INLINE_ITEMS", self._most_inline),
            (plan, "PAGES_AN_INVOCATION", self._pages_an_invocation),
        ]
        for module in (*MODULES.values(), wiring):
            replaced += [(module, name, ours[name]) for name in ours if hasattr(module, name)]
        patches = [mock.patch.object(*patch) for patch in replaced]
        for patch in patches:
            patch.start()
        try:
            yield
        finally:
            for patch in reversed(patches):
                patch.stop()


class _Context:
    """The context of an invocation."""

    def __init__(self, world: World, deadline_at: float) -> None:
        self._world = world
        self._deadline_at = deadline_at

    def get_remaining_time_in_millis(self) -> int:
        return int((self._deadline_at - self._world.now) * 1000)


class _Silent:
    """Takes every log line and every metric, and keeps none."""

    def __getattr__(self, name: str) -> _Silent:
        return self

    def __call__(self, *arguments: object, **named: object) -> None:
        return None


_SILENT = _Silent()
_SETTINGS = settings.Settings(FANFOLD_BUCKET=BUCKET, FANFOLD_JOB_MODULE="jobs.simulated")


@cache
def loaded(job: str) -> LoadedJob:
    """A job by the path of its module; imported once a process."""
    return load_job(job)


def _client_error(code: str, operation: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "simulated"}}, operation)


_AWS = Trouble(
    before=lambda: _client_error("ThrottlingException", "simulated"),
    after=lambda: ReadTimeoutError(endpoint_url="simulated"),
)


def _succeeded(answer: dict[str, Any] | None) -> str:
    return f"success of {answer['shard']}" if answer else "failure"


__all__ = ["Cloud", "Effect", "Kind", "Request"]

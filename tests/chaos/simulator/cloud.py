"""An account in the world: the real handlers of `functions/`, on simulated S3, SQS, Lambda and
Step Functions. No decision is made here that the handlers make.
"""

from __future__ import annotations

import inspect
import json
import random
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from botocore.exceptions import ClientError, ReadTimeoutError

from coordinator.keys import RunKeys
from coordinator.loading import LoadedJob
from coordinator.rules.transport import (
    BURY_SECONDS,
    COORDINATOR_SECONDS,
    INLINE_ITEMS,
    receives,
    visibility_seconds,
)
from functions import wiring
from tests.chaos.simulator import hurt
from tests.chaos.simulator.containers import (
    Container,
    Context,
    EarlyPace,
    Invocation,
    Request,
    another_version,
    loaded,
)
from tests.chaos.simulator.effects import Effect, Kind, Script, Trouble
from tests.chaos.simulator.installed import MODULES, installed
from tests.chaos.simulator.machine import Execution
from tests.chaos.simulator.people import People
from tests.chaos.simulator.queue import Letter, Queue
from tests.chaos.simulator.store import SimulatedInputs, SimulatedStore
from tests.chaos.simulator.tokens import Done, Failed, Token
from tests.chaos.simulator.world import Process, World

QUEUE_ARN = "arn:aws:sqs:us-east-1:123456789012:"


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
        skew: Callable[[int], float] = lambda container: 0.0,
    ) -> None:
        self.world = World(script)
        self.loaded = loaded(job)
        self.store = SimulatedStore(self.world)
        self.objects = dict(objects)
        self.inputs = SimulatedInputs(self.world, self.objects, input_page)
        self.deployed = self.loaded
        self.next_version: Callable[[LoadedJob], LoadedJob] = another_version
        self.invocations: list[Invocation] = []
        self.sent: list[str] = []
        self.redrives = False
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
        self._skew = skew
        self._containers = count()
        self._idle: dict[str, list[Container]] = {name: [] for name in MODULES}
        self._container = Container(self.loaded)
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
        self.people = People(self)
        self.world.beside = self.people.deeds
        self.world.clean_next_day = self.people.clean_next_day
        self.world.duplicate = self.queue_of_letter
        self.world.on_container = self._enter_container
        self.victim: str | None = None
        self._undo: Any = None

    # -- what a person does ----------------------------------------------------------------------

    def start(self, request: Request) -> Execution:
        """Start an execution; the state machine takes it from there."""
        self.requests[request.run_id] = request
        return self.start_as(request.as_input())

    def start_as(self, run_input: dict[str, Any]) -> Execution:
        """Start an execution with any input."""
        execution = Execution(self, f"e{len(self.executions) + 1}", run_input)
        self.executions.append(execution)
        self.world.at(self.world.now, execution.begin)
        return execution

    def executions_of(self, run_id: str) -> list[Execution]:
        return [it for it in self.executions if it.input["run_id"] == run_id]

    def stop(self, run_id: str) -> None:
        """Stop all executions of a run."""
        for execution in self.executions_of(run_id):
            execution.stop()

    def take_over(self) -> None:
        """Stop the victim's executions, and start another for the same run."""
        run_id = self.people.run_id
        self.stop(run_id)
        self.start(self.requests[run_id])

    def finish_deploying(self) -> None:
        """From now on every invocation has the job that was deployed last."""
        for idle in self._idle.values():
            idle[:] = [it for it in idle if it.loaded is self.deployed]

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
        self.sent.append(body)
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
        container = idle.pop() if idle else self._new_container()
        module = MODULES[function]
        handler = inspect.unwrap(module.handler)

        def body() -> Any:
            return handler(event, Context(self.world, self.world.now + limit_seconds))

        began = self.world.now

        def over(process: Process) -> None:
            if process.dead is None:
                idle.append(container)
            took = min(self.world.now - began, limit_seconds)
            self.invocations.append(Invocation(function, event, took, process.dead))
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

    def _new_container(self) -> Container:
        return Container(self.deployed, self._skew(next(self._containers)))

    def _enter_container(self, container: Container | None) -> None:
        """What a container remembers is its own."""
        if container is not None:
            self._container = container
            wiring._seen = container.seen

    def loaded_job(self) -> LoadedJob:
        """The job that the container at hand has loaded."""
        return self._container.loaded

    def now(self) -> float:
        """The time by the clock of the container at hand."""
        return self.world.now + self._container.skew

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
            known = executionArn.startswith("arn:")
            code = "ExecutionDoesNotExist" if known else "InvalidArn"
            raise _client_error(code, "DescribeExecution")

        return self.world.effect("describe", executionArn.rsplit(":", 1)[-1], action, _AWS)

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

    def get_queue_attributes(
        self,
        *,
        QueueUrl: str,  # noqa: N803
        AttributeNames: list[str],  # noqa: N803
    ) -> dict[str, Any]:
        def action() -> dict[str, Any]:
            return {"Attributes": {name: str(self.queue.hidden()) for name in AttributeNames}}

        return self.world.effect("look at queue", QueueUrl, action, _AWS)

    # -- installation ----------------------------------------------------------------------------

    def __enter__(self) -> Cloud:
        self._undo = installed(
            self,
            guard=self.make_guard,
            most_inline=self._most_inline,
            pages=self._pages_an_invocation,
            draw=self._random,
        )
        self._undo.__enter__()
        hurt.enter(self.world)
        return self

    def __exit__(self, *exc: object) -> None:
        self.world.end()
        hurt.leave(self.world)
        self._undo.__exit__(None, None, None)


def _client_error(code: str, operation: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "simulated"}}, operation)


_AWS = Trouble(
    before=lambda: _client_error("ThrottlingException", "simulated"),
    after=lambda: ReadTimeoutError(endpoint_url="simulated"),
    denied=lambda: _client_error("AccessDeniedException", "simulated"),
)


def _succeeded(answer: dict[str, Any] | None) -> str:
    return f"success of {answer['shard']}" if answer else "failure"


__all__ = ["Cloud", "Effect", "Kind", "Request"]

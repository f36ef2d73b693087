"""Executions of `coordinator/run.asl.json`: the little of Step Functions that it is written in."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import coordinator
from tests.chaos.simulator.effects import Kind
from tests.chaos.simulator.paths import matches, moment, render, resolve
from tests.chaos.simulator.tokens import Done, Failed, Token
from tests.chaos.simulator.world import Event, World

Data = Any
DEFINITION = Path(coordinator.__file__).parent / "run.asl.json"
SEND_ERROR = "SQS.SdkClientException"
LAMBDA_ERROR = "Lambda.SdkClientException"
LAMBDA_THROTTLED = "Lambda.TooManyRequestsException"
TOO_MANY_FAILED = "States.ExceedToleratedFailureThreshold"

# Events in the history of an execution. Source: "HistoryEvent", Step Functions API reference.
ENTERED_AND_EXITED = STARTED_AND_ENDED = 2
SCHEDULED_STARTED_ENDED = 3
SUBMITTED = 1


@cache
def definition() -> Data:
    """The state machine."""
    return json.loads(DEFINITION.read_text())


class Services(Protocol):
    """What the states reach out to."""

    world: World

    def invoke(
        self, function: str, payload: Data, done: Done, failed: Failed, delay: float
    ) -> None: ...

    def send(self, body: str, *, delay: float = 0.0) -> None: ...

    def read_items(self, key: str) -> bytes | None: ...


class Execution:
    """One execution: its status, and where it is. `events` are those of its history, counted as the
    service counts them; an execution that has 25,000 is ended by it."""

    def __init__(self, services: Services, name: str, run_input: Data) -> None:
        self.services = services
        self.name = name
        self.id = f"arn:aws:states:us-east-1:123456789012:execution:fanfold:{name}"
        self.input = run_input
        self.started = services.world.now
        self.ended = self.started
        self.status = "RUNNING"
        self.redrives = 0
        self.events = 1
        self.error: tuple[str, str] | None = None
        self.output: Data = None
        self.tokens: list[Token] = []
        self._walk: Walk | None = None
        self._timer: Event | None = None

    @property
    def began(self) -> bool:
        return self._walk is not None

    @property
    def context(self) -> Data:
        found = {
            "Id": self.id,
            "Name": self.name,
            "Input": self.input,
            "StartTime": moment(self.started),
        }
        return {**found, "RedriveCount": self.redrives} if self.redrives else found

    def begin(self) -> None:
        """Enter the first state."""
        if self.status != "RUNNING":
            return
        self._walk_from(definition()["StartAt"], self.input)

    def stop(self) -> None:
        """As StopExecution does: what its states wait for is no longer waited for."""
        if self.status == "RUNNING":
            self._end("ABORTED")

    def redrive(self) -> None:
        """As RedriveExecution does: enter the state in which it ended once more."""
        assert self.status in {"FAILED", "ABORTED", "TIMED_OUT"}
        before = self._walk
        assert before is not None
        self.status, self.error = "RUNNING", None
        self.redrives += 1
        self._walk_from(before.state, before.data)

    def _walk_from(self, state: str, data: Data) -> None:
        limit = definition()["TimeoutSeconds"]  # counted anew after a redrive
        self._timer = self.services.world.after(limit, lambda: self._end("TIMED_OUT"))
        self._walk = Walk(self, definition(), None, self._succeeded, self._failed)
        self._walk.enter(state, data)

    def _succeeded(self, output: Data) -> None:
        self.output = output
        self._end("SUCCEEDED")

    def _failed(self, error: str, cause: str) -> None:
        self.error = (error, cause)
        self._end("FAILED")

    def _end(self, status: str) -> None:
        self.status = status
        if self._timer is not None:
            self._timer.off = True
        self.ended = self.services.world.now
        if self._walk is not None:
            self._walk.leave()


class Walk:
    """One walk through states: an execution's, or a child's of a Map."""

    def __init__(
        self,
        execution: Execution,
        states: Data,
        item: Data,
        done: Done,
        failed: Failed,
        *,
        counted: bool = True,
    ) -> None:
        self.execution = execution
        self.services = execution.services
        self.world = execution.services.world
        self.states = states["States"]
        self.item = item
        self.state = ""
        self.data: Data = None
        self.left = False
        self.counted = counted
        self._done = done
        self._failed = failed
        self._children: list[Walk] = []
        self._token: Token | None = None
        self._tries: dict[int, int] = {}

    def leave(self) -> None:
        """Whatever was waited for is of no interest any more."""
        self.left = True
        if self._token is not None and self._token.open:
            self._token.abandon()
        for child in self._children:
            child.leave()

    def count(self, events: int) -> None:
        """Count events of the history. The children of a distributed Map have histories of their
        own, which are short."""
        if self.counted:
            self.execution.events += events

    def enter(self, name: str, data: Data) -> None:
        """Begin a state."""
        self.count(ENTERED_AND_EXITED)
        self.state, self.data = name, data
        self._tries = {}
        self._begin()

    def _begin(self) -> None:
        if self.left:
            return
        state = self.states[self.state]
        match state["Type"]:
            case "Pass":
                self._leave_state(state.get("Result", self.data))
            case "Choice":
                self.enter(self._choose(state), self.data)
            case "Wait":
                seconds = resolve(state["SecondsPath"], self.data, {})
                assert isinstance(seconds, int)
                self.world.after(seconds, self._waited)
            case "Succeed":
                self._done(self.data)
            case "Task" if state["Resource"].endswith("waitForTaskToken"):
                self._send(state)
            case "Task":
                self._invoke(state)
            case "Map":
                self._map(state)

    def _waited(self) -> None:
        if not self.left:
            self._leave_state(self.data)

    def _leave_state(self, output: Data) -> None:
        state = self.states[self.state]
        if state.get("ResultPath", "$") is None:
            output = self.data
        if "OutputPath" in state:
            path = state["OutputPath"]
            output = {} if path is None else resolve(path, output, {})
        if state.get("End"):
            self._done(output)
        else:
            self.enter(state["Next"], output)

    def _choose(self, state: Data) -> str:
        for choice in state["Choices"]:
            if resolve(choice["Variable"], self.data, {}) == choice["StringEquals"]:
                return str(choice["Next"])
        return str(state["Default"])

    def _context(self, **more: Data) -> Data:
        return {
            "Execution": self.execution.context,
            "StateMachine": {"Id": "arn:aws:states:us-east-1:123456789012:stateMachine:fanfold"},
            "Map": {"Item": {"Value": self.item}},
            **more,
        }

    # -- errors ----------------------------------------------------------------------------------

    def _fail(self, error: str, cause: str) -> None:
        """Retry, catch, or fail the walk, as the state says."""
        if self.left:
            return
        state = self.states[self.state]
        for number, retrier in enumerate(state.get("Retry", ())):
            if matches(retrier, error):
                tried = self._tries.get(number, 0)
                if tried < retrier["MaxAttempts"]:
                    self._tries[number] = tried + 1
                    wait = retrier["IntervalSeconds"] * retrier["BackoffRate"] ** tried
                    self.world.after(min(wait, retrier["MaxDelaySeconds"]), self._begin)
                    return
                break
        for catcher in state.get("Catch", ()):
            if matches(catcher, error):
                assert catcher["ResultPath"] == "$.error"
                kept = {**self.data, "error": {"Error": error, "Cause": cause}}
                self.enter(catcher["Next"], kept)
                return
        self._failed(error, cause)

    # -- Lambda ----------------------------------------------------------------------------------

    def _invoke(self, state: Data) -> None:
        parameters = state["Parameters"]
        function = (
            parameters["FunctionName"].removeprefix("${").removesuffix("FunctionArn}").lower()
        )
        self.count(SCHEDULED_STARTED_ENDED)
        payload = render(parameters["Payload"], self.data, self._context())
        over: list[bool] = []

        def done(output: Data) -> None:
            if not over:
                over.append(True)
                timer.off = True
                if not self.left:
                    self._leave_state({"Payload": output})

        def failed(error: str, cause: str) -> None:
            if not over:
                over.append(True)
                timer.off = True
                self._fail(error, cause)

        limit = state["TimeoutSeconds"]
        timer = self.world.after(limit, lambda: failed("States.Timeout", ""))
        kind = self.world.by_service("states", "invoke", function)
        delay = 0.0
        match kind:
            case Kind.ERROR_BEFORE | Kind.THROTTLED:
                throttled = kind is Kind.THROTTLED
                failed(LAMBDA_THROTTLED if throttled else LAMBDA_ERROR, "simulated")
                return
            case Kind.ERROR_AFTER:
                self.services.invoke(function, payload, _ignored, _ignored_error, 0.0)
                self.world.after(1.0, lambda: failed(LAMBDA_ERROR, "the answer was lost"))
                return
            case Kind.DELAYED:
                delay = limit + 5 + len(self.world.trace) % 32 / 100
            case Kind.TAKEN_OVER | Kind.TAKEN_OVER_LATE:
                self.world.take_over()
                delay = 0.0 if kind is Kind.TAKEN_OVER else 800.0
            case None:
                pass
            case _:
                raise AssertionError(f"{kind} does not apply to an invocation by a state")
        self.services.invoke(function, payload, done, failed, delay)

    # -- tokens ----------------------------------------------------------------------------------

    def _send(self, state: Data) -> None:
        def done(output: Data) -> None:
            if not self.left:
                self._leave_state(output)

        self.count(SCHEDULED_STARTED_ENDED + SUBMITTED)
        execution = self.execution
        token = Token(execution, len(execution.tokens) + 1, done, self._fail)
        execution.tokens.append(token)
        self._token = token
        context = self._context(Task={"Token": token.name})
        token.message = render(state["Parameters"]["MessageBody"], self.data, context)
        body = json.dumps(token.message)
        limit = resolve(state["TimeoutSecondsPath"], self.data, {})
        token.timer = self.world.after(limit, lambda: token.fail("States.Timeout", "", "timed out"))
        shard = token.message["shard"]["id"]
        kind = self.world.by_service("states", "send", shard)
        match kind:
            case Kind.ERROR_BEFORE | Kind.THROTTLED | Kind.DENIED:
                token.abandon()
                self._fail(SEND_ERROR, "simulated")
            case Kind.ERROR_AFTER:
                self.services.send(body)
                token.abandon()
                self._fail(SEND_ERROR, "the answer was lost")
            case Kind.LOST:
                pass  # taken, and never seen again: the queue keeps a message for so long
            case Kind.DELAYED:
                self.services.send(body, delay=limit + len(self.world.trace) % 32 / 100)
            case Kind.TWICE:
                self.services.send(body)
                self.services.send(body)
            case Kind.OUT_OF_ORDER:
                self.services.send(body, delay=20.0)
            case Kind.TAKEN_OVER | Kind.TAKEN_OVER_LATE:
                self.services.send(body, delay=0.0 if kind is Kind.TAKEN_OVER else 200.0)
                self.world.take_over()
            case None:
                self.services.send(body)
            case _:
                raise AssertionError(f"{kind} does not apply to sending")

    # -- Map -------------------------------------------------------------------------------------

    def _map(self, state: Data) -> None:
        distributed = state["ItemProcessor"]["ProcessorConfig"]["Mode"] == "DISTRIBUTED"
        if distributed:
            key = render(state["ItemReader"]["Parameters"], self.data, {})["Key"]
            kind = self.world.by_service("states", "read items", key)
            body = self.services.read_items(key)
            if kind in {Kind.TAKEN_OVER, Kind.TAKEN_OVER_LATE}:
                self.world.take_over()
                return
            if kind is not None or body is None:
                self._fail("States.ItemReaderFailed", "simulated")
                return
            items = json.loads(body)
        else:
            items = resolve(state["ItemsPath"], self.data, {})
        self.count(STARTED_AND_ENDED)
        waiting = list(enumerate(items))
        running, lost = [0], [0]
        tolerated = resolve(state["ToleratedFailureCountPath"], self.data, {}) if distributed else 0
        concurrency = resolve(state["MaxConcurrencyPath"], self.data, {})
        self._children = []

        def more() -> None:
            while waiting and running[0] < concurrency and not self.left and lost[0] <= tolerated:
                _, item = waiting.pop(0)
                running[0] += 1
                self.count(0 if distributed else STARTED_AND_ENDED)
                child = Walk(
                    self.execution,
                    state["ItemProcessor"],
                    item,
                    lambda output: one_ended(),
                    one_failed,
                    counted=not distributed,
                )
                self._children.append(child)
                context = {**self._context(), "Map": {"Item": {"Value": item}}}
                data = render(state["ItemSelector"], self.data, context)
                child.enter(state["ItemProcessor"]["StartAt"], data)

        def one_failed(error: str, cause: str) -> None:
            lost[0] += 1
            if lost[0] <= tolerated:
                one_ended()
                return
            for child in self._children:
                child.leave()
            self._fail(TOO_MANY_FAILED if distributed else error, cause)

        def one_ended() -> None:
            running[0] -= 1
            if waiting:
                more()
            elif not running[0] and not self.left:
                self.world.at(self.world.now, lambda: None if self.left else self._leave_state([]))

        if items:
            more()
        else:
            self._leave_state([])


def _ignored(output: Data) -> None:
    """Nobody hears this answer."""


def _ignored_error(error: str, cause: str) -> None:
    """Nobody hears this error."""

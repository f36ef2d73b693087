"""What happened in a mocked cloud: the facts that tests count.

Sizes are bytes of compact UTF-8 JSON, the measure of Step Functions' 256 KiB limit.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

PAYLOAD_LIMIT_BYTES = 256 * 1024


def size_bytes(value: Any) -> int:
    """The size of a JSON value as Step Functions measures it."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)
    return len(text.encode())


@dataclass(frozen=True)
class Invocation:
    """One invocation of a function; `number` counts from 1 per function.

    `answered`: the handler returned `answer`. `raised`: it raised `error`. `died`: the worker was
    gone before it could answer. `throttled`: the handler never ran.
    """

    function: str
    number: int
    event: Any
    outcome: Literal["answered", "raised", "died", "throttled"]
    answer: Any = None
    error: str | None = None
    message: str | None = None
    request_id: str = ""


@dataclass(frozen=True)
class ApiCall:
    """One HTTP request to AWS, as sent: an SDK's own retries count each.

    `actor` is the function that made it, `states` (the interpreter), `mapping` (the event source
    mapping), `harness`, or `code` for anything else in this process.
    """

    actor: str
    service: str
    operation: str
    key: str = ""
    attempt: int = 1
    invocation_id: str = ""
    headers: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    body: bytes = field(default=b"", repr=False, compare=False)
    status: int | None = None

    @property
    def name(self) -> str:
        """`s3.PutObject`, `states.SendTaskSuccess`, `sqs.SendMessage`."""
        return f"{self.service}.{self.operation}"


@dataclass(frozen=True)
class Transition:
    """One state entered (or tried again, when `retry`): the unit Step Functions bills."""

    execution: str
    state: str
    child: bool
    retry: bool
    input_bytes: int
    output_bytes: int | None = None


@dataclass(frozen=True)
class Delivery:
    """One message handed to a function by the event source mapping."""

    queue: str
    message_id: str
    receives: int
    body: str
    copy: bool


class Records:
    """Append-only, safe for threads; read it when the run has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self.invocations: list[Invocation] = []
        self.api_calls: list[ApiCall] = []
        self.transitions: list[Transition] = []
        self.deliveries: list[Delivery] = []
        self.retry_waits: list[float] = []
        self.pauses: list[int] = []
        self.expired_tokens: list[str] = []
        self.requested_concurrency: list[int] = []
        self._numbers: Counter[str] = Counter()

    def reset(self) -> None:
        """Forget everything counted so far; invocations are numbered from 1 again."""
        with self._lock:
            self._clear()

    def number(self, function: str) -> int:
        """The number of the invocation of `function` that begins now, from 1."""
        with self._lock:
            self._numbers[function] += 1
            return self._numbers[function]

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock for one append."""
        with self._lock:
            yield

    def count(self, function: str) -> int:
        """How often a function was invoked."""
        with self._lock:
            return sum(call.function == function for call in self.invocations)

    def events(self, function: str) -> list[Any]:
        """What a function was invoked with, in order of completion."""
        with self._lock:
            return [call.event for call in self.invocations if call.function == function]

    def api_counts(self, *actors: str) -> Counter[str]:
        """Requests by `service.Operation`; of all actors, or of those named."""
        with self._lock:
            calls = [call for call in self.api_calls if not actors or call.actor in actors]
        return Counter(call.name for call in calls)

    def transition_counts(self, execution: str | None = None) -> Counter[str]:
        """State transitions by state, retries included; children's too."""
        with self._lock:
            return Counter(
                each.state
                for each in self.transitions
                if execution is None or each.execution == execution
            )

    def payload_bytes(self) -> dict[str, int]:
        """The largest payload seen at each state: input, output, and what a function was sent."""
        largest: dict[str, int] = {}
        with self._lock:
            for each in self.transitions:
                seen = max(each.input_bytes, each.output_bytes or 0)
                largest[each.state] = max(largest.get(each.state, 0), seen)
            for call in self.invocations:
                label = f"function {call.function}"
                seen = max(size_bytes(call.event), size_bytes(call.answer))
                largest[label] = max(largest.get(label, 0), seen)
        return largest

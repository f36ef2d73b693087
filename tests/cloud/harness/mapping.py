"""Polls a queue and invokes a function with its messages, as Lambda's event source mapping does.

Batch size 1, partial batch responses, deletion on success. moto's queue keeps the receive counts
and moves messages to the dead-letter queue; what moto does not do is passing of time: here, when
no message is visible but some will be, time passes at once (`_elapse`). Messages that are being
handled keep their visibility timeout, so a slow handler is not overtaken unless a test scripts it.
"""

from __future__ import annotations

import copy
import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from moto.core.utils import unix_time_millis
from moto.sqs.models import Message, Queue, SQSBackend

from tests.cloud.harness.faults import Faults, Hold
from tests.cloud.harness.functions import REGION, Functions
from tests.cloud.harness.records import ApiCall, Delivery, Invocation, Records

NEVER = float("inf")
DELIVERIES_MAX = 100


@dataclass
class Received:
    """A message on its way to a function."""

    message: Message
    copy: bool = False


class Mapping:
    """One queue feeding one function.

    `changed` guards moto's queues (which are not safe for threads) and is notified whenever a
    queue may have a message to deliver. `settled(body)` is called once a message is gone for good.
    """

    def __init__(
        self,
        queue_name: str,
        function: str,
        *,
        backend: SQSBackend,
        functions: Functions,
        records: Records,
        faults: Faults,
        changed: threading.Condition,
        settled: Callable[[str], None],
        source_arn: str | None = None,
    ) -> None:
        self.queue_name = queue_name
        self.function = function
        self._backend = backend
        self._functions = functions
        self._records = records
        self._faults = faults
        self._changed = changed
        self._settled = settled
        self._source_arn = source_arn
        self._handling: Counter[str] = Counter()
        self._copies: list[tuple[Message, Hold]] = []
        self._holds: dict[str, Hold | None] = {}
        self._stopping = False
        self._threads: list[threading.Thread] = []

    # Life -----------------------------------------------------------------------------------------

    def start(self, pollers: int) -> None:
        for number in range(pollers):
            name = f"{self.function}-poller-{number}"
            thread = threading.Thread(target=self._poll, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=10)

    @property
    def idle(self) -> bool:
        """Nothing to deliver and nothing being handled; messages held back do not count."""
        with self._changed:
            waiting = [m for m in self._queue._messages if not self._is_held(m)]
            due = [hold for _, hold in self._copies if hold.released]
            return not waiting and not due and not self._handling.total()

    def describe(self) -> str:
        """One line for the person whose test is stuck."""
        with self._changed:
            return (
                f"{self.queue_name}: {len(self._queue._messages)} messages, "
                f"{self._handling.total()} being handled, {len(self._copies)} copies to come"
            )

    @property
    def _queue(self) -> Queue:
        return self._backend.get_queue(self.queue_name)

    # Receiving ------------------------------------------------------------------------------------

    def _poll(self) -> None:
        while True:
            with self._changed:
                received = self._next()
                while received is None and not self._stopping:
                    self._changed.wait(timeout=0.5)
                    received = self._next()
                if self._stopping or received is None:
                    return
                self._handling[received.message.id] += 1
            try:
                self._handle(received)
            finally:
                with self._changed:
                    self._handling[received.message.id] -= 1
                    self._changed.notify_all()

    def _next(self) -> Received | None:
        if self._stopping:
            return None
        for index, (twin, hold) in enumerate(self._copies):
            if hold.released:
                del self._copies[index]
                return Received(twin, copy=True)
        self._apply_holds()
        self._faults.reorder(self._queue._messages)
        message = self._receive() or (self._receive() if self._elapse() else None)
        if message is None:
            return None
        for hold in self._faults.copies_of(message.body):
            hold.on_release(self._wake)
            self._copies.append((_copy_of(message), hold))
            self._changed.notify_all()
        return Received(message)

    def _receive(self) -> Message | None:
        queue: Any = self._queue
        visibility = int(queue.visibility_timeout)
        found = self._backend.receive_message(self.queue_name, 1, 0, visibility)
        self._changed.notify_all()
        if found:
            self._count("ReceiveMessage")
        return found[0] if found else None

    def _elapse(self) -> bool:
        """Let as much time pass as the next message needs to become visible."""
        now = unix_time_millis()
        waiting = [
            message
            for message in self._queue._messages
            if max(message.visible_at, message.delayed_until) >= now
            and not self._handling[message.id]
            and not self._is_held(message)
            and message.approximate_receive_count < DELIVERIES_MAX
        ]
        if not waiting:
            return False
        step = min(max(m.visible_at, m.delayed_until) for m in waiting) - now + 1
        for message in waiting:
            message.visible_at -= step
            message.delayed_until -= step
        return True

    def _apply_holds(self) -> None:
        for message in self._queue._messages:
            if message.id not in self._holds:
                hold = self._faults.hold_of(message.body)
                self._holds[message.id] = hold
                if hold is not None:
                    hold.on_release(self._wake)
                    hold.reach()
            held = self._is_held(message)
            if held:
                message.delayed_until = NEVER
            elif message.delayed_until == NEVER:
                message.delayed_until = 0.0

    def _is_held(self, message: Message) -> bool:
        hold = self._holds.get(message.id)
        return hold is not None and not hold.released

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    # Handling -------------------------------------------------------------------------------------

    def _handle(self, received: Received) -> None:
        message = received.message
        delivery = Delivery(
            self.queue_name,
            message.id,
            message.approximate_receive_count,
            message.body,
            received.copy,
        )
        with self._records.writing():
            self._records.deliveries.append(delivery)
        event = {"Records": [self._record(message)]}
        invocation = self._functions.invoke(self.function, json.dumps(event))
        if not _succeeded(invocation):
            return
        with self._changed:
            self._backend.delete_message(self.queue_name, str(message.receipt_handle))
            self._count("DeleteMessage")
            gone = self._handling[message.id] == 1 and not self._has_due_copy(message.id)
        if gone:
            self._settled(message.body)

    def _has_due_copy(self, message_id: str) -> bool:
        return any(copied.id == message_id and hold.released for copied, hold in self._copies)

    def _record(self, message: Message) -> dict[str, Any]:
        """The shape documented in "Using Lambda with Amazon SQS"."""
        attributes = {
            "ApproximateReceiveCount": str(message.approximate_receive_count),
            "SentTimestamp": str(message.sent_timestamp),
            "SenderId": message.sender_id,
            "ApproximateFirstReceiveTimestamp": str(message.approximate_first_receive_timestamp),
        }
        if self._source_arn is not None:
            attributes["DeadLetterQueueSourceArn"] = self._source_arn
        return {
            "messageId": message.id,
            "receiptHandle": message.receipt_handle,
            "body": message.body,
            "attributes": attributes,
            "messageAttributes": {},
            "md5OfBody": message.body_md5,
            "eventSource": "aws:sqs",
            "eventSourceARN": self._queue.queue_arn,
            "awsRegion": REGION,
        }

    def _count(self, operation: str) -> None:
        with self._records.writing():
            call = ApiCall("mapping", "sqs", operation, key=self.queue_name, status=200)
            self._records.api_calls.append(call)


def _copy_of(message: Message) -> Message:
    twin = copy.deepcopy(message)
    twin.approximate_receive_count += 1
    return twin


def _succeeded(invocation: Invocation) -> bool:
    """Partial batch responses, by Lambda's rules.

    Nothing, `{}` or no failures: all succeeded. A malformed answer or an identifier that is not in
    the batch: all failed. The batch has one message, so a failure of any is a failure of all.
    """
    if invocation.outcome != "answered":
        return False
    answer = invocation.answer
    if answer is None:
        return True
    if not isinstance(answer, dict):
        return False
    return not answer.get("batchItemFailures")

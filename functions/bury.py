"""Bury: a message that no worker brought to an outcome, from the dead-letter queue.

It needs nothing of the job's code, which may be why the message is here.
"""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from coordinator.errors import KeyMissing, LedgerBroken
from coordinator.model import Message
from coordinator.steps import attempts
from coordinator.steps.workplace import RunPlace
from functions import answers, telemetry, wiring
from functions.settings import settings


@telemetry.entry_point
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Note and answer the messages of an SQS batch."""
    return answers.each_message(event, bury, context)


def bury(record: SQSRecord) -> None:
    """Write the note of a dead message and fail its child, or answer with the entry it has."""
    try:
        message = Message.decode(record.body.encode(), where="A dead message")
    except LedgerBroken as error:
        telemetry.logger.error("not a message of ours", extra={"reason": str(error)})
        return
    telemetry.describe_message(message)
    try:
        run = wiring.run_of(message)
    except KeyMissing as gone:
        answers.dropped(message, f"Its run is gone. {gone}")
        return
    # Counted across both queues, so that this receipt is in it too.
    receives = max(int(record.attributes.approximate_receive_count) - 1, 1)
    verdict = attempts.bury(
        RunPlace(wiring.store(), run, wiring.now),
        message,
        receives=receives,
        reason="Its worker crashed, ran out of memory or out of time; its log says more.",
        timeout_seconds=float(settings().timeout_seconds),
    )
    if isinstance(verdict, attempts.Answered):
        answers.done(message, verdict.answer)
    elif isinstance(verdict, attempts.Unwanted):
        answers.dropped(message, verdict.reason)
    else:
        note = verdict.note
        telemetry.logger.error("buried", extra={"reason": note.reason, "receives": receives})
        telemetry.count_by_reason("ShardsFailed", note.error, job=message.job)
        answers.failed(message, note.error, note.reason)

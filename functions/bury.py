"""Bury: a message that no worker brought to an outcome, from the dead-letter queue."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.batch import process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from coordinator import attempts, ledger
from coordinator.errors import KeyMissing, LedgerBroken
from coordinator.model import Message
from coordinator.work import answer_of
from functions import answers, desk
from functions.floor import dropped, place_of


@desk.entry_point
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Note and answer the messages of an SQS batch."""
    response = process_partial_response(
        event=event, record_handler=bury, processor=answers.processor(), context=context
    )
    return dict(response)


def bury(record: SQSRecord) -> None:
    """Write the note of a dead message and fail its child, or answer with the entry it has."""
    try:
        message = Message.decode(record.body.encode(), where="A dead message")
    except LedgerBroken as error:
        desk.logger.error("not a message of ours", extra={"reason": str(error)})
        return
    desk.describe_message(message)
    try:
        place = place_of(message)
    except KeyMissing as gone:
        answers.dropped(message, f"Its run is gone. {gone}")
        return
    standing = ledger.find(place.store, place.keys, message.stage, message.shard.id)
    if standing is not None:
        answers.done(message, answer_of(standing))
        return
    if (reason := dropped(place.run, message)) is not None:
        answers.dropped(message, reason)
        return
    limits = place.job.limits
    # Counted across both queues, so that this receipt is in it too.
    receives = max(int(record.attributes.approximate_receive_count or 0) - 1, 1)
    note = attempts.bury(
        place,
        message,
        receives=receives,
        reason="Its worker crashed, ran out of memory or out of time; its log says more.",
        seconds=float(receives * limits.timeout_seconds),
    )
    desk.logger.error("buried", extra={"reason": note.reason, "receives": receives})
    desk.count_by_reason("ShardsFailed", note.error)
    answers.failed(message, note.error, note.reason)

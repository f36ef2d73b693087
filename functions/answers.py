"""Answers to the queue and to tokens, and delays of messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from aws_lambda_powertools.utilities.batch import (
    BatchProcessor,
    EventType,
    process_partial_response,
)
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.exceptions import BotoCoreError, ClientError

from coordinator.errors import AnswerDenied, AttemptFailed, Superseded, reason_of
from coordinator.model import Answer, Message
from functions import telemetry, wiring

ERROR_LETTERS = 256
CAUSE_LETTERS = 32_768
# A token that was answered before, timed out, or belongs to an execution that has ended.
SPENT = frozenset({"TaskTimedOut", "InvalidToken", "TaskDoesNotExist"})
DENIED = frozenset({"AccessDeniedException", "AccessDenied"})
# What the console does not show of a shard.
UNSHOWN = {"mapped", "blank", "peak_memory_bytes"}


def each_message(
    event: dict[str, Any], handle: Callable[[SQSRecord], None], context: LambdaContext
) -> dict[str, Any]:
    """Handle the messages of an SQS batch: those that raise, and no others, come back."""

    def told(record: SQSRecord) -> None:
        try:
            handle(record)
        except AttemptFailed:  # said already
            raise
        except Exception as error:
            telemetry.logger.error(
                "message comes back",
                extra={"error": type(error).__name__, "reason": reason_of(error)},
            )
            raise

    processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)
    return dict(
        process_partial_response(
            event=event, record_handler=told, processor=processor, context=context
        )
    )


def done(message: Message, answer: Answer) -> None:
    """Answer a token with the counts of its shard."""
    output = answer.model_dump_json(exclude=UNSHOWN)
    with _spent_tokens_ignored():
        wiring.states().send_task_success(taskToken=message.token, output=output)


def failed(message: Message, error: str, cause: str) -> None:
    """Answer a token with an error."""
    with _spent_tokens_ignored():
        wiring.states().send_task_failure(
            taskToken=message.token, error=error[:ERROR_LETTERS], cause=cause[:CAUSE_LETTERS]
        )


def dropped(message: Message, reason: str) -> None:
    """Answer the token of a message that nobody wants any more."""
    telemetry.logger.info("dropped", extra={"reason": reason})
    failed(message, Superseded.__name__, reason)


def delay(record: SQSRecord, seconds: float) -> None:
    """Let a message be seen again after a delay; without it, that happens a little later."""
    with suppress(ClientError, BotoCoreError):
        wiring.sqs().change_message_visibility(
            QueueUrl=record.queue_url,
            ReceiptHandle=record.receipt_handle,
            VisibilityTimeout=int(seconds),
        )


@contextmanager
def _spent_tokens_ignored() -> Iterator[None]:
    """Whoever handles a message answers its token, so it may have been answered before."""
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in DENIED:
            telemetry.count("AnswersDenied", 1)
            raise AnswerDenied(
                f"The function's role may not answer the token of its shard ({error}). What the shard "
                "did is committed; allow states:SendTaskSuccess and states:SendTaskFailure."
            ) from error
        if code not in SPENT:
            raise

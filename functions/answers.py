"""Answers to the queue and to tokens, and delays of messages."""

from __future__ import annotations

from contextlib import suppress

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from botocore.exceptions import BotoCoreError, ClientError

from coordinator.model import Answer, Message
from functions import desk

ERROR_LETTERS = 256
CAUSE_LETTERS = 32_768
# A token that was answered before, timed out, or belongs to an execution that has ended.
SPENT = frozenset({"TaskTimedOut", "InvalidToken", "TaskDoesNotExist"})


def processor() -> BatchProcessor:
    """Tells the queue which messages of a batch failed: those, and no others, come back."""
    return BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


def done(message: Message, answer: Answer) -> None:
    """Answer a token with the counts of its shard."""
    output = answer.model_dump_json(exclude={"peak_memory_bytes"})
    with _spent_tokens_ignored():
        desk.states().send_task_success(taskToken=message.token, output=output)


def failed(message: Message, error: str, cause: str) -> None:
    """Answer a token with an error."""
    with _spent_tokens_ignored():
        desk.states().send_task_failure(
            taskToken=message.token, error=error[:ERROR_LETTERS], cause=cause[:CAUSE_LETTERS]
        )


def dropped(message: Message, reason: str) -> None:
    """Answer the token of a message that nobody wants any more."""
    desk.logger.info("dropped", extra={"reason": reason})
    failed(message, "Superseded", reason)


def delay(record: SQSRecord, seconds: float) -> None:
    """Let a message be seen again after a delay; without it, that happens a little later."""
    with suppress(ClientError, BotoCoreError):
        desk.sqs().change_message_visibility(
            QueueUrl=record.queue_url,
            ReceiptHandle=record.receipt_handle,
            VisibilityTimeout=int(seconds),
        )


class _spent_tokens_ignored:  # noqa: N801  reads as a statement
    """Whoever handles a message answers its token, so it may have been answered before."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        return isinstance(error, ClientError) and error.response["Error"]["Code"] in SPENT

"""Work: one shard from the queue, and the answer to its token."""

from __future__ import annotations

import time
from random import SystemRandom
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from coordinator.errors import (
    AttemptFailed,
    KeyMissing,
    MapFailed,
    ReduceFailed,
    Retry,
    StopRun,
)
from coordinator.ids import new_attempt
from coordinator.model import Answer, Message, Note
from coordinator.rules.pacing import Pace
from coordinator.rules.probing import is_to_die
from coordinator.steps.attempts import Again, Answered, Unwanted, attend
from coordinator.steps.split import look_around
from functions import answers, telemetry, wiring

JOBS_OWN = (MapFailed, ReduceFailed, Retry, StopRun)  # whose text is the job's


@telemetry.entry_point
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Work on the messages of an SQS batch; the mapping sends one at a time."""
    remaining_seconds = context.get_remaining_time_in_millis() / 1000
    return answers.each_message(event, lambda record: work(record, remaining_seconds), context)


def work(record: SQSRecord, remaining_seconds: float) -> None:
    """Try one message; an error leaves it in the queue.

    Raises:
        AttemptFailed: the message is to be received again, after its visibility timeout.
    """
    message = Message.decode(record.body.encode(), where="A message")
    receives = int(record.attributes.approximate_receive_count)
    attempt = new_attempt()
    telemetry.describe_message(message, attempt=attempt, receives=receives)
    try:
        place = wiring.workplace_of(message)
    except KeyMissing as gone:
        answers.dropped(message, f"Its run is gone. {gone}")
        return
    if is_to_die(place.run, message):
        answers.delay(record, 0)
        raise AttemptFailed("The probe lets this message die.")
    verdict = attend(
        place,
        message,
        attempt=attempt,
        receives=receives,
        guard=Pace(remaining_seconds, look_around(place, message), time.monotonic),
        jitter=SystemRandom().random,
    )
    if isinstance(verdict, Unwanted):
        answers.dropped(message, verdict.reason)
        return
    telemetry.count("Attempts", 1)
    age = max(wiring.now() - place.run.tenure.began, 0.0)
    telemetry.count("RunSeconds", age, MetricUnit.Seconds)
    if isinstance(verdict, Answered):
        _report(verdict.answer, fresh=verdict.answer.attempt == attempt)
        answers.done(message, verdict.answer)
        return
    note = verdict.note
    telemetry.logger.warning(
        "attempt failed",
        extra={"error": note.error, "reason": loggable(note), "fate": note.fate.value},
    )
    if isinstance(verdict, Again):
        answers.delay(record, verdict.delay_seconds)
        raise AttemptFailed(f"Shard {note.shard} is tried again; its note says why.")
    telemetry.count_by_reason("ShardsFailed", note.error, job=message.job)
    answers.failed(message, note.error, note.reason)


def loggable(note: Note) -> str:
    """A note's reason, unless it is the text of an exception of the job's, which may hold what was
    in a record: that stays in the note."""
    if note.error in {kind.__name__ for kind in JOBS_OWN}:
        return "the job's code raised; the note in S3 says what"
    return note.reason


def _report(answer: Answer, *, fresh: bool) -> None:
    """Log and measure a shard's outcome; what an earlier attempt did was measured then."""
    telemetry.logger.info(
        answer.outcome,
        extra={
            "records_in": answer.records_in,
            "quarantined": answer.quarantined,
            "bytes_in": answer.bytes_in,
            "seconds": answer.seconds,
            "fresh": fresh,
        },
    )
    if not fresh:
        return
    telemetry.count("ShardsDone" if answer.outcome == "done" else "ShardsSplit", 1)
    telemetry.count("Records", answer.records_in)
    telemetry.count("Bytes", answer.bytes_in, MetricUnit.Bytes)
    telemetry.count("Quarantined", answer.quarantined)
    telemetry.count("ShardSeconds", answer.seconds, MetricUnit.Seconds)
    telemetry.count("PeakMemoryBytes", answer.peak_memory_bytes, MetricUnit.Bytes)

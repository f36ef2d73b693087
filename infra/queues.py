"""The queue of shards, its dead letters, and the triggers that could not start a run."""

from __future__ import annotations

from aws_cdk import Duration, aws_iam as iam, aws_sqs as sqs
from constructs import Construct

from coordinator.limits import Limits
from coordinator.rules.transport import (
    BURY_SECONDS,
    QUEUE_DAYS,
    receives,
    visibility_seconds,
)
from infra.arns import queue_arn
from infra.names import Names
from infra.policies import acknowledge, allow
from infra.storage import Storage

LONGEST_DAYS = 14


class Queues(Construct):
    """The work queue feeds Work; what was received too often goes on to Bury."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        names: Names,
        limits: Limits,
        storage: Storage,
    ) -> None:
        super().__init__(scope, construct_id)
        self._storage = storage
        self.dead_letters = self._queue(
            "DeadLetters",
            storage,
            queue_name=names.dead_letters,
            # A dead letter keeps the time it was sent: only the longest retention is long enough.
            retention_period=Duration.days(LONGEST_DAYS),
            visibility_timeout=Duration.seconds(visibility_seconds(BURY_SECONDS)),
            redrive_allow_policy=sqs.RedriveAllowPolicy(
                redrive_permission=sqs.RedrivePermission.BY_QUEUE,
                source_queues=[
                    # by name: the work queue names this one in turn
                    sqs.Queue.from_queue_arn(self, "WorkByName", queue_arn(self, names))
                ],
            ),
        )
        self.work = self._queue(
            "Work",
            storage,
            queue_name=names.queue,
            retention_period=Duration.days(QUEUE_DAYS),
            visibility_timeout=Duration.seconds(visibility_seconds(limits.timeout_seconds)),
            dead_letter_queue=sqs.DeadLetterQueue(
                queue=self.dead_letters,
                max_receive_count=receives(limits),
            ),
        )

    def allow_consuming(self, role: iam.Role, queue: sqs.Queue, *, delaying: bool = False) -> None:
        """Allow a function's mapping to receive and delete; with `delaying`, the function to back off."""
        actions = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
        if delaying:
            actions.append("sqs:ChangeMessageVisibility")
        allow(role, *actions, on=[queue.queue_arn])
        if self._storage.key is not None:
            allow(role, "kms:Decrypt", on=[self._storage.key.key_arn])

    def allow_sending(self, role: iam.Role) -> None:
        """Allow to put shards on the work queue."""
        allow(role, "sqs:SendMessage", on=[self.work.queue_arn])
        if self._storage.key is not None:
            allow(role, "kms:GenerateDataKey", "kms:Decrypt", on=[self._storage.key.key_arn])

    def _queue(self, construct_id: str, storage: Storage, **settings: object) -> sqs.Queue:
        return sqs.Queue(
            self,
            construct_id,
            enforce_ssl=True,
            encryption=sqs.QueueEncryption.KMS if storage.key else sqs.QueueEncryption.SQS_MANAGED,
            encryption_master_key=storage.key,
            **settings,  # type: ignore[arg-type]
        )


class LostTriggers(Construct):
    """The dead letters of schedules and rules: events that did not start a run, or reach a topic."""

    def __init__(
        self, scope: Construct, construct_id: str, *, names: Names, storage: Storage
    ) -> None:
        super().__init__(scope, construct_id)
        key = storage.service_key
        self.queue = sqs.Queue(
            self,
            "Queue",
            queue_name=names.lost_triggers,
            enforce_ssl=True,
            encryption=sqs.QueueEncryption.KMS if key else sqs.QueueEncryption.SQS_MANAGED,
            encryption_master_key=key,
            retention_period=Duration.days(LONGEST_DAYS),
        )
        acknowledge(
            self.queue,
            "AwsSolutions-SQS3",
            "This is the dead-letter queue of the triggers.",
        )
        self._key = key

    def allow_sending(self, role: iam.Role) -> None:
        """Allow a scheduler's role to leave what it could not deliver."""
        allow(role, "sqs:SendMessage", on=[self.queue.queue_arn])
        if self._key is not None:
            allow(role, "kms:GenerateDataKey", "kms:Decrypt", on=[self._key.key_arn])

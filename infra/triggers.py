"""What starts runs: schedules and uploads. What cannot be started lands in a queue, and alarms."""

from __future__ import annotations

import json

from aws_cdk import (
    Duration,
    aws_events as events,
    aws_events_targets as targets,
    aws_scheduler as scheduler,
)
from constructs import Construct

from coordinator.job import Job
from coordinator.triggers import OnUpload, Schedule
from infra.checks import schedules, uploads
from infra.names import Names
from infra.policies import allow, service_role
from infra.queues import LostTriggers
from infra.state_machine import StateMachine

RETRY_SECONDS = 24 * 3600
RETRIES = 185


def scheduled_event(schedule: str) -> dict[str, str]:
    """What a schedule starts a run with; coordinator/rules/starts.py reads it. The time is the one it was
    scheduled for, so that a second delivery is told from the next run."""
    return {"schedule": schedule, "scheduled_time": "<aws.scheduler.scheduled-time>"}


def upload_pattern(bucket: str, upload: OnUpload) -> events.EventPattern:
    """The events of objects created under a prefix. With a suffix too, one wildcard says both:
    two matchers of a field would mean either."""
    matcher = (
        {"wildcard": f"{upload.prefix}*{upload.suffix}"}
        if upload.suffix
        else {"prefix": upload.prefix}
    )
    return events.EventPattern(
        source=["aws.s3"],
        detail_type=["Object Created"],
        detail={"bucket": {"name": [bucket]}, "object": {"key": [matcher]}},
    )


class Triggers(Construct):
    """The schedules and upload rules of a job."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        job: Job,
        names: Names,
        machine: StateMachine,
        lost: LostTriggers,
        bucket: str,
    ) -> None:
        super().__init__(scope, construct_id)
        self._names = names
        self._machine = machine
        self._lost = lost
        self._add_schedules(schedules(job))
        self._add_uploads(uploads(job.triggers), bucket)

    def _add_schedules(self, wanted: list[Schedule]) -> None:
        if not wanted:
            return
        role = service_role(self, "SchedulerRole", "scheduler.amazonaws.com")
        allow(role, "states:StartExecution", on=[self._machine.machine.state_machine_arn])
        self._lost.allow_sending(role)
        for number, schedule in enumerate(wanted, start=1):
            name = self._names.schedule(number)
            resource = scheduler.CfnSchedule(
                self,
                f"Schedule{number}",
                name=name,
                description=f"Starts a run of the Fanfold job {self._names.job}.",
                schedule_expression=f"cron({schedule.cron})",
                schedule_expression_timezone=schedule.timezone,
                flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
                target=scheduler.CfnSchedule.TargetProperty(
                    arn=self._machine.machine.state_machine_arn,
                    role_arn=role.role_arn,
                    input=json.dumps(scheduled_event(name)),
                    retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(
                        maximum_event_age_in_seconds=RETRY_SECONDS, maximum_retry_attempts=RETRIES
                    ),
                    dead_letter_config=scheduler.CfnSchedule.DeadLetterConfigProperty(
                        arn=self._lost.queue.queue_arn
                    ),
                ),
            )
            resource.node.add_dependency(role)  # with its policy: the first firing needs it

    def _add_uploads(self, wanted: list[OnUpload], bucket: str) -> None:
        if not wanted:
            return
        role = service_role(self, "EventsRole", "events.amazonaws.com")
        for number, upload in enumerate(wanted, start=1):
            events.Rule(
                self,
                f"Upload{number}",
                rule_name=self._names.upload_rule(number),
                description=f"Starts a run of the Fanfold job {self._names.job}.",
                event_pattern=upload_pattern(bucket, upload),
                targets=[
                    targets.SfnStateMachine(
                        self._machine.machine,
                        role=role,
                        dead_letter_queue=self._lost.queue,
                        max_event_age=Duration.seconds(RETRY_SECONDS),
                        retry_attempts=RETRIES,
                    )
                ],
            )

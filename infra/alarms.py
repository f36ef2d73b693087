"""What calls a person: alarms, each with a page of docs/runbooks/, and news of runs that ended badly."""

from __future__ import annotations

import math

from aws_cdk import (
    Duration,
    Stack,
    aws_cloudwatch as cw,
    aws_cloudwatch_actions as actions,
    aws_events as events,
    aws_events_targets as targets,
    aws_iam as iam,
    aws_kms as kms,
    aws_sns as sns,
    aws_sns_subscriptions as subscriptions,
)
from constructs import Construct

from coordinator.job import Job
from coordinator.rules.transport import tries_seconds
from infra.checks import schedules
from infra.cron import parse_cron
from infra.names import Names
from infra.observability import HOUR, Metrics
from infra.options import Options
from infra.queues import LostTriggers, Queues
from infra.state_machine import StateMachine

DEAD_LETTER_PERIODS = 3  # of five minutes, in each of which there was one
FAILING_PERCENT = 20
THROTTLED_A_PERIOD = 10
LONGEST_WATCH_HOURS = 7 * 24  # CloudWatch looks back a week at most
LATE_HOURS = 2  # for a change of the clock, and for a start that is retried

# Alarms that can wait until somebody is at work: the run goes on, or is as it should be.
TICKETS = frozenset(
    {"budget-passed", "dead-letters", "long-run", "shards-failing", "shards-waiting", "throttled"}
)

BAD_ENDS = ("FAILED", "ABORTED", "TIMED_OUT")


class Alarms(Construct):
    """The alarms of a job, and the topic they go to if one is wanted; those that can wait have one of
    their own, if that is wanted too."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        job: Job,
        names: Names,
        options: Options,
        metrics: Metrics,
        queues: Queues,
        lost: LostTriggers | None,
        key: kms.IKey | None,
    ) -> None:
        super().__init__(scope, construct_id)
        self._job = job
        self._names = names
        self._options = options
        self._metrics = metrics
        self.topic = self._topic(key)
        self._tickets = self.topic
        if options.ticket_topic is not None:
            self._tickets = sns.Topic.from_topic_arn(self, "Tickets", options.ticket_topic)
        self._watch_runs()
        self._watch_shards(queues)
        if lost is not None:
            self._watch_triggers(lost)

    # -- what is watched -------------------------------------------------------------------------

    def _watch_runs(self) -> None:
        self._alarm(
            "run-failed", "a run failed, was stopped or timed out", self._metrics.failed_runs()
        )
        budget = self._job.limits.budget_dollars
        if budget is not None:
            self._alarm(
                "budget-passed",
                f"a run cost more than its budget of {budget} dollars",
                self._metrics.own("RunDollars", "Maximum"),
                threshold=budget,
                comparison=cw.ComparisonOperator.GREATER_THAN_THRESHOLD,
            )
        long = self._options.long_run_hours
        self._alarm(
            "long-run",
            f"a run has been going on for more than {long} hours",
            self._metrics.own("RunSeconds", "Maximum"),
            threshold=long * 3600,
            comparison=cw.ComparisonOperator.GREATER_THAN_THRESHOLD,
        )
        hours = longest_silence_hours(self._job)
        if hours is not None:
            self._alarm(
                "schedule-missed",
                f"no run began in {hours} hours, though the schedule wanted one",
                self._metrics.executions("Started", period=HOUR),
                comparison=cw.ComparisonOperator.LESS_THAN_THRESHOLD,
                periods=hours,
                missing=cw.TreatMissingData.BREACHING,
            )

    def _watch_shards(self, queues: Queues) -> None:
        self._alarm(
            "shards-failing",
            f"over {FAILING_PERCENT}% of the shards that ended have failed, for 15 minutes",
            self._metrics.failing_share(),
            threshold=FAILING_PERCENT,
            comparison=cw.ComparisonOperator.GREATER_THAN_THRESHOLD,
            periods=3,
        )
        waited = tries_seconds(self._job.limits)
        self._alarm(
            "shards-waiting",
            f"a shard has waited for more than {math.ceil(waited / 60)} minutes, longer than all its "
            "tries may take: workers do not start, or are too few",
            self._metrics.age(queues.work, "queue"),
            threshold=waited,
            comparison=cw.ComparisonOperator.GREATER_THAN_THRESHOLD,
        )
        self._alarm(
            "dead-letters",
            f"there have been dead letters for {DEAD_LETTER_PERIODS * 5} minutes",
            self._metrics.held(queues.dead_letters, "dead letters"),
            periods=DEAD_LETTER_PERIODS,
        )
        self._alarm(
            "answers-denied",
            "a function may not answer the tokens of its shards, so their run waits",
            self._metrics.own("AnswersDenied", "Sum"),
        )
        throttles = {f"m{place}": metric for place, metric in enumerate(self._metrics.throttles())}
        self._alarm(
            "throttled",
            f"more than {THROTTLED_A_PERIOD} invocations in 5 minutes were refused, for 15 minutes",
            cw.MathExpression(
                expression=" + ".join(f"FILL({name}, 0)" for name in throttles),
                using_metrics=dict(throttles),
                period=Duration.minutes(5),
                label="throttled",
            ),
            threshold=THROTTLED_A_PERIOD,
            comparison=cw.ComparisonOperator.GREATER_THAN_THRESHOLD,
            periods=3,
        )

    def _watch_triggers(self, lost: LostTriggers) -> None:
        self._alarm(
            "trigger-lost",
            "a schedule, an upload or a notification could not be delivered",
            self._metrics.depth(lost.queue, "lost triggers"),
        )

    # -- how it is told --------------------------------------------------------------------------

    def tell_bad_ends(self, machine: StateMachine, lost: LostTriggers) -> None:
        """Send a line to the topic for every run that fails, is stopped or times out."""
        if self.topic is None:
            return
        run = events.EventField.from_path("$.detail.name")
        status = events.EventField.from_path("$.detail.status")
        text = (
            f"Fanfold job {self._names.job}: execution {run} ended as {status}. "
            f"See {self._runbook('run-failed')}."
        )
        events.Rule(
            self,
            "BadEnds",
            rule_name=f"{self._names.stack}-bad-ends",
            description=f"Tells of runs of the Fanfold job {self._names.job} that ended badly.",
            event_pattern=events.EventPattern(
                source=["aws.states"],
                detail_type=["Step Functions Execution Status Change"],
                detail={
                    "stateMachineArn": [machine.machine.state_machine_arn],
                    "status": list(BAD_ENDS),
                },
            ),
            targets=[
                targets.SnsTopic(
                    self.topic,
                    message=events.RuleTargetInput.from_text(text),
                    dead_letter_queue=lost.queue,
                )
            ],
        )

    def _topic(self, key: kms.IKey | None) -> sns.ITopic | None:
        """The topic by option: an existing one, or a new one that mails to an address."""
        if self._options.alarm_topic is not None:
            return sns.Topic.from_topic_arn(self, "Topic", self._options.alarm_topic)
        if self._options.alarm_email is None:
            return None
        topic = sns.Topic(self, "Topic", enforce_ssl=True, master_key=key)
        topic.add_subscription(subscriptions.EmailSubscription(self._options.alarm_email))
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                actions=["sns:Publish"],
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                resources=[topic.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": Stack.of(self).account}},
            )
        )
        return topic

    def _runbook(self, page: str) -> str:
        return f"{self._options.runbooks.rstrip('/')}/{page}.md"

    def _alarm(
        self,
        page: str,
        meaning: str,
        metric: cw.IMetric,
        *,
        threshold: float = 1,
        comparison: cw.ComparisonOperator = (
            cw.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD
        ),
        periods: int = 1,
        missing: cw.TreatMissingData = cw.TreatMissingData.NOT_BREACHING,
    ) -> None:
        """An alarm named like its page."""
        alarm = cw.Alarm(
            self,
            page,
            alarm_name=self._names.alarm(page),
            alarm_description=f"Fanfold job {self._names.job}: {meaning}. See {self._runbook(page)}",
            metric=metric,
            threshold=threshold,
            comparison_operator=comparison,
            evaluation_periods=periods,
            treat_missing_data=missing,
        )
        topic = self._tickets if page in TICKETS else self.topic
        if topic is not None:
            alarm.add_alarm_action(actions.SnsAction(topic))


def longest_silence_hours(job: Job) -> int | None:
    """After how many hours without a run a schedule was certainly missed.

    None if there is no schedule that fires again, or if CloudWatch can't look back so far.
    """
    gaps = [parse_cron(schedule.cron).longest_gap() for schedule in schedules(job)]
    hours = [math.ceil(gap.total_seconds() / 3600) + LATE_HOURS for gap in gaps if gap is not None]
    within = [count for count in hours if count <= LONGEST_WATCH_HOURS]
    return min(within, default=None)

"""The stack of one job, composed of one module a concern."""

from __future__ import annotations

from aws_cdk import CfnOutput, Stack, Tags, aws_lambda as lambda_
from constructs import Construct

from coordinator.job import Job
from infra.account import METADATA
from infra.alarms import Alarms
from infra.checks import check_job
from infra.functions import Functions
from infra.log_groups import LogGroups
from infra.names import Names
from infra.observability import Dashboard, Metrics
from infra.options import Options, given_options
from infra.queues import LostTriggers, Queues
from infra.state_machine import StateMachine
from infra.storage import Storage
from infra.triggers import Triggers


class JobStack(Stack):
    """Everything that one job needs on AWS; idle, it costs a dashboard, a few alarms, and a key if
    it has one.

    Args:
        job: in its stage.
        stage: the stage that it is deployed in, if it has others.
        job_module: where the job's module lies in the code asset.
        code: the asset that holds coordinator, functions, the job and all they import.

    Raises:
        JobInvalid: AWS would refuse the job.
    """

    def __init__(
        self,
        scope: Construct,
        *,
        job: Job,
        stage: str | None = None,
        job_module: str,
        options: Options,
        code: lambda_.Code,
    ) -> None:
        check_job(job, options)
        names = Names(job.name)
        super().__init__(
            scope,
            names.stack,
            stack_name=names.stack,
            description=f"Fanfold job {job.name}: fan-out batch runs, published to S3.",
        )
        self.job = job
        self.template_options.metadata = {METADATA: {"options": given_options(options)}}
        storage = Storage(self, "Storage", job=job, options=options)
        logs = LogGroups(self, "Logs", days=options.log_days, key=storage.service_key)
        queues = Queues(self, "Queues", names=names, limits=job.limits, storage=storage)
        functions = Functions(
            self,
            "Functions",
            job=job,
            stage=stage,
            job_module=job_module,
            names=names,
            options=options,
            code=code,
            storage=storage,
            queues=queues,
            logs=logs,
        )
        machine = StateMachine(
            self,
            "StateMachine",
            names=names,
            functions=functions,
            queues=queues,
            storage=storage,
            logs=logs,
            tracing=options.tracing,
        )
        self.told = options.alarm_topic is not None or options.alarm_email is not None
        lost = (
            LostTriggers(self, "LostTriggers", names=names, storage=storage)
            if job.triggers or self.told
            else None
        )
        metrics = Metrics(names=names, machine=machine, functions=functions, queues=queues)
        Dashboard(
            self, "Dashboard", job=job, names=names, metrics=metrics, queues=queues, lost=lost
        )
        alarms = Alarms(
            self,
            "Alarms",
            job=job,
            names=names,
            options=options,
            metrics=metrics,
            queues=queues,
            lost=lost,
            key=storage.service_key,
        )
        if lost is not None:
            alarms.tell_bad_ends(machine, lost)
            Triggers(
                self,
                "Triggers",
                job=job,
                names=names,
                machine=machine,
                lost=lost,
                bucket=storage.uploads,
            )
        self._tag(stage)
        self._tell(storage, machine, queues, functions)

    def _tag(self, stage: str | None) -> None:
        tags = {
            "job": self.job.name,
            "stage": stage,
            "owner": self.job.owner,
            "cost-centre": self.job.cost_centre,
        }
        for name, value in tags.items():
            if value:
                Tags.of(self).add(name, value)

    def _tell(
        self, storage: Storage, machine: StateMachine, queues: Queues, functions: Functions
    ) -> None:
        """Outputs: what the runbooks' commands ask the stack for, and the roles that other accounts
        have to let in."""
        outputs = {
            "Bucket": storage.bucket.bucket_name,
            "StateMachineArn": machine.machine.state_machine_arn,
            "QueueUrl": queues.work.queue_url,
            "DeadLetterQueueUrl": queues.dead_letters.queue_url,
            "PlanRoleArn": functions.roles["plan"].role_arn,
            "WorkRoleArn": functions.roles["work"].role_arn,
        }
        if storage.key is not None:
            outputs["KeyArn"] = storage.key.key_arn
        for name, value in outputs.items():
            CfnOutput(self, name, value=value)

"""The five functions: one asset, one role each, with exactly what each one does."""

from __future__ import annotations

import json
from collections.abc import Callable

from aws_cdk import Duration, aws_iam as iam, aws_lambda as lambda_
from constructs import Construct

from coordinator.job import Job
from coordinator.keys import JobKeys
from coordinator.rules.transport import (
    BURY_SECONDS,
    COORDINATOR_MEMORY_MB,
    COORDINATOR_SECONDS,
    METRICS,
)
from infra.arns import answered_arns, executions_arn
from infra.log_groups import LogGroups
from infra.names import Names
from infra.options import INVOCATIONS_A_POLLER, Options
from infra.policies import acknowledge, acknowledge_wildcards, allow
from infra.queues import Queues
from infra.storage import Storage

BURY_MEMORY_MB = 512
BURY_BATCH = 10
BURY_CONCURRENCY = 2
ALIAS = "live"


class Functions(Construct):
    """Plan, Reconcile, Work, Bury and Publish. `plan`, `reconcile` and `publish` are invoked by the
    state machine, `work` and `bury` by their queues."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        job: Job,
        stage: str | None,
        job_module: str,
        names: Names,
        options: Options,
        code: lambda_.Code,
        storage: Storage,
        queues: Queues,
        logs: LogGroups,
    ) -> None:
        super().__init__(scope, construct_id)
        self._logs = logs
        self._job = job
        self._names = names
        self._options = options
        self._code = code
        self._storage = storage
        self._environment = {
            "FANFOLD_BUCKET": storage.bucket.bucket_name,
            "FANFOLD_JOB_MODULE": job_module,
            "FANFOLD_TIMEOUT_SECONDS": str(job.limits.timeout_seconds),
            "POWERTOOLS_SERVICE_NAME": "fanfold",
            "POWERTOOLS_METRICS_NAMESPACE": METRICS,
            "LOG_LEVEL": "INFO",
            "PYTHONHASHSEED": "0",  # sets of a map iterate alike in every container
        }
        if stage:
            self._environment["FANFOLD_STAGE"] = stage
        if options.inputs:
            self._environment["FANFOLD_INPUTS"] = json.dumps(options.inputs)
        if not options.tracing:
            self._environment["POWERTOOLS_TRACE_DISABLED"] = "true"
        if options.requester_pays:
            self._environment["FANFOLD_REQUESTER_PAYS"] = "true"
        self._keys = JobKeys(job.name)
        self.all: dict[str, lambda_.Function] = {}
        self.roles: dict[str, iam.Role] = {}
        self.plan = self._coordinating("plan", self._allow_plan)
        self.reconcile = self._coordinating(
            "reconcile", lambda role: self._allow_reconcile(role, queues)
        )
        self.publish = self._coordinating("publish", self._allow_publish)
        self.work = self._work(queues)
        self.bury = self._bury(queues)

    # -- what each may do ------------------------------------------------------------------------

    def _allow_plan(self, role: iam.Role) -> None:
        self._storage.allow_reading(role, self._keys.runs)
        self._storage.allow_writing(role, self._keys.runs)
        self._storage.allow_finding_inputs(role)
        self._storage.allow_reading_inputs(role)  # headers, and objects that list inputs
        # whether the owner of a run it meets is alive
        allow(
            role,
            "states:DescribeExecution",
            on=[executions_arn(self, self._names)],
            why="Any execution of this machine may be the owner that it meets.",
        )

    def _allow_reconcile(self, role: iam.Role, queues: Queues) -> None:
        self._storage.allow_reading(role, self._keys.runs)
        self._storage.allow_writing(role, self._keys.runs)
        # whether a wave of which nothing is heard waits behind others
        allow(role, "sqs:GetQueueAttributes", on=[queues.work.queue_arn])

    def _allow_publish(self, role: iam.Role) -> None:
        visible = (self._keys.published, *self._keys.pointer_keys())
        self._storage.allow_reading(role, self._keys.runs, *visible)
        self._storage.allow_writing(role, self._keys.runs, *visible)

    def _allow_work(self, role: iam.Role) -> None:
        self._storage.allow_reading(role, self._keys.runs, self._keys.results)
        self._storage.allow_writing(role, self._keys.runs, self._keys.results)
        self._storage.allow_reading_inputs(role, probes=True)
        self._allow_answering(role)

    def _allow_bury(self, role: iam.Role) -> None:
        self._storage.allow_reading(role, self._keys.runs)
        self._storage.allow_writing(role, self._keys.any_run().notes("*"), in_parts=False)
        self._allow_answering(role)

    def _allow_answering(self, role: iam.Role) -> None:
        """Allow to answer tokens of this machine's executions and of the children of its Map."""
        allow(
            role,
            "states:SendTaskSuccess",
            "states:SendTaskFailure",
            on=answered_arns(self, self._names),
            why="What a token's answer is checked against is not documented; all are this job's.",
        )

    # -- functions -------------------------------------------------------------------------------

    def _coordinating(self, role: str, allow_it: Callable[[iam.Role], None]) -> lambda_.IFunction:
        function = self._function(role, COORDINATOR_MEMORY_MB, COORDINATOR_SECONDS, allow_it)
        return self._invocable(function)

    def _work(self, queues: Queues) -> lambda_.IFunction:
        limits = self._job.limits

        def allow_it(role: iam.Role) -> None:
            self._allow_work(role)
            queues.allow_consuming(role, queues.work, delaying=True)

        function = self._function(
            "work",
            limits.memory_mb,
            limits.timeout_seconds,
            allow_it,
            # The mapping never starts more than are reserved, so that none is throttled:
            # a throttled message has used up a receive.
            reserved=limits.concurrency if self._options.reserved else None,
        )
        invocable = self._invocable(function)
        lambda_.EventSourceMapping(
            self,
            "WorkFromQueue",
            target=invocable,
            event_source_arn=queues.work.queue_arn,
            batch_size=1,
            report_batch_item_failures=True,
            max_concurrency=None if self._options.provisioned_pollers else limits.concurrency,
            provisioned_poller_config=self._pollers(),
        )
        return invocable

    def _pollers(self) -> lambda_.ProvisionedPollerConfig | None:
        wanted = self._options.provisioned_pollers
        if wanted is None:
            return None
        most = self._job.limits.concurrency // INVOCATIONS_A_POLLER
        return lambda_.ProvisionedPollerConfig(
            minimum_pollers=wanted.minimum, maximum_pollers=wanted.maximum or most
        )

    def _bury(self, queues: Queues) -> lambda_.IFunction:
        def allow_it(role: iam.Role) -> None:
            self._allow_bury(role)
            queues.allow_consuming(role, queues.dead_letters)

        invocable = self._invocable(self._function("bury", BURY_MEMORY_MB, BURY_SECONDS, allow_it))
        lambda_.EventSourceMapping(
            self,
            "BuryFromDeadLetters",
            target=invocable,
            event_source_arn=queues.dead_letters.queue_arn,
            batch_size=BURY_BATCH,
            report_batch_item_failures=True,
            max_concurrency=BURY_CONCURRENCY,
        )
        return invocable

    def _function(
        self,
        role_name: str,
        memory_mb: int,
        seconds: int,
        allow_it: Callable[[iam.Role], None],
        *,
        reserved: int | None = None,
    ) -> lambda_.Function:
        name = self._names.function(role_name)
        name_here = role_name.capitalize()
        log_group = self._logs.group(f"{name_here}Logs", f"/aws/lambda/{name}")
        role = iam.Role(
            self,
            f"{name_here}Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
        )
        allow(role, "logs:CreateLogStream", "logs:PutLogEvents", on=[log_group.log_group_arn])
        allow_it(role)
        if self._options.tracing:
            acknowledge_wildcards(role, ["*"], "X-Ray's PutTraceSegments takes no resource.")
        function = lambda_.Function(
            self,
            name_here,
            function_name=name,
            description=f"Fanfold job {self._job.name}: {role_name}",
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=lambda_.Architecture.ARM_64,
            handler=f"functions.{role_name}.handler",
            code=self._code,
            role=role,
            memory_size=memory_mb,
            timeout=Duration.seconds(seconds),
            reserved_concurrent_executions=reserved,
            tracing=lambda_.Tracing.ACTIVE if self._options.tracing else None,
            log_group=log_group,
            environment=self._environment,
            snap_start=lambda_.SnapStartConf.ON_PUBLISHED_VERSIONS
            if self._options.snap_start
            else None,
        )
        acknowledge(
            function,
            "AwsSolutions-L1",
            "Python 3.13 is what the bundle is built and tested for; it is moved with the pins.",
        )
        self.all[role_name] = function
        self.roles[role_name] = role
        return function

    def _invocable(self, function: lambda_.Function) -> lambda_.IFunction:
        """The function; with SnapStart an alias of its version, for only versions have snapshots."""
        if not self._options.snap_start:
            return function
        return lambda_.Alias(function, "Alias", alias_name=ALIAS, version=function.current_version)

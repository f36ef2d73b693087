"""The state machine of coordinator/run.asl.json, and what its role may do."""

from __future__ import annotations

from importlib import resources

from aws_cdk import Aws, aws_stepfunctions as sfn
from constructs import Construct

from infra.arns import executions_arn, machine_arn
from infra.functions import Functions
from infra.log_groups import LogGroups
from infra.names import FAN_OUT_LABEL, Names
from infra.policies import acknowledge, acknowledge_wildcards, allow, service_role
from infra.queues import Queues
from infra.storage import Storage

CHILDREN = "The * stands for the names of the Map's children, which Step Functions makes up."


def definition() -> str:
    """The state machine as it lies in coordinator, with names in place of ARNs; its services are
    those of the partition that it is deployed to."""
    text = resources.files("coordinator").joinpath("run.asl.json").read_text(encoding="utf-8")
    return text.replace("arn:aws:", f"arn:{Aws.PARTITION}:")


class StateMachine(Construct):
    """The machine of one job."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        names: Names,
        functions: Functions,
        queues: Queues,
        storage: Storage,
        logs: LogGroups,
        tracing: bool,
    ) -> None:
        super().__init__(scope, construct_id)
        machine = machine_arn(self, names)
        self.role = service_role(
            self,
            "Role",
            "states.amazonaws.com",
            sources=[machine, f"{machine}/{FAN_OUT_LABEL}"],
        )
        invoked = (functions.plan, functions.reconcile, functions.publish)
        allow(
            self.role, "lambda:InvokeFunction", on=[function.function_arn for function in invoked]
        )
        queues.allow_sending(self.role)
        storage.allow_map_files(self.role)
        self._allow_children(names)
        self.machine = sfn.StateMachine(
            self,
            "Machine",
            state_machine_name=names.stack,
            role=self.role,
            definition_body=sfn.DefinitionBody.from_string(definition()),
            definition_substitutions={
                "PlanFunctionArn": functions.plan.function_arn,
                "ReconcileFunctionArn": functions.reconcile.function_arn,
                "PublishFunctionArn": functions.publish.function_arn,
                "QueueUrl": queues.work.queue_url,
            },
            tracing_enabled=tracing,
            # Without data: it holds task tokens, and whoever has one can answer it.
            logs=sfn.LogOptions(
                destination=logs.group("MachineLogs", f"/aws/vendedlogs/states/{names.stack}"),
                level=sfn.LogLevel.ERROR,
                include_execution_data=False,
            ),
        )
        acknowledge_wildcards(
            self.role,
            ["*"],
            "X-Ray and the delivery of logs (CreateLogDelivery and its like) take no resource.",
        )
        acknowledge(
            self.machine,
            "AwsSolutions-SF1",
            "Step Functions keeps every execution's whole history for 90 days, children too; "
            "logging it again would cost two lines a shard.",
        )

        if not tracing:
            acknowledge(
                self.machine,
                "AwsSolutions-SF2",
                "Traces cost by the shard, and a run's history shows what they would: by option.",
            )

    def _allow_children(self, names: Names) -> None:
        """Allow a Map to run its children, and a redrive to take up those of an open Map.

        Source: "IAM policies for using Distributed Map states", Step Functions developer guide;
        what CDK's own construct leaves out is in aws/aws-cdk issue 35390.
        """
        executions = executions_arn(self, names)
        children = executions_arn(self, names, FAN_OUT_LABEL)
        allow(self.role, "states:StartExecution", on=[machine_arn(self, names)])
        allow(
            self.role,
            "states:DescribeExecution",
            "states:StopExecution",
            on=[executions, children],
            why=CHILDREN,
        )
        allow(self.role, "states:RedriveExecution", on=[children], why=CHILDREN)

"""What the resources of a job are called: derived from its name alone, so that a runbook can say it.

Fixed names also let a policy name the state machine before it exists, which would otherwise be a
circle: the machine invokes Plan, and Plan describes the machine's executions.
"""

from __future__ import annotations

from dataclasses import dataclass

from aws_cdk import ArnFormat, Stack
from constructs import Construct

FAN_OUT_LABEL = "FanOut"

FUNCTION_NAME_SIGNS = 64
LONGEST_ROLE = "reconcile"


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one job's resources."""

    job: str

    @property
    def stack(self) -> str:
        """The stack, the state machine and the dashboard share one name."""
        return f"fanfold-{self.job}"

    @property
    def queue(self) -> str:
        return f"{self.stack}-work"

    @property
    def dead_letters(self) -> str:
        return f"{self.stack}-dead"

    @property
    def lost_triggers(self) -> str:
        return f"{self.stack}-lost-triggers"

    def function(self, role: str) -> str:
        return f"{self.stack}-{role}"

    def schedule(self, number: int) -> str:
        return f"{self.stack}-{number}"

    def upload_rule(self, number: int) -> str:
        return f"{self.stack}-upload-{number}"

    def alarm(self, runbook: str) -> str:
        return f"{self.stack}-{runbook}"

    # -- ARNs that policies need before their resource exists ------------------------------------

    def machine_arn(self, scope: Construct) -> str:
        return _arn(scope, "states", "stateMachine", self.stack)

    def executions_arn(self, scope: Construct, label: str = "") -> str:
        """All executions of the machine; with a label, the children of that Map."""
        machine = f"{self.stack}/{label}" if label else self.stack
        return _arn(scope, "states", "execution", f"{machine}:*")

    def answered_arns(self, scope: Construct) -> list[str]:
        """Every form under which AWS may check who answers a token of this machine: the machine, its
        Map's label, its versions and aliases, its executions, their children and their Map Runs.

        `SendTaskSuccess` has no resource type in the Service Authorization Reference.
        """
        machine = self.machine_arn(scope)
        children = f"{self.stack}/{FAN_OUT_LABEL}:*"
        return [
            machine,
            f"{machine}/*",
            f"{machine}:*",
            self.executions_arn(scope),
            self.executions_arn(scope, FAN_OUT_LABEL),
            _arn(scope, "states", "mapRun", children),
        ]

    def queue_arn(self, scope: Construct) -> str:
        stack = Stack.of(scope)
        return stack.format_arn(service="sqs", resource=self.queue)


def longest_job_name() -> int:
    """How long a job's name may be for the names of its functions to fit."""
    return FUNCTION_NAME_SIGNS - len(Names("").function(LONGEST_ROLE))


def _arn(scope: Construct, service: str, resource: str, name: str) -> str:
    return Stack.of(scope).format_arn(
        service=service,
        resource=resource,
        resource_name=name,
        arn_format=ArnFormat.COLON_RESOURCE_NAME,
    )

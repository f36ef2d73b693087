"""ARNs that policies need before their resource exists.

The machine invokes Plan, and Plan describes the machine's executions: named by its fixed name, that
is no circle.
"""

from __future__ import annotations

from aws_cdk import ArnFormat, Stack
from constructs import Construct

from infra.names import FAN_OUT_LABEL, Names


def machine_arn(scope: Construct, names: Names) -> str:
    """The state machine."""
    return _arn(scope, "states", "stateMachine", names.stack)


def executions_arn(scope: Construct, names: Names, label: str = "") -> str:
    """All executions of the machine; with a label, the children of that Map."""
    machine = f"{names.stack}/{label}" if label else names.stack
    return _arn(scope, "states", "execution", f"{machine}:*")


def answered_arns(scope: Construct, names: Names) -> list[str]:
    """Every form under which AWS may check who answers a token of this machine: the machine, its
    Map's label, its versions and aliases, its executions, their children and their Map Runs.

    `SendTaskSuccess` has no resource type in the Service Authorization Reference.
    """
    machine = machine_arn(scope, names)
    return [
        machine,
        f"{machine}/*",
        f"{machine}:*",
        executions_arn(scope, names),
        executions_arn(scope, names, FAN_OUT_LABEL),
        _arn(scope, "states", "mapRun", f"{names.stack}/{FAN_OUT_LABEL}:*"),
    ]


def queue_arn(scope: Construct, names: Names) -> str:
    """The work queue."""
    return Stack.of(scope).format_arn(service="sqs", resource=names.queue)


def _arn(scope: Construct, service: str, resource: str, name: str) -> str:
    return Stack.of(scope).format_arn(
        service=service,
        resource=resource,
        resource_name=name,
        arn_format=ArnFormat.COLON_RESOURCE_NAME,
    )

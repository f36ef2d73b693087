"""Policy statements, and the findings of cdk-nag that are answered instead of heeded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aws_cdk import Acknowledgment, Stack, Validations, aws_iam as iam
from constructs import Construct, IConstruct


def allow(
    role: iam.Role,
    *actions: str,
    on: Sequence[str],
    conditions: Mapping[str, Any] | None = None,
    why: str = "",
) -> None:
    """Allow a role these actions on these resources.

    Args:
        why: what the `*` in a resource stands for, and why nothing narrower is possible. Without
            it, cdk-nag refuses a resource with a `*`.
    """
    role.add_to_policy(
        iam.PolicyStatement(actions=list(actions), resources=list(on), conditions=conditions)
    )
    if why:
        acknowledge_wildcards(role, on, why)


def acknowledge_wildcards(role: iam.Role, resources: Sequence[str], why: str) -> None:
    """Answer cdk-nag's finding on each resource of a policy that holds a `*`."""
    stack = Stack.of(role)
    for resource in resources:
        flat = _flat(stack.resolve(resource))
        if "*" in flat:
            acknowledge(role, f"AwsSolutions-IAM5[Resource::{flat}]", why)


def service_role(
    scope: Construct, construct_id: str, service: str, *, sources: Sequence[str] = ()
) -> iam.Role:
    """A role that a service takes on, only for this account, and only for these sources if named."""
    conditions: dict[str, Any] = {"StringEquals": {"aws:SourceAccount": Stack.of(scope).account}}
    if sources:
        conditions["ArnLike"] = {"aws:SourceArn": list(sources)}
    principal = iam.ServicePrincipal(service)
    return iam.Role(scope, construct_id, assumed_by=principal.with_conditions(conditions))


def acknowledge(scope: IConstruct, rule: str, reason: str) -> None:
    """Answer a finding of cdk-nag, for a construct and all within it."""
    Validations.of(scope).acknowledge(Acknowledgment(id=rule, reason=reason))


def _flat(value: Any) -> str:
    """A CloudFormation expression as cdk-nag spells it: references in angle brackets."""
    if isinstance(value, str):
        return value.replace("${", "<").replace("}", ">")
    (function, argument), *_ = value.items()
    if function == "Fn::Join":
        delimiter, items = argument
        return str(delimiter).join(_flat(item) for item in items)
    if function == "Fn::GetAtt":
        return f"<{'.'.join(argument)}>"
    return f"<{argument}>" if function == "Ref" else _flat(argument)

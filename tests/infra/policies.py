"""What the roles of a template allow, evaluated as IAM would: resolved ARNs, matched by wildcard."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

PSEUDO = {"AWS::Partition": "aws", "AWS::Region": "us-east-1", "AWS::AccountId": "123456789012"}
ATTRIBUTES = {  # what Fn::GetAtt ... Arn gives, by the resource's type and name
    "AWS::SQS::Queue": ("QueueName", "arn:aws:sqs:us-east-1:123456789012:{}"),
    "AWS::Lambda::Function": (
        "FunctionName",
        "arn:aws:lambda:us-east-1:123456789012:function:{}",
    ),
    "AWS::Logs::LogGroup": (
        "LogGroupName",
        "arn:aws:logs:us-east-1:123456789012:log-group:{}:*",
    ),
}
WORK_BUCKET = "work-bucket"


@dataclass(frozen=True)
class Grant:
    """One action on one resource, with the condition on it."""

    action: str
    resource: str
    prefixes: tuple[str, ...] = ()

    def covers(self, action: str, resource: str, prefix: str | None = None) -> bool:
        """Whether it allows an action on a resource; `prefix` is that of a listing."""
        if self.action != action or not matches(self.resource, resource):
            return False
        if prefix is None or not self.prefixes:
            return True
        return any(matches(pattern, prefix) for pattern in self.prefixes)


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)


def matches(pattern: str, value: str) -> bool:
    """Whether IAM's pattern matches."""
    return _expression(pattern).fullmatch(value) is not None


class Policies:
    """The policies of the roles in a template."""

    def __init__(self, template: Mapping[str, Any], bucket: str = WORK_BUCKET) -> None:
        self._resources: Mapping[str, Any] = template["Resources"]
        self._bucket = bucket

    def roles(self) -> list[str]:
        return [name for name, each in self._resources.items() if each["Type"] == "AWS::IAM::Role"]

    def role_of(self, function: str) -> str:
        """The role of the function with this last step of a name."""
        for each in self._resources.values():
            if each["Type"] == "AWS::Lambda::Function":
                properties = each["Properties"]
                if properties["FunctionName"].rpartition("-")[2] == function:
                    role: str = properties["Role"]["Fn::GetAtt"][0]
                    return role
        raise KeyError(function)

    def role_of_machine(self) -> str:
        for each in self._resources.values():
            if each["Type"] == "AWS::StepFunctions::StateMachine":
                role: str = each["Properties"]["RoleArn"]["Fn::GetAtt"][0]
                return role
        raise KeyError("state machine")

    def statements(self, role: str) -> Iterator[Mapping[str, Any]]:
        """The statements of the policies of a role."""
        for each in self._resources.values():
            if each["Type"] != "AWS::IAM::Policy":
                continue
            if {"Ref": role} in each["Properties"]["Roles"]:
                yield from each["Properties"]["PolicyDocument"]["Statement"]

    def grants(self, role: str) -> set[Grant]:
        """What a role may do, an action and a resource at a time."""
        found = set()
        for statement in self.statements(role):
            assert statement["Effect"] == "Allow"
            condition = statement.get("Condition", {})
            assert set(condition) <= {"StringLikeIfExists"}
            prefixes = condition.get("StringLikeIfExists", {}).get("s3:prefix", ())
            for action in _listed(statement["Action"]):
                for resource in _listed(statement["Resource"]):
                    found.add(Grant(action, self.resolve(resource), tuple(_listed(prefixes))))
        return found

    def resolve(self, value: Any) -> str:
        """A CloudFormation expression as the text it will be."""
        if isinstance(value, str):
            return value
        ((function, argument),) = value.items()
        if function == "Fn::Join":
            delimiter, items = argument
            return str(delimiter).join(self.resolve(item) for item in items)
        if function == "Ref":
            return PSEUDO.get(argument) or self._reference(argument)
        assert function == "Fn::GetAtt", value
        name, attribute = argument
        assert attribute == "Arn", value
        return self._arn(name)

    def _reference(self, name: str) -> str:
        resource = self._resources[name]
        kind = resource["Type"]
        if kind == "AWS::S3::Bucket":
            return self._bucket
        if kind == "AWS::StepFunctions::StateMachine":
            machine = resource["Properties"]["StateMachineName"]
            return f"arn:aws:states:us-east-1:123456789012:stateMachine:{machine}"
        if kind == "AWS::Lambda::Alias":
            return f"{self.resolve(resource['Properties']['FunctionName'])}:live"
        if kind == "AWS::Lambda::Function":
            return self._arn(name)
        raise AssertionError(f"{name} is a {kind}")

    def _arn(self, name: str) -> str:
        resource = self._resources[name]
        kind = resource["Type"]
        if kind == "AWS::S3::Bucket":
            return f"arn:aws:s3:::{self._bucket}"
        if kind == "AWS::KMS::Key":
            return "arn:aws:kms:us-east-1:123456789012:key/new"
        property_name, pattern = ATTRIBUTES[kind]
        return pattern.format(resource["Properties"][property_name])


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]

"""A job deployed: its synthesised template, created by moto's CloudFormation.

Bucket, queues, roles, rules and state machine are those of the template. moto 5.2 lacks some of
what is in it, and only this is done here instead:

    what                        here
    --------------------------  -----------------------------------------------------------------
    DefinitionSubstitutions     written as the Fn::Join that they come to
    executions of the machine   it is created again, as it is, where moto runs them
    event source mappings       the harness polls the queues, as in tests/cloud
    a bucket's notifications    set by their own call
    schedules                   `scheduled_event` fills in the input of the template's schedule
    rules that start machines   `uploaded` keeps the events that they match, spelt as S3 does
    alarms, policies of         left out: moto has none of them
    resources, dashboards
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

from moto.events.models import Rule
from moto.sqs.models import sqs_backends
from moto.stepfunctions.models import stepfunctions_backends

from tests.cloud.account import Account
from tests.cloud.harness.functions import ACCOUNT, REGION
from tests.cloud.harness.mapping import Mapping as QueueMapping

ASSETS = f"cdk-hnb659fds-assets-{ACCOUNT}-{REGION}"
LEFT_OUT = {
    "AWS::CloudWatch::Alarm",
    "AWS::CloudWatch::Dashboard",
    "AWS::Lambda::EventSourceMapping",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::TopicPolicy",
    "AWS::SNS::Subscription",
    "AWS::SQS::QueuePolicy",
    "AWS::Scheduler::Schedule",
}


def for_moto(template: Mapping[str, Any]) -> dict[str, Any]:
    """The template as moto can read it."""
    resources = {}
    for name, resource in template["Resources"].items():
        if resource["Type"] in LEFT_OUT:
            continue
        properties = dict(resource.get("Properties", {}))
        if resource["Type"] == "AWS::StepFunctions::StateMachine":
            values = properties.pop("DefinitionSubstitutions")
            _, given = properties["DefinitionString"]["Fn::Join"]
            text = "".join(piece if isinstance(piece, str) else "aws" for piece in given)
            pieces = re.split(r"\$\{(\w+)\}", text)
            pieces[1::2] = [values[name] for name in pieces[1::2]]
            properties["DefinitionString"] = {"Fn::Join": ["", pieces]}
        kept = {key: value for key, value in resource.items() if key != "DependsOn"}
        resources[name] = {**kept, "Properties": properties}
    return {"Resources": resources, "Outputs": template["Outputs"]}


def as_s3_writes_it(event: Mapping[str, Any]) -> dict[str, Any]:
    """moto's Object Created event with the spelling of AWS's own."""
    found: dict[str, Any] = json.loads(json.dumps(event))
    found["time"] = datetime.fromtimestamp(found["time"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    item = found["detail"]["object"]
    item["etag"] = item.pop("eTag")
    if item["version-id"] is None:
        del item["version-id"]
    return found


class Deployed(Account):
    """An account in which the stack of a job was created."""

    def __init__(self, job: str, template: Mapping[str, Any], **options: Any) -> None:
        super().__init__(job, **options)
        self._template = template
        self.uploaded: list[dict[str, Any]] = []

    def _make_resources(self) -> None:
        self.s3 = self.client("s3")
        self.sqs = self.client("sqs")
        self.states = self.client("stepfunctions")
        self._put_code()
        formation = self.client("cloudformation")
        stack = f"fanfold-{self.job}"
        formation.create_stack(StackName=stack, TemplateBody=json.dumps(for_moto(self._template)))
        (described,) = formation.describe_stacks(StackName=stack)["Stacks"]
        outputs = {each["OutputKey"]: each["OutputValue"] for each in described["Outputs"]}
        self.bucket = outputs["Bucket"]
        self._notify()
        self.queue_url = outputs["QueueUrl"]
        self.dead_letter_url = outputs["DeadLetterQueueUrl"]
        (machine,) = stepfunctions_backends[ACCOUNT][REGION].state_machines
        self.definition = str(machine.definition)
        self.state_machine_arn = self.states.create_state_machine(
            name=machine.name, definition=self.definition, roleArn=machine.roleArn
        )["stateMachineArn"]
        assert self.state_machine_arn == outputs["StateMachineArn"]

    def _notify(self) -> None:
        """The bucket's notifications, as the template has them."""
        for resource in self._template["Resources"].values():
            told = resource.get("Properties", {}).get("NotificationConfiguration", {})
            if told.get("EventBridgeConfiguration", {}).get("EventBridgeEnabled"):
                self.s3.put_bucket_notification_configuration(
                    Bucket=self.bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
                )

    def _start_mappings(self) -> None:
        common: dict[str, Any] = {
            "backend": sqs_backends[ACCOUNT][REGION],
            "functions": self.functions,
            "records": self.records,
            "faults": self.faults,
            "changed": self._queues_changed,
            "settled": self._expire_if_unanswered,
        }
        stack = f"fanfold-{self.job}"
        source = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{stack}-work"
        work = QueueMapping(f"{stack}-work", "work", **common)
        bury = QueueMapping(f"{stack}-dead", "bury", source_arn=source, **common)
        self._mappings = [work, bury]
        work.start(self._pollers)
        bury.start(1)

    def _put_code(self) -> None:
        """What `cdk deploy` uploads first."""
        self.s3.create_bucket(Bucket=ASSETS)
        for resource in self._template["Resources"].values():
            if resource["Type"] == "AWS::Lambda::Function":
                key = resource["Properties"]["Code"]["S3Key"]
                self.s3.put_object(Bucket=ASSETS, Key=key, Body=b"")

    def invoke(self, function: str, event_json: str) -> Any:
        """The function of that name, if it is one of this stack."""
        stack, _, role = function.rpartition("-")
        assert stack == f"fanfold-{self.job}"
        return super().invoke(role, event_json)

    # Triggers -------------------------------------------------------------------------------------

    @contextmanager
    def watching_uploads(self) -> Iterator[None]:
        """Collect in `uploaded` what the stack's rules would start the machine with."""
        original = Rule.send_to_targets

        def send(rule: Rule, event: Any, transform_input: bool = True) -> None:
            if self.state_machine_arn not in [target["Arn"] for target in rule.targets]:
                original(rule, event, transform_input)
            elif rule.event_pattern.matches_event(event):
                self.uploaded.append(as_s3_writes_it(event))

        with patch.object(Rule, "send_to_targets", send):
            yield

    def scheduled_event(self, scheduled_time: str) -> Any:
        """What the template's schedule starts the machine with at a time."""
        (schedule,) = (
            each["Properties"]
            for each in self._template["Resources"].values()
            if each["Type"] == "AWS::Scheduler::Schedule"
        )
        text: str = schedule["Target"]["Input"]
        return json.loads(text.replace("<aws.scheduler.scheduled-time>", scheduled_time))

"""Mistakes in the templates of the stacks, made in what was synthesised."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from tests.infra.conftest import Synthesised

Template = dict[str, Any]
Resources = dict[str, Any]
Properties = dict[str, Any]
Edit = Callable[[Resources], None]
TemplateTest = Callable[[Synthesised], None]


@dataclass(frozen=True, slots=True)
class TemplateMistake:
    """An edit of the resources of a job's stack, and the tests of which at least one must fail."""

    job: str
    edit: Edit
    found_by: tuple[TemplateTest, ...]

    @property
    def name(self) -> str:
        return self.edit.__name__.replace("_", " ")


@dataclass(frozen=True)
class Edited(Synthesised):
    """The synthesised stacks, the template of one of them with a mistake in it."""

    job: str = ""
    wrong: Template = field(default_factory=dict)

    def template(self, job: str) -> Template:
        return deepcopy(self.wrong) if job == self.job else super().template(job)


def edited(right: Synthesised, mistake: TemplateMistake) -> Edited:
    """The stacks with a mistake."""
    template = right.template(mistake.job)
    wrong = deepcopy(template)
    mistake.edit(wrong["Resources"])
    assert wrong != template, f"{mistake.name} changes nothing"
    return Edited(right.folder, mistake.job, wrong)


# ------------------------------------------------------------------------------------------------
# What an edit takes hold of
# ------------------------------------------------------------------------------------------------


def every(resources: Resources, kind: str) -> Iterator[Properties]:
    """The properties of all resources of a type."""
    for resource in resources.values():
        if resource["Type"] == kind:
            yield resource["Properties"]


def queue(resources: Resources, name: str) -> Properties:
    """The queue whose name ends so."""
    return _named(resources, "AWS::SQS::Queue", "QueueName", name)


def function(resources: Resources, role: str) -> Properties:
    """The function of a role."""
    return _named(resources, "AWS::Lambda::Function", "FunctionName", role)


def alarm(resources: Resources, page: str) -> Properties:
    """The alarm of a page."""
    return _named(resources, "AWS::CloudWatch::Alarm", "AlarmName", page)


def _named(resources: Resources, kind: str, naming: str, name: str) -> Properties:
    (found,) = (each for each in every(resources, kind) if each[naming].endswith(f"-{name}"))
    return found


def mapping(resources: Resources, queue: str) -> Properties:
    """The mapping that takes from the queue with this logical id."""
    (found,) = (
        properties
        for properties in every(resources, "AWS::Lambda::EventSourceMapping")
        if properties["EventSourceArn"]["Fn::GetAtt"][0].startswith(queue)
    )
    return found


def statements(resources: Resources, policy: str) -> list[dict[str, Any]]:
    """The statements of the policy with this logical id."""
    (found,) = (
        resource["Properties"]["PolicyDocument"]["Statement"]
        for name, resource in resources.items()
        if resource["Type"] == "AWS::IAM::Policy" and name.startswith(policy)
    )
    return list(found)


def statement(resources: Resources, policy: str, action: str) -> dict[str, Any]:
    """The statement of a policy that allows an action, on whatever comes first."""
    return next(
        each
        for each in statements(resources, policy)
        if action in (each["Action"] if isinstance(each["Action"], list) else [each["Action"]])
    )


def forbid(resources: Resources, policy: str, action: str) -> None:
    """Take an action out of a policy."""
    actions = statement(resources, policy, action)["Action"]
    actions.remove(action)


def metric(watching: Properties, number: int = 0) -> dict[str, Any]:
    """One of the metrics that an alarm reads."""
    found: dict[str, Any] = [each for each in watching["Metrics"] if "MetricStat" in each][number]
    return found

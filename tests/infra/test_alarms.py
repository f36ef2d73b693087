"""What each alarm watches, how it compares, and against what."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.infra.conftest import Synthesised
from tests.metrics import written

ALARM = "AWS::CloudWatch::Alarm"
OVER, AT_LEAST, UNDER = (
    "GreaterThanThreshold",
    "GreaterThanOrEqualToThreshold",
    "LessThanThreshold",
)
FUNCTIONS = ("plan", "reconcile", "publish", "work", "bury")


@dataclass(frozen=True)
class Read:
    """A metric as an alarm or a panel reads it."""

    name: str
    of: str
    statistic: str
    seconds: int = 300


@dataclass(frozen=True)
class Watch:
    """An alarm: what it reads, what it makes of it, and when it rings."""

    reads: tuple[Read, ...]
    comparison: str
    threshold: float
    periods: int = 1
    expression: str | None = None
    missing: str = "notBreaching"


MACHINE = "AWS/States StateMachineArn=fanfold-busy"
DEAD = "AWS/SQS QueueName=fanfold-busy-dead"
BUSY = {
    "run-failed": Watch(
        tuple(
            Read(f"Executions{end}", MACHINE, "Sum") for end in ("Failed", "Aborted", "TimedOut")
        ),
        AT_LEAST,
        1,
        expression="FILL(failed, 0) + FILL(aborted, 0) + FILL(timedout, 0)",
    ),
    "long-run": Watch((Read("RunSeconds", "Fanfold job=busy", "Maximum"),), OVER, 24 * 3600),
    "shards-waiting": Watch(
        (Read("ApproximateAgeOfOldestMessage", "AWS/SQS QueueName=fanfold-busy-work", "Maximum"),),
        OVER,
        8 * (120 + 60) + (2 + 4 + 8 + 16 + 32 + 64 + 128) + 120,
    ),
    "budget-passed": Watch((Read("RunDollars", "Fanfold job=busy", "Maximum"),), OVER, 5.0),
    "schedule-missed": Watch(
        (Read("ExecutionsStarted", MACHINE, "Sum", 3600),),
        UNDER,
        1,
        periods=3 * 24 + 2,
        missing="breaching",
    ),
    "shards-failing": Watch(
        (
            Read("ShardsFailed", "Fanfold job=busy", "Sum"),
            Read("ShardsDone", "Fanfold job=busy", "Sum"),
        ),
        OVER,
        20,
        periods=3,
        expression="100 * FILL(failed, 0) / (FILL(failed, 0) + FILL(done, 0) + 0.001)",
    ),
    "dead-letters": Watch(
        tuple(
            Read(f"ApproximateNumberOfMessages{state}", DEAD, "Maximum")
            for state in ("Visible", "NotVisible")
        ),
        AT_LEAST,
        1,
        periods=3,
        expression="FILL(waiting, 0) + FILL(hidden, 0)",
    ),
    "answers-denied": Watch((Read("AnswersDenied", "Fanfold job=busy", "Sum"),), AT_LEAST, 1),
    "throttled": Watch(
        tuple(
            Read("Throttles", f"AWS/Lambda FunctionName=fanfold-busy-{role}", "Sum")
            for role in FUNCTIONS
        ),
        OVER,
        10,
        periods=3,
        expression="FILL(m0, 0) + FILL(m1, 0) + FILL(m2, 0) + FILL(m3, 0) + FILL(m4, 0)",
    ),
    "trigger-lost": Watch(
        (
            Read(
                "ApproximateNumberOfMessagesVisible",
                "AWS/SQS QueueName=fanfold-busy-lost-triggers",
                "Maximum",
            ),
        ),
        AT_LEAST,
        1,
    ),
}


def test_what_each_alarm_watches_and_when_it_rings(synthesised: Synthesised) -> None:
    assert watches(synthesised, "busy") == BUSY


def test_every_alarm_rings_at_its_topic(synthesised: Synthesised) -> None:
    (topic,) = synthesised.resources("busy", "AWS::SNS::Topic")
    waits = {"dead-letters", "long-run", "shards-failing", "shards-waiting", "throttled"}
    for job, page, ticket in (
        ("busy", {"Ref": topic}, {"Ref": topic}),
        ("guest", OPTIONAL_TOPIC, OPTIONAL_TOPIC.replace(":alarms", ":tickets")),
    ):
        for alarm in synthesised.resources(job, ALARM).values():
            name = alarm["AlarmName"].removeprefix(f"fanfold-{job}-")
            wanted = ticket if name in waits or name == "budget-passed" else page
            assert alarm["AlarmActions"] == [wanted], name
            assert alarm.get("ActionsEnabled", True) is True


def test_whoever_alarms_may_publish_to_the_topic(synthesised: Synthesised) -> None:
    (policy,) = synthesised.resources("busy", "AWS::SNS::TopicPolicy").values()
    allowed = {
        statement["Principal"]["Service"]: statement["Action"]
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Allow"
    }
    assert allowed == dict.fromkeys(
        ("cloudwatch.amazonaws.com", "events.amazonaws.com"), "sns:Publish"
    )
    subscription = synthesised.only("busy", "AWS::SNS::Subscription")
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "on-call@example.com")


OPTIONAL_TOPIC = "arn:aws:sns:eu-west-1:123456789012:alarms"


def test_what_alarms_and_panels_read_is_what_functions_write(synthesised: Synthesised) -> None:
    known = written()
    for job in synthesised.jobs:
        read = [*alarmed(synthesised, job), *shown(synthesised, job)]
        assert ("Fanfold", "ShardsFailed", ("job",)) in read
        assert ("Fanfold", "ShardsFailed", ("job", "reason")) in read
        for namespace, name, dimensions in read:
            if namespace == "Fanfold":
                assert dimensions in known.get(name, ()), (job, name, dimensions)


def test_functions_write_where_alarms_and_panels_look(synthesised: Synthesised) -> None:
    for job in synthesised.jobs:
        for function in synthesised.resources(job, "AWS::Lambda::Function").values():
            variables = function["Environment"]["Variables"]
            assert variables["POWERTOOLS_METRICS_NAMESPACE"] == "Fanfold"
        named = {namespace for namespace, _, _ in alarmed(synthesised, job)}
        assert named <= {"Fanfold", "AWS/States", "AWS/SQS", "AWS/Lambda"}


# What a template says of them --------------------------------------------------------------------


def watches(synthesised: Synthesised, job: str) -> dict[str, Watch]:
    """The alarms of a job, by the name of their page."""
    found = {}
    for alarm in synthesised.resources(job, ALARM).values():
        metrics = alarm["Metrics"]
        (told,) = (each for each in metrics if each.get("ReturnData", True))
        found[alarm["AlarmName"].removeprefix(f"fanfold-{job}-")] = Watch(
            tuple(
                _read(synthesised, job, each["MetricStat"])
                for each in metrics
                if "MetricStat" in each
            ),
            alarm["ComparisonOperator"],
            alarm["Threshold"],
            alarm["EvaluationPeriods"],
            told.get("Expression"),
            alarm["TreatMissingData"],
        )
        assert (
            alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"])
            == (alarm["EvaluationPeriods"])
        )
    return found


def _read(synthesised: Synthesised, job: str, statistic: dict[str, Any]) -> Read:
    metric = statistic["Metric"]
    of = " ".join(
        f"{each['Name']}={_named(synthesised, job, each['Value'])}" for each in metric["Dimensions"]
    )
    return Read(
        metric["MetricName"],
        f"{metric['Namespace']} {of}",
        statistic["Stat"],
        statistic["Period"],
    )


def _named(synthesised: Synthesised, job: str, value: Any) -> str:
    """The name of the resource that a dimension refers to, or the text that it is."""
    if isinstance(value, str):
        return value
    resource = value.get("Ref") or value["Fn::GetAtt"][0]
    properties = synthesised.template(job)["Resources"][resource]["Properties"]
    names = ("QueueName", "FunctionName", "StateMachineName")
    return next(str(properties[name]) for name in names if name in properties)


Named = tuple[str, str, tuple[str, ...]]


def alarmed(synthesised: Synthesised, job: str) -> Iterator[Named]:
    """Namespace, name and dimensions of every metric that an alarm reads."""
    for alarm in synthesised.resources(job, ALARM).values():
        for each in alarm["Metrics"]:
            if "MetricStat" in each:
                metric = each["MetricStat"]["Metric"]
                dimensions = sorted(one["Name"] for one in metric["Dimensions"])
                yield metric["Namespace"], metric["MetricName"], tuple(dimensions)


def shown(synthesised: Synthesised, job: str) -> Iterator[Named]:
    """Namespace, name and dimensions of every metric of ours that a panel reads."""
    body = synthesised.only(job, "AWS::CloudWatch::Dashboard")["DashboardBody"]
    text = "".join(part if isinstance(part, str) else "x" for part in body["Fn::Join"][1])
    for widget in json.loads(text)["widgets"]:
        for line in widget["properties"].get("metrics", []):
            if isinstance(line[0], str):
                yield line[0], line[1], tuple(sorted(_dimensions(line)))
            search = re.search(r"{(\w+),([\w,]+)} MetricName=\"(\w+)\"", str(line[0]))
            if search:
                yield search[1], search[3], tuple(sorted(search[2].split(",")))


def _dimensions(line: list[Any]) -> list[str]:
    """The names among a panel's names and values of dimensions."""
    pairs = [each for each in line[2:] if isinstance(each, str)]
    return pairs[::2]

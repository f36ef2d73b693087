"""Alarms, their runbooks, and the dashboard."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from coordinator.formats.lines import Lines
from coordinator.job import Job
from coordinator.triggers import Schedule
from infra.alarms import longest_silence_hours
from tests.infra.conftest import REPOSITORY, Synthesised
from tests.metrics import written

RUNBOOKS = REPOSITORY / "docs" / "runbooks"
ALARM = "AWS::CloudWatch::Alarm"
SHOWN = {
    "ShardsDone", "ShardsSplit", "ShardsFailed", "Records", "Bytes", "ShardSeconds", "Attempts",
    "FreshnessSeconds", "RunsPublished", "RunDollars", "PeakMemoryBytes",
}  # fmt: skip


def alarms(synthesised: Synthesised, job: str) -> dict[str, dict[str, Any]]:
    """The alarms of a job by the name of their runbook."""
    return {
        each["AlarmName"].removeprefix(f"fanfold-{job}-"): each
        for each in synthesised.resources(job, ALARM).values()
    }


def pages() -> list[Path]:
    return [path for path in sorted(RUNBOOKS.glob("*.md")) if path.name != "README.md"]


def test_every_alarm_has_its_runbook_and_every_runbook_its_alarm(synthesised: Synthesised) -> None:
    rung = {name for job in synthesised.jobs for name in alarms(synthesised, job)}
    assert rung == {path.stem for path in pages()}
    contents = (RUNBOOKS / "README.md").read_text()
    for name in rung:
        assert f"[{name}]({name}.md)" in contents


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_a_runbook_says_what_how_and_what_to_do(page: Path) -> None:
    text = page.read_text()
    assert re.search(r"^# .*\n\n\*\*Means\.\*\* .*", text)
    assert "**See it.**" in text
    assert "**Do.**" in text
    assert "```sh\naws " in text or "\naws " in text
    for link in re.findall(r"\]\(([\w-]+\.md)\)", text):
        assert (RUNBOOKS / link).exists()


def test_an_alarm_says_what_it_means_and_where_to_read_on(synthesised: Synthesised) -> None:
    for name, alarm in alarms(synthesised, "plain").items():
        assert alarm["AlarmDescription"].endswith(f". See docs/runbooks/{name}.md")
        assert "AlarmActions" not in alarm
    for name, alarm in alarms(synthesised, "busy").items():
        assert alarm["AlarmDescription"].endswith(f"https://wiki/r/{name}.md")
        assert alarm["AlarmActions"]


def test_which_alarms_there_are(synthesised: Synthesised) -> None:
    always = {
        "run-failed", "long-run", "shards-failing", "shards-waiting", "dead-letters", "throttled",
        "answers-denied",
    }  # fmt: skip
    assert set(alarms(synthesised, "plain")) == always
    everything = always | {"budget-passed", "schedule-missed", "trigger-lost"}
    assert set(alarms(synthesised, "busy")) == everything
    # a monthly schedule pauses for longer than CloudWatch looks back
    assert set(alarms(synthesised, "sealed")) == always | {"trigger-lost"}


def test_a_run_that_fails_is_stopped_or_times_out_rings(synthesised: Synthesised) -> None:
    metrics = alarms(synthesised, "busy")["run-failed"]["Metrics"]
    names = {each["MetricStat"]["Metric"]["MetricName"] for each in metrics if "MetricStat" in each}
    assert names == {"ExecutionsFailed", "ExecutionsAborted", "ExecutionsTimedOut"}


def test_a_missed_schedule_rings_after_its_longest_pause(synthesised: Synthesised) -> None:
    alarm = alarms(synthesised, "busy")["schedule-missed"]
    assert alarm["EvaluationPeriods"] == 3 * 24 + 2  # over a weekend
    assert alarm["TreatMissingData"] == "breaching"


@pytest.mark.parametrize(
    ("crons", "hours"),
    [
        ([], None),
        (["*/5 * * * ? *"], 3),
        (["0 3 * * ? *"], 26),
        (["0 3 * * ? *", "0 15 * * ? *"], 26),
        (["0 3 ? * MON *"], None),
        (["0 3 ? * MON *", "0 3 ? * MON-FRI *"], 74),
    ],
)
def test_how_long_silence_may_last(crons: list[str], hours: int | None) -> None:
    job = Job(name="words", source=Lines(), triggers=[Schedule(cron) for cron in crons])
    assert longest_silence_hours(job) == hours


def test_no_alarm_looks_back_further_than_cloudwatch_does(synthesised: Synthesised) -> None:
    for job in synthesised.jobs:
        for alarm in alarms(synthesised, job).values():
            periods = {
                each["MetricStat"]["Period"] for each in alarm["Metrics"] if "MetricStat" in each
            }
            (period,) = periods
            most = 7 * 86_400 if period >= 3600 else 86_400
            assert alarm["EvaluationPeriods"] * period <= most


# Dashboard ----------------------------------------------------------------------------------------


def widgets(synthesised: Synthesised, job: str) -> list[dict[str, Any]]:
    body = synthesised.only(job, "AWS::CloudWatch::Dashboard")["DashboardBody"]
    text = "".join(part if isinstance(part, str) else "x" for part in body["Fn::Join"][1])
    found: list[dict[str, Any]] = json.loads(text)["widgets"]
    return found


def test_the_dashboard_has_three_rows(synthesised: Synthesised) -> None:
    rows: dict[str, list[str]] = {}
    heading = ""
    for widget in widgets(synthesised, "busy"):
        if widget["type"] == "text":
            heading = widget["properties"]["markdown"].split(":")[0]
        else:
            rows.setdefault(heading, []).append(widget["properties"]["title"])
    assert rows == {
        "## Executive": [
            "Runs that succeeded", "Runs published", "Cost of runs", "Freshness of results",
        ],
        "## On call": [
            "Failed shards, by reason", "Age in the dead-letter queues", "Oldest shard waiting",
            "Oldest shard in work", "Retries",
        ],
        "## Debug": [
            "Duration of shards", "Records", "Bytes", "Throttled invocations", "Peak memory",
        ],
    }  # fmt: skip


def test_each_row_fills_the_grid(synthesised: Synthesised) -> None:
    widths: dict[int, int] = {}
    for widget in widgets(synthesised, "plain"):
        widths[widget["y"]] = widths.get(widget["y"], 0) + widget["width"]
    assert set(widths.values()) == {24}
    assert len(widths) == 6


def test_only_metrics_that_are_emitted_are_shown(synthesised: Synthesised) -> None:
    shown = json.dumps(widgets(synthesised, "busy"))
    named = set(re.findall(r'"Fanfold", "(\w+)", "job", "busy"', shown))
    named |= set(re.findall(r"{Fanfold,job,reason} MetricName=\W+(\w+)", shown))
    assert named == SHOWN
    assert named <= set(written())

"""What a person sees of the functions: log lines, metrics, and that they start with nothing set."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from functions import telemetry
from tests.cloud.account import FUNCTIONS, Account
from tests.cloud.conftest import MakeCloud
from tests.cloud.harness import about_shard, key_contains
from tests.cloud.test_faults import RUN, aws_error, lines
from tests.metrics import written

WriteJob = Callable[..., Path]
ROOT = Path(__file__).parents[2]
MARKER = "xyzzy"


def test_the_handlers_can_be_imported_with_no_environment() -> None:
    modules = [f"functions.{name}" for name in FUNCTIONS]
    code = (
        f"import importlib, sys; found = [importlib.import_module(name) for name in {modules}]; "
        "assert all(callable(module.handler) for module in found); print(' '.join(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env={}, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    imported = set(done.stdout.split())
    assert not imported & {"infra", "aws_cdk", "typer", "rich", "moto", "coordinator.cli"}


def test_a_function_that_is_not_configured_says_so(
    make_cloud: MakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = make_cloud("wordcount")
    monkeypatch.delenv("FANFOLD_BUCKET")
    ended = cloud.run({})
    assert ended.error == "JobInvalid"
    assert "environment lacks FANFOLD_BUCKET" in (ended.cause or "")


# Logs ---------------------------------------------------------------------------------------------


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the functions log."""
    handler: Any = telemetry.logger.registered_handler
    stream = io.StringIO()
    before = handler.setStream(stream)
    yield stream
    handler.setStream(before)


def logged(log: io.StringIO, function: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line for line in lines if line["function_name"] == function]


def eventful_run(cloud: Account) -> None:
    """A run in which shards are done, fail and try again, split, get lost, and meet no record."""
    cloud.give({**lines(5), "marked.txt": f"{MARKER} good\n{MARKER} bad\n".encode()})
    slow_down = aws_error("SlowDown", 503, "GetObject")
    cloud.faults.refuse(
        "s3.GetObject", error=slow_down, match=key_contains("inputs/001.txt"), nth=1
    )
    cloud.faults.deadline("work", 0, match=about_shard("2"), nth=1)
    cloud.faults.crash("work", match=about_shard("3"), nth=set(range(1, 6)))
    cloud.faults.deliver_twice(match=about_shard("4"))
    assert cloud.run(RUN).succeeded
    cloud.drain()


REFUSING = "if line.endswith('bad'): raise ValueError('no such line')"


def test_every_line_of_work_says_whose_it_is_and_nothing_of_records(
    make_cloud: MakeCloud, write_job: WriteJob, log: io.StringIO
) -> None:
    cloud = make_cloud(write_job(REFUSING, limits="tolerated=1"))
    eventful_run(cloud)

    found = logged(log, "work")
    assert {line["message"] for line in found} >= {"done", "split", "attempt failed"}
    for line in found:
        assert (line["job"], line["run"]) == ("words", "r1")
        assert line["stage"] in {"map", "merge"}
        assert line["shard"]
        assert line["wave"] > 0
        assert len(line["attempt"]) == 16
        assert line["function_request_id"]
    (buried,) = logged(log, "bury")
    assert (buried["shard"], buried["run"], buried["level"]) == ("3", "r1", "ERROR")
    for function in ("plan", "reconcile", "publish"):
        assert {line["run"] for line in logged(log, function)} == {"r1"}
    assert cloud.manifest("r1")["quarantined"] == 1
    assert MARKER.encode().upper() in cloud.result("r1")
    assert MARKER not in log.getvalue()


def test_what_a_job_says_of_its_records_is_not_logged(
    make_cloud: MakeCloud, write_job: WriteJob, log: io.StringIO
) -> None:
    failing = "from coordinator.errors import MapFailed; raise MapFailed(line)"
    cloud = make_cloud(write_job(failing, limits="waves=1"))
    cloud.give({"marked.txt": f"{MARKER}\n".encode()})

    assert MARKER in (cloud.run(RUN).cause or "")

    (failed,) = [line for line in logged(log, "work") if line["message"] == "attempt failed"]
    assert failed["error"] == "MapFailed"
    assert MARKER not in failed["reason"]


def test_lines_of_one_invocation_do_not_inherit_from_the_one_before(
    make_cloud: MakeCloud, write_job: WriteJob, log: io.StringIO
) -> None:
    cloud = make_cloud(write_job())
    cloud.give(lines(2))
    cloud.sqs.send_message(QueueUrl=cloud.queue_url, MessageBody="hello")
    assert cloud.run(RUN).succeeded
    cloud.drain()
    foreign = [line for line in logged(log, "bury") if line["message"] == "not a message of ours"]
    assert len(foreign) == 1
    assert not {"run", "shard", "attempt"} & set(foreign[0])


# Metrics ------------------------------------------------------------------------------------------


def emitted(output: str) -> dict[tuple[str, ...], list[float]]:
    """The values of every metric, by name and dimensions, from EMF lines."""
    found: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for line in output.splitlines():
        if not line.startswith("{") or '"_aws"' not in line:
            continue
        document = json.loads(line)
        for group in document["_aws"]["CloudWatchMetrics"]:
            assert group["Namespace"] == "Fanfold"
            (names,) = group["Dimensions"]
            dimensions = [f"{name}={document[name]}" for name in sorted(names)]
            for metric in group["Metrics"]:
                values = document[metric["Name"]]
                found[metric["Name"], *dimensions] += (
                    values if isinstance(values, list) else [values]
                )
    return found


def test_the_metrics_of_a_run(
    make_cloud: MakeCloud,
    write_job: WriteJob,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cloud = make_cloud(write_job(REFUSING, limits="tolerated=1"))
    monkeypatch.delenv("POWERTOOLS_METRICS_DISABLED")
    eventful_run(cloud)
    found = emitted(capsys.readouterr().out)

    dimensions: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for name, *values in found:
        dimensions[name].add(tuple(value.partition("=")[0] for value in values))
    wanted = written()
    del wanted["AnswersDenied"]  # nobody is denied here; test_messages.py has it
    assert dimensions == wanted
    totals = {name[0]: sum(values) for name, values in found.items() if len(name) == 2}
    assert {key[1] for key in found} == {"job=words"}
    splits, children = 1, len(cloud.entries("r1")) - 6
    assert totals["ShardsPlanned"] == 6
    assert totals["ShardsDone"] == 5 + children + 1
    assert totals["ShardsSplit"] == splits
    assert totals["ShardsFailed"] == 1
    assert found["ShardsFailed", "job=words", "reason=AttemptFailed"] == [1]
    assert totals["Attempts"] == totals["ShardsDone"] + splits + 1 + 1  # one failed, one doubled
    assert totals["Records"] >= 17
    assert totals["Bytes"] >= sum(map(len, lines(5).values()))
    assert totals["Quarantined"] == totals["RunQuarantined"] == 1
    assert totals["ShardSeconds"] > 0
    assert totals["PeakMemoryBytes"] > 0
    assert totals["ShardsDispatched"] == 6 + 1 + children + 1
    assert totals["RunsPublished"] == 1
    assert totals["RunDollars"] > 0
    assert 0 < totals["FreshnessSeconds"] < 300


def test_a_result_is_as_fresh_as_the_time_that_its_run_stands_for(
    make_cloud: MakeCloud,
    write_job: WriteJob,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cloud = make_cloud(write_job())
    monkeypatch.delenv("POWERTOOLS_METRICS_DISABLED")
    cloud.give(lines(1))
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    scheduled = {"schedule": "words-1", "scheduled_time": f"{an_hour_ago:%Y-%m-%dT%H:%M:%SZ}"}

    assert cloud.run(scheduled).succeeded

    (seconds,) = emitted(capsys.readouterr().out)["FreshnessSeconds", "job=words"]
    assert 3600 <= seconds < 7200

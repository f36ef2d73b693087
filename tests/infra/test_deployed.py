"""Every job of this repository, deployed by its template and started by its own triggers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coordinator.loading import job_names
from infra import commands
from infra.advice import DeploymentFailed
from tests.cloud.harness.functions import REGION
from tests.cloud.test_runs import INPUTS
from tests.infra.conftest import KEY_ARN, OUR_JOBS, Deploy


@pytest.mark.parametrize("module", job_names(OUR_JOBS))
def test_a_deployed_job_publishes_what_its_schedule_asks_for(deploy: Deploy, module: str) -> None:
    cloud = deploy(module)
    cloud.give(INPUTS[module]())
    ended = cloud.run(cloud.scheduled_event("2026-11-21T03:00:00Z"))
    assert ended.succeeded, (ended.error, ended.cause)
    assert ended.output["status"] == "published"
    assert cloud.latest() == ended.output["run"]["run_id"]
    assert ended.output["run"]["run_id"].startswith("at-20261121T030000Z-")
    assert cloud.results(ended.output["run"]["run_id"])


@pytest.mark.parametrize("module", job_names(OUR_JOBS))
def test_a_deployed_job_publishes_what_is_uploaded(deploy: Deploy, module: str) -> None:
    cloud = deploy(module)
    name, body = next(item for item in INPUTS[module]().items() if item[1])
    with cloud.watching_uploads():
        cloud.give({name: body})
    (event,) = cloud.uploaded
    assert event["detail"]["object"]["key"] == f"{cloud.job}/inputs/{name}"
    ended = cloud.run(event)
    assert ended.succeeded, (ended.error, ended.cause)
    assert ended.output["status"] == "published"
    assert cloud.manifest(ended.output["run"]["run_id"])["objects"] == 1


def test_nothing_that_a_run_writes_starts_another(deploy: Deploy) -> None:
    cloud = deploy("wordcount")
    with cloud.watching_uploads():
        cloud.give({"a.txt": b"to be"})
        (event,) = cloud.uploaded
        assert cloud.run(event).succeeded
    assert len(cloud.uploaded) == 1


def test_the_deployed_machine_is_ours(deploy: Deploy) -> None:
    cloud = deploy("wordcount")
    machine = json.loads(cloud.definition)
    functions = {
        state["Parameters"]["FunctionName"]
        for state in machine["States"].values()
        if state["Type"] == "Task"
    }
    prefix = "arn:aws:lambda:us-east-1:123456789012:function:fanfold-wordcount-"
    assert functions == {f"{prefix}{role}" for role in ("plan", "reconcile", "publish")}
    child = machine["States"]["FanOut"]["ItemProcessor"]["States"]["Shard"]
    assert child["Parameters"]["QueueUrl"] == cloud.queue_url
    work = cloud.sqs.get_queue_attributes(QueueUrl=cloud.queue_url, AttributeNames=["All"])
    redrive = json.loads(work["Attributes"]["RedrivePolicy"])
    assert redrive["deadLetterTargetArn"].endswith(":fanfold-wordcount-dead")
    assert Path(cloud.queue_url).name == "fanfold-wordcount-work"


def test_the_owner_of_another_bucket_is_told_what_to_allow(
    deploy: Deploy,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    cloud = deploy("wordcount")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    Path("cdk.json").write_text(json.dumps({"context": {"inputs": "s3://lake/raw/"}}))
    Path("fanfold.toml").write_text(f'[job.wordcount.options]\ninputKeys = "{KEY_ARN}"')

    commands.grants(str(OUR_JOBS / "wordcount.py"))

    printed = json.loads(capsys.readouterr().out)
    assert set(printed["keys"]) == {KEY_ARN}
    lists, _ = printed["buckets"]["lake"]["Statement"]
    roles = {role["Arn"] for role in cloud.client("iam").list_roles()["Roles"]}
    assert len(set(lists["Principal"]["AWS"])) == 2
    assert set(lists["Principal"]["AWS"]) <= roles
    with pytest.raises(DeploymentFailed, match="run `fanfold deploy` first"):
        commands.grants(str(OUR_JOBS / "thumbnails.py"))

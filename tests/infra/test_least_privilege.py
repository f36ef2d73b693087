"""What the functions call is what their roles allow, and nothing beyond.

One stack, and runs in which everything happens: both kinds of fan-out, uploads, lists of inputs,
shards that stumble, fail and crash, takeovers, late answers, versioned inputs. The calls are
recorded, and set against the policies of the stack that was deployed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.rules.probing import made_up
from tests.cloud.account import forget_everything
from tests.cloud.harness import key_contains
from tests.cloud.test_faults import aws_error
from tests.infra.calls import Call, Need, recorded
from tests.infra.conftest import Synthesised
from tests.infra.deployed import Deployed
from tests.infra.policies import Grant, Policies

ROLES = ("plan", "reconcile", "work", "bury", "publish")
JOB = "wordcount"
STUMBLING = """
from coordinator import Csv, Job, Limits, Text
from coordinator.errors import StoreUnavailable

job = Job(name="wordcount", source=Csv(), sink=Text(), limits=Limits(shard_items=1))
tripped = []

@job.map
def words(row):
    if row["word"] == "stumble" and not tripped:
        tripped.append(row)
        raise StoreUnavailable("The map asks to be tried again.")
    yield 1 if row["word"] == "wrong" else row["word"]
"""

# What Lambda's own mapping, logs and traces take: no call of ours.
OF_LAMBDA = {
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "logs:CreateLogStream",
    "logs:PutLogEvents",
    "xray:PutTraceSegments",
    "xray:PutTelemetryRecords",
}


class Observed:
    """A stack, and what its functions called."""

    def __init__(self, policies: Policies, machine_arn: str, calls: list[Call]) -> None:
        self.policies = policies
        self._machine_arn = machine_arn
        self._calls = calls

    def needs(self, role: str) -> set[Need]:
        return {
            need
            for call in self._calls
            if call.function == role
            for need in call.needs(self._machine_arn)
        }

    def grants(self, role: str) -> set[Grant]:
        return self.policies.grants(self.policies.role_of(role))


@pytest.fixture
def observed(
    synthesised: Synthesised, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Observed]:
    """Deploys, lets everything happen, and gives what was called."""
    path = tmp_path / "stumbling.py"
    path.write_text(STUMBLING)
    template = synthesised.template(JOB)
    with Deployed(JOB, template) as cloud:
        monkeypatch.setenv("FANFOLD_BUCKET", cloud.bucket)
        monkeypatch.setenv("FANFOLD_JOB_MODULE", str(path))
        monkeypatch.setenv("FANFOLD_TIMEOUT_SECONDS", "300")
        monkeypatch.setenv("POWERTOOLS_TRACE_DISABLED", "true")
        monkeypatch.setenv("POWERTOOLS_METRICS_DISABLED", "true")
        monkeypatch.setattr("functions.reconcile.INLINE_ITEMS", 1)
        forget_everything()
        with recorded() as calls:
            let_everything_happen(cloud)
        yield Observed(Policies(template, cloud.bucket), cloud.state_machine_arn, calls)
    forget_everything()


def csv(*words: str) -> bytes:
    return "\n".join(["word", *words, ""]).encode()


def let_everything_happen(cloud: Deployed) -> None:
    cloud.give({"a.csv": csv("to", "be"), "b.csv": csv("stumble"), "c.csv": csv("or")})
    # these are written twice by the SDK, so that their writer has to look whose they are
    lost = [
        cloud.faults.lose_response("s3.PutObject", match=key_contains(folder), nth=1)
        for folder in ("/results/", "/published/")
    ]
    assert cloud.run(cloud.scheduled_event("2026-11-21T03:00:00Z")).succeeded
    assert all(each.hits for each in lost)
    uploads_start_runs(cloud)
    answers_are_sent_late(cloud)
    shards_fail_and_crash(cloud)
    a_wave_is_silent(cloud)
    a_probe_is_run(cloud, "probe-1")
    inputs_have_versions(cloud)
    a_probe_is_run(cloud, "probe-2")


def a_probe_is_run(cloud: Deployed, run_id: str) -> None:
    for name, body in made_up(2):
        cloud.put(f"{JOB}/probe/{run_id}/{name}", body)
    folder = f"s3://{cloud.bucket}/{JOB}/probe/{run_id}/"
    assert cloud.run({"probe": run_id, "inputs": [folder]}).succeeded


def uploads_start_runs(cloud: Deployed) -> None:
    with cloud.watching_uploads():
        cloud.give({"d.csv": csv("not")})
        listed = {"inputs": [f"s3://{cloud.bucket}/{JOB}/inputs/a.csv"]}
        cloud.give({"some.inputs.json": json.dumps(listed).encode()})
    for event in cloud.uploaded:
        assert cloud.run(event).succeeded
    cloud.s3.delete_object(Bucket=cloud.bucket, Key=f"{JOB}/inputs/some.inputs.json")


def answers_are_sent_late(cloud: Deployed) -> None:
    """A message reaches Bury though its shard is done."""
    dead = cloud.records.events("work")[0]
    assert cloud.invoke(f"fanfold-{JOB}-bury", json.dumps(dead)).outcome == "answered"


def shards_fail_and_crash(cloud: Deployed) -> None:
    cloud.give({"e.csv": csv("wrong")})
    for _ in range(2):  # the second execution asks whether the first one is alive
        assert cloud.run({"run_id": "wrong"}).error == "ToleranceExceeded"
    cloud.s3.delete_object(Bucket=cloud.bucket, Key=f"{JOB}/inputs/e.csv")
    crash = cloud.faults.crash("work")
    assert cloud.run({"run_id": "crashed", "limits": {"waves": 1}}).error == "ShardsFailed"
    assert crash.hits
    cloud.faults.clear()
    assert cloud.run({"run_id": "crashed"}).succeeded


def a_wave_is_silent(cloud: Deployed) -> None:
    """Its items can't be read, so that Reconcile asks whether the queue is served."""
    unread = cloud.faults.refuse(
        "s3.GetObject", error=aws_error("AccessDenied", 403, "GetObject"),
        match=key_contains("/waves/"), nth=1,
    )  # fmt: skip
    assert cloud.run({"run_id": "silent"}).succeeded
    assert unread.hits


def inputs_have_versions(cloud: Deployed) -> None:
    versioning = {"Status": "Enabled"}
    cloud.s3.put_bucket_versioning(Bucket=cloud.bucket, VersioningConfiguration=versioning)
    forget_everything()
    assert cloud.run(cloud.scheduled_event("2026-11-22T03:00:00Z")).succeeded


def test_what_is_called_is_allowed_and_nothing_beyond(observed: Observed) -> None:
    for role in ROLES:  # one test: what it looks at takes seconds to happen
        assert observed.needs(role), role
        assert not refused(observed.needs(role), observed.grants(role)), role
        assert not unused(observed.needs(role), observed.grants(role)), role


def refused(needs: set[Need], grants: set[Grant]) -> list[Need]:
    """Calls that the role does not allow."""
    return [
        need
        for need in needs
        if not any(grant.covers(need.action, need.resource, need.prefix) for grant in grants)
    ]


def unused(needs: set[Need], grants: set[Grant]) -> list[Grant]:
    """Grants that no call needs."""
    return [
        grant
        for grant in grants
        if grant.action not in OF_LAMBDA
        and not explained(grant, grants)
        and not any(grant.covers(need.action, need.resource, need.prefix) for need in needs)
    ]


def explained(grant: Grant, grants: set[Grant]) -> bool:
    """Whether a grant that no call shows goes with one that calls do show.

    S3 says that a key is missing, and not that it is forbidden, only to those who may list. A
    writer that fails midway takes back the parts it has put.
    """
    if grant.action == "s3:ListBucket":
        return any(other.action == "s3:GetObject" for other in grants)
    if grant.action == "s3:AbortMultipartUpload":
        return Grant("s3:PutObject", grant.resource) in grants
    return False

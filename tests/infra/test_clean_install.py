"""What `pip install` gives: the wheel in a clean environment, outside the repository, sets up an
account and deploys a user's own job with the real CDK command line, against a server of moto's."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from uv import find_uv_bin

REPOSITORY = Path(__file__).parents[2]
REGION = "eu-west-1"
PATIENCE_SECONDS = 60.0

JOB = """
from coordinator import Job, Lines

job = Job(name="mine", source=Lines())

@job.map
def lines(line):
    yield line
"""


@pytest.fixture
def account() -> Iterator[str]:
    """The address of an AWS account that is empty."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await(port, server)
        yield f"http://localhost:{port}"
    finally:
        server.kill()
        server.wait()


def _await(port: int, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert server.poll() is None, "the server has ended"
            assert time.monotonic() < until, "the server does not listen"
            time.sleep(0.05)
        else:
            return


def _run(*command: str | Path) -> None:
    subprocess.run([*map(str, command)], check=True, capture_output=True)


@pytest.fixture
def fanfold(tmp_path: Path) -> Path:
    """The command as installed from the wheel, in an environment that has what it depends on."""
    uv, environment = find_uv_bin(), tmp_path / "environment"
    made = tmp_path / "wheels"
    build = [uv, "build", "--wheel", "--no-build-isolation", "--python", sys.executable]
    _run(*build, "--out-dir", made, REPOSITORY)
    _run(uv, "venv", "--python", sys.executable, environment)
    into = environment / "bin" / "python"
    _run(uv, "pip", "install", "--no-deps", "--python", into, *made.glob("*.whl"))
    [packages] = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return environment / "bin" / "fanfold"


def test_a_clean_install_sets_up_an_account_and_deploys_a_job_of_the_users(
    fanfold: Path, account: str, tmp_path: Path
) -> None:
    home = tmp_path / "project"
    (home / "jobs").mkdir(parents=True)
    (home / "jobs" / "mine.py").write_text(JOB)
    credentials = {
        "AWS_ENDPOINT_URL": account,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }

    def run(*arguments: str) -> str:
        left_out = {"PYTHONPATH", "VIRTUAL_ENV", "AWS_PROFILE"}
        usual = {name: value for name, value in os.environ.items() if name not in left_out}
        path = os.pathsep.join(
            folder
            for folder in usual["PATH"].split(os.pathsep)
            if Path(folder) != Path(sys.executable).parent
        )
        done = subprocess.run(
            [str(fanfold), *arguments],
            cwd=home,
            env={**usual, **credentials, "PATH": path, "CDK_HOME": str(tmp_path / "cdk-home")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def client(service: Any) -> Any:
        return boto3.client(
            service,
            endpoint_url=account,
            region_name=REGION,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    policy = "arn:aws:iam::aws:policy/PowerUserAccess"
    assert policy in run("bootstrap", "--execution-policy", policy, "--qualifier", "hnb659fds")
    run("deploy", "mine", "--yes")

    stacks = client("cloudformation").describe_stacks()["Stacks"]
    assert {stack["StackName"] for stack in stacks} == {"CDKToolkit", "fanfold-mine"}
    [machine] = client("stepfunctions").list_state_machines()["stateMachines"]
    assert machine["name"] == "fanfold-mine"
    assert len(client("lambda").list_functions()["Functions"]) == 5

    run("destroy", "mine", "--yes")
    assert not client("stepfunctions").list_state_machines()["stateMachines"]

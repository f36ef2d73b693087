"""Stacks synthesised once for all tests, and once for all processes that run them.

A synthesis takes seconds, most of them for all stacks alike. So there is one app, with a stack for
every way of deploying that a test asks about and for every job of this repository.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App, aws_lambda as lambda_
from aws_cdk.assertions import Template

from coordinator.loading import LoadedJob, job_names, load_job
from coordinator.triggers import OnUpload, Schedule
from infra.app import FLAGS, build
from infra.bundling import job_module
from infra.job_stack import JobStack
from infra.options import Options
from infra.settings import JobSettings, Settings
from tests.cloud.account import forget_everything
from tests.infra.deployed import Deployed

Deploy = Callable[[str], Deployed]

REPOSITORY = Path(__file__).parents[2]
OUR_JOBS = REPOSITORY / "jobs"

JOB = """
from coordinator import Job, Limits, Lines, OnUpload, Schedule

job = Job(name="{name}", source=Lines(), {declaration})

@job.map
def lines(line):
    yield line
"""

# One job for every way of deploying: what it declares, and its options.
DECLARATIONS = {
    "plain": "",
    "busy": """
        limits=Limits(timeout_seconds=120, memory_mb=512, concurrency=50, attempts=8,
                      budget_dollars=5.0),
        triggers=[Schedule("0 3 ? * MON-FRI *", "Europe/Berlin"), OnUpload("busy/inputs/"),
                  OnUpload("drop/", ".csv")],
        owner="data team", cost_centre="4711",
    """,
    "sealed": 'triggers=[Schedule("0 3 1 * ? *"), OnUpload("sealed/inputs/")],',
    "guest": 'triggers=[OnUpload("new/")],',
    "fast": "limits=Limits(concurrency=200),",
}
KEY_ARN = "arn:aws:kms:eu-west-1:123456789012:key/0b7d4e2c-0000-4000-8000-1234567890ab"
OPTIONS: dict[str, dict[str, Any]] = {
    "busy": {
        "tracing": True,
        "alarmEmail": "on-call@example.com",
        "versioned": True,
        "runbooks": "https://wiki/r/",
    },
    "sealed": {"kms": "new", "alarmEmail": "on-call@example.com"},
    "guest": {
        "bucket": "shared-bucket",
        "kms": KEY_ARN,
        "inputs": "s3://lake/raw/2026/*.csv,s3://lake/raw/extra/",
        "inputKeys": KEY_ARN,
        "uploads": "landing",
        "requesterPays": True,
        "alarmTopic": "arn:aws:sns:eu-west-1:123456789012:alarms",
        "ticketTopic": "arn:aws:sns:eu-west-1:123456789012:tickets",
        "logDays": 90,
    },
    "fast": {"provisionedPollers": "2-20", "snapStart": "true", "reserved": "true"},
}


SECONDS = 300  # for a test that has to wait for the synthesis, on a busy machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(SECONDS))


@dataclass(frozen=True)
class Synthesised:
    """The cloud assembly of all stacks."""

    folder: Path

    def path(self, job: str) -> Path:
        return self.folder / f"fanfold-{job}.template.json"

    def template(self, job: str) -> dict[str, Any]:
        """The template of a job's stack."""
        found: dict[str, Any] = json.loads(self.path(job).read_text())
        return found

    def resources(self, job: str, kind: str) -> dict[str, dict[str, Any]]:
        """The properties of all resources of a type, by logical id."""
        return {
            name: resource.get("Properties", {})
            for name, resource in self.template(job)["Resources"].items()
            if resource["Type"] == kind
        }

    def only(self, job: str, kind: str) -> dict[str, Any]:
        """The properties of the only resource of a type."""
        (found,) = self.resources(job, kind).values()
        return found

    def definition(self, job: str, partition: str = "aws") -> str:
        """The definition of a job's state machine, with its names not filled in."""
        _, pieces = self.only(job, "AWS::StepFunctions::StateMachine")["DefinitionString"][
            "Fn::Join"
        ]
        return "".join(piece if isinstance(piece, str) else partition for piece in pieces)

    def assertions(self, job: str) -> Template:
        return Template.from_json(self.template(job))

    @property
    def jobs(self) -> list[str]:
        """The names of all jobs that have a stack."""
        return sorted(
            path.name.removeprefix("fanfold-").removesuffix(".template.json")
            for path in self.folder.glob("*.template.json")
        )


def our_jobs() -> list[LoadedJob]:
    """The jobs of this repository, each with both triggers: those it declares, and those it lacks."""
    return [with_triggers(load_job(str(OUR_JOBS / f"{name}.py"))) for name in job_names(OUR_JOBS)]


def with_triggers(loaded: LoadedJob) -> LoadedJob:
    """A job that a schedule and an upload can start."""
    kinds = {type(trigger) for trigger in loaded.job.triggers}
    if Schedule not in kinds:
        loaded.job.triggers += (Schedule("0 3 * * ? *"),)
    if OnUpload not in kinds:
        loaded.job.triggers += (OnUpload(f"{loaded.job.name}/inputs/"),)
    return loaded


def write_jobs(folder: Path, declarations: dict[str, str]) -> Path:
    """A folder with a module for every declaration."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, declaration in declarations.items():
        text = JOB.format(name=name.replace("_", "-"), declaration=declaration)
        (folder / f"{name}.py").write_text(text)
    return folder


def written(folder: Path, files: dict[str, str]) -> Path:
    """A folder with these files in it, by their paths."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def empty_code(folder: Path) -> lambda_.Code:
    """A code asset that holds nothing of interest."""
    source = folder / "code"
    source.mkdir(exist_ok=True)
    (source / "empty.py").write_text("")
    return lambda_.Code.from_asset(str(source), asset_hash="0" * 64)


def synthesise(folder: Path) -> None:
    """Write the cloud assembly of everything."""
    jobs = write_jobs(folder / "jobs", DECLARATIONS)
    app = App(outdir=str(folder / "unfinished"), context={**FLAGS, "jobs": str(jobs)})
    own = {name: JobSettings(options=options) for name, options in OPTIONS.items()}
    build(app, lambda loaded: empty_code(folder), Settings(job=own, jobs=jobs))
    staged = load_job(str(jobs / "sealed.py"))
    JobStack(
        app,
        job=staged.job.in_stage("staging"),
        stage="staging",
        job_module=job_module(staged.path),
        options=Options(),
        code=empty_code(folder),
    )
    for loaded in our_jobs():
        JobStack(
            app,
            job=loaded.job,
            job_module=job_module(loaded.path),
            options=Options(),
            code=empty_code(folder),
        )
    app.synth()
    (folder / "unfinished").rename(folder / "out")


@pytest.fixture(scope="session")
def synthesised(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Synthesised:
    """The stacks, made by whichever process comes first."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    folder = shared / "synthesised"
    folder.mkdir(exist_ok=True)
    with (shared / "synthesised.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "out").exists():
            synthesise(folder)
    return Synthesised(folder / "out")


@pytest.fixture
def deploy(synthesised: Synthesised, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deploy]:
    """Deploys a job of this repository: the functions get the environment of the template."""
    with ExitStack() as stack:

        def make(module: str) -> Deployed:
            name = load_job(str(OUR_JOBS / f"{module}.py")).job.name
            deployed = stack.enter_context(Deployed(name, synthesised.template(name)))
            for each in synthesised.resources(name, "AWS::Lambda::Function").values():
                for variable, value in each["Environment"]["Variables"].items():
                    text = value if isinstance(value, str) else deployed.bucket
                    monkeypatch.setenv(variable, text)
            monkeypatch.setenv("POWERTOOLS_TRACE_DISABLED", "true")
            monkeypatch.setenv("POWERTOOLS_METRICS_DISABLED", "true")
            forget_everything()
            return deployed

        yield make
    forget_everything()

"""`fanfold deploy`, `diff`, `destroy` and `bootstrap`: CDK, run for one job.

The command line finds these by their entry points (group `fanfold.commands`), for coordinator
knows nothing of infra. Nothing heavy is imported here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.errors import InputInvalid
from infra import toolchain

JobName = Annotated[
    str, typer.Argument(help="A job: its name in the jobs folder, or the path of its .py.")
]
JobsFolder = Annotated[Path, typer.Option("--jobs", help="The folder of jobs.")]
Choices = Annotated[
    list[str] | None,
    typer.Option("--context", "-c", help="An option of docs/deploying.md, as name=value."),
]
Profile = Annotated[str | None, typer.Option(help="The AWS profile to use.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")]

DEFAULT_JOBS = Path("jobs")


def deploy(
    job: JobName,
    jobs: JobsFolder = DEFAULT_JOBS,
    context: Choices = None,
    profile: Profile = None,
    yes: Yes = False,
) -> None:
    """Create or change what a job needs on AWS."""
    approval = "never" if yes else "broadening"
    _run(["deploy", "--require-approval", approval], job, jobs, context, profile)


def diff(
    job: JobName, jobs: JobsFolder = DEFAULT_JOBS, context: Choices = None, profile: Profile = None
) -> None:
    """Show what deploying a job would change."""
    _run(["diff"], job, jobs, context, profile)


def destroy(
    job: JobName,
    jobs: JobsFolder = DEFAULT_JOBS,
    context: Choices = None,
    profile: Profile = None,
    yes: Yes = False,
) -> None:
    """Remove what a job has on AWS; its bucket, and the key if it has one, stay."""
    _run(["destroy", *(["--force"] if yes else [])], job, jobs, context, profile)


def grants(
    job: JobName,
    jobs: JobsFolder = DEFAULT_JOBS,
    context: Choices = None,
    profile: Profile = None,
) -> None:
    """Print what other accounts have to allow for a deployed job to read their buckets."""
    import json

    from coordinator.loading import load_job
    from infra.grants import Readers, bucket_policies, input_locations, key_policy
    from infra.options import read_request

    declared = load_job(job, jobs).job
    chosen = dict(_choice(item) for item in context or ())
    options = read_request({**toolchain.lasting_context(), **chosen}).options_of(declared.name)
    outputs = toolchain.outputs(f"fanfold-{declared.name}", profile)
    readers = Readers.from_outputs(declared.name, outputs)
    own = outputs["Bucket"]
    elsewhere = [it for it in input_locations(declared, options, own) if it.bucket != own]
    policies = {
        "buckets": bucket_policies(readers, elsewhere),
        "keys": {key: key_policy(readers, key) for key in options.input_keys},
    }
    typer.echo(json.dumps(policies, indent=2))


def bootstrap(
    profile: Profile = None,
    execution_policy: Annotated[
        list[str] | None,
        typer.Option(help="The ARN of a policy that deployments may use, instead of all."),
    ] = None,
    boundary: Annotated[
        str | None, typer.Option(help="The name of a permissions boundary for CDK's roles.")
    ] = None,
    qualifier: Annotated[
        str | None, typer.Option(help="What tells these resources from another bootstrap's.")
    ] = None,
    trust: Annotated[
        list[str] | None, typer.Option(help="An account that may deploy into this one.")
    ] = None,
) -> None:
    """Set up the account and region for CDK, once."""
    given = {
        "--cloudformation-execution-policies": ",".join(execution_policy or ()),
        "--custom-permissions-boundary": boundary,
        "--qualifier": qualifier,
    }
    options = [item for name, value in given.items() if value for item in (name, value)]
    options += [item for account in trust or () for item in ("--trust", account)]
    toolchain.bootstrap([*options, *_of(profile)], profile)


def _run(
    command: list[str], job: str, jobs: Path, context: list[str] | None, profile: str | None
) -> None:
    """Run a CDK command on the one stack of a job."""
    from coordinator.loading import load_job

    name = load_job(job, jobs).job.name  # a wrong job is said before Node starts
    chosen = dict(_choice(item) for item in context or ())
    toolchain.run_cdk(
        [*command, f"fanfold-{name}", *_of(profile)],
        context={**chosen, "jobs": str(jobs), "job": job},
    )


def _choice(item: str) -> tuple[str, str]:
    name, equals, value = item.partition("=")
    if not equals or not name:
        raise InputInvalid(f"-c {item} is no option: write name=value, as in -c versioned=true.")
    return name, value


def _of(profile: str | None) -> list[str]:
    return ["--profile", profile] if profile else []

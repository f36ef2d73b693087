"""`fanfold deploy`, `diff`, `destroy` and `bootstrap`: CDK, run for one job.

The command line finds these by their entry points (group `fanfold.commands`), for coordinator
knows nothing of infra. Nothing heavy is imported here.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra import toolchain
from infra.account import Account
from infra.advice import DeploymentFailed

if TYPE_CHECKING:
    from infra.deployment import Deployment

JobName = Annotated[
    str, typer.Argument(help="A job: its name in the jobs folder, or the path of its .py.")
]
JobsFolder = Annotated[
    Path | None, typer.Option("--jobs", help="The folder of jobs.", show_default="jobs")
]
Stage = Annotated[str | None, typer.Option(help="A stage of fanfold.toml: a second deployment.")]
Choices = Annotated[
    list[str] | None,
    typer.Option("--context", "-c", help="An option of docs/deploying.md, as name=value."),
]
Profile = Annotated[str | None, typer.Option(help="The AWS profile to use.")]
Region = Annotated[str | None, typer.Option(help="The AWS Region to use.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")]
Now = Annotated[bool, typer.Option("--now", help="Go on though runs are in flight.")]


def deploy(
    job: JobName,
    jobs: JobsFolder = None,
    stage: Stage = None,
    context: Choices = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(help="An option that the job was deployed with, and is to be without."),
    ] = None,
    profile: Profile = None,
    region: Region = None,
    now: Now = False,
    yes: Yes = False,
) -> None:
    """Create or change what a job needs on AWS, once no run is in flight."""
    from infra.deployment import await_end

    target = _prepare(job, jobs, stage, context, profile, region)
    target.check_buckets()
    standing = target.account.standing(target.stack)
    if standing is not None:
        target.check_options(standing, drop or ())
        if not now:
            await_end(lambda: target.in_flight(standing), _say, time.sleep)
    approval = "never" if yes else "broadening"
    _cdk(["deploy", "--require-approval", approval], target)


def diff(
    job: JobName,
    jobs: JobsFolder = None,
    stage: Stage = None,
    context: Choices = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Show what deploying a job would change."""
    _cdk(["diff"], _prepare(job, jobs, stage, context, profile, region))


def destroy(
    job: JobName,
    jobs: JobsFolder = None,
    stage: Stage = None,
    context: Choices = None,
    profile: Profile = None,
    region: Region = None,
    now: Now = False,
    yes: Yes = False,
) -> None:
    """Remove what a job has on AWS; its bucket, and the key if it has one, stay."""
    from infra.deployment import tell

    target = _prepare(job, jobs, stage, context, profile, region)
    standing = target.standing()
    if not now and (names := target.in_flight(standing)):
        raise DeploymentFailed(
            f"{tell(names)} Wait for the end or stop them (aws stepfunctions stop-execution), or "
            "leave them without an end by --now."
        )
    _cdk(["destroy", *(["--force"] if yes else [])], target)
    if target.account.standing(target.stack) is None:
        own = standing.outputs
        if "Bucket" in own:
            _say(f"What stays: s3://{own['Bucket']}, with all inputs, runs and results in it.")
        if "KeyArn" in own:
            _say(f"What stays: the key {own['KeyArn']}, without which they can't be read.")


def probe(
    job: JobName,
    jobs: JobsFolder = None,
    stage: Stage = None,
    context: Choices = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """See a deployed job's stack work: two small runs of made-up objects, removed afterwards."""
    from infra.probe import Watch, probe as run_probe

    target = _prepare(job, jobs, stage, context, profile, region)
    run_probe(target, Watch(_say, time.sleep, time.time))


def grants(
    job: JobName,
    jobs: JobsFolder = None,
    stage: Stage = None,
    context: Choices = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Print what other accounts have to allow for a deployed job to read their buckets."""
    import json

    from infra.grants import Readers, bucket_policies, input_locations, key_policy

    target = _prepare(job, jobs, stage, context, profile, region)
    outputs = target.standing().outputs
    readers = Readers.from_outputs(target.job.name, outputs)
    own = outputs["Bucket"]
    inputs = input_locations(target.job, target.options, own)
    policies = {
        "buckets": bucket_policies(readers, [each for each in inputs if each.bucket != own]),
        "keys": {key: key_policy(readers, key) for key in target.options.input_keys},
    }
    typer.echo(json.dumps(policies, indent=2))


def bootstrap(
    stage: Stage = None,
    profile: Profile = None,
    region: Region = None,
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
    from infra.deployment import account_of
    from infra.settings import read_settings

    toolchain.check_installed()
    given = {
        "--cloudformation-execution-policies": ",".join(execution_policy or ()),
        "--custom-permissions-boundary": boundary,
        "--qualifier": qualifier,
    }
    options = [item for name, value in given.items() if value for item in (name, value)]
    options += [item for account in trust or () for item in ("--trust", account)]
    account = account_of(read_settings(), stage, profile, region)
    toolchain.bootstrap([*options, *_of(account)], account)


def _prepare(
    job: str,
    jobs: Path | None,
    stage: str | None,
    context: list[str] | None,
    profile: str | None,
    region: str | None,
) -> Deployment:
    from infra.deployment import prepare

    toolchain.check_installed()
    return prepare(
        job,
        jobs=jobs,
        stage=stage,
        context=context or (),
        profile=profile,
        region=region,
    )


def _cdk(command: list[str], target: Deployment) -> None:
    """Run a CDK command on the one stack of a job."""
    account = target.account
    toolchain.run_cdk(
        [*command, target.stack, *_of(account)], context=target.context, account=account
    )


def _of(account: Account) -> list[str]:
    return ["--profile", account.profile] if account.profile else []


def _say(line: str) -> None:
    typer.echo(line, err=True)

"""The CDK app: a stack for every job in a folder. CDK runs it as `python -m infra.app`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from aws_cdk import App, Validations, aws_lambda as lambda_
from cdk_nag import AwsSolutionsChecks

from coordinator.errors import FanfoldError, InputInvalid, JobInvalid
from coordinator.loading import LoadedJob, job_names, load_job
from infra.bundling import Bundler, job_module
from infra.checks import Deployed, check_job, check_together
from infra.job_stack import JobStack
from infra.options import Request, read_request
from infra.settings import FILE, Settings, read_settings

Pack = Callable[[LoadedJob], lambda_.Code]

# Behaviour that CDK gives to new projects; here, so that it does not hang on a cdk.json.
FLAGS = {"@aws-cdk/aws-iam:minimizePolicies": True}


def build(app: App, pack: Pack, settings: Settings) -> list[JobStack]:
    """Add the stacks that the app's context asks for.

    Args:
        pack: makes the code asset of a job.
        settings: what `fanfold.toml` holds.

    Raises:
        FanfoldError: a job or an option is refused.
    """
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    request = read_request(app.node.get_all_context(), settings)
    loaded = load_jobs(request)
    check_named(settings, loaded)
    deployed = [
        Deployed(one.job.in_stage(request.stage), request.options_of(one.job.name))
        for one in loaded
    ]
    for each in deployed:
        check_job(each.job, each.options)
    check_together(deployed)
    return [
        JobStack(
            app,
            job=each.job,
            stage=request.stage,
            job_module=job_module(one.path),
            options=each.options,
            code=pack(one),
        )
        for one, each in zip(loaded, deployed, strict=True)
    ]


def load_jobs(request: Request) -> list[LoadedJob]:
    """The jobs asked for: one, or all in the folder.

    Raises:
        JobInvalid: there is none, or one can't be loaded.
    """
    if request.job is not None:
        return [load_job(request.job, request.jobs)]
    names = job_names(request.jobs)
    if not names:
        raise JobInvalid(
            f"There is no job in {request.jobs.absolute()}: put a module there, or name another "
            "folder with the option jobs."
        )
    return [load_job(name, request.jobs) for name in names]


def check_named(settings: Settings, loaded: Sequence[LoadedJob]) -> None:
    """Refuse options of jobs that there are not.

    Raises:
        InputInvalid: names one.
    """
    others = {name.replace("_", "-") for name in job_names(settings.jobs)}
    unknown = settings.named_jobs() - others - {one.job.name for one in loaded}
    if unknown:
        raise InputInvalid(f"{FILE} has options of the job {min(unknown)!r}, which there is not.")


def main() -> int:
    """Synthesise to where CDK wants it; errors of ours are one line."""
    app = App(context=FLAGS)
    try:
        bundler = Bundler(cache=Path("build") / "bundles")
        for stack in build(app, bundler.pack, read_settings()):
            if not stack.told:
                sys.stderr.write(
                    f"{stack.job.name}: nobody is told when an alarm rings or a run fails: give the "
                    "option alarmEmail or alarmTopic.\n"
                )
    except FanfoldError as error:
        sys.stderr.write(f"fanfold: {error}\n")
        return error.exit_code
    app.synth()
    return 0


if __name__ == "__main__":
    sys.exit(main())

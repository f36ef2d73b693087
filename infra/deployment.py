"""One deployment of a job: where it goes, what it is given, and what stands there already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coordinator.errors import InputInvalid
from coordinator.job import Job
from coordinator.loading import load_job
from infra.account import Account, Standing
from infra.advice import DeploymentFailed
from infra.names import Names
from infra.options import Options, given_options, read_names, read_request
from infra.settings import Settings, lasting_context, read_settings

LOOK_SECONDS = 15.0  # between two looks at the runs that are in flight
NAMED = 3  # of the runs in flight


@dataclass(frozen=True, slots=True)
class Deployment:
    """A job as it is deployed in a stage. `context` is what CDK gives the app for it."""

    job: Job
    account: Account
    options: Options
    context: Mapping[str, str]

    @property
    def stack(self) -> str:
        return Names(self.job.name).stack

    def standing(self) -> Standing:
        """What is deployed.

        Raises:
            DeploymentFailed: nothing is.
        """
        found = self.account.standing(self.stack)
        if found is None:
            raise DeploymentFailed(
                f"{self.stack} is not deployed in this account and Region: run `fanfold deploy` "
                "first, or name another with --profile, --region or --stage."
            )
        return found

    def in_flight(self, standing: Standing) -> list[str]:
        """The names of the runs that a standing deployment is at."""
        machine = standing.outputs.get("StateMachineArn")
        return self.account.running(machine) if machine else []

    def check_options(self, standing: Standing, drop: Iterable[str]) -> None:
        """Refuse to drop an option that what stands was given, unless it is named.

        Raises:
            InputInvalid: one would vanish.
        """
        read_names(dict.fromkeys(drop))
        lost = sorted({*standing.options} - {*given_options(self.options)} - {*drop})
        if lost:
            them = "it" if len(lost) == 1 else "them"
            raise InputInvalid(
                f"{self.stack} was deployed with {' and '.join(lost)}, which this deployment does not "
                f"give: put {them} into fanfold.toml, give {them} with -c, or leave out what --drop "
                "names."
            )

    def check_buckets(self) -> None:
        """Refuse a bucket that the job can't work in.

        Raises:
            DeploymentFailed: it lies in another account or Region.
        """
        given = {self.options.bucket, self.options.uploads}
        for bucket in sorted(filter(None, given)):
            self.account.check_bucket(bucket)


def prepare(
    job: str,
    *,
    jobs: Path | None,
    stage: str | None,
    context: Sequence[str],
    profile: str | None,
    region: str | None,
) -> Deployment:
    """What is meant by the arguments of a command, with `fanfold.toml` below them.

    Args:
        context: options as `name=value`.

    Raises:
        FanfoldError: a job, stage or option is refused.
    """
    settings = read_settings()
    folder = jobs or settings.jobs
    declared = load_job(job, folder).job
    chosen = dict(_choice(item) for item in context)
    options = read_request({**lasting_context(), **chosen}, settings, stage).options_of(
        declared.name
    )
    asked = {**chosen, "jobs": str(folder), "job": job, **({"stage": stage} if stage else {})}
    account = account_of(settings, stage, profile, region)
    return Deployment(declared.in_stage(stage), account, options, asked)


def account_of(
    settings: Settings, stage: str | None, profile: str | None, region: str | None
) -> Account:
    """Where a stage lies; the arguments of a command come before its settings."""
    return Account(profile or settings.profile_of(stage), region or settings.region_of(stage))


def await_end(
    in_flight: Callable[[], list[str]], say: Callable[[str], None], pause: Callable[[float], None]
) -> None:
    """Wait until no run is in flight."""
    said = ""
    while names := in_flight():
        if (told := tell(names)) != said:
            say(f"{told} Waiting for the end; --now goes on at once.")
            said = told
        pause(LOOK_SECONDS)


def tell(names: Sequence[str]) -> str:
    """How many runs are in flight, and the first of them."""
    more = ", ..." if len(names) > NAMED else ""
    runs = "1 run is" if len(names) == 1 else f"{len(names)} runs are"
    return f"{runs} in flight ({', '.join(names[:NAMED])}{more})."


def _choice(item: str) -> tuple[str, str]:
    name, equals, value = item.partition("=")
    if not equals or not name:
        raise InputInvalid(f"-c {item} is no option: write name=value, as in -c versioned=true.")
    return name, value

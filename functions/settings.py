"""What a function is told by its environment, read when it is first needed."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError

from coordinator.errors import JobInvalid
from coordinator.keys import JobKeys
from coordinator.loading import LoadedJob, load_job

BUNDLE = Path(__file__).parent.parent


class Settings(BaseModel):
    """The environment of a job's functions, set by `infra/`.

    `job_module` is the job's module, `jobs.wordcount`, in the bundle; or the path of a `.py`.
    `timeout_seconds` are those that Work was deployed with, as Bury does not load the job.
    `inputs`, a JSON list of `s3://` addresses, is what a run reads whose trigger names nothing;
    with `requester_pays`, at the cost of this account. `stage` is the one that it is deployed in.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    bucket: str = Field(alias="FANFOLD_BUCKET", min_length=3)
    job_module: str = Field(alias="FANFOLD_JOB_MODULE", min_length=1)
    timeout_seconds: int = Field(alias="FANFOLD_TIMEOUT_SECONDS", ge=1)
    inputs: Json[list[str]] = Field(alias="FANFOLD_INPUTS", default="[]", validate_default=True)
    requester_pays: bool = Field(alias="FANFOLD_REQUESTER_PAYS", default=False)
    stage: str | None = Field(alias="FANFOLD_STAGE", default=None)

    def usual_inputs(self, job: str) -> tuple[str, ...]:
        """What a run of a job reads when its trigger names no inputs."""
        return tuple(self.inputs) or (f"s3://{self.bucket}/{JobKeys(job).inputs}",)


@cache
def settings() -> Settings:
    """The settings of this function.

    Raises:
        JobInvalid: a variable is missing or wrong; those of deployed functions are right.
    """
    try:
        return Settings.model_validate(dict(os.environ))
    except ValidationError as error:
        names = ", ".join(str(problem["loc"][0]) for problem in error.errors())
        raise JobInvalid(
            f"The function's environment lacks {names}, or has it wrong. Deploy the job again."
        ) from error


@cache
def loaded_job() -> LoadedJob:
    """The job that this function was deployed for."""
    module = settings().job_module
    if not module.endswith(".py"):
        module = str(BUNDLE.joinpath(*module.split(".")).with_suffix(".py"))
    loaded = load_job(module)
    return replace(loaded, job=loaded.job.in_stage(settings().stage))

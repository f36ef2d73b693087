"""`fanfold.toml`: how the jobs of a folder are deployed, under version control beside them.

```toml
jobs = "jobs"
region = "eu-central-1"

[options]                   # of all jobs; docs/deploying.md lists them
logDays = 90

[job.wordcount.options]     # of one job, over those
versioned = true

[stage.staging]             # a second deployment, with what differs there
profile = "testing"
[stage.staging.options]
alarmEmail = "dev@example.com"
```
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from coordinator.errors import InputInvalid

FILE = Path("fanfold.toml")


class JobSettings(BaseModel):
    """What one job has of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    options: dict[str, Any] = {}


class StageSettings(BaseModel):
    """What a deployment has of its own; `profile` and `region` are those of the command line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: str | None = None
    region: str | None = None
    options: dict[str, Any] = {}
    job: dict[str, JobSettings] = {}

    def layers(self, job: str) -> Iterator[dict[str, Any]]:
        """Options of a job, the later over the earlier."""
        yield self.options
        if job in self.job:
            yield self.job[job].options


class Settings(StageSettings):
    """All of the file."""

    jobs: Path = Path("jobs")
    stage: dict[str, StageSettings] = {}

    def of_stage(self, stage: str | None) -> StageSettings:
        """What a stage has of its own; nothing where none is asked for.

        Raises:
            InputInvalid: it is not declared.
        """
        if stage is None:
            return StageSettings()
        if stage not in self.stage:
            raise InputInvalid(
                f"There is no stage {stage!r}: declare it in {FILE.absolute()} by a table "
                f"[stage.{stage}], which may be empty."
            )
        return self.stage[stage]

    def profile_of(self, stage: str | None) -> str | None:
        return self.of_stage(stage).profile or self.profile

    def region_of(self, stage: str | None) -> str | None:
        return self.of_stage(stage).region or self.region

    def options_of(self, job: str, stage: str | None) -> dict[str, Any]:
        """The options of a job in a stage: the nearest counts."""
        given: dict[str, Any] = {}
        for layer in (*self.layers(job), *self.of_stage(stage).layers(job)):
            given.update(layer)
        return given

    def named_jobs(self) -> set[str]:
        """The jobs that have options of their own."""
        return set(self.job).union(*(each.job for each in self.stage.values()))


def read_settings(path: Path = FILE) -> Settings:
    """The settings of this folder; the usual ones where there is no file.

    Raises:
        InputInvalid: it can't be read, or holds what makes no sense.
    """
    try:
        return Settings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Settings()
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(str(step) for step in problem["loc"])
        raise InputInvalid(f"{path.absolute()}: {place}: {problem['msg']}.") from error
    except (OSError, ValueError) as error:
        raise InputInvalid(f"{path.absolute()} can't be read: {error}.") from error


def lasting_context() -> dict[str, Any]:
    """The context that `cdk.json` holds, if there is one here: what CDK gives the app.

    Raises:
        InputInvalid: it can't be read.
    """
    path = Path("cdk.json")
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")).get("context", {}))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputInvalid(f"{path.absolute()} can't be read: {error}.") from error

"""What the resources of a job are called: derived from its name alone, so that a runbook can say it.

The command line knows them too: nothing of CDK is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass

FAN_OUT_LABEL = "FanOut"

FUNCTION_NAME_SIGNS = 64
LONGEST_ROLE = "reconcile"


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one job's resources."""

    job: str

    @property
    def stack(self) -> str:
        """The stack, the state machine and the dashboard share one name."""
        return f"fanfold-{self.job}"

    @property
    def queue(self) -> str:
        return f"{self.stack}-work"

    @property
    def dead_letters(self) -> str:
        return f"{self.stack}-dead"

    @property
    def lost_triggers(self) -> str:
        return f"{self.stack}-lost-triggers"

    def function(self, role: str) -> str:
        return f"{self.stack}-{role}"

    def schedule(self, number: int) -> str:
        return f"{self.stack}-{number}"

    def upload_rule(self, number: int) -> str:
        return f"{self.stack}-upload-{number}"

    def alarm(self, runbook: str) -> str:
        return f"{self.stack}-{runbook}"


def longest_job_name() -> int:
    """How long a job's name may be for the names of its functions to fit."""
    return FUNCTION_NAME_SIGNS - len(Names("").function(LONGEST_ROLE))

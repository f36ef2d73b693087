"""The tokens of tasks that wait to be told how they went."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.chaos.simulator.world import Event

if TYPE_CHECKING:
    from tests.chaos.simulator.machine import Execution

Done = Callable[[Any], None]
Failed = Callable[[str, str], None]


class Token:
    """The token of one try of a child, and what became of it."""

    def __init__(self, execution: Execution, number: int, done: Done, failed: Failed) -> None:
        self.execution = execution
        self.name = f"{execution.name}-{number}"
        self.message: Any = None
        self.sent_at = execution.services.world.now
        self.outcome: str | None = None
        self.timer: Event | None = None
        self._done = done
        self._failed = failed

    @property
    def open(self) -> bool:
        return self.outcome is None and self.execution.status == "RUNNING"

    def succeed(self, output: str) -> bool:
        """Answer it; False if nobody waits for it any more."""
        if not self.open:
            return False
        self._close("succeeded")
        self._done(json.loads(output))
        return True

    def fail(self, error: str, cause: str, outcome: str = "failed") -> bool:
        """Answer it with an error; False if nobody waits for it any more."""
        if not self.open:
            return False
        self._close(outcome)
        self._failed(error, cause)
        return True

    def abandon(self) -> None:
        """The try that it belonged to has failed before anyone could answer."""
        self._close("abandoned")

    def _close(self, outcome: str) -> None:
        self.outcome = outcome
        if self.timer is not None:
            self.timer.off = True

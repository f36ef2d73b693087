"""Every error Fanfold raises, and what becomes of the work that met it.

    FanfoldError
    ├── RetryableError            fate RETRY: the attempt is noted and the shard tried again
    │   ├── StoreUnavailable      throttled, timed out, or answered with a server fault
    │   ├── OutcomeUnknown        a write may or may not have happened: read back before going on
    │   ├── Retry                 the job's code wants its record tried again
    │   └── AttemptFailed         the attempt died or was stopped before it could commit
    ├── ShardError                fate SHARD: the shard is noted and not tried again in this tenure
    │   ├── MapFailed             map_batch or map_shard raised outside a single record
    │   ├── ReduceFailed          combine or reduce raised
    │   ├── OutputInvalid         the job yielded something its sink or the shuffle can't take
    │   ├── DuplicateName         two results of an Objects sink have one name
    │   └── SourceContradicted    the input is not what the declaration says of it
    ├── RunError                  fate RUN: the run stops; the same run id takes it up again
    │   ├── StopRun               the job's code ends the run
    │   ├── InputChanged          a pinned object is not what it was, or is gone
    │   ├── InputUnreadable       an object can't be opened (permission, not a file)
    │   ├── OutputUnwritable      the output can't be written (full, read-only)
    │   ├── ShardsFailed          shards kept failing and the waves are spent
    │   ├── ToleranceExceeded     more was quarantined than the job tolerates
    │   ├── BudgetExceeded        the next wave would cost more than is left
    │   ├── RunStalled            waves ended without an entry or a note
    │   ├── RunCancelled          someone cancelled the run
    │   ├── Superseded            a newer owner, or a newer object, has taken this one's place
    │   ├── RunBusy               a living owner is executing this run id
    │   ├── RunExpired            the run is too old for its inputs and parts to be trusted
    │   ├── CodeChanged           the job's code is not the one that this epoch is bound to
    │   ├── RunMismatch           the run id belongs to another job, declaration or input list
    │   ├── AnswerDenied          a function may not answer the token of its shard
    │   ├── LedgerBroken          an entry, a part or a plan is missing or is not what was recorded
    │   └── NotProven             completeness could not be shown; nothing was published
    ├── UsageError                fate RUN, exit code 2: said before anything runs
    │   ├── JobInvalid            the job can't be imported or declares nonsense
    │   ├── NoInput               nothing matches the inputs
    │   └── InputInvalid          an input, trigger, size or name that can't be used
    └── ConditionRefused          a conditional write that did not happen: control flow of the steps
        ├── AlreadyExists         put-if-absent found the key taken
        └── Changed               compare-and-swap found another version
    plus KeyMissing, raised by a store for a key that is not there, and Refuse, by which the job's
    code puts a record into quarantine.

A message is one or two sentences that name the object and the way out.
"""

from __future__ import annotations

from enum import StrEnum
from math import inf
from typing import ClassVar

REASON_LETTERS = 200
MESSAGE_LETTERS = 2000


class Refuse(Exception):
    """A job's code refuses a record, with this reason: it goes to quarantine."""


class Fate(StrEnum):
    """What becomes of the work that met an error."""

    RETRY = "retry"
    SHARD = "shard"
    RUN = "run"


class FanfoldError(Exception):
    """Root of the tree; see the module's docstring."""

    fate: ClassVar[Fate] = Fate.RUN
    exit_code: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """The class's name: what notes, metrics and Step Functions show."""
        return type(self).__name__


class RetryableError(FanfoldError):
    """The same thing, tried again, may work. A job's code may raise it too."""

    fate = Fate.RETRY


class StoreUnavailable(RetryableError):
    """The store, or another service, throttled, timed out or failed; nothing is known to have been
    written."""


class OutcomeUnknown(RetryableError):
    """A write was sent and its answer lost: it may have happened."""


class Retry(RetryableError):
    """A job's code wants a record, or what it is reducing, tried again: now may be the wrong time.

    Args:
        after: in how many seconds at the earliest; else with growing pauses.
    """

    def __init__(self, reason: str = "", *, after: float = 0.0) -> None:
        if not 0 <= after < inf:
            raise ValueError(f"Retry(after={after!r}) must be a number of seconds, 0 or more")
        super().__init__(reason)
        self.after = after


class AttemptFailed(RetryableError):
    """The attempt ended without an outcome: its worker died, or was stopped."""


class ShardError(FanfoldError):
    """Trying this shard again with the same code and inputs can't help."""

    fate = Fate.SHARD


class MapFailed(ShardError):
    """The job's map raised where no single record can be blamed."""


class ReduceFailed(ShardError):
    """The job's combine or reduce raised."""


class OutputInvalid(ShardError):
    """The job yielded something that its sink, or the shuffle, can't take."""


class DuplicateName(ShardError):
    """Two results of an `Objects` sink have the same name."""


class SourceContradicted(ShardError):
    """An input is not what the job's source declares of it."""


class Unencodable(ValueError):
    """What a job yields has no encoding: its type is none that the sink or the shuffle takes, or
    its value has none. The record that yields it is refused; this is no error of the tree."""


class RunError(FanfoldError):
    """The run stops here. The same run id takes it up again once the cause is gone."""


class StopRun(RunError):
    """A job's code ends the run, with this reason."""


class InputChanged(RunError):
    """A pinned object was overwritten or deleted under the run."""


class InputUnreadable(RunError):
    """An input object can't be opened."""


class OutputUnwritable(RunError):
    """The output can't be written."""


class ShardsFailed(RunError):
    """Shards kept failing and the waves are spent."""


class ToleranceExceeded(RunError):
    """More was quarantined than the job tolerates."""


class BudgetExceeded(RunError):
    """The remaining budget covers no further shard."""


class RunStalled(RunError):
    """Waves ended with neither an entry nor a note."""


class RunCancelled(RunError):
    """The run was cancelled."""


class Superseded(RunError):
    """A newer owner or a newer object has taken the place of this one."""


class RunBusy(RunError):
    """A living owner is executing this run id."""


class RunExpired(RunError):
    """The run is older than its parts are kept."""


class CodeChanged(RunError):
    """The job's code is not the one that this epoch of the run is bound to."""


class RunMismatch(RunError):
    """The run id belongs to another job, declaration or list of inputs."""


class AnswerDenied(RunError):
    """A function may not tell the state machine what became of its shard."""


class LedgerBroken(RunError):
    """An entry, a part or a plan is missing or is not what was recorded."""


class NotProven(RunError):
    """Completeness could not be shown, so nothing was published."""


class UsageError(FanfoldError):
    """What was asked for can't be done as asked; nothing was begun."""

    exit_code = 2


class JobInvalid(UsageError):
    """The job can't be imported or declares nonsense."""


class NoInput(UsageError):
    """Nothing matches the inputs."""


class InputInvalid(UsageError):
    """An input, trigger, size or name that can't be used."""


class ConditionRefused(FanfoldError):
    """A conditional write was refused: it certainly did not happen."""


class AlreadyExists(ConditionRefused):
    """put-if-absent found the key taken."""


class Changed(ConditionRefused):
    """compare-and-swap found another version, or none."""


class KeyMissing(FanfoldError):
    """A store has nothing under the key."""


def error_named(name: str) -> type[FanfoldError]:
    """The class of the tree with this name; `RunError` for a name that it does not have."""
    waiting: list[type[FanfoldError]] = [FanfoldError]
    while waiting:
        known = waiting.pop()
        if known.__name__ == name:
            return known
        waiting.extend(known.__subclasses__())
    return RunError


def error_from(name: str, message: str) -> FanfoldError:
    """An error as it was raised elsewhere, told by its name and message; a plain `FanfoldError`
    where the name is none of the tree's."""
    kind = error_named(name)
    return kind(message) if kind.__name__ == name else FanfoldError(f"{name}: {message}")


def message_of(error: FanfoldError) -> str:
    """The message of an error of the tree, for a note. A job's code may have raised it, with a text
    of its own: too long, no Unicode, or another error."""
    try:
        text = str(error).strip()
    except Exception:  # noqa: BLE001  the job's own `__str__` raised
        text = ""
    told = text if len(text) <= MESSAGE_LETTERS else f"{text[:MESSAGE_LETTERS]}..."
    return told.encode(errors="backslashreplace").decode()


def reason_of(error: BaseException) -> str:
    """An error in one line, for a note or the quarantine. Its text is the job's own, and may be
    anything: too long, no Unicode, or another error."""
    try:
        text = str(error).strip()
    except Exception:  # noqa: BLE001  the job's own `__str__` raised
        text = ""
    first = text.splitlines()[0] if text else ""
    told = first if first and isinstance(error, Refuse) else f"{type(error).__name__}: {first}"
    line = told[:REASON_LETTERS].rstrip(": ")
    return line.encode(errors="backslashreplace").decode()

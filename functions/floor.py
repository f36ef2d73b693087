"""What workers stand on: the run's record, read anew now and then, and never once a shard."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator import runs
from coordinator.keys import RunKeys
from coordinator.model import Message, RunRecord
from coordinator.work import Place
from functions import desk
from functions.settings import loaded_job

FRESH_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Seen:
    run: RunRecord
    at: float


_seen: dict[RunKeys, _Seen] = {}


def place_of(message: Message) -> Place:
    """The place to work on a message.

    A container remembers a run's record for half a minute, but never one older than the message:
    epoch, wave and stage of the message must be known to it.

    Raises:
        KeyMissing: there is no such run; `clean` has removed it.
    """
    keys = RunKeys(message.job, message.run_id)
    now = desk.now()
    seen = _seen.get(keys)
    if seen is None or now - seen.at > FRESH_SECONDS or _is_behind(seen.run, message):
        seen = _Seen(runs.read(desk.store(), keys), now)
        _seen.clear()
        _seen[keys] = seen
    run = seen.run
    return Place(
        desk.store(), desk.inputs(), desk.job_of(run), run, loaded_job().code_version, desk.now
    )


def forget() -> None:
    """Read every record anew: for tests that change the world under a container."""
    _seen.clear()


def _is_behind(run: RunRecord, message: Message) -> bool:
    return run.epoch < message.epoch or run.wave < message.wave or message.stage not in run.plans


def dropped(run: RunRecord, message: Message) -> str | None:
    """Why a message is dropped: it is of an epoch that has ended, or of a cancelled run."""
    if message.epoch < run.epoch:
        return f"Epoch {message.epoch} of run {run.run_id} has ended; its epoch is {run.epoch}."
    if run.state == "cancelled":
        return f"Run {run.run_id} is cancelled."
    if run.state == "published":
        return f"Run {run.run_id} is published."
    return None

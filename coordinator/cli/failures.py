"""What is said of a run that failed: why at first, and what may help."""

from __future__ import annotations

import json

from coordinator.cli.signals import Stopped
from coordinator.errors import (
    FanfoldError,
    InputChanged,
    JobInvalid,
    KeyMissing,
    LedgerBroken,
    NotProven,
    RunBusy,
    RunExpired,
    RunMismatch,
    ShardsFailed,
    Superseded,
    ToleranceExceeded,
    UsageError,
)
from coordinator.keys import RunKeys
from coordinator.state import runs
from coordinator.state.ledger import Ledger
from coordinator.store.ports import Store

LINE_BYTES = 64 * 1024  # a line of the quarantine is far shorter

# After one of these the same command fails as before, whatever is mended meanwhile.
_LASTING = (
    *(UsageError, RunBusy, RunExpired, RunMismatch, Superseded),
    *(InputChanged, KeyMissing, LedgerBroken, NotProven),
)


def advice(error: BaseException, command: str, *, hopeless: bool) -> str:
    """What may help after a run failed; nothing where the same command can't.

    Args:
        command: the one that takes the run up again.
        hopeless: whether shards failed at which the same job fails again.
    """
    of_job = isinstance(error, (JobInvalid, ToleranceExceeded))
    if of_job or (isinstance(error, ShardsFailed) and hopeless):
        return f"Mend the job first; then take the run up again:\n  {command}"
    if isinstance(error, _LASTING) or not isinstance(error, (FanfoldError, OSError, Stopped)):
        return ""
    return f"To take the run up again:\n  {command}"


def first_refusal(store: Store, keys: RunKeys) -> str:
    """The first record in quarantine, where it lies and why, and the file that lists it; nothing
    where there is none that can be read."""
    try:
        run = runs.find(store, keys)
        if run is None or "map" not in run.plans:
            return ""
        with Ledger.of_run(store, run, "map") as found:
            refusing = (it for it in found.in_order() if found.outcomes[it].quarantined)
            receipts = (found.entry(shard).receipt for shard in refusing)
            file = next((it.quarantine for it in receipts if it.quarantine), None)
        if file is None:
            return ""
        line = json.loads(store.get_range(file.key, 0, LINE_BYTES).split(b"\n", 1)[0])
        place = "{key} at {offset}: {reason}".format(**line)
        return f"The first is {place} ({store.url(file.key)})."
    except (FanfoldError, OSError, ValueError, KeyError, TypeError):  # also a line that is damaged
        return ""

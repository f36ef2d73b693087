"""Where ids are made: random ones, and those of runs. Nothing else in Fanfold makes one, but
for the names of temporary files.

A run id sorts by time. That of a trigger is derived from it, so that a second delivery finds the
first one's run.

`uuid4` and `secrets` draw from the operating system, so two containers that were thawed from one
snapshot never mint the same.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import uuid
from datetime import datetime

RUN_ID_LETTERS = 64
SEQUENCER_DIGITS = 32


def new_attempt() -> str:
    """One try at a shard: 16 hexadecimal digits."""
    return uuid.uuid4().hex[:16]


def new_draft() -> str:
    """One draft of a plan, and of the listing that it is made from: 16 hexadecimal digits."""
    return uuid.uuid4().hex[:16]


def new_owner(kind: str) -> str:
    """An owner of runs that is no execution: `kind` and 16 hexadecimal digits."""
    return f"{kind}-{uuid.uuid4().hex[:16]}"


def new_run_id(now: datetime) -> str:
    """A run id that sorts by time; `now` is in UTC."""
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def scheduled_run_id(schedule: str, moment: datetime) -> str:
    """The run id of a schedule's moment, which is in UTC."""
    return f"at-{moment:%Y%m%dT%H%M%SZ}-{_digest(schedule, 8)}"


def uploaded_run_id(bucket: str, key: str, version_id: str | None, sequencer: str) -> str:
    """The run id of an upload; of two uploads to one key the later has the greater.

    Padded on the right, a sequencer sorts as text. Source: "Event message structure", Amazon S3
    user guide.
    """
    identity = json.dumps([bucket, key, version_id, sequencer])
    return f"up-{sequencer.lower():0<{SEQUENCER_DIGITS}}-{_digest(identity, 12)}"


def execution_run_id(execution: str) -> str:
    """The run id of an execution: its name, which may be longer than a run id."""
    if len(execution) <= RUN_ID_LETTERS:
        return execution
    return f"{execution[: RUN_ID_LETTERS - 13]}-{_digest(execution, 12)}"


def _digest(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]

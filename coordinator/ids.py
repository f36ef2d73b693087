"""Where ids are minted: random, and for runs sortable by time. Nothing else in Fanfold makes one.

`uuid4` and `secrets` draw from the operating system, so two containers that were thawed from one
snapshot never mint the same.
"""

from __future__ import annotations

import secrets
import uuid
from datetime import datetime


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

"""The documents Fanfold writes and the messages it sends: frozen, versioned, JSON.

Bytes, seconds and dollars carry their unit in the field's name. Times are seconds since the
epoch, UTC. Nothing here does I/O or decides anything.
"""

from __future__ import annotations

from coordinator.model.base import (
    Document as Document,
)
from coordinator.model.base import (
    EntryOutcome as EntryOutcome,
)
from coordinator.model.base import (
    File as File,
)
from coordinator.model.base import (
    Part as Part,
)
from coordinator.model.base import (
    Pinned as Pinned,
)
from coordinator.model.base import (
    ShardId as ShardId,
)
from coordinator.model.base import (
    Slice as Slice,
)
from coordinator.model.base import (
    Stage as Stage,
)
from coordinator.model.base import (
    State as State,
)
from coordinator.model.base import (
    Unit as Unit,
)
from coordinator.model.published import (
    Cost as Cost,
)
from coordinator.model.published import (
    Manifest as Manifest,
)
from coordinator.model.published import (
    Pointer as Pointer,
)
from coordinator.model.published import (
    ProgramWork as ProgramWork,
)
from coordinator.model.runs import (
    Hints as Hints,
)
from coordinator.model.runs import (
    LastPass as LastPass,
)
from coordinator.model.runs import (
    Listing as Listing,
)
from coordinator.model.runs import (
    PlanRef as PlanRef,
)
from coordinator.model.runs import (
    RunRecord as RunRecord,
)
from coordinator.model.runs import (
    Tenure as Tenure,
)
from coordinator.model.runs import (
    Totals as Totals,
)
from coordinator.model.shard_ids import (
    child_id as child_id,
)
from coordinator.model.shard_ids import (
    parent_id as parent_id,
)
from coordinator.model.shard_ids import (
    root_id as root_id,
)
from coordinator.model.shard_ids import (
    shard_order as shard_order,
)
from coordinator.model.shards import (
    ADDED_COUNTS as ADDED_COUNTS,
)
from coordinator.model.shards import (
    Answer as Answer,
)
from coordinator.model.shards import (
    Counts as Counts,
)
from coordinator.model.shards import (
    Entry as Entry,
)
from coordinator.model.shards import (
    Message as Message,
)
from coordinator.model.shards import (
    Note as Note,
)
from coordinator.model.shards import (
    Receipt as Receipt,
)
from coordinator.model.shards import (
    Shard as Shard,
)
from coordinator.model.shards import (
    ShardRef as ShardRef,
)

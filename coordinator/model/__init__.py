"""The documents Fanfold writes and the messages it sends: frozen, versioned, JSON.

Bytes, seconds and dollars carry their unit in the field's name. Times are seconds since the
epoch, UTC. Nothing here does I/O or decides anything.
"""

from __future__ import annotations

from coordinator.model.base import (
    COMMITTED as COMMITTED,
    OPEN as OPEN,
    Document as Document,
    EntryOutcome as EntryOutcome,
    File as File,
    Part as Part,
    Pinned as Pinned,
    ShardId as ShardId,
    Slice as Slice,
    Stage as Stage,
    State as State,
    Unit as Unit,
)
from coordinator.model.published import (
    Cost as Cost,
    Manifest as Manifest,
    Pointer as Pointer,
    ProgramWork as ProgramWork,
    check_digest as check_digest,
)
from coordinator.model.runs import (
    Hints as Hints,
    LastPass as LastPass,
    Listing as Listing,
    PlanRef as PlanRef,
    RunRecord as RunRecord,
    Tenure as Tenure,
    Totals as Totals,
)
from coordinator.model.shard_ids import (
    child_id as child_id,
    parent_id as parent_id,
    root_id as root_id,
    shard_order as shard_order,
)
from coordinator.model.shards import (
    ADDED_COUNTS as ADDED_COUNTS,
    Answer as Answer,
    Counts as Counts,
    Entry as Entry,
    Message as Message,
    Note as Note,
    Receipt as Receipt,
    Shard as Shard,
    ShardRef as ShardRef,
)

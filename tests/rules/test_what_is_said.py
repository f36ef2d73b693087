"""What decisions say: why a message is not wanted, which shards failed and why, what was not proven."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.errors import Fate, InputInvalid, NotProven, ShardsFailed, error_named
from coordinator.limits import Limits
from coordinator.model import (
    File,
    LastPass,
    Message,
    Pinned,
    PlanRef,
    RunRecord,
    ShardRef,
    Slice,
    Tenure,
)
from coordinator.rules.coverage import check_coverage
from coordinator.rules.decide import EntryFacts, Facts, Failure, advance, decide, unwanted
from coordinator.rules.pacing import pieces

PLAN = PlanRef(draft="d", plan=File(key="p", size=1, sha256="s"), index_offset=0, shards=1)
RUN = RunRecord(
    job="job",
    run_id="r1",
    created=0.0,
    logical_time=0.0,
    owner="o",
    epoch=3,
    state="running",
    declaration={},
    inputs=(),
    plans={"map": PLAN},
)
MESSAGE = Message(
    job="job",
    run_id="r1",
    stage="map",
    draft="d",
    wave=1,
    epoch=3,
    shard=ShardRef(id="0", key="p", digest="x"),
)


def run(**fields: Any) -> RunRecord:
    return RUN.model_copy(update=fields)


@pytest.mark.parametrize("epoch", [3, 4])
def test_a_message_of_the_epoch_and_of_the_draft_is_wanted(epoch: int) -> None:
    assert unwanted(RUN, MESSAGE.model_copy(update={"epoch": epoch})) is None


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (run(epoch=4), "Epoch 3 of run r1 has ended; its epoch is 4."),
        (run(state="cancelled"), "Run r1 is cancelled."),
        (run(state="publishing"), "Run r1 is publishing."),
        (run(state="published"), "Run r1 is published."),
        (run(plans={}), "Stage map of run r1 has been drafted anew."),
        (
            run(plans={"map": PLAN.model_copy(update={"draft": "new"})}),
            "Stage map of run r1 has been drafted anew.",
        ),
    ],
)
def test_why_a_message_is_not_wanted_any_more(found: RunRecord, why: str) -> None:
    assert unwanted(found, MESSAGE) == why


# ------------------------------------------------------------------------------------------------
# Shards that failed
# ------------------------------------------------------------------------------------------------


def failed(wave: int = 2, **fields: Any) -> Failure:
    given = {"fate": Fate.RETRY, "error": "AttemptFailed", "reason": "It broke"}
    return Failure(wave=wave, **{**given, **fields})


def facts(failures: dict[str, list[Failure]], roots: int, done: int = 0) -> Facts:
    return Facts(
        stage="map",
        roots=roots,
        outcomes={str(number): EntryFacts(0, 1, 0) for number in range(done)},
        failures=failures,
        tenure=Tenure(after=1, waves=1),
        progress=LastPass(),
        limits=Limits(),
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        pytest.param(
            facts({"1": [failed()]}, 2, done=1),
            "1 of 2 map shards failed (shard 1; 1 are done). Shard 1: AttemptFailed: It broke. "
            "The same run id tries just these again.",
            id="one",
        ),
        pytest.param(
            facts({str(n): [failed()] for n in range(5)}, 5),
            "5 of 5 map shards failed (shard 0, 1, 2, 3, 4; 0 are done). "
            "Shard 0: AttemptFailed: It broke. The same run id tries just these again.",
            id="as many as are named",
        ),
        pytest.param(
            facts({str(n): [failed(reason=f"Number {n}!")] for n in range(6)}, 6),
            "6 of 6 map shards failed (shard 0, 1, 2, 3, 4, ...; 0 are done). "
            "Shard 0: AttemptFailed: Number 0! The same run id tries just these again.",
            id="more than are named",
        ),
        pytest.param(
            facts({"0": [failed(3), failed(2, reason="Older")]}, 1),
            "1 of 1 map shards failed (shard 0; 0 are done). Shard 0: AttemptFailed: It broke. "
            "The same run id tries just these again.",
            id="the latest reason",
        ),
        pytest.param(
            facts(
                {
                    "0": [
                        failed(
                            fate=Fate.SHARD, error="MapFailed", reason="Why?", reads="in/a and b"
                        )
                    ]
                },
                1,
            ),
            "1 of 1 map shards failed (shard 0; 0 are done). Shard 0, which reads in/a and b: "
            "MapFailed: Why? Mend the job or the input; the same run id tries just these again.",
            id="what has to be mended",
        ),
    ],
)
def test_shards_that_failed_are_named_with_the_first_reason(given: Facts, says: str) -> None:
    with pytest.raises(ShardsFailed) as raised:
        decide(given)

    assert str(raised.value) == says


def test_of_errors_fatal_to_the_run_the_one_of_the_first_shard_is_passed_on() -> None:
    given = facts(
        {
            "10": [failed(fate=Fate.RUN, error="InputInvalid", reason="Ten.")],
            "9": [failed(fate=Fate.RUN, error="InputInvalid", reason="Nine.")],
        },
        11,
    )
    assert error_named("InputInvalid") is InputInvalid

    with pytest.raises(InputInvalid, match=r"^Nine\. \(Shard 9\.\)$"):
        decide(given)


def test_what_a_pass_has_seen_is_what_the_next_is_held_against() -> None:
    assert advance(LastPass(), "map", 7, 3) == LastPass(stage="map", entries=7, notes=3)


@pytest.mark.parametrize(
    ("before", "stalled"),
    [
        (LastPass(stage="map", entries=7, notes=3, dispatched=True, stalled=1), 2),
        (LastPass(stage="map", entries=6, notes=3, dispatched=True, stalled=1), 0),
        (LastPass(stage="map", entries=7, notes=2, dispatched=True, stalled=1), 0),
        (LastPass(stage="reduce", entries=7, notes=3, dispatched=True, stalled=1), 0),
        (LastPass(stage="map", entries=7, notes=3, stalled=1), 0),
    ],
)
def test_only_a_wave_after_which_nothing_is_new_has_stalled(before: LastPass, stalled: int) -> None:
    assert advance(before, "map", 7, 3).stalled == stalled


# ------------------------------------------------------------------------------------------------
# What is not covered
# ------------------------------------------------------------------------------------------------

ONE = Pinned(key="in", size=10, etag="e")


def piece(start: int, stop: int, **fields: Any) -> Slice:
    return Slice.of(ONE, start, stop).model_copy(update=fields)


@pytest.mark.parametrize(
    ("covered", "says"),
    [
        ([piece(0, 10, etag="other")], "in was read in another version than was pinned"),
        ([piece(0, 10, version_id="v")], "in was read in another version than was pinned"),
        ([piece(0, 7), piece(7, 3), piece(3, 10)], r"in: bytes \[7, 3\) were read twice"),
        ([piece(0, -1)], r"in: bytes \[0, -1\) were read twice"),
        ([piece(0, 4), piece(4, -1)], r"in: bytes \[4, -1\) were read twice"),
        ([piece(0, 4, unit="records"), piece(4, 2, unit="records")], r"records \[4, 2\)"),
        ([piece(0, 10), piece(10, 10)], r"in: bytes \[10, 10\) were read twice"),
        ([piece(1, 10)], "in: bytes 0 to 1 were lost"),
    ],
)
def test_what_is_not_covered_once_is_named(covered: list[Slice], says: str) -> None:
    with pytest.raises(NotProven, match=says):
        check_coverage([ONE], covered)


@pytest.mark.parametrize(
    "covered",
    [
        [piece(0, 10)],
        [piece(0, 0), piece(0, 10)],
        [piece(0, 4, unit="records"), piece(4, -1, unit="records")],
    ],
)
def test_what_is_covered_once_is_proven(covered: list[Slice]) -> None:
    check_coverage([ONE], covered)


@pytest.mark.parametrize(("done", "children"), [(0, 100), (1, 6), (2, 4)])
def test_one_byte_that_is_done_tells_how_long_the_rest_takes(done: int, children: int) -> None:
    assert pieces(done, 3) == children

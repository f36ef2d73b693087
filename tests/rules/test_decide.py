"""The decision at the heart of a run, branch by branch. It is pure: facts in, one decision out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from coordinator.errors import (
    BudgetExceeded,
    FanfoldError,
    Fate,
    InputChanged,
    RunError,
    RunStalled,
    ShardsFailed,
    ToleranceExceeded,
    error_named,
)
from coordinator.limits import Limits
from coordinator.model import (
    File,
    LastPass,
    Message,
    PlanRef,
    RunRecord,
    ShardRef,
    Tenure,
    shard_order,
)
from coordinator.rules.decide import (
    SILENT_SECONDS,
    STALLED_WAVES,
    Complete,
    Decision,
    Dispatch,
    EntryFacts,
    Facts,
    Failure,
    advance,
    decide,
    departed,
    missing_leaves,
    pause_before,
    unwanted,
)
from tests.support import examples


def outcome(children: int = 0, *, records: int = 10, quarantined: int = 0) -> EntryFacts:
    return EntryFacts(children=children, records_in=records, quarantined=quarantined)


def failure(
    wave: int,
    fate: Fate = Fate.RETRY,
    error: str = "AttemptFailed",
    reason: str = "It broke.",
    at: float = 0.0,
) -> Failure:
    return Failure(wave=wave, fate=fate, error=error, reason=reason, at=at)


def facts(
    roots: int = 3,
    outcomes: Mapping[str, EntryFacts] | None = None,
    failures: Mapping[str, Sequence[Failure]] | None = None,
    **others: Any,
) -> Facts:
    limits = others.pop("limits", Limits())
    return Facts(
        stage="map",
        roots=roots,
        outcomes=outcomes or {},
        failures=failures or {},
        tenure=others.pop("tenure", Tenure(after=0, waves=2)),
        progress=others.pop("progress", LastPass()),
        limits=limits,
        **others,
    )


DONE = outcome()
NOTED_ONCE = [failure(1)]
NOTED_TWICE = [failure(1), failure(2)]


@pytest.mark.parametrize(
    ("given", "decision"),
    [
        pytest.param(facts(), Dispatch(("0", "1", "2")), id="at first, all roots are missing"),
        pytest.param(
            facts(outcomes={"1": DONE}), Dispatch(("0", "2")), id="only what is missing is sent"
        ),
        pytest.param(
            facts(outcomes={"0": DONE, "1": DONE, "2": DONE}),
            Complete(("0", "1", "2")),
            id="nothing is missing",
        ),
        pytest.param(
            facts(outcomes={"0": DONE, "1": outcome(children=2), "2": DONE}),
            Dispatch(("1.0", "1.1")),
            id="the children of a split are missing",
        ),
        pytest.param(
            facts(
                roots=1,
                outcomes={"0": outcome(children=3), "0.1": outcome(children=2), "0.1.1": DONE},
            ),
            Dispatch(("0.0", "0.1.0", "0.2")),
            id="a child that was split again",
        ),
        pytest.param(
            facts(
                roots=2,
                outcomes={"0": outcome(children=2), "0.0": DONE, "0.1": DONE, "1": DONE},
            ),
            Complete(("0", "0.0", "0.1", "1")),
            id="a prefix comes before its children, and these before the next root",
        ),
        pytest.param(
            facts(
                roots=1,
                outcomes={"0": outcome(children=11), **{f"0.{n}": DONE for n in range(11)}},
            ),
            Complete(("0", *(f"0.{n}" for n in range(11)))),
            id="ids compare as numbers: 0.2 before 0.10",
        ),
        pytest.param(
            facts(failures={"1": NOTED_ONCE}),
            Dispatch(("0", "1", "2")),
            id="a failure leaves another wave",
        ),
        pytest.param(
            facts(failures={"1": NOTED_TWICE}),
            Dispatch(("0", "2")),
            id="a shard whose waves are spent waits while others are due",
        ),
        pytest.param(
            facts(failures={"1": [failure(1), failure(1), failure(1)]}),
            Dispatch(("0", "1", "2")),
            id="several notes of one wave use up one wave",
        ),
        pytest.param(
            facts(failures={"1": [failure(1, Fate.SHARD)]}),
            Dispatch(("0", "2")),
            id="what is fatal to a shard is not tried again in this tenure",
        ),
        pytest.param(
            facts(failures={"1": [failure(4, Fate.SHARD)]}, tenure=Tenure(after=4, waves=1)),
            Dispatch(("0", "1", "2")),
            id="a new tenure tries it again",
        ),
        pytest.param(
            facts(failures={"1": [failure(4, Fate.RUN)]}, tenure=Tenure(after=4, waves=1)),
            Dispatch(("0", "1", "2")),
            id="a new tenure forgets what was fatal to the run",
        ),
        pytest.param(
            facts(failures={"1": [failure(3), failure(4)]}, tenure=Tenure(after=2, waves=3)),
            Dispatch(("0", "1", "2")),
            id="waves of the tenure are counted, not of the run",
        ),
        pytest.param(
            facts(progress=LastPass(stalled=STALLED_WAVES - 1)),
            Dispatch(("0", "1", "2")),
            id="two idle waves are not yet a stall",
        ),
        pytest.param(
            facts(outcomes={"0": outcome(quarantined=5)}, limits=Limits(tolerated=5)),
            Dispatch(("1", "2")),
            id="as many quarantined as are tolerated",
        ),
        pytest.param(
            facts(outcomes={"0": outcome(quarantined=9)}, limits=Limits(tolerated=0.5)),
            Dispatch(("1", "2")),
            id="a share is not judged before the stage is complete",
        ),
        pytest.param(
            facts(
                roots=2,
                outcomes={"0": outcome(quarantined=9), "1": DONE},
                limits=Limits(tolerated=0.5),
            ),
            Complete(("0", "1")),
            id="a share within what is tolerated",
        ),
        pytest.param(
            facts(limits=Limits(budget_dollars=1.0), spent_dollars=0.75, shard_dollars=0.1),
            Dispatch(("0", "1")),
            id="as many shards as the budget covers",
        ),
        pytest.param(
            facts(limits=Limits(budget_dollars=1.0), spent_dollars=5.0, shard_dollars=0.0),
            Dispatch(("0", "1", "2")),
            id="what costs nothing needs no budget",
        ),
        pytest.param(
            facts(
                roots=1,
                outcomes={"0": DONE},
                limits=Limits(budget_dollars=1.0),
                spent_dollars=5.0,
                shard_dollars=1.0,
            ),
            Complete(("0",)),
            id="a complete stage is complete, whatever it cost",
        ),
    ],
)
def test_what_comes_next(given: Facts, decision: Decision) -> None:
    assert decide(given) == decision


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        pytest.param(
            facts(roots=2, outcomes={"0": DONE}, failures={"1": NOTED_TWICE}),
            ShardsFailed,
            r"1 of 2 map shards failed \(shard 1; 1 are done\).*AttemptFailed: It broke",
            id="all waves are spent",
        ),
        pytest.param(
            facts(
                roots=20,
                failures={
                    str(n): [failure(1, Fate.SHARD, "MapFailed", f"Number {n}.")] for n in range(20)
                },
            ),
            ShardsFailed,
            r"20 of 20 map shards failed \(shard 0, 1, 2, 3, 4, \.\.\.; 0 are done\).*Number 0\.",
            id="many failed shards are named by their first",
        ),
        pytest.param(
            facts(failures={"2": [failure(1, Fate.RUN, "InputChanged", "x.csv was changed.")]}),
            InputChanged,
            r"x\.csv was changed\. \(Shard 2\.\)",
            id="a note that is fatal to the run",
        ),
        pytest.param(
            facts(failures={"2": [failure(1, Fate.RUN, "NoSuchError", "Odd.")]}),
            RunError,
            "Odd",
            id="an error of a newer version",
        ),
        pytest.param(
            facts(outcomes={"0": outcome(quarantined=6)}, limits=Limits(tolerated=5)),
            ToleranceExceeded,
            "6 records were quarantined and the job tolerates 5",
            id="more quarantined than is tolerated, before the stage is complete",
        ),
        pytest.param(
            facts(
                roots=2,
                outcomes={"0": outcome(quarantined=9), "1": outcome(quarantined=2)},
                limits=Limits(tolerated=0.5),
            ),
            ToleranceExceeded,
            "11 records were quarantined and the job tolerates 50.00% of 20",
            id="more than the tolerated share",
        ),
        pytest.param(
            facts(progress=LastPass(stalled=STALLED_WAVES)),
            RunStalled,
            f"{STALLED_WAVES} waves of stage map .* shard 0",
            id="waves that change nothing",
        ),
        pytest.param(
            facts(progress=LastPass(stalled=STALLED_WAVES), served=True),
            RunStalled,
            f"{STALLED_WAVES} waves",
            id="waves that change nothing, though workers are at other messages",
        ),
        pytest.param(
            facts(progress=LastPass(stalled=1, since=1000.0), now=1000.0 + SILENT_SECONDS),
            RunStalled,
            "1 wave of stage map ended without .* in 90 minutes",
            id="one that nothing is heard of for hours",
        ),
        pytest.param(
            facts(limits=Limits(budget_dollars=1.0), spent_dollars=0.95, shard_dollars=0.1),
            BudgetExceeded,
            r"0\.9500 of 1\.0000 dollars are spent",
            id="the budget covers no further shard",
        ),
    ],
)
def test_what_ends_a_run(given: Facts, error: type[FanfoldError], says: str) -> None:
    with pytest.raises(error, match=says):
        decide(given)


def test_a_budget_without_bounds_covers_all_that_is_due() -> None:
    facts = Facts(
        stage="map",
        roots=2,
        outcomes={},
        failures={},
        tenure=Tenure(waves=1),
        progress=LastPass(),
        limits=Limits(budget_dollars=1e308),
        spent_dollars=0.0,
        shard_dollars=1e-9,
    )

    assert decide(facts) == Dispatch(("0", "1"))


ENTRIES = st.dictionaries(
    st.lists(st.integers(0, 3), min_size=1, max_size=4).map(lambda ids: ".".join(map(str, ids))),
    st.integers(0, 4).map(outcome),
    max_size=20,
)


@given(st.integers(1, 4), ENTRIES)
@examples(100)
def test_doing_what_is_missing_completes_the_stage_in_order(
    roots: int, entries: dict[str, EntryFacts]
) -> None:
    rounds = 0
    while missing := list(missing_leaves(roots, entries)):
        assert missing == sorted(missing, key=shard_order)
        assert len(set(missing)) == len(missing)
        assert not set(missing) & set(entries)
        entries = {**entries, **dict.fromkeys(missing, DONE)}
        rounds += 1

    assert rounds <= 1
    decision = decide(facts(roots, entries))
    assert isinstance(decision, Complete)
    assert list(decision.entries) == sorted(entries, key=shard_order)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(LastPass(stalled=1, since=1000.1), id="not for long enough"),
        pytest.param(LastPass(stalled=STALLED_WAVES - 1, since=2000.0), id="a few, quickly"),
        pytest.param(LastPass(stalled=0), id="something was heard"),
        pytest.param(LastPass(stalled=1, since=1e9), id="a clock that went back"),
    ],
)
def test_silence_is_judged_by_its_length(given: LastPass) -> None:
    decision = decide(facts(progress=given, now=1000.0 + SILENT_SECONDS))

    assert decision == Dispatch(("0", "1", "2"))


def test_a_silent_wave_may_wait_behind_those_of_other_runs() -> None:
    silent = LastPass(stalled=STALLED_WAVES - 1)

    assert isinstance(decide(facts(progress=silent, now=1e9, served=True)), Dispatch)


def test_silence_begins_with_the_first_wave_of_which_nothing_is_heard() -> None:
    first = departed(advance(LastPass(), "map", 0, 0), 1000.0)
    assert (first.dispatched, first.sent, first.since) == (True, 1000.0, 1000.0)

    second = departed(advance(first, "map", 0, 0), 2000.0)
    assert (second.sent, second.since) == (2000.0, 1000.0)

    heard = departed(advance(second, "map", 1, 0), 3000.0)
    assert (heard.sent, heard.since) == (3000.0, 3000.0)


# ------------------------------------------------------------------------------------------------
# Pauses
# ------------------------------------------------------------------------------------------------

NOW = 10_000.0


@pytest.mark.parametrize(
    ("given", "shards", "pause"),
    [
        pytest.param(facts(), "0 1 2", 0, id="the first wave"),
        pytest.param(facts(failures={"1": [failure(1, at=NOW)]}), "1", 60, id="one failed once"),
        pytest.param(
            facts(failures={"1": [failure(1, at=NOW)]}), "0 1 2", 60, id="all wait for it"
        ),
        pytest.param(facts(failures={"1": [failure(1, at=NOW)]}), "0 2", 0, id="without it"),
        pytest.param(
            facts(outcomes={"1": outcome(children=2)}, failures={"1": [failure(1, at=NOW)]}),
            "1.0 1.1",
            0,
            id="the children of one that failed before it was split",
        ),
        pytest.param(
            facts(failures={"0": [failure(1, at=NOW)], "1": [failure(1), failure(2, at=NOW)]}),
            "0 1",
            240,
            id="as long as the one that failed most",
        ),
        pytest.param(
            facts(failures={"1": [failure(2, at=NOW), failure(1, at=0.0)]}),
            "1",
            240,
            id="notes in any order: the latest counts",
        ),
        pytest.param(
            facts(failures={"1": [failure(1, at=NOW - 45.0)]}), "1", 15, id="it failed a while ago"
        ),
        pytest.param(facts(failures={"1": [failure(1, at=0.0)]}), "1", 0, id="long ago"),
        pytest.param(
            facts(failures={"1": [failure(2, at=NOW)]}, tenure=Tenure(after=2, waves=1)),
            "1",
            0,
            id="taken up since",
        ),
        pytest.param(
            facts(progress=LastPass(stalled=1, sent=NOW - 20.0)), "0", 40, id="a silent wave"
        ),
        pytest.param(
            facts(progress=LastPass(stalled=3, sent=NOW)), "0", 900, id="several that were silent"
        ),
        pytest.param(
            facts(progress=LastPass(stalled=2, sent=NOW - 3600.0)), "0", 0, id="it took its time"
        ),
    ],
)
def test_how_long_a_wave_waits(given: Facts, shards: str, pause: int) -> None:
    assert pause_before(replace(given, now=NOW), shards.split(), 1.0) == pause


def test_waves_that_change_nothing_are_counted_and_any_change_begins_anew() -> None:
    sent = advance(LastPass(), "map", 0, 0).model_copy(update={"dispatched": True})
    idle = advance(sent, "map", 0, 0)

    assert sent.stalled == 0
    assert idle.stalled == 1
    again = idle.model_copy(update={"dispatched": True})
    assert advance(again, "map", 0, 0).stalled == 2
    assert advance(again, "map", 1, 0).stalled == 0
    assert advance(again, "map", 0, 1).stalled == 0
    assert advance(again, "reduce", 0, 0).stalled == 0


def test_looking_without_having_sent_anything_is_no_stall() -> None:
    assert advance(advance(LastPass(), "map", 0, 0), "map", 0, 0).stalled == 0


@pytest.mark.parametrize("name", ["InputChanged", "AttemptFailed", "FanfoldError", "LedgerBroken"])
def test_an_error_is_found_by_the_name_in_its_note(name: str) -> None:
    assert error_named(name).__name__ == name


# ------------------------------------------------------------------------------------------------
# Messages that come late
# ------------------------------------------------------------------------------------------------


def a_run(**fields: Any) -> RunRecord:
    plan = PlanRef(draft="d1", plan=File(key="p", size=1, sha256="0"), index_offset=0, shards=3)
    return RunRecord(
        job="job",
        run_id="r1",
        created=0.0,
        logical_time=0.0,
        owner="owner",
        code_version="one",
        declaration={},
        inputs=("in/*",),
        tenure=Tenure(after=0, waves=2),
        **{"state": "running", "epoch": 2, "plans": {"map": plan}, **fields},
    )


def a_message(**fields: Any) -> Message:
    shard = ShardRef(id="0", key="p", digest="d")
    sent = {"stage": "map", "draft": "d1", "wave": 1, "epoch": 2, **fields}
    return Message(job="job", run_id="r1", shard=shard, **sent)


@pytest.mark.parametrize(
    ("run", "message", "why"),
    [
        pytest.param(a_run(), a_message(), None, id="of this epoch"),
        pytest.param(a_run(epoch=1), a_message(), None, id="of an epoch that is not known yet"),
        pytest.param(
            a_run(wave=9), a_message(), None, id="of an earlier wave: its shard is missing still"
        ),
        pytest.param(
            a_run(epoch=3),
            a_message(),
            "Epoch 2 of run r1 has ended; its epoch is 3.",
            id="of an epoch that has ended",
        ),
        pytest.param(
            a_run(state="cancelled"), a_message(), "Run r1 is cancelled.", id="of a cancelled run"
        ),
        pytest.param(
            a_run(state="publishing"),
            a_message(),
            "Run r1 is publishing.",
            id="of a run that is proven",
        ),
        pytest.param(
            a_run(state="published"), a_message(), "Run r1 is published.", id="of a published run"
        ),
        pytest.param(
            a_run(),
            a_message(draft="d0"),
            "Stage map of run r1 has been drafted anew.",
            id="of a draft that was replaced",
        ),
        pytest.param(
            a_run(),
            a_message(stage="merge"),
            "Stage merge of run r1 has been drafted anew.",
            id="of a stage whose plan is gone",
        ),
    ],
)
def test_why_nobody_wants_a_message(run: RunRecord, message: Message, why: str | None) -> None:
    assert unwanted(run, message) == why

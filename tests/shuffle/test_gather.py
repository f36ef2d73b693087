"""How runs are merged: no more at once than fit, in few rounds, and without a trace on the disk."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.shuffle import gather as gathering
from coordinator.shuffle.gather import FAN_IN, Gather
from coordinator.shuffle.scatter import Scatter
from tests.shuffle.exact import exactly_equal
from tests.shuffle.test_bounds import open_descriptors
from tests.shuffle.test_spill import on_disk


def segment_of(*pairs: tuple[Any, Any]) -> list[bytes]:
    """The lines of the segment of a shard that yields these."""
    with Scatter(1, None, 1 << 30) as scatter:
        scatter.take(pairs)
        assert scatter.settle() == []
        [segment] = [b"".join(pieces) for pieces in scatter.segments()]
    return segment.splitlines(keepends=True)


def groups_of(gather: Gather) -> list[tuple[Any, list[Any]]]:
    return [(key, list(values)) for key, values in gather.groups()]


def test_light_runs_are_merged_many_at_once() -> None:
    with Gather(None, 1) as gather:
        for number in range(FAN_IN - 1):
            gather.take(segment_of(("key", number)))
            assert [len(level.runs) for level in gather._levels] == [number + 1]
        assert groups_of(gather) == [("key", list(range(FAN_IN - 1)))]


def test_heavy_runs_are_merged_by_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "LINE_BYTES", 1024)
    for shards in (3, 7, 12):
        values = [f"{number:050000}" for number in range(shards)]
        with Gather(None, 1) as gather:
            for value in values:
                gather.take(segment_of(("key", value)))
                assert all(len(level.runs) < 2 for level in gather._levels)
            assert groups_of(gather) == [("key", values)]
            assert sum(len(level.runs) for level in gather._levels) <= 2


def test_runs_that_were_merged_give_their_room_on_the_disk_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gathering, "LINE_BYTES", 1024)
    with Gather(None, 1) as gather:
        for number in range(16):
            gather.take(segment_of(("key", f"{number:050000}")))

        assert sum(on_disk(level.spill) for level in gather._levels) < 17 * 50_000


def test_no_temporary_file_is_left_open() -> None:
    before = open_descriptors()
    with Gather(None, 1) as gather:
        for number in range(3 * FAN_IN):
            gather.take(segment_of(("key", number)))
        assert open_descriptors() == before + 2

    assert open_descriptors() == before


def test_nothing_is_spilled_as_long_as_it_fits() -> None:
    before = open_descriptors()
    with Gather(None, 1 << 20) as gather:
        for number in range(9):
            gather.take(segment_of((number, "x" * 1000)))

        assert open_descriptors() == before
        assert groups_of(gather) == [(number, ["x" * 1000]) for number in range(9)]


def test_what_does_not_fit_is_spilled() -> None:
    with Gather(None, 10_000) as gather:
        for number in range(30):
            gather.take(segment_of((number % 2, f"{number:01000}")))
            assert gather._table.weight <= 10_000
        found = groups_of(gather)

    assert found == [(key, [f"{number:01000}" for number in range(key, 30, 2)]) for key in range(2)]


def test_values_that_need_tags_keep_their_types_beside_runs_that_need_none() -> None:
    for values in ([7, (1, (2,)), 8, 9], [(1, (2,)), 7, 8, 9]):
        with Gather(None, 1) as gather:
            for value in values:
                gather.take(segment_of(("key", value)))
            found = groups_of(gather)

        assert exactly_equal(found, [("key", values)])


def test_folded_values_are_folded_across_runs_in_their_order() -> None:
    def join(one: str, other: str) -> str:
        return one + other

    with Gather(join, 1) as gather:
        for number in range(9):
            with Scatter(1, join, 1 << 20) as scatter:
                scatter.take([("b", f"{number}"), ("a", f"-{number}")])
                assert scatter.settle() == []
                [segment] = [b"".join(pieces) for pieces in scatter.segments()]
            gather.take([segment])
        found = list(gather.groups())

    assert found == [("a", "-0-1-2-3-4-5-6-7-8"), ("b", "012345678")]

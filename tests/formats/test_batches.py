"""Formats and batches: what a declaration says, and where a batch can be cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from coordinator.errors import InputInvalid, JobInvalid
from coordinator.formats.base import Batch, Format, Sink, Source, places, within
from coordinator.formats.csv import Csv
from coordinator.formats.jsonlines import JsonLines
from coordinator.formats.lines import Lines
from coordinator.formats.objects import Objects
from coordinator.formats.text import Text
from coordinator.model import Pinned, Slice
from coordinator.store.memory import MemoryInputs
from tests.support import units_of

PINNED = Pinned(key="in", size=100, etag="e")
NO_INPUTS = MemoryInputs({})


class Row(BaseModel):
    a: int = 0


# ------------------------------------------------------------------------------------------------
# Declarations
# ------------------------------------------------------------------------------------------------


def test_a_format_is_described_by_its_name_and_its_options() -> None:
    assert Lines().describe() == {"kind": "Lines", "glob": "*", "encoding": "utf-8"}
    assert JsonLines(Row, glob="*.json").describe() == {"kind": "JsonLines", "glob": "*.json"}
    described = Csv(Row, delimiter=";").describe()
    assert list(described) == ["kind", "columns", "delimiter", "encoding", "glob", "multiline"]
    assert json.loads(json.dumps(described)) == described


def test_an_option_that_there_is_not_is_refused() -> None:
    kinds: list[Any] = [Lines, JsonLines, Csv, Objects, Text]
    for kind in kinds:
        with pytest.raises((TypeError, ValidationError)):
            kind(globs="*")
        assert kind().describe()["kind"] == kind.__name__


def test_a_format_does_only_what_it_is_for() -> None:
    with pytest.raises(TypeError, match="Source is no source"):
        Source().reader(NO_INPUTS, 1)
    with pytest.raises(TypeError, match="Sink is no sink"):
        Sink().encoder()
    with pytest.raises(TypeError, match="A result of a Objects sink has no records"):
        Objects().decode(b"")
    with pytest.raises(TypeError, match="The outputs of a Text sink have no names"):
        Text().unpack(None)  # type: ignore[arg-type]
    assert Format().describe() == {"kind": "Format"}
    names = [sink.names_results for sink in (Objects(), JsonLines(), Text(), Csv())]
    assert names == [True, False, False, False]


def test_a_source_says_how_its_objects_are_read() -> None:
    sources: list[Source] = [Lines(), JsonLines(), Csv(multiline=False), Csv(), Objects(), Source()]

    for key in ("in", "in.txt"):
        cut = [source.cuts_bytes(key) for source in sources]
        assert cut == [True, True, True, False, False, False]
    for key in ("in.gz", "in.GZ", "in.bz2"):
        assert not any(source.cuts_bytes(key) for source in sources)
    for source in sources[:5]:
        reader = source.reader(NO_INPUTS, 1)
        assert reader.cuts_bytes("in") is source.cuts_bytes("in")
    for source in sources:
        assert source.has_header() is isinstance(source, Csv)
        assert Source.glob.fget(source) == source.glob == "*"  # type: ignore[attr-defined]
    assert not Csv(columns=("a",)).has_header()


def test_an_archive_that_cannot_be_read_is_refused_by_all_that_read_text() -> None:
    for key in ("a.zip", "a.7z", "a.ZST", "a.xz"):
        for source in (Lines(), JsonLines(), Csv()):
            with pytest.raises(InputInvalid, match=f"{key} can't be read as {source.kind}: "):
                source.cuts_bytes(key)
        assert Objects().cuts_bytes(key) is False


def test_a_source_without_its_model_is_the_same_otherwise() -> None:
    assert JsonLines(Row, glob="x").without_model() == JsonLines(glob="x")
    assert Csv(Row, delimiter=";").without_model() == Csv(delimiter=";")
    for source in (Lines(), Objects()):
        assert source.without_model() is source


def test_an_encoding_in_which_newlines_cannot_be_told_is_refused() -> None:
    declared: Format
    for declared in (Lines(encoding="utf-16"), Csv(encoding="utf-16")):
        with pytest.raises(
            JobInvalid, match=r"the source.* encoding 'utf-16' can't be cut .* ascii"
        ):
            declared.check("the source")
    for declared in (Lines(encoding="latin-1"), Csv(encoding="gbk"), Text(), Objects()):
        declared.check("the source")


# ------------------------------------------------------------------------------------------------
# Batches
# ------------------------------------------------------------------------------------------------


def mixed() -> Batch:
    """A header, then two records, one refused and one blank among them; the first is number 10."""
    return Batch(
        Slice.whole(PINNED),
        ["a", "b"],
        5,
        lambda: [20, 23, 26, 29, 32],
        35,
        ordinal=10,
        index=[1, 4],
        refused=[(2, "why")],
        blank=[3],
    )


def records_only() -> Batch:
    return Batch(Slice.whole(PINNED), ["a", "b", "c"], 3, lambda: [20, 23, 26], 29, ordinal=10)


def numbered(batch: Batch) -> list[tuple[int, int, str]]:
    """The offset, number and kind of every unit but headers."""
    starts = batch.starts()
    kinds = {batch.unit(record): batch.records[record] for record in range(len(batch.records))}
    kinds |= dict(batch.refused)
    kinds |= dict.fromkeys(batch.blank, "blank")
    return [(starts[unit], batch.ordinal + unit, kind) for unit, kind in sorted(kinds.items())]


def test_a_batch_counts_what_was_read_and_knows_where_it_begins() -> None:
    assert (mixed().records_in, records_only().records_in) == (4, 3)
    assert [mixed().unit(record) for record in range(4)] == [1, 4, 5, 5]
    assert [records_only().unit(record) for record in range(5)] == [0, 1, 2, 3, 3]
    assert [mixed().offset(unit) for unit in range(7)] == [20, 23, 26, 29, 32, 35, 35]
    fresh = Batch(Slice.whole(PINNED), [], 0, list, 0)
    assert (fresh.ordinal, fresh.refused, fresh.blank, fresh.records_in) == (0, [], [], 0)


def test_a_batch_is_cut_before_any_of_its_units() -> None:
    for batch in (mixed(), records_only()):
        units, begins = numbered(batch), [*batch.starts(), batch.end]
        for unit in range(batch.units + 1):
            head, tail = batch.split_at_unit(unit)

            assert numbered(head) == [seen for seen in units if seen[1] < 10 + unit]
            assert numbered(tail) == [seen for seen in units if seen[1] >= 10 + unit]
            assert units_of(head) + units_of(tail) == units_of(batch)
            assert (head.units, tail.units) == (unit, batch.units - unit)
            assert (head.ordinal, tail.ordinal) == (10, 10 + unit)
            assert (head.end, tail.end) == (begins[unit], batch.end)
            assert [tail.offset(n) for n in range(tail.units + 1)] == begins[unit:]
            assert (head.slice, tail.slice) == (batch.slice, batch.slice)
            for part in (head, tail):
                assert part.index is None or len(part.index) == len(part.records)


def test_what_lies_between_two_records_goes_with_the_first() -> None:
    head, tail = mixed().split(1)
    assert numbered(head) == [(23, 11, "a"), (26, 12, "why"), (29, 13, "blank")]
    assert numbered(tail) == [(32, 14, "b")]

    assert [mixed().split(record)[0].units for record in range(3)] == [1, 4, 5]
    assert [records_only().split(record)[0].units for record in range(4)] == [0, 1, 2, 3]


def test_of_a_batch_a_slice_has_the_units_whose_numbers_lie_in_it() -> None:
    for batch in (mixed(), records_only()):
        units = numbered(batch)
        for start in range(17):
            for stop in (-1, *range(start, 18)):
                piece = Slice.of(PINNED, start, stop).model_copy(update={"unit": "records"})

                last = 99 if stop < 0 else stop
                expected = [seen for seen in units if start <= seen[1] < last]
                assert numbered(within(batch, piece)) == expected


def test_a_slice_that_begins_before_a_batch_has_it_as_it_is() -> None:
    piece = Slice.of(PINNED, 10, 15).model_copy(update={"unit": "records"})
    batch = mixed()

    assert within(batch, piece) is batch


def test_refusals_are_told_by_their_places_in_order() -> None:
    found = list(places(mixed(), [(4, "late"), (0, "early")]))

    assert found == [(20, 10, "early"), (32, 14, "late")]

"""What every format promises of memory, of reading no further than is asked, and of its description."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from coordinator.errors import InputInvalid
from coordinator.formats.base import Batch, Format, Source
from coordinator.model import Slice
from tests.contracts.format_reading import (
    MIB,
    PACK,
    RECORD_BYTES,
    Body,
    Watched,
    opened,
    units_of,
)
from tests.contracts.format_rooms import SINKS, SOURCES, SourceRoom, on_every, plain
from tests.support import memory_within, pin

MEMORY = 8 * MIB
AHEAD = 3 * MIB  # what may have been read of an object beyond the batches that were given


def counted(batches: Iterator[Batch]) -> Counter[str]:
    """How many units of each kind there are; no batch is kept."""
    found: Counter[str] = Counter()
    for batch in batches:
        found += Counter(
            record=len(batch.records), refused=len(batch.refused), blank=len(batch.blank)
        )
    return found


def packed(room: SourceRoom, body: Body) -> dict[str, bytes]:
    """An object as it is, and compressed where the room's source reads that."""
    bodies = {"in": body.content}
    if room.text:
        bodies["in.gz"] = PACK["in.gz"](body.content)
    return bodies


@on_every(SOURCES)
class TestMemory:
    def test_it_does_not_grow_with_the_object(self, room: SourceRoom) -> None:
        body = room.many(400, 30_000)
        assert len(body.content) > MEMORY

        for key, content in packed(room, body).items():
            reader, pinned = opened(room.source, content, key)
            with memory_within(MEMORY):
                found = counted(reader.batches(Slice.whole(pinned)))
            assert found == Counter(body.kinds)

    def test_it_does_not_grow_with_a_record(self, room: SourceRoom) -> None:
        body = room.many(32 * MIB, 1)
        assert len(body.content) >= 4 * MEMORY

        for key, content in packed(room, body).items():
            reader, pinned = opened(room.source, content, key)
            with memory_within(MEMORY):
                found = counted(reader.batches(Slice.whole(pinned)))
            assert found == Counter(body.kinds)

    def test_a_batch_is_given_before_what_follows_it_is_read(self, room: SourceRoom) -> None:
        body = room.many(400, 30_000)
        inputs = Watched({"in": body.content})
        pinned = pin(inputs, "in")
        header = room.source.reader(inputs, RECORD_BYTES).header(pinned)
        reader = room.source.reader(inputs, RECORD_BYTES, header)
        inputs.given = 0
        units = 0

        for batch in reader.batches(Slice.whole(pinned)):
            begin = batch.offset(0)
            assert inputs.given <= begin + AHEAD
            assert batch.end - begin <= AHEAD or batch.units == 1
            assert batch.records_in or not begin
            units += batch.units

        assert units == body.units

    def test_the_records_of_a_large_object_are_all_there(self, room: SourceRoom) -> None:
        body = room.many(400, 6000)

        for key, content in packed(room, body).items():
            reader, pinned = opened(room.source, content, key)
            found = [
                unit
                for batch in reader.batches(Slice.whole(pinned))
                for unit in units_of(batch, room.value if room.text else plain)
            ]
            expected = body.expected()
            assert [unit[:3] for unit in found] == [unit[:3] for unit in expected]
            if room.text:  # an object tells its own key
                assert [unit.value for unit in found] == [unit.value for unit in expected]


@on_every(SOURCES)
def test_what_is_compressed_is_never_cut_at_bytes(room: SourceRoom) -> None:
    for key in PACK:
        try:
            assert not room.source.cuts_bytes(key)
        except InputInvalid:
            assert not room.text


# ------------------------------------------------------------------------------------------------
# Declarations
# ------------------------------------------------------------------------------------------------

DECLARED: list[Format] = [*(room.source for room in SOURCES), *(room.sink for room in SINKS)]


@pytest.mark.parametrize("declared", DECLARED, ids=lambda declared: declared.kind)
class TestDescribing:
    def test_a_description_is_json_and_the_same_whenever_it_is_asked_for(
        self, declared: Format
    ) -> None:
        described = json.dumps(declared.describe(), allow_nan=False)

        assert json.loads(described)["kind"] == declared.kind
        assert json.dumps(dataclasses.replace(declared).describe()) == described

    def test_whichever_field_is_another_the_description_is_another(self, declared: Format) -> None:
        fields = {item.name for item in dataclasses.fields(declared)} - {"model"}

        for name in fields:
            other = changed(declared, name)
            assert getattr(other, name) != getattr(declared, name)
            assert other.describe() != declared.describe(), name
            assert json.loads(json.dumps(other.describe()))

    def test_declarations_are_described_apart_unless_only_their_models_differ(
        self, declared: Format
    ) -> None:
        for other in DECLARED:
            alike = without_model(other) == without_model(declared)
            assert (other.describe() == declared.describe()) == alike


def without_model(declared: Format) -> Format:
    return declared.without_model() if isinstance(declared, Source) else declared


def changed(declared: Format, name: str) -> Format:
    """The same declaration with another value for one field."""
    present = getattr(declared, name)
    candidates: list[Any] = [True, False, ("k", "v"), None, "|", "latin-1", "*.other", 7, 7.5]
    for value in candidates:
        if value == present:
            continue
        try:
            other = dataclasses.replace(declared, **{name: value})
        except (ValidationError, TypeError, ValueError):
            continue
        if getattr(other, name) != present:
            return other
    raise AssertionError(f"No other value is known for {name} of {declared.kind}: add one.")

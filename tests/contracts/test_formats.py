"""What every format promises: one suite, run on each source and each sink."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

import coordinator
from coordinator.errors import InputChanged, OutputInvalid, SourceContradicted, Unencodable
from coordinator.formats.base import Format, Reader, Sink, Source, places
from coordinator.model import Pinned, Slice
from coordinator.rules.slices import cut_slice
from tests.contracts.format_bodies import SECRET
from tests.contracts.format_reading import (
    MIB,
    PACK,
    RECORD_BYTES,
    Body,
    Found,
    cut_at,
    opened,
    placed,
    read,
    units_of,
    whole,
)
from tests.contracts.format_rooms import (
    SINKS,
    SOURCES,
    SinkRoom,
    SourceRoom,
    Unit,
    on_every,
    plain,
)
from tests.support import ShortReads, cut_places, examples, pin, texts

SHORT_READS = st.sampled_from([1, 3, 7, 50, MIB])
NOISE = texts(b'"', b",", b'{"kind": "a"}', b'1,"a"', b'"\n"')


def size_of(reader: Reader, pinned: Pinned, body: Body) -> int:
    """What the places lie below at which an object is cut: bytes, or numbers of units."""
    return pinned.size if reader.cuts_bytes(pinned.key) else body.units


# ------------------------------------------------------------------------------------------------
# Sources
# ------------------------------------------------------------------------------------------------


@on_every(SOURCES)
class TestReading:
    @given(data=st.data(), short_reads=SHORT_READS)
    @examples(60)
    def test_every_unit_is_found_where_it_begins_and_as_an_independent_reader_finds_it(
        self, room: SourceRoom, data: st.DataObject, short_reads: int
    ) -> None:
        body = data.draw(room.made())
        reader, pinned = opened(room.source, body.content, short_reads=short_reads)

        assert whole(reader, pinned, room.value) == body.expected()

    @given(data=st.data())
    @examples(20)
    def test_without_its_model_a_source_finds_the_same_units(
        self, room: SourceRoom, data: st.DataObject
    ) -> None:
        body = data.draw(room.made())
        reader, pinned = opened(room.source.without_model(), body.content)

        found = whole(reader, pinned, plain)

        assert [unit[:2] for unit in found] == [unit[:2] for unit in body.expected()]
        assert [unit.kind == "blank" for unit in found] == [kind == "blank" for kind in body.kinds]

    def test_the_batches_of_a_large_object_follow_each_other(self, room: SourceRoom) -> None:
        units: list[Unit] = [("record", room.wide(39) + b"\n")] * 5000
        body = room.body(units[:1] if room.most == 1 else units)
        reader, pinned = opened(room.source, body.content)
        cuts = [1, 1999, 2000, 2001, 4500][: body.units - 1]

        assert whole(reader, pinned, room.value) == body.expected()
        found = read(reader, cut_at(reader, pinned, cuts), room.value)
        assert placed(found, reader) == placed(body.expected(), reader)

    def test_an_object_that_changed_is_an_error_for_one_who_stops_reading_half_way(
        self, room: SourceRoom
    ) -> None:
        bodies = {"in": room.many(100, 5000).content}
        inputs = ShortReads(bodies, MIB)
        batches = room.source.reader(inputs, MIB).batches(Slice.whole(pin(inputs, "in")))
        first = next(batches)
        bodies["in"] = bodies["in"].swapcase()

        def stop() -> None:
            units_of(first, room.value)
            batches.close()

        with pytest.raises(InputChanged, match="in was changed under the run"):
            stop()


@on_every(SOURCES)
class TestCutting:
    @given(data=st.data())
    @examples(10)
    def test_an_object_cut_at_any_place_and_at_every_place_gives_the_records_of_the_whole(
        self, room: SourceRoom, data: st.DataObject
    ) -> None:
        body = data.draw(room.made())
        reader, pinned = opened(room.source, body.content)
        everywhere = range(1, size_of(reader, pinned, body) + 1)

        for cuts in ([], everywhere, *([place] for place in everywhere)):
            found = read(reader, cut_at(reader, pinned, cuts), room.value)
            assert placed(found, reader) == placed(body.expected(), reader)

    @given(data=st.data(), short_reads=SHORT_READS)
    @examples(60)
    def test_a_slice_owns_the_units_that_begin_in_it_each_once_and_in_order(
        self, room: SourceRoom, data: st.DataObject, short_reads: int
    ) -> None:
        body = data.draw(room.made())
        reader, pinned = opened(room.source, body.content, short_reads=short_reads)
        cuts = data.draw(cut_places(size_of(reader, pinned, body)))
        found: list[Found] = []

        for piece in cut_at(reader, pinned, cuts):
            own = read(reader, [piece], room.value)
            begins = [unit.offset if reader.cuts_bytes("in") else unit.number for unit in own]
            stop = piece.stop if piece.stop >= 0 else body.units
            assert all(piece.start <= begin < stop for begin in begins)
            found += own

        assert placed(found, reader) == placed(body.expected(), reader)

    @given(data=st.data(), noise=NOISE)
    @examples(40)
    def test_any_bytes_are_read_alike_cut_and_whole(
        self, room: SourceRoom, data: st.DataObject, noise: bytes
    ) -> None:
        reader, pinned = opened(room.source, room.head + noise)
        try:
            everything = whole(reader, pinned, plain)
        except SourceContradicted:
            cuts = data.draw(cut_places(pinned.size))
            with pytest.raises(SourceContradicted, match=" of in "):
                read(reader, cut_at(reader, pinned, cuts), plain)
            return
        last = everything[-1].number + 1 if everything else 0
        cuts = data.draw(cut_places(pinned.size if reader.cuts_bytes("in") else last))

        found = read(reader, cut_at(reader, pinned, cuts), plain)

        assert placed(found, reader) == placed(everything, reader)

    @given(data=st.data())
    @examples(10)
    def test_a_batch_is_split_before_any_of_its_units_and_gone_on_with_from_there(
        self, room: SourceRoom, data: st.DataObject
    ) -> None:
        body = data.draw(room.made())
        reader, pinned = opened(room.source, body.content)
        before: list[Found] = []
        for batch in reader.batches(Slice.whole(pinned)):
            units = units_of(batch, room.value)
            splits = [batch.split_at_unit(unit) for unit in range(batch.units + 1)]
            splits += [batch.split(record) for record in range(len(batch.records) + 1)]
            for head, tail in splits:
                done = units_of(head, room.value)
                assert done + units_of(tail, room.value) == units
                assert (head.end, tail.end) == (tail.offset(0), batch.end)
                assert (head.units, tail.units) == (
                    tail.ordinal - batch.ordinal,
                    batch.units - head.units,
                )
                if tail.units:
                    bytewise = reader.cuts_bytes("in")
                    pieces = cut_slice(batch.slice, tail.offset(0), tail.ordinal, bytewise=bytewise)
                    first, rest = (placed(read(reader, p, room.value), reader) for p in pieces)
                    assert first == placed(before + done, reader)
                    assert first + rest == placed(body.expected(), reader)
            before += units

    @given(data=st.data())
    @examples(40)
    def test_what_was_split_off_is_split_again(self, room: SourceRoom, data: st.DataObject) -> None:
        body = data.draw(room.made())
        reader, pinned = opened(room.source, body.content)
        pieces = [Slice.whole(pinned)]

        for _ in range(3):
            at = data.draw(st.integers(0, len(pieces) - 1))
            batches = list(reader.batches(pieces[at]))
            if batches:
                batch = data.draw(st.sampled_from(batches))
                _, tail = batch.split_at_unit(data.draw(st.integers(0, batch.units - 1)))
                bytewise = reader.cuts_bytes("in")
                done, rest = cut_slice(pieces[at], tail.offset(0), tail.ordinal, bytewise=bytewise)
                pieces[at : at + 1] = [*done, *rest]

        found = read(reader, pieces, room.value)
        assert placed(found, reader) == placed(body.expected(), reader)


@on_every([room for room in SOURCES if room.bad])
class TestRefusing:
    def test_a_refusal_has_a_place_and_a_reason_and_neighbours_that_do_not_notice(
        self, room: SourceRoom
    ) -> None:
        good = room.wide(50) + b"\n"
        for bad in room.bad:
            assert SECRET.encode() in bad
            body = room.body([("record", good), ("refused", bad), ("record", good)])
            reader, pinned = opened(room.source, body.content)
            batches = list(reader.batches(Slice.whole(pinned)))
            refusals = [found for batch in batches for found in places(batch, batch.refused)]

            assert whole(reader, pinned, room.value) == body.expected()
            ((offset, number, reason),) = refusals
            assert (offset, number) == (body.starts[1], body.first + 1)
            assert reason
            assert "\n" not in reason
            assert SECRET not in reason

    def test_a_record_over_record_bytes_is_refused(self, room: SourceRoom) -> None:
        fits, over = room.wide(RECORD_BYTES), room.wide(RECORD_BYTES + 1)
        assert (len(fits), len(over)) == (RECORD_BYTES, RECORD_BYTES + 1)
        body = room.body([("record", fits + b"\n"), ("refused", over + b"\n")])

        for short_reads in (1, 100, MIB):
            reader, pinned = opened(room.source, body.content, short_reads=short_reads)
            assert [unit.kind for unit in whole(reader, pinned, plain)] == ["record", "refused"]


@pytest.mark.parametrize("key", PACK)
@on_every([room for room in SOURCES if room.text])
class TestCompressed:
    @given(data=st.data(), short_reads=SHORT_READS)
    @examples(20)
    def test_it_has_the_units_of_what_it_holds_and_is_cut_at_their_numbers(
        self, room: SourceRoom, key: str, data: st.DataObject, short_reads: int
    ) -> None:
        body = data.draw(room.made())
        cuts = data.draw(cut_places(body.units))
        reader, pinned = opened(room.source, PACK[key](body.content), key, short_reads=short_reads)

        assert not reader.cuts_bytes(key)
        assert whole(reader, pinned, room.value) == body.expected()
        assert read(reader, cut_at(reader, pinned, cuts), room.value) == body.expected()

    def test_cut_short_anywhere_it_is_one_refused_record(self, room: SourceRoom, key: str) -> None:
        packed = PACK[key](room.many(50, 3).content)

        for size in range(len(packed)):
            reader, pinned = opened(room.source, packed[:size], key)
            (batch,) = reader.batches(Slice.whole(pinned))
            ((offset, number, reason),) = places(batch, batch.refused)
            assert (batch.records_in, offset, number) == (1, 0, 0)
            assert "can't be decompressed" in reason


# ------------------------------------------------------------------------------------------------
# Sinks
# ------------------------------------------------------------------------------------------------


@on_every(SINKS)
class TestWriting:
    @given(data=st.data())
    @examples(60)
    def test_merged_parts_hold_all_records_for_the_sink_and_for_an_independent_reader(
        self, room: SinkRoom, data: st.DataObject
    ) -> None:
        rows = data.draw(room.rows)
        parts = [b"".join(map(room.sink.encoder(), part)) for part in (rows[:3], rows[3:])]

        merged = room.sink.preamble() + b"".join(parts)

        assert room.read(merged) == list(map(room.value, rows))
        assert room.decoded(merged) == room.read(merged)

    @given(data=st.data())
    @examples(60)
    def test_a_source_reads_the_records_of_the_results(
        self, room: SinkRoom, data: st.DataObject
    ) -> None:
        rows = data.draw(room.rows)
        merged = room.sink.preamble() + b"".join(map(room.sink.encoder(), rows))
        found: list[Found] = []

        for key, body in room.results(merged).items():
            reader, pinned = opened(room.back, body, key)
            cuts = data.draw(cut_places(pinned.size if reader.cuts_bytes(key) else 0))
            found += read(reader, cut_at(reader, pinned, cuts), plain)

        expected = [("record", (room.again or room.value)(row)) for row in rows]
        assert [(unit.kind, unit.value) for unit in found] == expected

    def test_a_result_of_no_records_holds_none(self, room: SinkRoom) -> None:
        preamble = room.sink.preamble()

        assert room.read(preamble) == room.decoded(preamble) == []
        assert room.sink.preamble() == preamble

    @given(data=st.data())
    @examples(20)
    def test_a_record_is_encoded_alike_whatever_came_before_it(
        self, room: SinkRoom, data: st.DataObject
    ) -> None:
        rows = data.draw(room.rows)
        alone = [room.sink.encoder()(row) for row in rows]
        encode = room.sink.encoder()
        for refused in (*room.wrong, *room.valueless):
            with pytest.raises((OutputInvalid, ValueError)):
                encode(refused)

        assert [encode(row) for row in reversed(rows)] == alone[::-1]

    def test_a_type_that_it_can_not_take_is_refused(self, room: SinkRoom) -> None:
        for record in room.wrong:
            with pytest.raises((OutputInvalid, Unencodable), match=r"\w"):
                room.sink.encoder()(record)

    def test_a_value_without_an_encoding_is_the_fault_of_its_record(self, room: SinkRoom) -> None:
        for record in room.valueless:
            with pytest.raises(ValueError, match=r"\w"):
                room.sink.encoder()(record)


def test_every_format_that_a_job_can_declare_has_its_rooms() -> None:
    exported = [getattr(coordinator, name) for name in coordinator.__all__]
    formats = {one for one in exported if isinstance(one, type) and issubclass(one, Format)}

    assert {type(room.source) for room in SOURCES} == {f for f in formats if issubclass(f, Source)}
    assert {type(room.sink) for room in SINKS} == {f for f in formats if issubclass(f, Sink)}

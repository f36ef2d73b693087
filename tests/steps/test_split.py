"""What is left of a shard, cut into children: they read as the shard would have, uncut."""

from __future__ import annotations

from hypothesis import example, given, strategies as st

from coordinator.errors import SourceContradicted
from coordinator.formats.base import Reader, Source
from coordinator.formats.csv import Csv
from coordinator.formats.jsonlines import JsonLines
from coordinator.formats.lines import Lines
from coordinator.model import Slice
from coordinator.rules.slices import Slices
from coordinator.steps.split import share_out, walk
from tests.support import (
    Seen,
    a_job,
    cut_places,
    examples,
    pin,
    read_all,
    reader_over,
    slices_at,
    texts,
)

SOURCES: list[Source] = [
    Lines(),
    JsonLines(),
    Csv(columns=("p", "q")),
    Csv(columns=("p", "q"), multiline=False),
]
JSON = (b'{"a": 1}\n', b'{"a": 2}\n', b"3\n")


@st.composite
def shards(draw: st.DrawFn) -> tuple[Source, Reader, Slices]:
    """A reader of two objects, and a shard: some consecutive slices of them."""
    source = draw(st.sampled_from(SOURCES))
    bodies = {"a": draw(texts(*JSON, *JSON)), "b": draw(texts(*JSON, *JSON))}
    reader = reader_over(source, bodies)
    slices: list[Slice] = []
    for key, body in bodies.items():
        pinned = pin(reader.inputs, key)  # type: ignore[arg-type]
        places = draw(cut_places(len(body))) if reader.cuts_bytes(key) else []
        slices += slices_at(pinned, places)
    start = draw(st.integers(0, len(slices) - 1))
    stop = draw(st.integers(start + 1, len(slices)))
    return source, reader, tuple(slices[start:stop])


def read(reader: Reader, slices: Slices) -> list[Seen] | None:
    try:
        return read_all(reader, slices)
    except SourceContradicted:
        return None


def flat(children: tuple[Slices, ...]) -> Slices:
    return tuple(piece for child in children for piece in child)


@given(shards(), st.integers(1, 20))
@examples(200)
def test_a_rest_that_is_spread_reads_as_the_rest(
    shard: tuple[Source, Reader, Slices], pieces: int
) -> None:
    _, reader, slices = shard

    children = share_out(slices, pieces, reader)

    assert 1 <= len(children) <= pieces
    assert all(children)
    assert read(reader, flat(children)) == read(reader, slices)


@given(shards())
@examples(300)
def test_a_walked_shard_reads_as_the_shard(shard: tuple[Source, Reader, Slices]) -> None:
    source, reader, slices = shard
    expected = read(reader, slices)
    if expected is None:
        return

    walked = walk(a_job(source), reader, slices)

    records = sum(kind == "record" for _, kind, _ in expected)
    assert walked.records == records
    assert len(walked.children) == (records if 1 < records <= 100 else 0)
    if walked.children:
        assert read(reader, flat(walked.children)) == expected


@given(st.integers(101, 700), st.integers(0, 3))
@examples(20)
def test_a_walk_gives_a_hundred_children_at_most(lines: int, first: int) -> None:
    reader = reader_over(Lines(), {"a": b"x\n" * lines})
    slices = tuple(slices_at(pin(reader.inputs, "a"), [first] if first else []))  # type: ignore[arg-type]

    walked = walk(a_job(Lines()), reader, slices[-1:])

    assert 50 <= len(walked.children) <= 100
    assert read(reader, flat(walked.children)) == read(reader, slices[-1:])


@example(2)
@given(st.integers(1, 9))
@examples(10)
def test_a_walk_keeps_to_multiples_of_the_batch_size(size: int) -> None:
    reader = reader_over(Lines(), {"a": b"x\n" * 50})
    job = a_job(Lines())
    job.batch_size = size
    slices = tuple(slices_at(pin(reader.inputs, "a"), []))  # type: ignore[arg-type]

    counts = [len(read(reader, child) or ()) for child in walk(job, reader, slices).children]

    assert set(counts[:-1]) == {size}
    assert sum(counts) == 50

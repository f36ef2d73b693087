"""What is left of a shard, cut into children: they read as the shard would have, uncut."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import example, given, strategies as st

from coordinator.errors import SourceContradicted
from coordinator.formats.base import Reader, Source
from coordinator.formats.csv import Csv
from coordinator.formats.jsonlines import JsonLines
from coordinator.formats.lines import Lines
from coordinator.job import Job
from coordinator.model import Slice
from coordinator.rules.slices import Slices
from coordinator.steps.split import share_out, share_rest, walk
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


# ------------------------------------------------------------------------------------------------
# Where it is cut
# ------------------------------------------------------------------------------------------------


def places(children: tuple[Slices, ...]) -> list[list[tuple[str, int, int]]]:
    return [[(piece.key, piece.start, piece.stop) for piece in child] for child in children]


def two_objects(one: bytes, other: bytes, source: Source | None = None) -> tuple[Reader, Slices]:
    reader = reader_over(source or Lines(), {"a": one, "b": other})
    return reader, tuple(Slice.whole(pin(reader.inputs, key)) for key in "ab")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pieces", "children"),
    [
        (1, [[("a", 0, 6), ("b", 0, 4)]]),
        (2, [[("a", 0, 5)], [("a", 5, 6), ("b", 0, 4)]]),
        (3, [[("a", 0, 4)], [("a", 4, 6), ("b", 0, 2)], [("b", 2, 4)]]),
        (4, [[("a", 0, 3)], [("a", 3, 6)], [("b", 0, 3)], [("b", 3, 4)]]),
        (5, [[("a", n, n + 2)] for n in (0, 2, 4)] + [[("b", n, n + 2)] for n in (0, 2)]),
        (
            11,
            [[("a", n, n + 1)] for n in range(6)] + [[("b", n, n + 1)] for n in range(4)],
        ),
    ],
)
def test_what_is_left_is_shared_out_in_equal_numbers_of_bytes(
    pieces: int, children: list[list[tuple[str, int, int]]]
) -> None:
    reader, slices = two_objects(b"x" * 6, b"x" * 4)

    assert places(share_out(slices, pieces, reader)) == children


def test_objects_that_can_not_be_cut_are_shared_out_whole_and_empty_ones_too() -> None:
    bodies = {"a.gz": b"x" * 9, "b": b"", "c": b"", "d.gz": b"x" * 3}
    reader = reader_over(Lines(), bodies)
    slices = tuple(Slice.whole(pin(reader.inputs, key)) for key in bodies)  # type: ignore[arg-type]

    children = share_out(slices, 7, reader)

    assert [[piece.key for piece in child] for child in children] == [
        ["a.gz"],
        ["b", "c"],
        ["d.gz"],
    ]
    assert flat(children) == slices


@pytest.mark.parametrize(
    ("covered", "rest", "children"),
    [(0, 1000, 100), (9, 1000, 100), (40, 1000, 50), (399, 800, 5), (400, 800, 4), (900, 100, 4)],
)
def test_a_rest_becomes_more_children_the_less_was_done(
    covered: int, rest: int, children: int
) -> None:
    """Each of them is half of what was done, but there are four at least and a hundred at most."""
    reader, (done, left) = two_objects(b"x" * covered, b"x" * rest)

    shared = share_rest(a_job(Lines()), reader, (done,), (left,))

    assert len(shared) == children
    assert flat(shared)[0].start == 0
    assert flat(shared)[-1].stop == rest


def test_a_shard_without_a_rest_has_no_children_and_a_map_of_lists_has_one() -> None:
    reader, slices = two_objects(b"x" * 1000, b"x" * 1000)
    job = a_job(Lines())
    lists = Job("job", Lines())
    lists.map_batch(size=2)(lambda records: records)

    assert share_rest(job, reader, slices, ()) == ()
    assert share_rest(lists, reader, slices, ()) == ()
    assert share_rest(lists, reader, (), slices) == (slices,)


@pytest.mark.parametrize(
    ("records", "size", "counts"),
    [
        (0, 1, []),
        (1, 1, []),
        (2, 1, [1, 1]),
        (100, 1, [1] * 100),
        (101, 1, [2] * 50 + [1]),
        (250, 1, [3] * 83 + [1]),
        (2, 2, [1, 1]),
        (3, 2, [2, 1]),
        (6, 4, [4, 2]),
        (250, 2, [4] * 62 + [2]),
    ],
)
def test_a_walked_shard_is_cut_between_every_so_many_records(
    records: int, size: int, counts: list[int]
) -> None:
    half = records // 2
    reader, slices = two_objects(b"1\n" * half, b"1\n" * (records - half), JsonLines())
    job = a_job(JsonLines())
    job.batch_size = size

    walked = walk(job, reader, slices)

    assert walked.records == records
    assert [len(read(reader, child) or ()) for child in walked.children] == counts
    assert all(walked.children)


def test_what_lies_before_the_first_record_goes_with_it_and_the_rest_with_the_one_before() -> None:
    reader, slices = two_objects(b"\n1\n\n\n2\n\n", b"\n3\n\n", JsonLines())

    children = walk(a_job(JsonLines()), reader, slices).children

    assert places(children) == [
        [("a", 0, 5)],
        [("a", 5, 8), ("b", 0, 1)],
        [("b", 1, 4)],
    ]


def test_an_object_that_can_not_be_cut_at_bytes_is_cut_at_record_numbers() -> None:
    reader = reader_over(Lines(), {"a.gz": gzip.compress(b"1\n2\n3\n"), "b": b"4\n"})
    slices = tuple(Slice.whole(pin(reader.inputs, key)) for key in ("a.gz", "b"))  # type: ignore[arg-type]

    children = walk(a_job(Lines()), reader, slices).children

    assert places(children) == [
        [("a.gz", 0, 1)],
        [("a.gz", 1, 2)],
        [("a.gz", 2, -1)],
        [("b", 0, 2)],
    ]

"""What the stages after map are made of."""

from __future__ import annotations

from coordinator.formats.csv import Csv
from coordinator.formats.jsonlines import JsonLines
from coordinator.formats.lines import Lines
from coordinator.formats.objects import Blob, Objects
from coordinator.formats.text import Text
from coordinator.model import Part, Shard
from coordinator.rules.stages import (
    is_single,
    merge_shards,
    reduce_shards,
    result_name,
    stage_after,
    stages,
)
from tests.support import a_job


def part(name: str) -> Part:
    return Part(key=name, size=1, sha256="s", records=1)


LEAVES = [
    ("0", (part("a"),)),
    ("1", (part("b"),)),
    ("1.0", (part("c"),)),
    ("1.0.3", (part("d"),)),
    ("1.1", ()),
    ("2", ()),
    ("10", (part("e"),)),
]


def test_a_keyed_run_has_a_reduce_between_map_and_merge() -> None:
    assert stages(keyed=True) == ("map", "reduce", "merge")
    assert stages(keyed=False) == ("map", "merge")
    assert stage_after("map", keyed=True) == "reduce"
    assert stage_after("map", keyed=False) == "merge"
    assert stage_after("merge", keyed=True) is None


def test_a_single_result_has_all_parts_in_shard_order() -> None:
    assert list(merge_shards(LEAVES, single=True)) == [
        Shard(id="0", parts=tuple(part(name) for name in "abcde"))
    ]


def test_parts_of_one_root_shard_make_one_result() -> None:
    assert list(merge_shards(LEAVES, single=False)) == [
        Shard(id="0", parts=(part("a"),)),
        Shard(id="1", parts=(part("b"), part("c"), part("d"))),
        Shard(id="2"),
        Shard(id="10", parts=(part("e"),)),
    ]


def test_every_partition_has_a_reduce_shard() -> None:
    assert [(shard.id, shard.partition) for shard in reduce_shards(3)] == [
        ("0", 0),
        ("1", 1),
        ("2", 2),
    ]


def test_results_are_named_for_the_job_or_for_their_root_shard() -> None:
    assert result_name(a_job(Lines()), "0") == "job.jsonl"
    assert result_name(a_job(Lines(), sink=Text()), "0") == "job.txt"
    assert result_name(a_job(Lines(), sink=Csv(columns=("a",)), merge="parts"), "7") == (
        "part-00007.csv"
    )


def test_an_objects_sink_is_never_one_object() -> None:
    blobs = a_job(Objects(), lambda record: [Blob(record.name, b"")], sink=Objects())

    assert not is_single(blobs)
    assert is_single(a_job(Lines(), sink=JsonLines()))
    assert not is_single(a_job(Lines(), merge="parts"))

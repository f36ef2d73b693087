"""Whole runs in memory: every form, sink and merge, and what becomes of what can't be processed."""

from __future__ import annotations

import bz2
import csv
import dataclasses
import gzip
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel

from coordinator.errors import (
    FanfoldError,
    InputChanged,
    InputUnreadable,
    JobInvalid,
    NoInput,
    RetryableError,
    ShardsFailed,
    SourceContradicted,
    ToleranceExceeded,
)
from coordinator.formats.csv import Csv
from coordinator.formats.jsonlines import JsonLines
from coordinator.formats.lines import Lines
from coordinator.formats.objects import Blob, Objects
from coordinator.formats.text import Text
from coordinator.job import Job
from coordinator.limits import Limits
from coordinator.steps.map import Context
from coordinator.testing import Outcome, run_job
from tests.support import World, a_job, examples, texts, words

SHARD_BYTES = st.one_of(st.integers(1, 40), st.just(1 << 20))
FINE = 3  # bytes a shard


def named_bodies(*more: bytes) -> st.SearchStrategy[dict[str, bytes]]:
    names = st.sampled_from(["a", "b/c", "d e", "-f", "é", "z\n"])
    return st.dictionaries(names, texts(*more), min_size=1, max_size=4)


# ------------------------------------------------------------------------------------------------
# The result does not depend on how the inputs are cut
# ------------------------------------------------------------------------------------------------


def same_for_any_cut(job: Job, bodies: dict[str, bytes], shard_bytes: int) -> Outcome:
    whole = run_job(job, bodies)
    cut = run_job(job, bodies, shard_bytes=shard_bytes)

    assert cut.results == whole.results
    assert cut.quarantine == whole.quarantine
    return whole


@given(named_bodies(), SHARD_BYTES)
@examples(60)
def test_lines_come_out_as_they_went_in(bodies: dict[str, bytes], shard_bytes: int) -> None:
    outcome = same_for_any_cut(a_job(Lines(encoding="latin-1"), sink=Text()), bodies, shard_bytes)

    expected = [
        line.removesuffix(b"\n")
        .removeprefix(b"\xef\xbb\xbf" if number == 0 else b"")
        .removesuffix(b"\r")
        .decode("latin-1")
        for key in sorted(bodies, key=str.encode)
        for number, line in enumerate(io.BytesIO(bodies[key]))
        if bodies[key] != b"\xef\xbb\xbf"
    ]
    assert outcome.records() == expected


@given(named_bodies(b"to be ", b"or\n", b"not\n"), SHARD_BYTES)
@examples(60)
def test_words_are_counted_as_a_plain_loop_counts_them(
    bodies: dict[str, bytes], shard_bytes: int
) -> None:
    outcome = same_for_any_cut(words(), bodies, shard_bytes)

    counted: Counter[str] = Counter()
    for key in bodies:
        for number, line in enumerate(io.BytesIO(bodies[key])):
            try:
                text = line.removeprefix(b"\xef\xbb\xbf" if number == 0 else b"").decode()
            except UnicodeDecodeError:
                continue
            counted.update(text.split())
    assert {line["word"]: line["count"] for line in outcome.records()} == counted
    assert len(outcome.records()) == len(counted)


@given(named_bodies(b'{"a": 1}\n', b'{"a": "x"}\n', b"[2]\n"), SHARD_BYTES)
@examples(60)
def test_every_json_line_is_in_the_result_or_in_quarantine(
    bodies: dict[str, bytes], shard_bytes: int
) -> None:
    job = a_job(JsonLines(), lambda record: [[record]])
    outcome = same_for_any_cut(job, bodies, shard_bytes)

    lines = sum(len(list(io.BytesIO(body))) for body in bodies.values() if body != b"\xef\xbb\xbf")
    totals = outcome.manifest.stages["map"]
    assert totals.records_in == lines
    assert totals.mapped == len(outcome.records())
    assert totals.quarantined == len(outcome.quarantine)
    assert totals.mapped + totals.quarantined + totals.blank == lines
    for line in outcome.quarantine:
        assert not record_at(bodies[line["key"]], line["offset"]).isspace()


def record_at(body: bytes, offset: int) -> bytes:
    assert offset == 0 or body[offset - 1 : offset] == b"\n"
    return body[offset:].split(b"\n")[0]


@given(
    st.lists(st.tuples(st.integers(0, 9), st.text('ab,\n" é', max_size=5)), max_size=20),
    SHARD_BYTES,
)
@examples(40)
def test_rows_of_several_objects_are_one_table(
    rows: list[tuple[int, str]], shard_bytes: int
) -> None:
    bodies = {}
    for name in ("1", "2"):
        text = io.StringIO(newline="")
        csv.writer(text).writerows([("n", "text"), *rows])
        bodies[name] = text.getvalue().encode()

    outcome = same_for_any_cut(a_job(Csv(), sink=Csv(columns=("n", "text"))), bodies, shard_bytes)

    assert outcome.records() == [{"n": str(n), "text": text} for n, text in rows] * 2


@pytest.mark.parametrize("merge", ["single", "parts"])
@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_the_number_of_partitions_changes_the_order_only(merge: str, limit: int) -> None:
    job = words()
    job.merge = merge  # type: ignore[assignment]
    job.limits = Limits(partitions=limit, reduce_bytes=1)

    outcome = run_job(job, {"a": b"to be or not to be"})

    assert sorted(line["word"] for line in outcome.records()) == ["be", "not", "or", "to"]
    assert len(outcome.results) == (1 if merge == "single" else min(limit, 18))


# ------------------------------------------------------------------------------------------------
# Forms of a map
# ------------------------------------------------------------------------------------------------

NUMBERS = {"a": b"".join(b"%d\n" % n for n in range(7)), "b": b"7\n8\n9\n"}


def test_a_map_of_lists_gets_so_many_records_across_objects() -> None:
    job = Job("job", Lines())
    job.map_batch(size=4)(lambda records: [records])

    assert run_job(job, NUMBERS).records() == [
        ["0", "1", "2", "3"],
        ["4", "5", "6", "7"],
        ["8", "9"],
    ]


def test_a_map_of_shards_gets_all_records_of_a_shard() -> None:
    job = Job("job", Lines())

    @job.map_shard
    def total(records: Iterator[str]) -> Iterator[int]:
        yield sum(map(int, records))

    assert run_job(job, NUMBERS).records() == [45]
    assert sum(run_job(job, NUMBERS, shard_bytes=5).records()) == 45


def test_a_map_of_shards_may_be_keyed() -> None:
    job = Job("job", Lines())
    job.map_shard(lambda records: (("n", int(record)) for record in records))
    job.reduce(lambda key, values: {key: sum(values)})

    assert run_job(job, NUMBERS, shard_bytes=FINE).records() == [{"n": 45}]


def test_a_map_of_lists_may_be_keyed() -> None:
    job = Job("job", Lines())
    job.map_batch(size=3)(lambda records: [("n", sum(map(int, records)))])
    job.combine(lambda one, other: one + other)
    job.reduce(lambda key, total: total)

    assert run_job(job, NUMBERS, shard_bytes=FINE).records() == [45]


def test_a_context_tells_a_record_its_place_whatever_the_cut() -> None:
    def place(line: str, context: Context) -> Iterator[list[Any]]:
        yield [line, context.key, context.offset, context.idempotency_key]

    job = a_job(Lines(), place)

    whole = run_job(job, {"a": b"one\n\xc3\xa9\nthree\n", "b": b"x"}, run_id="r7")
    cut = run_job(job, {"a": b"one\n\xc3\xa9\nthree\n", "b": b"x"}, run_id="r7", shard_bytes=FINE)

    assert whole.records() == cut.records()
    assert whole.records() == [
        ["one", "a", 0, "job/r7/a@0"],
        ["é", "a", 4, "job/r7/a@4"],
        ["three", "a", 7, "job/r7/a@7"],
        ["x", "b", 0, "job/r7/b@0"],
    ]


def test_idempotency_keys_tell_records_of_a_compressed_object_apart() -> None:
    job = a_job(Lines(), lambda line, context: [context.idempotency_key])

    keys = run_job(job, {"a.gz": gzip.compress(b"1\n2\n"), "b.bz2": bz2.compress(b"3\n")}).records()

    assert keys == ["job/test/a.gz@0", "job/test/a.gz@2", "job/test/b.bz2@0"]


def test_a_map_may_yield_nothing() -> None:
    outcome = run_job(a_job(Lines(), lambda line: None), NUMBERS)

    assert outcome.records() == []
    assert outcome.results == {"job.jsonl": b""}
    assert outcome.manifest.stages["map"].mapped == 10


def test_inputs_without_a_record_give_an_empty_result() -> None:
    assert run_job(words(), {"a": b"", "b": b"\n\n"}).results == {"job.jsonl": b""}
    assert run_job(a_job(Csv(), sink=Csv(columns=("a",))), {"a": b"", "b": b"x\n"}).results == {
        "job.csv": b"a\n"
    }


def test_a_reduce_may_give_one_record_many_or_none() -> None:
    job = a_job(Lines(), lambda line: [(int(line) % 3, int(line))])

    @job.reduce
    def odd_ones(key: int, values: Iterator[int]) -> Any:
        if key == 0:
            return None
        if key == 1:
            return {"key": key, "sum": sum(values)}
        return (value for value in values)

    assert run_job(job, NUMBERS).records() == [{"key": 1, "sum": 12}, 2, 5, 8]


# ------------------------------------------------------------------------------------------------
# Sinks and merges
# ------------------------------------------------------------------------------------------------


class Row(BaseModel):
    n: int
    text: str = ""


@dataclasses.dataclass
class Point:
    n: int


def test_models_and_dataclasses_are_json_lines() -> None:
    job = a_job(Lines(), lambda line: [Row(n=int(line)), Point(int(line))])

    assert run_job(job, {"a": b"1\n"}).records() == [{"n": 1, "text": ""}, {"n": 1}]


def test_a_csv_result_begins_with_its_columns_once() -> None:
    job = a_job(Lines(), lambda line: [{"n": line}], sink=Csv(columns=("n",)))

    assert run_job(job, NUMBERS, shard_bytes=FINE).results["job.csv"].startswith(b"n\n0\n1\n2\n")


def test_every_part_of_a_csv_result_begins_with_its_columns() -> None:
    job = a_job(Lines(), lambda line: [{"n": line}], sink=Csv(columns=("n",)), merge="parts")

    outcome = run_job(job, {"a": b"1\n2\n"}, shard_bytes=2)

    assert outcome.results == {"part-00000.csv": b"n\n1\n", "part-00001.csv": b"n\n2\n"}


def test_parts_are_named_for_the_shards_they_come_from() -> None:
    outcome = run_job(a_job(Lines(), merge="parts"), {"a": b"1\n2\n3\n"}, shard_bytes=2)

    assert sorted(outcome.results) == ["part-00000.jsonl", "part-00001.jsonl", "part-00002.jsonl"]
    assert outcome.records() == ["1", "2", "3"]


def test_objects_become_objects() -> None:
    job = a_job(
        Objects(),
        lambda found: [Blob(f"upper/{found.name}", found.read().upper())],
        sink=Objects(),
    )
    bodies = {"in/a.txt": b"\nx\n", "in/b c.txt": b"", "in/é.bin": bytes(range(256)) * 3}

    outcome = run_job(job, bodies)

    assert outcome.results == {
        f"upper/{key.removeprefix('in/')}": body.upper() for key, body in bodies.items()
    }


def test_records_may_become_objects_and_objects_records() -> None:
    lines = a_job(Lines(), lambda line: [Blob(f"{line}.txt", line.encode())], sink=Objects())
    sizes = a_job(Objects(), lambda found: [[found.key, found.size]])

    assert run_job(lines, {"a": b"one\ntwo\n"}, shard_bytes=FINE).results == {
        "one.txt": b"one",
        "two.txt": b"two",
    }
    assert run_job(sizes, {"a": b"one", "b": b""}).records() == [["a", 3], ["b", 0]]


# ------------------------------------------------------------------------------------------------
# Quarantine
# ------------------------------------------------------------------------------------------------

EVENTS = b'{"n": 1}\nnot json\n\n{"n": "x"}\n{"n": 2, "text": "\xff"}\n{"n": 13}\n'


def unlucky(row: Row) -> Iterator[int]:
    yield row.n
    if row.n == 13:
        raise ValueError("thirteen\nis unlucky")


def test_what_source_model_or_map_refuse_is_quarantined_with_place_and_reason() -> None:
    outcome = run_job(a_job(JsonLines(Row), unlucky), {"in/a": EVENTS})

    assert outcome.records() == [1]
    assert [(line["key"], line["offset"]) for line in outcome.quarantine] == [
        ("in/a", 9),
        ("in/a", 19),
        ("in/a", 30),
        ("in/a", 52),
    ]
    reasons = [line["reason"] for line in outcome.quarantine]
    assert "JSON" in reasons[0]
    assert reasons[1].startswith("n: Input should be a valid integer")
    assert reasons[3] == "ValueError: thirteen"
    assert outcome.manifest.quarantined == 4


def test_a_record_without_encoding_is_quarantined_alone() -> None:
    job = a_job(Lines(), lambda line: [math.nan if line == "1" else line])

    outcome = run_job(job, NUMBERS)

    assert len(outcome.records()) == 9
    assert [(line["key"], line["offset"]) for line in outcome.quarantine] == [("a", 2)]


def test_a_bad_record_is_found_in_its_list_and_the_rest_is_mapped() -> None:
    def inverse(records: list[str]) -> list[float]:
        return [1 / int(record) for record in records]

    job = Job("job", Lines(), limits=Limits(tolerated=1))
    job.map_batch(size=4)(inverse)

    outcome = run_job(job, NUMBERS)

    assert outcome.records() == [1 / n for n in range(1, 10)]
    assert [(line["key"], line["offset"]) for line in outcome.quarantine] == [("a", 0)]
    assert outcome.quarantine[0]["reason"] == "ZeroDivisionError: division by zero"


def test_a_record_of_which_some_outputs_are_good_gives_none() -> None:
    outcome = run_job(a_job(Lines(), lambda line: [line, math.inf]), {"a": b"x\n"})

    assert outcome.records() == []
    assert outcome.manifest.quarantined == 1


@pytest.mark.parametrize(
    ("tolerated", "ends_well"), [(0, False), (1, False), (2, True), (0.1, False), (0.2, True)]
)
def test_a_run_fails_once_more_is_quarantined_than_is_tolerated(
    tolerated: float, ends_well: bool
) -> None:
    def few(line: str) -> list[int]:
        return [int(line)] if int(line) > 1 else [1 // 0]

    job = a_job(Lines(), few, limits=Limits(tolerated=tolerated))

    if ends_well:
        assert run_job(job, NUMBERS, shard_bytes=FINE).manifest.quarantined == 2
    else:
        with pytest.raises(
            ToleranceExceeded, match=r"\d records were (quarantined and|refused, and) the job"
        ):
            run_job(job, NUMBERS, shard_bytes=FINE)


def test_a_run_that_tolerated_too_little_goes_on_when_more_is_tolerated() -> None:
    mapped: list[str] = []

    def count_calls(line: str) -> list[str]:
        mapped.append(line)
        return [line] if line != "9" else [str(1 // 0)]

    strict = World(a_job(Lines(), count_calls, limits=Limits(tolerated=0)), dict(NUMBERS))
    strict.shard_bytes = 4
    with pytest.raises(ToleranceExceeded):
        strict.run()
    seen = len(mapped)

    strict.job.limits = Limits(tolerated=1)
    published = strict.run()

    assert published.manifest.quarantined == 1
    assert mapped[seen:] == ["8", "9"]  # of the shard that refused too much, nothing was kept


@pytest.mark.parametrize(
    ("error", "says", "begun"),
    [
        (InputUnreadable("The rates can't be read."), "The rates can't be read", ["0"]),
        (ValueError("odd"), "3 records were quarantined", ["0", "1", "2"]),
    ],
)
def test_of_a_wave_that_can_not_help_no_more_is_begun(
    error: Exception, says: str, begun: list[str]
) -> None:
    mapped: list[str] = []

    def give_up(line: str) -> list[str]:
        mapped.append(line)
        raise error

    world = World(a_job(Lines(), give_up, limits=Limits(tolerated=2)), dict(NUMBERS), shard_bytes=2)

    with pytest.raises(FanfoldError, match=says):
        world.run()
    assert mapped == begun


def test_a_broken_archive_counts_as_one_record() -> None:
    outcome = run_job(
        a_job(Lines()), {"a.gz": gzip.compress(b"1\n2\n")[:-4], "b.gz": gzip.compress(b"3\n")}
    )

    assert outcome.records() == ["3"]
    assert outcome.quarantine == [
        {"key": "a.gz", "offset": 0, "record": 0, "reason": "can't be decompressed to its end"}
    ]


# ------------------------------------------------------------------------------------------------
# Failures
# ------------------------------------------------------------------------------------------------


def raising(error: Exception) -> Callable[[Any], Any]:
    def function(*_: Any) -> Any:
        raise error

    return function


def keyed(**functions: Any) -> Job:
    return a_job(
        Lines(),
        functions.pop("map", lambda line: [("k", 1)]),
        combine=functions.pop("combine", None),
        reduce=functions.pop("reduce", lambda key, values: list(values)),
    )


def of_shards(function: Callable[[Any], Any]) -> Job:
    job = Job("job", Lines())
    job.map_shard(function)
    return job


def with_none_tolerated(job: Job) -> Job:
    job.limits = job.limits.model_copy(update={"tolerated": 0})
    return job


WRONG: dict[str, tuple[Job, str]] = {
    "a set for JSON": (a_job(Lines(), lambda line: [{1}]), "Unencodable: A set can't be written"),
    "a dict returned": (a_job(Lines(), lambda line: {"a": 1}), "OutputInvalid: map .* must yield"),
    "a str returned": (a_job(Lines(), lambda line: line), "OutputInvalid: map .* must yield"),
    "a number for Text": (a_job(Lines(), lambda line: [1], sink=Text()), "A Text sink takes str"),
    "a str for Csv": (
        a_job(Lines(), lambda line: ["x"], sink=Csv(columns=("a",))),
        "A Csv sink takes dicts",
    ),
    "bytes for Objects": (
        a_job(Lines(), lambda line: [b"x"], sink=Objects()),
        r"An Objects sink takes Blob\(name, body\)",
    ),
    "a name that escapes": (
        a_job(Lines(), lambda line: [Blob("../x", b"")], sink=Objects()),
        r"'\.\./x' can't name a result",
    ),
    "no pair": (keyed(map=lambda line: [1]), r"must yield \(key, value\), not int"),
    "no number as key": (keyed(map=lambda line: [(float("nan"), 1)]), "a key can.t be NaN"),
    "a set as value": (keyed(map=lambda line: [("k", {1})]), "Unencodable: .* set"),
    "combine raises": (
        keyed(combine=lambda one, other: 1 // 0, reduce=lambda key, value: value),
        "ReduceFailed: combine raised ZeroDivisionError",
    ),
    "reduce raises": (keyed(reduce=lambda key, values: 1 // 0), "reduce of key 'k' raised ZeroDiv"),
    "reduce gives a set": (
        keyed(reduce=lambda key, values: {1}),
        "ReduceFailed: reduce of key 'k' gave what it may not: A set",
    ),
    "map_shard raises": (
        of_shards(lambda records: [1 // 0]),
        "MapFailed: map_shard raised ZeroDiv",
    ),
    "map_shard stops early": (
        of_shards(lambda records: [next(records)]),
        "MapFailed: map_shard ended before it had read all",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_code_that_is_wrong_is_named_and_nothing_is_published(wrong: str) -> None:
    job, says = WRONG[wrong]
    world = World(with_none_tolerated(job), {"a": b"1\n2\n3\n"})

    with pytest.raises((ShardsFailed, ToleranceExceeded), match=says) as caught:
        world.run()
    assert "again" in str(caught.value)
    assert not world.store.exists(world.keys.manifest)
    assert not world.store.exists(world.keys.latest())


def test_a_map_of_shards_that_leaves_nulls_unread_is_told_so() -> None:
    job = Job("job", JsonLines())
    job.map_shard(lambda records: [])

    with pytest.raises(ShardsFailed, match="ended before it had read all"):
        run_job(job, {"a": b"null\nnull\n"})


def test_what_fails_twice_and_then_works_takes_three_attempts() -> None:
    calls: list[str] = []

    def flaky(line: str) -> list[str]:
        calls.append(line)
        if len(calls) < 3:
            raise RetryableError("The service is busy.")
        return [line]

    assert run_job(a_job(Lines(), flaky), {"a": b"x\n"}).records() == ["x"]
    assert len(calls) == 3


def test_what_keeps_failing_is_given_up_after_all_attempts_of_all_waves() -> None:
    calls: list[str] = []

    def busy(line: str) -> list[str]:
        calls.append(line)
        raise RetryableError("The service is busy.")

    job = a_job(Lines(), busy, limits=Limits(attempts=3, waves=2))

    with pytest.raises(ShardsFailed, match="RetryableError: The service is busy"):
        run_job(job, {"a": b"x\n"})
    assert len(calls) == 6


def test_a_run_taken_up_again_does_only_what_is_missing() -> None:
    broken, mapped = True, list[str]()

    def sometimes(line: str) -> list[str]:
        mapped.append(line)
        if line == "5" and broken:
            raise RetryableError("Not now.")
        return [line]

    world = World(a_job(Lines(), sometimes), dict(NUMBERS), shard_bytes=2)
    with pytest.raises(ShardsFailed, match="1 of 10 map shards failed"):
        world.run()
    broken = False
    mapped.clear()

    published = world.run()

    assert mapped == ["5"]
    assert published.manifest.epochs == 2
    assert world.findings() == []
    assert (
        world.body("job/results/r1/job.jsonl") == run_job(world.job, NUMBERS).results["job.jsonl"]
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda bodies: bodies.update(b=b"new"), "changed"),
        (lambda bodies: bodies.pop("b"), "deleted"),
    ],
)
def test_an_input_that_changes_under_a_run_is_named_and_nothing_is_published(
    change: Callable[[dict[str, bytes]], Any], says: str
) -> None:
    bodies = dict(NUMBERS)

    def change_input(line: str) -> list[str]:
        if "b" in bodies and bodies["b"] == NUMBERS["b"]:
            change(bodies)
        return [line]

    world = World(a_job(Lines(), change_input), bodies, shard_bytes=5)

    with pytest.raises(InputChanged, match=f"input b was {says} under the run"):
        world.run()
    assert not world.store.exists(world.keys.manifest)


def test_a_header_that_contradicts_the_others_is_named() -> None:
    with pytest.raises(ShardsFailed, match="SourceContradicted: The header of b has the columns"):
        run_job(a_job(Csv()), {"a": b"p,q\n1,2\n", "b": b"q,p\n1,2\n"})
    with pytest.raises(SourceContradicted, match="a does not begin with a header"):
        run_job(a_job(Csv()), {"a": b"p,p\n"})


def test_no_input_and_no_map_are_said_before_anything_runs() -> None:
    with pytest.raises(NoInput):
        run_job(words(), {})
    with pytest.raises(JobInvalid, match="has no map"):
        run_job(Job("job", Lines()), {"a": b"x"})


def test_every_error_of_a_run_is_one_line() -> None:
    for job, _ in WRONG.values():
        with pytest.raises(FanfoldError) as caught:
            run_job(with_none_tolerated(job), {"a": b"1\n2\n"})
        assert "\n" not in str(caught.value)


def test_results_are_json_that_anyone_reads() -> None:
    body = run_job(words(), {"a": "é \u2028 x\n".encode()}).results["job.jsonl"]

    assert [json.loads(line) for line in body.decode().split("\n")[:-1]]

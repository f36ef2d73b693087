"""The runs that are disturbed: small jobs, their inputs, and what has to come of them."""

from __future__ import annotations

import gzip
import io
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from coordinator import Object
from coordinator.loading import load_job
from tests.chaos.expectations import (
    LOUDER,
    by_partition,
    collected,
    copied,
    doubled,
    json_line,
    sizes,
    spelled,
    word_counts,
)
from tests.chaos.playing import Asked, Objects, Scenario, lines_turned
from tests.chaos.simulator.containers import Request, loaded
from tests.chaos.simulator.watch import Expected

HERE = Path(__file__).parent
OURS = HERE / "jobs"
EXAMPLES = HERE.parents[1] / "jobs"


TEXTS: Objects = {
    "s3://in/a.txt": b"to be or not to be\nthat is the question\nwhether tis nobler\n",
    "s3://in/b.txt": b"",
    "s3://in/c.txt": b"to die to sleep no more\nand by a sleep to say",
}
MORE_TEXTS: Objects = {
    "s3://new/a.txt": b"we end\nthe heart ache\n",
    "s3://new/c.txt": b"and the thousand\n",
}
SMALL_SHARDS: dict[str, Any] = {"shard_bytes": 45, "partitions": 2, "reduce_bytes": 64}


def _asked(
    run_id: str,
    expected: Expected,
    *,
    logical_time: float = 1_000.0,
    after_seconds: float = 0.0,
    inputs: str = "s3://in/",
    **limits: Any,
) -> Asked:
    return Asked(Request(run_id, (inputs,), logical_time, limits), expected, after_seconds)


WORDS = Scenario(
    "words",
    EXAMPLES / "wordcount.py",
    TEXTS,
    (_asked("r1", word_counts(TEXTS, 2), **SMALL_SHARDS),),
    expect=lambda objects: word_counts(objects, _partitions(objects, SMALL_SHARDS)),
    rewrite=lambda body: lines_turned(body.upper()),
    meddled=True,
)

# A guard trips after one record, then after two, then after three: attempts at the same shard
# stop at different places. Many shards are dispatched by a distributed Map.
SPLITS = Scenario(
    "splits",
    EXAMPLES / "wordcount.py",
    TEXTS,
    (_asked("r1", word_counts(TEXTS, 2), **{**SMALL_SHARDS, "shard_bytes": 80}),),
    stops_after=lambda guard: 1 + guard % 3,
    most_inline=1,
)

EVENTS: Objects = {
    "s3://in/1.jsonl": (
        b'{"at": "2026-01-01T01:00:00+01:00", "user": 1, "kind": " Login "}\n'
        b'{"at": "2026-01-01T00:00:00Z", "user": 0, "kind": "login"}\n'
        b"\n"
        b'{"at": "2026-01-01T00:00:01Z", "user": 2, "kind": "Buy", "amount_cents": 99}\n'
    ),
    "s3://in/2.jsonl": (
        b'no json\n{"at": "2026-01-01T00:00:02Z", "user": 3, "kind": "quit", "more": 1}'
    ),
}


def _event(second: int, user: int, kind: str, cents: int) -> bytes:
    at = f"2026-01-01T00:00:{second:02d}Z"
    return json_line({"at": at, "user": user, "kind": kind, "amount_cents": cents})


_EVENT_RESULTS = {
    "part-00000.jsonl": _event(0, 1, "login", 0) + _event(1, 2, "buy", 99),
    "part-00001.jsonl": _event(2, 3, "quit", 0),
}
_EVENT_EXPECTED = Expected(
    _EVENT_RESULTS,
    sizes(EVENTS),
    6,
    frozenset({("s3://in/1.jsonl", 66), ("s3://in/2.jsonl", 0)}),
)
RECORDS = Scenario(
    "events",
    EXAMPLES / "clean_events.py",
    EVENTS,
    (_asked("r1", _EVENT_EXPECTED, tolerated=5, shard_bytes=150 + 54),),
    meddled=True,
)

BLOBS: Objects = {
    "s3://in/a.txt": b"alpha",
    "s3://in/b.txt": b"",
    "s3://in/c.txt": b"gamma\n",
    "s3://in/d.txt": b"delta",
    "s3://in/e.txt": b"epsilon",
}
# The listing takes three invocations of Plan.
COPIES = Scenario(
    "copies",
    OURS / "copies.py",
    BLOBS,
    (_asked("r1", copied(BLOBS)),),
    settings={"pages_an_invocation": 1},
    expect=copied,
    rewrite=lambda body: body + b"!",
    meddled=True,
)
COPIES_SPLIT = Scenario(
    "copies, split",
    OURS / "copies.py",
    BLOBS,
    (_asked("r1", copied(BLOBS), shard_items=3),),
    stops_after=lambda guard: 1,
)

NUMBERS: Objects = {
    "s3://in/1.jsonl": b'{"number": 1}\n{"number": 2}\n{"number": "poison"}\n{"number": 4}\n',
    "s3://in/2.jsonl": b'{"number": 5}\n{"number": "refused"}\n{"number": 7}\n',
}
REFUSED: Objects = {
    "s3://in/1.jsonl": b'{"number": 1}\n{"number": "no"}\n{"number": 3}\n',
    "s3://in/2.jsonl": b'{"number": 5}\n{"number": 7}\n',
}
POISON = Scenario("poison", OURS / "poison.py", NUMBERS, (_asked("r1", doubled(NUMBERS)),))

POISON_REFUSED = replace(
    POISON,
    name="refused",
    objects=REFUSED,
    runs=(_asked("r1", doubled(REFUSED)),),
    expect=doubled,
    meddled=True,
)
SPELLED_IN: Objects = {key: TEXTS[key] for key in ("s3://in/a.txt", "s3://in/c.txt")}
SPELLED = Scenario(
    "spelled",
    OURS / "spelled.py",
    SPELLED_IN,
    (_asked("r1", spelled(SPELLED_IN)),),
    expect=spelled,
    next_version=lambda found: loaded(str(LOUDER)),
    meddled=True,
)

SLOW_TEXTS: Objects = {
    "s3://in/a.txt": b"x 1\ny 2\nx 3\nz 4\ny 5\nx 6\nx 7\n",
    "s3://in/b.gz": gzip.compress(b"z 8\nx 9\ny 10\nz 11\nz 12\n", mtime=0),
}
SLOW = Scenario(
    "slow",
    OURS / "slow.py",
    SLOW_TEXTS,
    (_asked("r1", collected(SLOW_TEXTS, 2), partitions=2, reduce_bytes=40),),
)

# Some waves cost more than is left, and wait for somebody to raise the budget.
THRIFTY = replace(
    SLOW,
    name="thrifty",
    runs=(
        _asked(
            "r1",
            collected(SLOW_TEXTS, 2),
            partitions=2,
            reduce_bytes=40,
            budget_dollars=0.002,
        ),
    ),
)

# The first try at publishing is denied: the execution fails, and is redriven.
REDRIVEN = replace(
    WORDS,
    name="redriven",
    meddled=False,
    denied_once=lambda effect: effect.actor == "publish" and effect.operation == "create",
)
# Stopped when its merge is planned, and taken up to redo what was quarantined.
REDONE = replace(POISON_REFUSED, name="redone", meddled=False, redo=True)

BOTH: Objects = {**TEXTS, **MORE_TEXTS}


def _partitions(objects: Objects, limits: Mapping[str, Any]) -> int:
    """How many partitions so many bytes of inputs have."""
    wanted = -(-sum(map(len, objects.values())) // int(limits["reduce_bytes"]))
    return min(wanted, int(limits["partitions"]))


def _two(first: str, second: str) -> tuple[Asked, ...]:
    """An older and a newer run of one job, begun in this order, over different inputs."""
    asked = {
        "old": {"logical_time": 1_000.0, "inputs": "s3://in/", "objects": TEXTS},
        "new": {"logical_time": 2_000.0, "inputs": "s3://new/", "objects": MORE_TEXTS},
    }
    found = []
    for place, run_id in enumerate((first, second)):
        options: dict[str, Any] = dict(asked[run_id])
        expected = word_counts(options.pop("objects"), 1)
        limits = {**SMALL_SHARDS, "shard_bytes": 80, "partitions": 1}
        found.append(_asked(run_id, expected, after_seconds=place * 0.3, **options, **limits))
    return tuple(found)


NEWER_FIRST = Scenario("newer first", EXAMPLES / "wordcount.py", BOTH, _two("new", "old"))
OLDER_FIRST = Scenario("older first", EXAMPLES / "wordcount.py", BOTH, _two("old", "new"))

TRIGGERED_TWICE = replace(
    WORDS,
    name="triggered twice",
    meddled=False,
    runs=(WORDS.runs[0], replace(WORDS.runs[0], after_seconds=0.1)),
)

SAME: Objects = {"s3://in/a.txt+1": b"alpha", "s3://in/a.txt+2": b"alpha", "s3://in/b.txt": b"beta"}
OTHER: Objects = {**SAME, "s3://in/a.txt+2": b"other"}


def _refused(objects: Objects) -> tuple[Asked, ...]:
    return (_asked("r1", Expected(None, sizes(objects), len(objects)), shard_items=1),)


SAME_NAME = Scenario(
    "one name twice, equal", OURS / "copies.py", SAME, _refused(SAME), fails_as="DuplicateName"
)
SAME_NAME_OTHER = Scenario(
    "one name twice, different", OURS / "copies.py", OTHER, _refused(OTHER), fails_as="ShardsFailed"
)

SCENARIOS: tuple[Scenario, ...] = (
    WORDS,
    SPLITS,
    RECORDS,
    COPIES,
    COPIES_SPLIT,
    POISON,
    POISON_REFUSED,
    SPELLED,
    SLOW,
    THRIFTY,
    REDRIVEN,
    REDONE,
    NEWER_FIRST,
    OLDER_FIRST,
    TRIGGERED_TWICE,
    SAME_NAME,
    SAME_NAME_OTHER,
)

# ------------------------------------------------------------------------------------------------
# The jobs of jobs/, with splits forced: for `make chaos`
# ------------------------------------------------------------------------------------------------


def _stops_soon(guard: int) -> int:
    return 1 + guard % 3


FLIGHTS_IN: Objects = {
    "s3://in/1.csv": b"carrier,dep_delay\nAA,4\nBB,-2\nAA,6\nCC,\n",
    "s3://in/2.csv": b"carrier,dep_delay\nBB,x\nBB,3\n",
}


def _delays() -> Expected:
    means = {"AA": (2, 5.0), "BB": (2, 0.5)}
    records = {
        carrier: {"carrier": carrier, "flights": flights, "mean_delay_minutes": mean}
        for carrier, (flights, mean) in means.items()
    }
    return Expected(
        by_partition(records, 2, "flight-delays.jsonl"),
        sizes(FLIGHTS_IN),
        6,
        frozenset({("s3://in/2.csv", 18)}),
    )


FLIGHTS = Scenario(
    "flights, split",
    EXAMPLES / "flight_delays.py",
    FLIGHTS_IN,
    (_asked("r1", _delays(), shard_bytes=50, partitions=2, reduce_bytes=40, tolerated=5),),
    stops_after=_stops_soon,
)
EVENTS_SPLIT = replace(
    RECORDS,
    name="events, split",
    runs=(
        _asked(
            "r1",
            replace(
                _EVENT_EXPECTED, results={"part-00000.jsonl": b"".join(_EVENT_RESULTS.values())}
            ),
            tolerated=5,
        ),
    ),
    stops_after=_stops_soon,
    most_inline=0,
)


def _picture(colour: str) -> bytes:
    body = io.BytesIO()
    Image.new("RGB", (4, 3), colour).save(body, "PNG")
    return body.getvalue()


PICTURES: Objects = {
    "s3://in/1.png": _picture("red"),
    "s3://in/2.png": _picture("green"),
    "s3://in/no.png": b"no picture",
    "s3://in/x/1.png": _picture("blue"),
}


def _thumbnails() -> Expected:
    """What the job itself makes of each picture: the pixels are not what is shown here."""
    job = load_job(str(EXAMPLES / "thumbnails.py")).job
    blobs = [
        blob
        for key, body in PICTURES.items()
        if "no" not in key
        for blob in job.function()(Object(key, len(body), partial(io.BytesIO, body)))
    ]
    return Expected(
        {blob.name: blob.body for blob in blobs},
        sizes(PICTURES),
        len(PICTURES),
        frozenset({("s3://in/no.png", 0)}),
    )


THUMBNAILS = Scenario(
    "thumbnails, split",
    EXAMPLES / "thumbnails.py",
    PICTURES,
    (_asked("r1", _thumbnails(), shard_items=3, tolerated=5),),
    stops_after=_stops_soon,
)

EXAMPLES_SPLIT: tuple[Scenario, ...] = (SPLITS, FLIGHTS, EVENTS_SPLIT, THUMBNAILS)

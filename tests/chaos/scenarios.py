"""The runs that are disturbed: small jobs, their inputs, and what has to come of them.

What is expected is worked out here the plain way, by code that shares nothing with Fanfold.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from coordinator import Object
from coordinator.loading import load_job
from tests.chaos.simulator.cloud import Cloud, Request
from tests.chaos.simulator.effects import Script
from tests.chaos.simulator.watch import Expected, Watch

HERE = Path(__file__).parent
OURS = HERE / "jobs"
EXAMPLES = HERE.parents[1] / "jobs"
MOST_TAKE_UPS = 4

Objects = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Asked:
    """One run of a scenario, when it is started, and what has to come of it."""

    request: Request
    expected: Expected
    after_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """A job over some objects. `stops_after` says after how many records a guard trips."""

    name: str
    job: Path
    objects: Objects
    runs: tuple[Asked, ...]
    stops_after: Callable[[int], int | None] = lambda guard: None
    most_inline: int = 40
    needs: str | None = None
    fails_as: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def play(self, script: Script | None = None) -> Ended:
        """Run it to its end, taking it up again as a person would; then check what is left."""
        cloud = Cloud(
            str(self.job),
            self.objects,
            script,
            stops_after=self.stops_after,
            most_inline=self.most_inline,
            **self.settings,
        )
        with cloud:
            watch = Watch(cloud, {it.request.run_id: it.expected for it in self.runs})
            for asked in self.runs:
                cloud.world.after(asked.after_seconds, partial(cloud.start, asked.request))
            cloud.world.run()
            take_ups = take_up(cloud, watch, self.fails_as)
            watch.check_end()
            if self.fails_as is not None:
                last = cloud.executions[-1]
                assert last.error is not None, (last.status, last.output)
                assert last.error[0] == self.fails_as, last.error
            return Ended(cloud, take_ups)


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that is over, and how often it had to be taken up."""

    cloud: Cloud
    take_ups: int

    @property
    def timed_out(self) -> list[str]:
        """The tokens that only the safety net ended."""
        tokens = [token for it in self.cloud.executions for token in it.tokens]
        return [token.name for token in tokens if token.outcome == "timed out"]

    @property
    def epochs(self) -> int:
        """How many owners the run that had most of them had, one after the other."""
        records = map(self.cloud.record, self.cloud.requests)
        return max(int(record.get("epoch", 1)) for record in records if record)


def take_up(cloud: Cloud, watch: Watch, fails_as: str | None = None) -> int:
    """Redrive, or start anew, what has ended without being published; how often it took."""
    for take_ups in range(MOST_TAKE_UPS):
        unfinished = [
            run_id
            for run_id in cloud.requests
            if not cloud.is_published(run_id)
            and (watch.expected[run_id].results is not None or not _failed_as(cloud, fails_as))
        ]
        if not unfinished:
            return take_ups
        for run_id in unfinished:
            last = cloud.executions_of(run_id)[-1]
            if last.status == "FAILED" and len(cloud.world.trace) % 2:
                last.redrive()
            elif last.status != "RUNNING":
                cloud.start(cloud.requests[run_id])
        cloud.world.run()
    return MOST_TAKE_UPS


def _failed_as(cloud: Cloud, error: str | None) -> bool:
    """Whether a run that can't succeed has failed as it has to."""
    found = cloud.executions[-1].error
    return found is not None and found[0] == error


# ------------------------------------------------------------------------------------------------
# Expected results
# ------------------------------------------------------------------------------------------------


def _sizes(objects: Objects) -> dict[str, int]:
    return {key: len(body) for key, body in objects.items()}


def _lines(objects: Objects) -> list[tuple[str, int, bytes]]:
    """Every line of every object: key, offset, and the line without its end."""
    found = []
    for key in sorted(objects):
        body = gzip.decompress(objects[key]) if key.endswith(".gz") else objects[key]
        offset = 0
        for line in body.splitlines(keepends=True):
            found.append((key, offset, line.rstrip(b"\n")))
            offset += len(line)
    return found


def _crc_partition(key: str, partitions: int) -> int:
    """The partition of a key: CRC-32 of its JSON, modulo their number."""
    return zlib.crc32(json.dumps(key, ensure_ascii=False).encode()) % partitions


def _by_partition(records: Mapping[str, Any], partitions: int, name: str) -> dict[str, bytes]:
    """One result object: partition after partition, each in the order of its keys."""
    ordered = sorted(records, key=lambda key: (_crc_partition(key, partitions), key))
    return {name: b"".join(_json_line(records[key]) for key in ordered)}


def _json_line(record: Any) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _word_counts(objects: Objects, partitions: int) -> Expected:
    lines = _lines(objects)
    counts = Counter(word for _, _, line in lines for word in line.decode().split())
    records = {word: {"word": word, "count": count} for word, count in counts.items()}
    return Expected(
        _by_partition(records, partitions, "wordcount.jsonl"), _sizes(objects), len(lines)
    )


def _collected(objects: Objects, partitions: int) -> Expected:
    lines = _lines(objects)
    values: dict[str, list[str]] = defaultdict(list)
    for _, _, line in lines:
        key, _, value = line.decode().partition(" ")
        values[key].append(value)
    records = {key: {"key": key, "values": found} for key, found in values.items()}
    return Expected(_by_partition(records, partitions, "slow.jsonl"), _sizes(objects), len(lines))


def _doubled(objects: Objects) -> Expected:
    lines = _lines(objects)
    good, bad = [], set()
    for key, offset, line in lines:
        number = json.loads(line)["number"]
        if isinstance(number, int):
            good.append(_json_line({"number": number * 2, "twice": number}))
        else:
            bad.add((key, offset))
    return Expected({"poison.jsonl": b"".join(good)}, _sizes(objects), len(lines), frozenset(bad))


def _copied(objects: Objects) -> Expected:
    results = {key.rsplit("/", 1)[1].split("+")[0]: body.upper() for key, body in objects.items()}
    return Expected(results, _sizes(objects), len(objects))


# ------------------------------------------------------------------------------------------------
# Scenarios
# ------------------------------------------------------------------------------------------------

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
    (_asked("r1", _word_counts(TEXTS, 2), **SMALL_SHARDS),),
)

# A guard trips after one record, then after two, then after three: attempts at the same shard
# stop at different places. Many shards are dispatched by a distributed Map.
SPLITS = Scenario(
    "splits",
    EXAMPLES / "wordcount.py",
    TEXTS,
    (_asked("r1", _word_counts(TEXTS, 2), **{**SMALL_SHARDS, "shard_bytes": 80}),),
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
    return _json_line({"at": at, "user": user, "kind": kind, "amount_cents": cents})


_EVENT_RESULTS = {
    "part-00000.jsonl": _event(0, 1, "login", 0) + _event(1, 2, "buy", 99),
    "part-00001.jsonl": _event(2, 3, "quit", 0),
}
_EVENT_EXPECTED = Expected(
    _EVENT_RESULTS,
    _sizes(EVENTS),
    6,
    frozenset({("s3://in/1.jsonl", 66), ("s3://in/2.jsonl", 0)}),
)
RECORDS = Scenario(
    "events",
    EXAMPLES / "clean_events.py",
    EVENTS,
    (_asked("r1", _EVENT_EXPECTED, tolerated=5, shard_bytes=150 + 54),),
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
    (_asked("r1", _copied(BLOBS)),),
    settings={"pages_an_invocation": 1},
)
COPIES_SPLIT = Scenario(
    "copies, split",
    OURS / "copies.py",
    BLOBS,
    (_asked("r1", _copied(BLOBS), shard_items=3),),
    stops_after=lambda guard: 1,
)

NUMBERS: Objects = {
    "s3://in/1.jsonl": b'{"number": 1}\n{"number": 2}\n{"number": "poison"}\n{"number": 4}\n',
    "s3://in/2.jsonl": b'{"number": 5}\n{"number": "refused"}\n{"number": 7}\n',
}
POISON = Scenario("poison", OURS / "poison.py", NUMBERS, (_asked("r1", _doubled(NUMBERS)),))

SLOW_TEXTS: Objects = {
    "s3://in/a.txt": b"x 1\ny 2\nx 3\nz 4\ny 5\nx 6\nx 7\n",
    "s3://in/b.gz": gzip.compress(b"z 8\nx 9\ny 10\nz 11\nz 12\n", mtime=0),
}
SLOW = Scenario(
    "slow",
    OURS / "slow.py",
    SLOW_TEXTS,
    (_asked("r1", _collected(SLOW_TEXTS, 2), partitions=2, reduce_bytes=40),),
)

BOTH: Objects = {**TEXTS, **MORE_TEXTS}


def _two(first: str, second: str) -> tuple[Asked, ...]:
    """An older and a newer run of one job, begun in this order, over different inputs."""
    asked = {
        "old": {"logical_time": 1_000.0, "inputs": "s3://in/", "objects": TEXTS},
        "new": {"logical_time": 2_000.0, "inputs": "s3://new/", "objects": MORE_TEXTS},
    }
    found = []
    for place, run_id in enumerate((first, second)):
        options: dict[str, Any] = dict(asked[run_id])
        expected = _word_counts(options.pop("objects"), 1)
        limits = {**SMALL_SHARDS, "shard_bytes": 80, "partitions": 1}
        found.append(_asked(run_id, expected, after_seconds=place * 0.3, **options, **limits))
    return tuple(found)


NEWER_FIRST = Scenario("newer first", EXAMPLES / "wordcount.py", BOTH, _two("new", "old"))
OLDER_FIRST = Scenario("older first", EXAMPLES / "wordcount.py", BOTH, _two("old", "new"))

TRIGGERED_TWICE = replace(
    WORDS,
    name="triggered twice",
    runs=(WORDS.runs[0], replace(WORDS.runs[0], after_seconds=0.1)),
)

SAME: Objects = {"s3://in/a.txt+1": b"alpha", "s3://in/a.txt+2": b"alpha", "s3://in/b.txt": b"beta"}
OTHER: Objects = {**SAME, "s3://in/a.txt+2": b"other"}


def _refused(objects: Objects) -> tuple[Asked, ...]:
    return (_asked("r1", Expected(None, _sizes(objects), len(objects)), shard_items=1),)


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
    SLOW,
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
        _by_partition(records, 2, "flight-delays.jsonl"),
        _sizes(FLIGHTS_IN),
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
        _sizes(PICTURES),
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

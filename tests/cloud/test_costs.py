"""What a run asks of AWS, counted; docs/costs.md and coordinator/rules/costs.py say the same."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.rules import costs
from tests.cloud.account import Account
from tests.cloud.conftest import MakeCloud
from tests.cloud.harness import PAYLOAD_LIMIT_BYTES
from tests.cloud.test_faults import RUN, lines, upper

WriteJob = Callable[..., Path]
DOCUMENT = Path(__file__).parents[2] / "docs" / "costs.md"

# Of each map shard, over the whole run.
EACH = Counter(
    {
        "s3.GetObject": costs.GETS_A_SHARD,
        "s3.PutObject": costs.PUTS_A_SHARD,
        "sqs.SendMessage": 1,
        "sqs.ReceiveMessage": 1,
        "sqs.DeleteMessage": 1,
        "states.SendTaskSuccess": 1,
    }
)
# Of the run, whatever its size up to a thousand objects and shards; the merge shard is in it.
FIXED = Counter(
    {
        "s3.GetObject": 35,
        "s3.PutObject": 24,
        "s3.ListObjectsV2": 10,
        "s3.GetBucketVersioning": 1,
        "sqs.SendMessage": 1,
        "sqs.ReceiveMessage": 1,
        "sqs.DeleteMessage": 1,
        "states.SendTaskSuccess": 1,
        "lambda.Invoke": 5,
    }
)
# Of a wave that goes out as a Distributed Map: its items, written and read, and its results.
DISTRIBUTED = Counter({"s3.PutObject": 2, "s3.GetObject": 1})


@pytest.fixture(autouse=True)
def _however_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container reads `run.json` anew after half a minute, which is not to be counted here."""
    monkeypatch.setattr("functions.wiring.FRESH_SECONDS", float("inf"))


def asked(cloud: Account) -> Counter[str]:
    """Requests by everything but the test itself."""
    return cloud.records.api_counts() - cloud.records.api_counts("harness")


def times(counts: Counter[str], factor: int) -> Counter[str]:
    return Counter({name: count * factor for name, count in counts.items()})


@pytest.mark.parametrize("shards", [1, 7, 40])
def test_the_requests_of_a_run(make_cloud: MakeCloud, write_job: WriteJob, shards: int) -> None:
    cloud = make_cloud(write_job())
    cloud.give(lines(shards))
    cloud.records.reset()
    ended = cloud.run(RUN)
    assert ended.succeeded
    assert asked(cloud) == FIXED + times(EACH, shards)
    transitions = cloud.records.transition_counts(ended.arn)
    assert transitions.pop("ShardInline") == shards + 1
    assert transitions == Counter(
        {
            "Trigger": 1, "Plan": 1, "Planned": 1, "Reconcile": 3, "Reconciled": 3,
            "FanOutInline": 2, "Publish": 1, "Done": 1,
        }
    )  # fmt: skip


def test_three_hundred_shards(
    make_cloud: MakeCloud, write_job: WriteJob, record_property: Callable[[str, object], None]
) -> None:
    cloud = make_cloud(write_job())
    inputs = lines(300)
    cloud.give(inputs)
    cloud.records.reset()
    began, cpu = time.monotonic(), time.process_time()
    ended = cloud.run(RUN, deadline_seconds=110)
    record_property("seconds", time.monotonic() - began)
    record_property("cpu_seconds", time.process_time() - cpu)
    assert ended.succeeded

    assert asked(cloud) == FIXED + DISTRIBUTED + times(EACH, 300)
    assert not [name for name in asked(cloud) if name.startswith("dynamodb")]
    transitions = cloud.records.transition_counts()
    assert (transitions["Shard"], transitions["ShardInline"]) == (300, 1)
    assert (transitions["FanOut"], transitions["FanOutInline"]) == (1, 1)
    assert cloud.worked_on() == Counter({str(shard): 1 for shard in range(300)})
    sizes = cloud.records.payload_bytes()
    assert {"FanOut", "Shard", "Reconcile", "Publish", "function work"} <= set(sizes)
    assert max(sizes.values()) < PAYLOAD_LIMIT_BYTES / 8
    assert cloud.result("r1") == upper(inputs)


def test_the_work_on_one_shard_request_by_request(
    make_cloud: MakeCloud, write_job: WriteJob
) -> None:
    cloud = make_cloud(write_job())
    cloud.give(lines(2))
    assert cloud.run(RUN).succeeded
    keys = cloud.keys("r1")
    calls = [call for call in cloud.records.api_calls if call.actor == "work"]
    ends = [n for n, call in enumerate(calls) if call.name == "states.SendTaskSuccess"]
    names = [(call.name, call.key) for call in calls[ends[0] + 1 : ends[1] + 1]]
    shard = names[0][1].removesuffix(".json").rpartition("/")[2]
    plan = cloud.record("r1")["plans"]["map"]["plan"]["key"]
    (part,) = [key for key in cloud.parts("r1") if f"/{shard}-" in key]
    assert names == [
        ("s3.GetObject", keys.entry("map", shard)),
        ("s3.GetObject", plan),
        ("s3.GetObject", f"words/inputs/00{shard}.txt"),
        ("s3.PutObject", part),
        ("s3.PutObject", keys.entry("map", shard)),
        ("states.SendTaskSuccess", ""),
    ]


def test_the_document_says_what_the_constants_say() -> None:
    assert sum(n for name, n in EACH.items() if name.startswith("sqs.")) == costs.MESSAGES_A_SHARD
    text = DOCUMENT.read_text()
    shards = 10_000
    rows = [
        ("Step Functions transitions", costs.TRANSITIONS_A_SHARD, costs.TRANSITION),
        ("SQS requests", costs.MESSAGES_A_SHARD, costs.SQS_REQUEST),
        ("S3 PUT", costs.PUTS_A_SHARD, costs.S3_PUT),
        ("S3 GET", costs.GETS_A_SHARD, costs.S3_GET),
        ("Lambda invocations", 1, costs.LAMBDA_REQUEST),
    ]
    for name, count, price in rows:
        dollars = shards * count * price
        assert f"| {name} | {count} | ${price * 1e6:.2f} | ${dollars:.3f} |" in text, name
    assert f"| **together** | | | **${shards * costs.OVERHEAD_A_SHARD:.3f}** |" in text
    assert f"dollars = {costs.OVERHEAD_A_SHARD:.7f} × shards" in text
    assert f"${costs.lambda_dollars(1.0, 1769):.7f}" in text
    example = shards * (costs.lambda_dollars(10.0, 1769) + costs.OVERHEAD_A_SHARD)
    assert f"**${example:.2f}**" in text
    for name, count in FIXED.items():
        assert f"| `{name}` | {count} |" in text

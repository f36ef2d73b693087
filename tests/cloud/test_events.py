"""Every file in events/ goes through its handler."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from coordinator.errors import Fate
from coordinator.model import Note
from coordinator.state import notes
from functions import wiring
from tests.cloud.account import FUNCTIONS, Account
from tests.cloud.conftest import MakeCloud

EVENTS = Path(__file__).parents[2] / "events"
BUCKET = "amzn-s3-demo-bucket"
INPUT = "wordcount/inputs/hamlet.txt"
LISTED = "wordcount/incoming/november.inputs.json"
MESSAGE_ID = "059f36b4-87a3-44ab-83d2-661975830a7d"

Arrange = Callable[[Account], None]


def sample(name: str) -> Any:
    return json.loads((EVENTS / name).read_text())


def invoke(cloud: Account, name: str) -> Any:
    """Send a sample to the function in whose folder it lies; it has to be answered."""
    invocation = cloud.functions.invoke(name.partition("/")[0], json.dumps(sample(name)))
    assert invocation.outcome == "answered", invocation
    return invocation.answer


# What the world is like before ----------------------------------------------------------------------


def nothing(cloud: Account) -> None:
    """An empty bucket."""


def uploaded(cloud: Account) -> None:
    cloud.put(INPUT, (EVENTS / "objects/hamlet.txt").read_bytes())


def uploaded_in_parts(cloud: Account) -> None:
    where = {"Bucket": BUCKET, "Key": INPUT}
    upload = cloud.s3.create_multipart_upload(**where)["UploadId"]
    body = (EVENTS / "objects/hamlet.txt").read_bytes()
    part = cloud.s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=body)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    cloud.s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts)


def listed(cloud: Account) -> None:
    cloud.put(LISTED, (EVENTS / "objects/november.inputs.json").read_bytes())
    cloud.put("plays/hamlet.txt", b"to be\n")
    cloud.put("poems/1.txt", b"or not to be\n")


def planned(cloud: Account) -> None:
    uploaded(cloud)
    invoke(cloud, "plan/manual-run-id.json")


def dispatched(cloud: Account) -> None:
    planned(cloud)
    invoke(cloud, "reconcile/after-plan.json")


def done(cloud: Account) -> None:
    dispatched(cloud)
    invoke(cloud, "work/first-receive.json")


def died_twice(cloud: Account) -> None:
    """Two attempts at the shard have begun, and their workers died."""
    dispatched(cloud)
    keys = cloud.keys("november")
    mark = Note(
        shard="0",
        stage="map",
        wave=1,
        attempt="5f0c6e1d2b7a4938",
        receives=3,
        failures=0,
        unfinished=2,
        error="AttemptFailed",
        reason="An attempt has begun.",
        fate=Fate.RETRY,
        at=1795237203.0,
    )
    notes.write_note(wiring.store(), keys, mark)


def split(cloud: Account) -> None:
    died_twice(cloud)
    invoke(cloud, "work/fourth-receive.json")
    invoke(cloud, "reconcile/after-fan-out.json")


def complete(cloud: Account) -> None:
    """Every stage of the run: what Reconcile dispatches goes through Work."""
    done(cloud)
    while True:
        answer = invoke(cloud, "reconcile/after-fan-out.json")
        if answer["next"] == "publish":
            return
        for shard in answer["shards"]:
            event = sample("work/first-receive.json")
            order = json.loads(event["Records"][0]["body"])
            order |= {"stage": answer["stage"], "draft": answer["draft"], "wave": answer["wave"]}
            order["shard"] = shard
            event["Records"][0]["body"] = json.dumps(order)
            assert cloud.functions.invoke("work", json.dumps(event)).outcome == "answered"


# What is expected -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """What a sample meets, and what becomes of it: an answer that holds `answer`, or an error.

    `token` is what the token in it is answered with; `note`, the error of the note it leaves.
    """

    arrange: Arrange = uploaded
    answer: Any = None
    error: str = ""
    says: str = ""
    token: dict[str, Any] | None = None
    note: str = ""


def begun(run_id: str) -> dict[str, Any]:
    return {"next": "reconcile", "reason": None, "run": {"job": "wordcount", "run_id": run_id}}


def refused(says: str) -> Row:
    return Row(error="InputInvalid", says=says)


FINE: dict[str, Any] = {"batchItemFailures": []}
BACK = {"batchItemFailures": [{"itemIdentifier": MESSAGE_ID}]}
HOW_TO = 'Send {"inputs": ["s3://bucket/prefix/"]'

ROWS = {
    "plan/schedule.json": Row(answer=begun("at-20261121T050000Z-be07ff62")),
    "plan/upload-put.json": Row(answer=begun("up-00673ec0f1a2b3c4d500000000000000-")),
    "plan/upload-copy.json": Row(answer=begun("up-00673ec0f1a2b3c4d600000000000000-")),
    "plan/upload-multipart.json": Row(
        uploaded_in_parts, answer=begun("up-00673ec0f1a2b3c4d700000000000000-")
    ),
    "plan/upload-versioned.json": Row(answer=begun("up-00673ec0f1a2b3c4d800000000000000-")),
    "plan/upload-replaced.json": Row(
        answer={
            "next": "stop",
            "run": None,
            "reason": f"Superseded: s3://{BUCKET}/{INPUT} has been replaced or deleted since it "
            "was uploaded.",
        }
    ),
    "plan/upload-inputs-list.json": Row(
        listed, answer=begun("up-00673ec0f1a2b3c4d900000000000000-")
    ),
    "plan/manual.json": Row(listed, answer=begun("november")),
    "plan/manual-empty.json": Row(answer=begun("by-hand")),
    "plan/manual-run-id.json": Row(answer=begun("november")),
    "plan/probe.json": Row(answer=begun("probe-3f1c0a9b8d7e6f50")),
    "plan/continuation.json": Row(planned, answer=begun("november")),
    "plan/taken-over.json": Row(planned, answer={"next": "stop"}, says="now belongs to"),
    "plan/bad-no-object.json": refused(HOW_TO),
    "plan/bad-unknown-field.json": refused("input: Extra inputs are not permitted."),
    "plan/bad-limit.json": refused("limits.concurrency: Input should be a valid integer"),
    "plan/bad-deployed-limit.json": refused("limits.memory_mb is fixed when the job is deployed"),
    "plan/bad-too-many-shards.json": refused("a stage on AWS has at most 10000"),
    "plan/bad-run-id.json": refused("Run id '../november' can't be used"),
    "plan/bad-input.json": refused("'plays/hamlet.txt' is no S3 address"),
    "plan/bad-schedule.json": refused("scheduled_time: Field required."),
    "plan/bad-upload.json": refused("detail.object: Field required."),
    "reconcile/after-plan.json": Row(
        planned, answer={"next": "inline", "stage": "map", "wave": 1, "concurrency": 1}
    ),
    "reconcile/after-fan-out.json": Row(
        done, answer={"next": "inline", "stage": "reduce", "wave": 2}
    ),
    "reconcile/after-fan-out-error.json": Row(
        dispatched,
        answer={"next": "pause", "after_pause": "inline", "stage": "map", "wave": 2},
    ),
    "reconcile/after-publish-error.json": Row(complete, answer={"next": "publish"}),
    "reconcile/after-publish-not-proven.json": Row(
        complete, error="NotProven", says="Shard 0 of stage map of run november has no entry."
    ),
    "reconcile/after-plan-error.json": Row(
        error="InputInvalid", says="Run id '../november' can't be used"
    ),
    "reconcile/redriven.json": Row(
        dispatched, answer={"next": "inline", "stage": "map", "wave": 2}
    ),
    "reconcile/redriven-after-plan-error.json": Row(answer={"next": "plan", "run": None}),
    "reconcile/taken-over.json": Row(dispatched, answer={"next": "stop"}, says="now belongs to"),
    "work/first-receive.json": Row(
        dispatched, answer=FINE, token={"shard": "0", "outcome": "done", "records_in": 2}
    ),
    "work/fourth-receive.json": Row(
        died_twice, answer=FINE, token={"shard": "0", "outcome": "split", "records_in": 0}
    ),
    "work/child-of-a-split.json": Row(
        split, answer=FINE, token={"shard": "0.1", "outcome": "done", "records_in": 1}
    ),
    "work/another-plan.json": Row(
        dispatched, answer=FINE, token={"error": "LedgerBroken"}, note="LedgerBroken"
    ),
    "work/foreign-body.json": Row(answer=BACK),
    "bury/dead-letter.json": Row(
        dispatched, answer=FINE, token={"error": "AttemptFailed"}, note="AttemptFailed"
    ),
    "bury/foreign-body.json": Row(answer=FINE),
    "publish/publish.json": Row(
        complete,
        answer={
            "status": "published",
            "latest": True,
            "records_in": 2,
            "results_prefix": f"s3://{BUCKET}/wordcount/results/november/",
        },
    ),
}


@pytest.fixture
def cloud(make_cloud: MakeCloud, monkeypatch: pytest.MonkeyPatch) -> Account:
    for minted in ("plan.new_draft", "reconcile.new_draft", "work.new_attempt"):
        monkeypatch.setattr(f"functions.{minted}", lambda: "5f0c6e1d2b7a4938")
    return make_cloud("wordcount", bucket=BUCKET)


def test_every_sample_has_a_row() -> None:
    found = {f"{path.parent.name}/{path.name}" for path in EVENTS.glob("*/*.json")}
    assert {name for name in found if not name.startswith("objects/")} == set(ROWS)
    assert {name.partition("/")[0] for name in ROWS} == set(FUNCTIONS)


def test_every_sample_is_described() -> None:
    text = (EVENTS / "README.md").read_text()
    names = [f"`{path.name}`" for path in EVENTS.glob("*/*")]
    assert [name for name in names if name not in text] == []


@pytest.mark.parametrize("name", ROWS)
def test_a_sample_goes_through_its_handler(cloud: Account, name: str) -> None:
    row = ROWS[name]
    row.arrange(cloud)
    cloud.records.reset()
    invocation = cloud.functions.invoke(name.partition("/")[0], json.dumps(sample(name)))
    if row.error:
        assert (invocation.outcome, invocation.error) == ("raised", row.error)
        assert row.says in (invocation.message or "")
        return
    assert invocation.outcome == "answered", invocation
    assert_holds(invocation.answer, row.answer)
    assert row.says in (invocation.answer.get("reason") or "")
    if row.token is not None:
        (answer,) = cloud.answers()
        found = json.loads(answer["output"]) if "output" in answer else answer
        assert_holds(found, row.token)
    else:
        assert cloud.answers() == []
    if row.note:
        keys = cloud.keys("november")
        assert cloud.document(keys.note("map", "0", 1))["error"] == row.note


def test_a_redrive_that_is_retried_is_not_held_up_by_the_error_before_it(cloud: Account) -> None:
    complete(cloud)
    event = sample("reconcile/after-publish-not-proven.json")
    event["execution"]["RedriveCount"] = 1

    for _ in range(2):
        invocation = cloud.functions.invoke("reconcile", json.dumps(event))
        assert invocation.outcome == "answered", invocation
        assert_holds(invocation.answer, {"next": "publish", "redrives": 1})


def assert_holds(found: Any, expected: dict[str, Any]) -> None:
    """Every field expected is there; a run id may go on with a digest."""
    for field, value in expected.items():
        if isinstance(value, dict):
            assert_holds(found[field], value)
        elif field == "run_id" and value.endswith("-"):
            assert found[field].startswith(value)
        else:
            assert found[field] == value, field


@pytest.mark.parametrize("name", [name for name in ROWS if name.startswith(("work/", "bury/"))])
def test_the_checksum_of_a_message_is_right(name: str) -> None:
    (record,) = sample(name)["Records"]
    assert record["md5OfBody"] == hashlib.md5(record["body"].encode()).hexdigest()


@pytest.mark.parametrize("name", [name for name in ROWS if name.startswith("reconcile/")])
def test_the_state_in_a_sample_is_what_the_machine_has_there(name: str) -> None:
    """The fields that the definition reads, of the states that come before Reconcile."""
    state = sample(name)["state"]
    fan_out = {
        "run", "next", "pause_seconds", "after_pause", "stage", "draft", "wave", "shards", "items",
        "results", "concurrency", "lost_children", "child_timeout_seconds", "redrives",
    }  # fmt: skip
    planned, ahead = {"run", "next", "reason", "redrives"}, {"run", "next", "redrives"}
    shapes: list[set[str]] = [planned, fan_out, ahead, {"run"}]
    assert set(state) - {"error"} in shapes
    if "error" in state:
        assert set(state["error"]) == {"Error", "Cause"}


def test_after_the_first_wave_the_state_is_what_reconcile_answered(cloud: Account) -> None:
    planned(cloud)
    answer = invoke(cloud, "reconcile/after-plan.json")
    assert answer == sample("reconcile/after-fan-out.json")["state"]
    (shard,) = answer["shards"]
    body = json.loads(sample("work/first-receive.json")["Records"][0]["body"])
    assert body["shard"] == shard

"""The five functions in miniature: the contract of the state machine without any of the work.

A run has `shards` shards. A shard is done when `ledger/<id>` exists. Reconcile sends out what is
missing, at most `waves` times, then fails.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import boto3
from botocore.exceptions import ClientError

from tests.cloud.harness import message_of

INLINE_MAX = 40


class ShardsFailed(Exception):
    """Shards are still missing and the waves are spent."""


class Fakes:
    """Handlers obeying the contract, over one bucket."""

    def __init__(
        self, bucket: str = "fanfold-test", *, waves: int = 3, plan_calls: int = 1
    ) -> None:
        self.bucket = bucket
        self.waves = waves
        self.plan_calls = plan_calls
        self.inline_max = INLINE_MAX
        self.lose_answers = False
        self.refused_answers: list[str] = []

    @property
    def handlers(self) -> dict[str, Any]:
        return {
            "plan": self.plan,
            "reconcile": self.reconcile,
            "work": self.work,
            "bury": self.bury,
            "publish": self.publish,
        }

    def plan(self, event: Any, context: Any) -> dict[str, Any]:
        asked = event["execution"]["Input"]
        run = {
            "job": "fake",
            "run_id": asked["run_id"],
            "owner": event["execution"]["Id"],
            "epoch": 1,
        }
        if asked.get("duplicate"):
            return {"run": run, "next": "stop", "reason": "a run with this id has an owner"}
        calls = (self._read(f"{run['run_id']}/plan") or {"calls": 0})["calls"] + 1
        self._write(f"{run['run_id']}/plan", {"calls": calls, "shards": asked["shards"]})
        done = calls >= self.plan_calls
        return {"run": run, "next": "reconcile" if done else "plan", "reason": None}

    def reconcile(self, event: Any, context: Any) -> dict[str, Any]:
        state = event["state"]
        if not state.get("run"):
            raise RuntimeError(f"Plan failed: {state['error']['Error']}")
        run = state["run"]
        root = run["run_id"]
        tenure = event["execution"]["RedriveCount"]
        plan = self._read(f"{root}/plan") or {"shards": 0}
        ids = [str(number) for number in range(plan["shards"])]
        done = self._list(f"{root}/ledger/")
        missing = [each for each in ids if each not in done]
        if not missing:
            return {"run": run, "next": "publish"}
        wave = (self._read(f"{root}/wave") or {"wave": 0})["wave"] + 1
        if wave > self.waves + tenure:
            notes = {each: self._read(f"{root}/notes/{each}") for each in missing}
            raise ShardsFailed(json.dumps(notes))
        self._write(f"{root}/wave", {"wave": wave})
        shards = [{"id": each, "offset": 0, "length": 1, "digest": "d"} for each in missing]
        self._write(f"{root}/waves/{wave}/items.json", shards)
        inline = len(missing) <= self.inline_max
        return {
            "run": run,
            "next": "inline" if inline else "map",
            "stage": "map",
            "draft": "d",
            "wave": wave,
            "items": {"bucket": self.bucket, "key": f"{root}/waves/{wave}/items.json"},
            **({"shards": shards} if inline else {}),
            "results": {"bucket": self.bucket, "prefix": f"{root}/waves/{wave}/results"},
            "concurrency": 3000,
            "lost_children": 2999,
            "child_timeout_seconds": 86400,
        }

    def work(self, event: Any, context: Any) -> dict[str, Any]:
        order = message_of(event)
        key = f"{order['run_id']}/ledger/{order['shard']['id']}"
        try:
            _client("s3").put_object(Bucket=self.bucket, Key=key, Body=b"{}", IfNoneMatch="*")
        except ClientError as error:
            if error.response["Error"]["Code"] != "PreconditionFailed":
                raise
        self._answer(order["token"], {"shard": order["shard"]["id"], "outcome": "done"})
        return {"batchItemFailures": []}

    def bury(self, event: Any, context: Any) -> dict[str, Any]:
        order = message_of(event)
        receives = event["Records"][0]["attributes"]["ApproximateReceiveCount"]
        note = {"reason": "the worker died", "receives": receives}
        self._write(f"{order['run_id']}/notes/{order['shard']['id']}", note)
        try:
            _client("stepfunctions").send_task_failure(
                taskToken=order["token"], error="AttemptFailed", cause="the worker died"
            )
        except ClientError as error:
            self.refused_answers.append(error.response["Error"]["Code"])
        return {"batchItemFailures": []}

    def publish(self, event: Any, context: Any) -> dict[str, Any]:
        self._write(f"{event['run']['run_id']}/manifest.json", {})
        return {"run": event["run"], "status": "published"}

    def _answer(self, token: str, output: Any) -> None:
        try:
            _client("stepfunctions").send_task_success(taskToken=token, output=json.dumps(output))
        except ConnectionError:
            if not self.lose_answers:
                raise
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code not in {"TaskTimedOut", "InvalidToken"}:
                raise
            self.refused_answers.append(code)

    def _read(self, key: str) -> Any:
        try:
            return json.load(_client("s3").get_object(Bucket=self.bucket, Key=key)["Body"])
        except ClientError:
            return None

    def _write(self, key: str, value: Any) -> None:
        _client("s3").put_object(Bucket=self.bucket, Key=key, Body=json.dumps(value).encode())

    def _list(self, prefix: str) -> set[str]:
        pages = (
            _client("s3")
            .get_paginator("list_objects_v2")
            .paginate(Bucket=self.bucket, Prefix=prefix)
        )
        return {
            item["Key"].removeprefix(prefix) for page in pages for item in page.get("Contents", [])
        }


@functools.cache
def _client(service: str) -> Any:
    make: Any = boto3.session.Session().client
    return make(service)

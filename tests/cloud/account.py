"""An account with one job deployed: the harness with the real handlers, and words for tests."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from coordinator.keys import RunKeys
from functions import bury, plan, publish, reconcile, settings, telemetry, wiring, work
from tests.cloud.harness import Cloud, message_of

MODULES = {"plan": plan, "reconcile": reconcile, "work": work, "bury": bury, "publish": publish}
FUNCTIONS = tuple(MODULES)


def handlers() -> dict[str, Any]:
    """The handlers that are deployed, by the names of their functions."""
    return {name: module.handler for name, module in MODULES.items()}


def forget_everything() -> None:
    """What a new container knows: nothing. Clients stay: they reach whichever cloud is up, and
    making them costs more than a run."""
    for cached in (settings.settings, settings.loaded_job, wiring.store, wiring.inputs):
        cached.cache_clear()
    wiring.forget()
    telemetry.metrics.clear_default_dimensions()
    telemetry.metrics.clear_metrics()


class Account(Cloud):
    """A cloud whose functions are those of one job."""

    def __init__(self, job: str, **options: Any) -> None:
        super().__init__(handlers(), **options)
        self.job = job

    # Putting --------------------------------------------------------------------------------------

    def put(self, key: str, body: bytes) -> dict[str, Any]:
        """PutObject, by whoever uploads."""
        answer: dict[str, Any] = self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)
        return answer

    def give(self, inputs: Mapping[str, bytes]) -> None:
        """Put objects where the job looks for its inputs when nobody says otherwise."""
        for name, body in inputs.items():
            self.put(f"{self.job}/inputs/{name}", body)

    # Looking --------------------------------------------------------------------------------------

    def keys(self, run_id: str) -> RunKeys:
        """The keys of a run, those of its stages under the drafts that are committed."""
        keys = RunKeys(self.job, run_id)
        if not self.listed(keys.run):
            return keys
        plans = self.document(keys.run).get("plans", {})
        return replace(keys, drafts=tuple((stage, ref["draft"]) for stage, ref in plans.items()))

    def body(self, key: str) -> bytes:
        found: bytes = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return found

    def document(self, key: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body(key))
        return found

    def listed(self, prefix: str) -> list[str]:
        """The keys below a prefix, in order."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def results(self, run_id: str) -> dict[str, bytes]:
        """The result objects of a run, by name."""
        prefix = self.keys(run_id).results
        return {key.removeprefix(prefix): self.body(key) for key in self.listed(prefix)}

    def result(self, run_id: str) -> bytes:
        """The only result object of a run."""
        (found,) = self.results(run_id).values()
        return found

    def manifest(self, run_id: str) -> dict[str, Any]:
        return self.document(self.keys(run_id).manifest)

    def record(self, run_id: str) -> dict[str, Any]:
        """`run.json`."""
        return self.document(self.keys(run_id).run)

    def entries(self, run_id: str, stage: str = "map") -> list[str]:
        """The ids of the shards that have an entry."""
        prefix = self.keys(run_id).ledger(stage)
        found = self.listed(prefix)
        return [key.removeprefix(prefix).removesuffix(".json") for key in found]

    def parts(self, run_id: str, stage: str = "map") -> list[str]:
        """The part objects of a stage, whoever wrote them."""
        below = self.listed(self.keys(run_id).stages(stage))
        return [key for key in below if "/parts/" in key]

    def latest(self) -> str:
        """The run that readers who go by `latest.json` see."""
        found: str = self.document(f"{self.job}/latest.json")["run_id"]
        return found

    # What happened --------------------------------------------------------------------------------

    def worked_on(self, stage: str = "map") -> Counter[str]:
        """How often Work was invoked for each shard of a stage."""
        return worked_on(self.records.events("work"), stage)

    def answers(self) -> list[dict[str, Any]]:
        """What Work and Bury answered tokens with, in order of sending."""
        return [
            json.loads(call.body)
            for call in self.records.api_calls
            if call.name in {"states.SendTaskSuccess", "states.SendTaskFailure"}
        ]


def worked_on(events: Iterable[Any], stage: str = "map") -> Counter[str]:
    """How often each shard of a stage is in events of the queue."""
    orders = (message_of(event) for event in events)
    return Counter(order["shard"]["id"] for order in orders if order["stage"] == stage)

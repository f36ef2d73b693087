"""What must hold at every moment, and at the end: written without any of the code that it checks.

The keys and documents are read as the plain JSON that a reader outside of Fanfold would find.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.simulator.cloud import Cloud
from tests.chaos.simulator.machine import Token
from tests.chaos.simulator.store import Write, sha256

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a run has to give: its result by name, what it quarantines, and how much it reads.

    Without results the run has to fail, and nothing of it may ever be seen.
    """

    results: Mapping[str, bytes] | None
    inputs: Mapping[str, int]
    records: int
    quarantined: frozenset[tuple[str, int]] = frozenset()


@dataclass
class Watch:
    """Looks at every write and every answer of a world, and keeps what is wrong."""

    cloud: Cloud
    expected: Mapping[str, Expected]
    wrong: list[str] = field(default_factory=list)
    _created: Counter[str] = field(default_factory=Counter)
    _latest: tuple[float, str] | None = None
    _runs: dict[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.job = self.cloud.loaded.job.name
        self.cloud.store.watch = self.on_write
        self.cloud.on_answer = self.on_answer

    def _blame(self, what: str) -> None:
        trace = self.cloud.world.trace
        self.wrong.append(f"{what} (at {trace[-1] if trace else 'the start'})")

    # -- at every moment -------------------------------------------------------------------------

    def on_write(self, write: Write) -> None:
        """Hold one write against what may be seen of it."""
        steps = write.key.removeprefix(f"{self.job}/").split("/")
        if steps[0] == "latest.json":
            self._on_latest(write)
        elif steps[0] == "results":
            self._on_result(write)
        elif steps[0] == "published":
            self._on_proof(write, steps[1], steps[2:])
        elif steps[2:] == ["run.json"]:
            self._on_run(write, steps[1])
        elif steps[4:5] == ["ledger"]:
            self._on_entry(write)

    def _on_result(self, write: Write) -> None:
        self._created[write.key] += 1
        if write.body is None or self._created[write.key] > 1:
            self._blame(f"the result {write.key} was written or deleted once more")

    def _on_proof(self, write: Write, run_id: str, name: list[str]) -> None:
        """What proves a run appears once, and only after the run is committed to be published."""
        self._created[write.key] += 1
        if write.body is None or self._created[write.key] > 1:
            self._blame(f"{write.key} was written or deleted once more")
            return
        state = self._runs[run_id].get("state")
        if state not in {"publishing", "published"}:
            self._blame(f"{write.key} was written while run {run_id} was {state}")
        if name == ["manifest.json"]:
            self._check_visible(run_id, json.loads(write.body))

    def _check_visible(self, run_id: str, manifest: Json) -> None:
        """All that a manifest names is there, and is what it should be."""
        expected = self.expected[run_id]
        if expected.results is None:
            self._blame(f"run {run_id} was published, though its proof can't hold")
            return
        prefix = manifest["results_prefix"]
        found: dict[str, bytes] = {}
        for result in self._lines(manifest["results"]):
            body = self.cloud.store.peek(result["key"])
            if body is None or (len(body), sha256(body)) != (result["size"], result["sha256"]):
                self._blame(f"the manifest of {run_id} names {result['key']}, missing or different")
                return
            found[result["key"].removeprefix(prefix)] = body
        if found != dict(expected.results):
            self._blame(f"run {run_id} was published with another result")
        if manifest["quarantined"] != len(expected.quarantined):
            self._blame(f"the manifest of {run_id} counts {manifest['quarantined']} quarantined")

    def _on_latest(self, write: Write) -> None:
        if write.body is None:
            self._blame("the pointer was deleted")
            return
        pointer = json.loads(write.body)
        place = (pointer["logical_time"], pointer["run_id"])
        if self._latest is not None and place < self._latest:
            self._blame(f"the pointer went back from {self._latest} to {place}")
        self._latest = place
        body = self.cloud.store.peek(pointer["manifest"])
        if body is None:
            self._blame(f"the pointer names {pointer['manifest']}, which is not there")
            return
        self._check_visible(pointer["run_id"], json.loads(body))

    def _on_run(self, write: Write, run_id: str) -> None:
        if write.body is None:
            self._blame(f"{write.key} was deleted")
            return
        before, after = self._runs.get(run_id), json.loads(write.body)
        self._runs[run_id] = after
        if (
            after.get("state") == "published"
            and self.cloud.store.peek(f"{self.job}/published/{run_id}/manifest.json") is None
        ):
            self._blame(f"run {run_id} calls itself published and has no manifest")
        if write.owner is not None and write.owner != after["owner"]:
            self._blame(f"run {run_id} of {after['owner']} was changed by {write.owner}")
        if before is None:
            return
        for number in ("epoch", "wave", "dispatched"):
            if after.get(number, 0) < before.get(number, 0):
                self._blame(f"the {number} of run {run_id} went back")
        order = ["publishing", "published"]
        if before.get("state") in order and after.get("state") not in order:
            self._blame(f"run {run_id} was {before.get('state')} and is {after.get('state')}")
        if (before.get("state"), after.get("state")) == ("cancelled", "publishing"):
            self._blame(f"run {run_id} was cancelled, and is published")
        same_epoch = before.get("epoch", 1) == after.get("epoch", 1)
        if before.get("state") == "cancelled" != after.get("state") and same_epoch:
            self._blame(f"run {run_id} was cancelled and goes on in the same epoch")
        if same_epoch and before.get("code_version") != after.get("code_version"):
            self._blame(f"run {run_id} goes on with other code in the same epoch")
        if before["owner"] != after["owner"] and after.get("epoch", 1) == before.get("epoch", 1):
            self._blame(f"run {run_id} has a new owner in the same epoch")
        for execution in self.cloud.executions_of(run_id):
            # one that is redriven may come back to life while another takes its place
            lives = execution.status == "RUNNING" and not execution.redrives
            if execution.id == before["owner"] != after["owner"] and lives:
                self._blame(f"run {run_id} was taken from {execution.name}, which is alive")
        if after.get("redrafts", 0) > before.get("redrafts", 0):
            return
        for pinned in ("plans", "sealed"):
            for stage, ref in before.get(pinned, {}).items():
                if after.get(pinned, {}).get(stage) != ref:
                    self._blame(f"{pinned} of stage {stage} of run {run_id} were changed")

    def _on_entry(self, write: Write) -> None:
        self._created[write.key] += 1
        if write.body is None or write.operation != "create" or self._created[write.key] > 1:
            self._blame(f"the entry {write.key} was written or deleted once more")
            return
        receipt = json.loads(write.body)["receipt"]
        files = [*receipt.get("parts", ()), *receipt.get("results", ())]
        if receipt.get("quarantine"):
            files.append(receipt["quarantine"])
        for file in files:
            body = self.cloud.store.peek(file["key"])
            if body is None or (len(body), sha256(body)) != (file["size"], file["sha256"]):
                self._blame(f"the entry {write.key} names {file['key']}, missing or different")

    def on_answer(self, token: Token, answer: Json | None) -> None:
        """Who says that a shard has its outcome says what is in the ledger."""
        if answer is None:
            return
        message = token.message
        run, stage, shard = message["run_id"], message["stage"], message["shard"]["id"]
        ledger = f"{self.job}/runs/{run}/{stage}/{message['draft']}/ledger"
        body = self.cloud.store.peek(f"{ledger}/{shard}.json")
        if body is None:
            self._blame(f"shard {shard} of stage {stage} was answered before it has an entry")
            return
        receipt = json.loads(body)["receipt"]
        for name in ("attempt", "records_in", "records_out", "quarantined"):
            if answer.get(name, 0) != receipt.get(name, 0):
                self._blame(f"shard {shard} of stage {stage} was answered with another's {name}")

    # -- at the end ------------------------------------------------------------------------------

    def check_end(self) -> None:
        """Everything is over: what is left must be whole.

        Raises:
            AssertionError: with everything that is or was wrong.
        """
        cloud = self.cloud
        assert cloud.world.idle
        for run_id, expected in self.expected.items():
            if run_id in cloud.requests:
                self._check_run(run_id, expected)
        for execution in cloud.executions:
            if execution.status == "RUNNING":
                self._blame(f"execution {execution.name} never ends")
                for token in execution.tokens:
                    if token.outcome is None:
                        self._blame(f"token {token.name} was never answered")
        for letter in [*cloud.queue.letters, *cloud.dead.letters]:
            self._blame(f"the message {letter.name} for shard {letter.shard} is left over")
        newest = max(
            (
                (cloud.requests[run].logical_time, run)
                for run in cloud.requests
                if cloud.is_published(run)
            ),
            default=None,
        )
        if self._latest != newest:
            self._blame(f"the pointer is at {self._latest}, not at {newest}")
        assert not self.wrong, "\n".join(self.wrong)

    def _check_run(self, run_id: str, expected: Expected) -> None:
        published = self.cloud.is_published(run_id)
        if expected.results is None:
            if published:
                self._blame(f"run {run_id} can't be right, and is published")
            return
        if not published:
            last = self.cloud.executions_of(run_id)[-1]
            self._blame(f"run {run_id} is not published: {last.status} {last.error}")
            return
        manifest = self._json(f"{self.job}/published/{run_id}/manifest.json")
        self._check_visible(run_id, manifest)
        quarantined = frozenset(
            (line["key"], line["offset"]) for line in self._lines(manifest.get("quarantine"))
        )
        if quarantined != expected.quarantined:
            self._blame(f"{sorted(quarantined)} were quarantined")
        self._check_coverage(run_id, expected)

    def _check_coverage(self, run_id: str, expected: Expected) -> None:
        """Every byte of every object in exactly one slice of exactly one entry of the tree."""
        ranges: dict[str, list[Json]] = {key: [] for key in expected.inputs}
        records = 0
        for entry in self._entries(run_id, "map"):
            receipt = entry["receipt"]
            records += receipt.get("records_in", 0)
            for piece in entry.get("covered", ()):
                if piece["size"] != expected.inputs.get(piece["key"]):
                    self._blame(f"{piece['key']} of {piece['size']} bytes was never an input")
                    return
                ranges[piece["key"]].append(piece)
        if records != expected.records:
            self._blame(f"{records} records were read, not {expected.records}")
        for key, pieces in ranges.items():
            if not tiles(pieces, expected.inputs[key]):
                self._blame(f"{key} is not read exactly once: {pieces}")
        for stage in ("reduce", "merge"):
            list(self._entries(run_id, stage))

    def _entries(self, run_id: str, stage: str) -> Iterator[Json]:
        """The entries of a stage, as the tree of its shards has them; any other is wrong."""
        run = self._runs[run_id]
        if stage not in run["plans"]:
            return
        draft = run["plans"][stage]["draft"]
        prefix = f"{self.job}/runs/{run_id}/{stage}/{draft}/ledger/"
        unseen = set(self.cloud.store.keys(prefix))
        waiting = [str(root) for root in range(run["plans"][stage]["shards"])]
        while waiting:
            shard = waiting.pop(0)
            key = f"{prefix}{shard}.json"
            if key not in unseen:
                self._blame(f"shard {shard} of stage {stage} has no entry")
                continue
            unseen.discard(key)
            entry = self._json(key)
            waiting += [f"{shard}.{child}" for child in range(len(entry.get("children", ())))]
            yield entry
        for key in sorted(unseen):
            self._blame(f"{key} is the entry of no shard")

    def _lines(self, file: Json | None) -> list[Json]:
        """The lines of a file that a manifest names, which must be what it says."""
        if file is None:
            return []
        body = self.cloud.store.peek(file["key"]) or b""
        if (len(body), sha256(body)) != (file["size"], file["sha256"]):
            self._blame(f"a manifest names {file['key']}, missing or different")
        return [json.loads(line) for line in body.splitlines()]

    def _json(self, key: str) -> Json:
        body = self.cloud.store.peek(key)
        assert body is not None, f"{key} is missing"
        found: Json = json.loads(body)
        return found


def tiles(pieces: list[Json], size: int) -> bool:
    """Whether ranges of one object, in any order, lie side by side from its start to its end."""
    in_bytes = [piece for piece in pieces if piece.get("unit", "bytes") == "bytes"]
    if in_bytes and len(in_bytes) < len(pieces):
        return False
    end = size if in_bytes else -1
    place = 0
    for piece in sorted(pieces, key=lambda it: (it.get("start", 0), it["stop"])):
        if piece.get("start", 0) != place:
            return False
        place = piece["stop"]
    return place == end and bool(pieces)

"""What must hold at every moment, and at the end: written without any of the code that it checks.

The keys and documents are read as the plain JSON that a reader outside of Fanfold would find.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.simulator.bounds import dollars_spent, timeout_dollars, too_much
from tests.chaos.simulator.cloud import Cloud
from tests.chaos.simulator.proof import Published, problems, read
from tests.chaos.simulator.store import Write, sha256
from tests.chaos.simulator.tokens import Token

Json = dict[str, Any]
MOMENT_SECONDS = 0.2
KEPT_SECONDS = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class Expected:
    """What a run has to give: its result by name, what it quarantines, and how much it reads.

    Without results the run has to fail, and nothing of it may ever be seen.
    """

    results: Mapping[str, bytes] | None
    inputs: Mapping[str, int]
    records: int
    quarantined: frozenset[tuple[str, int]] = frozenset()
    retold: Callable[[list[Json]], Mapping[str, bytes]] | None = None

    def results_by(self, published: Published) -> Mapping[str, bytes] | None:
        """The results: of a job that may be deployed anew, what its map's ledger makes of them."""
        return self.results if self.retold is None else self.retold(published.ledgers["map"])


@dataclass
class Watch:
    """Looks at every write and every answer of a world, and keeps what is wrong.

    Where inputs change, `retell` tells what has to come of those that a run has pinned, and `bodies`
    are all that there ever were, by key and digest. `on_merge` is done once a merge is planned. `given_up` are the runs that ended by a name that only a new run id gets around.
    """

    cloud: Cloud
    expected: dict[str, Expected]
    wrong: list[str] = field(default_factory=list)
    retell: Callable[[Mapping[str, bytes]], Expected] | None = None
    bodies: dict[tuple[str, str], bytes] = field(default_factory=dict)
    lasting: set[str] = field(default_factory=set)
    on_merge: Callable[[], object] | None = None
    given_up: dict[str, str] = field(default_factory=dict)
    _created: Counter[str] = field(default_factory=Counter)
    _latest: tuple[float, str] | None = None
    _runs: dict[str, Json] = field(default_factory=dict)
    _bound: dict[str, set[str]] = field(default_factory=dict)
    _cleaned: set[str] = field(default_factory=set)
    _swept: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.job = self.cloud.loaded.job.name
        self.cloud.store.watch = self.on_write
        self.cloud.store.on_expired = self.on_expired
        self.cloud.on_answer = self.on_answer

    def _blame(self, what: str) -> None:
        trace = self.cloud.world.trace
        self.wrong.append(f"{what} (at {trace[-1] if trace else 'the start'})")

    # -- at every moment -------------------------------------------------------------------------

    def on_write(self, write: Write) -> None:
        """Hold one write against what may be seen of it."""
        steps = write.key.removeprefix(f"{self.job}/").split("/")
        if write.operation == "delete":
            self._on_delete(write, steps)
        elif steps[0] == "latest.json":
            self._on_latest(write)
        elif steps[0] == "results":
            self._on_result(write)
        elif steps[0] == "published":
            self._on_proof(write, steps[1], steps[2:])
        elif steps[2:] == ["run.json"]:
            self._on_run(write, steps[1])
        elif steps[4:5] == ["ledger"] and steps[1] not in self._cleaned:
            self._on_entry(write)

    def on_expired(self, key: str) -> None:
        """The bucket has let an object expire: what comes under its key is the first again."""
        self._created.pop(key, None)
        steps = key.removeprefix(f"{self.job}/").split("/")
        if steps[2:] == ["run.json"]:
            self._runs.pop(steps[1], None)

    def _on_delete(self, write: Write, steps: list[str]) -> None:
        """Only a person deletes, by cleaning, and nothing that a reader or a resumption needs."""
        self._created.pop(write.key, None)
        run_id = steps[1] if len(steps) > 1 else ""
        named = {line["key"] for line in self._results_of(run_id)}
        run = self._runs[run_id]
        published = run.get("state") == "published"
        expired = not published and self.cloud.world.now - run["created"] > KEPT_SECONDS
        record = steps[2:] == ["run.json"]
        kept = steps[0] not in {"runs", "results"} or (record and not expired)
        if write.actor != "person" or kept or write.key in named:
            self._blame(f"{write.key} was deleted by {write.actor}")
        if published:
            self._cleaned.add(run_id)
        self._swept.add(write.key)
        if record:
            del self._runs[run_id]

    def _results_of(self, run_id: str) -> list[Json]:
        """The results that the manifest of a run names, if it has one."""
        body = self.cloud.store.peek(f"{self.job}/published/{run_id}/manifest.json")
        return self._lines(json.loads(body)["results"]) if body else []

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
        if self.expected[run_id].results is None:
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
        published = read(self.cloud.store.peek, self.job, run_id, self._blame)
        expected = self._told_by(run_id, published)
        if found != dict(expected.results_by(published) or {}):
            self._blame(f"run {run_id} was published with another result")
        if manifest["quarantined"] != len(expected.quarantined):
            self._blame(f"the manifest of {run_id} counts {manifest['quarantined']} quarantined")

    def _told_by(self, run_id: str, published: Published) -> Expected:
        """What is expected of the inputs that a run has pinned, where they moved under it."""
        if self.retell is None or not self.bodies:
            return self.expected[run_id]
        pinned = [(row[0], row[2]) for row in published.snapshot]
        if any(it not in self.bodies for it in pinned) or not self.lasting <= set(dict(pinned)):
            self._blame(f"run {run_id} has pinned {pinned}")
            return self.expected[run_id]
        return self.retell({key: self.bodies[key, digest] for key, digest in pinned})

    def on_moved(self, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> None:
        """The inputs were these, and are those."""
        if not self.bodies:
            self.lasting = set(before)
        for objects in (before, after):
            self.bodies.update(((key, sha256(body)), body) for key, body in objects.items())
        self.lasting &= set(after)

    def _on_latest(self, write: Write) -> None:
        assert write.body is not None
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
        assert write.body is not None
        before, after = self._runs.get(run_id), json.loads(write.body)
        self._runs[run_id] = after
        self._bound.setdefault(run_id, set()).add(after.get("code_version", ""))
        if (
            after.get("state") == "published"
            and self.cloud.store.peek(f"{self.job}/published/{run_id}/manifest.json") is None
        ):
            self._blame(f"run {run_id} calls itself published and has no manifest")
        if write.owner is not None and write.owner != after["owner"]:
            self._blame(f"run {run_id} of {after['owner']} was changed by {write.owner}")
        if before is None:
            return
        if "merge" in after.get("plans", {}) and self.on_merge is not None:
            self.cloud.world.after(MOMENT_SECONDS, self.on_merge)
            self.on_merge = None
        for number in ("epoch", "wave", "dispatched"):
            if after.get(number, 0) < before.get(number, 0):
                self._blame(f"the {number} of run {run_id} went back")
        order = ["publishing", "published"]
        if before.get("state") in order and after.get("state") not in order:
            self._blame(f"run {run_id} was {before.get('state')} and is {after.get('state')}")
        if (before.get("state"), after.get("state")) == ("cancelled", "publishing"):
            self._blame(f"run {run_id} was cancelled, and is published")
        if after.get("dispatched", 0) > before.get("dispatched", 0):
            self._on_dispatch(after)
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
            by_machine = write.actor != "person"
            if execution.id == before["owner"] != after["owner"] and lives and by_machine:
                self._blame(f"run {run_id} was taken from {execution.name}, which is alive")
        if after.get("redrafts", 0) > before.get("redrafts", 0):
            return
        for pinned in ("plans", "sealed"):
            for stage, ref in before.get(pinned, {}).items():
                if after.get(pinned, {}).get(stage) != ref:
                    self._blame(f"{pinned} of stage {stage} of run {run_id} were changed")

    def _on_dispatch(self, run: Json) -> None:
        """A wave goes out only while there is money left, but for one attempt that lost a race."""
        budget = run.get("limits", {}).get("budget_dollars")
        if budget is None:
            return
        limits = self.cloud.loaded.job.limits
        races = bool(self.cloud.queue.duplicated)
        slack = races * timeout_dollars(limits.timeout_seconds, limits.memory_mb)
        spent = dollars_spent(self.cloud, limits.memory_mb)
        if spent > budget + slack:
            self._blame(f"a wave was dispatched when {spent:.6f} of {budget} dollars were spent")

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
            if file["key"] in self._swept and self.cloud.world.arrived_when_cleaned:
                # It was sent a day ago; its run was cancelled, and cleaned: somebody has to repair.
                self.cloud.people.damaged.add(file["key"])
            if file["key"] in self.cloud.people.damaged:
                continue
            if body is None or (len(body), sha256(body)) != (file["size"], file["sha256"]):
                self._blame(f"the entry {write.key} names {file['key']}, missing or different")

    def on_answer(self, token: Token, answer: Json | None) -> None:
        """Who says that a shard has its outcome says what is in the ledger."""
        if answer is None:
            return
        message = token.message
        run, stage, shard = message["run_id"], message["stage"], message["shard"]["id"]
        if run in self._cleaned:
            return  # it is published, and its executions have ended
        ledger = f"{self.job}/runs/{run}/{stage}/{message['draft']}/ledger"
        body = self.cloud.store.peek(f"{ledger}/{shard}.json")
        if f"{ledger}/{shard}.json" in self.cloud.people.damaged:
            return
        if body is None:
            if f"{ledger}/{shard}.json" in self._swept and self.cloud.world.arrived_when_cleaned:
                return  # it was there when the answer was sent, a day ago
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
        for problem in too_much(cloud):
            self._blame(problem)
        for complaint in cloud.people.complaints:
            self._blame(complaint)
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
        if expected.results is None or run_id in self.given_up:
            if published:
                self._blame(f"run {run_id} can't be right, and is published")
            return
        if not published:
            last = self.cloud.executions_of(run_id)[-1]
            self._blame(f"run {run_id} is not published: {last.status} {last.error}")
            return
        found = read(self.cloud.store.peek, self.job, run_id, self._blame)
        self._check_visible(run_id, found.manifest)
        expected = self._told_by(run_id, found)
        quarantined = frozenset((line["key"], line["offset"]) for line in found.quarantine)
        if quarantined != expected.quarantined:
            self._blame(f"{sorted(quarantined)} were quarantined")
        if {row[0]: row[1] for row in found.snapshot} != expected.inputs:
            self._blame(f"run {run_id} has pinned {found.snapshot}")
        records = sum(entry["receipt"].get("records_in", 0) for entry in found.ledgers["map"])
        if records != expected.records:
            self._blame(f"{records} records were read, not {expected.records}")
        for problem in problems(found, self._bound[run_id]):
            self._blame(f"run {run_id}: {problem}")
        kept = run_id not in self._cleaned and not self.cloud.people.damaged
        if kept and not self._runs[run_id].get("redrafts", 0):
            for stage in found.ledgers:
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

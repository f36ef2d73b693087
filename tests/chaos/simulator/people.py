"""What people do to a run, and what happens to the world around it, beside whatever is going on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from coordinator.errors import FanfoldError
from coordinator.keys import RunKeys
from coordinator.state import runs
from coordinator.upkeep.clean import clean
from coordinator.upkeep.repair import repair
from coordinator.upkeep.verify import verify
from tests.chaos.simulator.effects import Kind

if TYPE_CHECKING:
    from tests.chaos.simulator.cloud import Cloud

Objects = Mapping[str, bytes]

PERSON_SECONDS = 60.0
A_DAY_AND_A_BIT = 26 * 3600.0
ALMOST_A_MONTH = 29.2 * 86_400
MORE_THAN_A_MONTH = 31 * 86_400.0
KEPT_SECONDS = 30 * 86_400.0
JUMP_SECONDS = 600.0
OF_ATTEMPTS = frozenset({"parts", "ledger"})


class People:
    """Deeds, by the kind of fault that has them done.

    `complaints` are the errors that somebody met and that no person can be expected to read.
    `excuses` are the errors by whose name a run may end for good, because of what was done to it.
    `damaged` are the keys that a person spoiled by hand, so that there was something to repair.
    """

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.world = cloud.world
        self.complaints: list[str] = []
        self.damaged: set[str] = set()
        self.excuses: set[str] = set()
        self.on_moved: Callable[[Objects, Objects], None] = lambda before, after: None
        self.rewrite: Callable[[bytes], bytes] = bytes.upper
        self.deeds: dict[Kind, Callable[[], object]] = {
            Kind.CANCELLED: self.cancel,
            Kind.REPAIRED: self.repair,
            Kind.LOOKED_AFTER: self.look_after,
            Kind.REDONE: self.redo,
            Kind.REDONE_AFTERWARDS: self.redo_afterwards,
            Kind.LEFT_FOR_A_DAY: self.leave_for_a_day,
            Kind.LEFT_FOR_A_MONTH: self.leave_for_a_month,
            Kind.EXPIRED: self.let_expire,
            Kind.INPUT_CREATED: self.create_input,
            Kind.INPUT_OVERWRITTEN: self.overwrite_input,
            Kind.INPUT_DELETED: self.delete_input,
            Kind.DEPLOYED: self.deploy,
            Kind.CLOCK_JUMPED: self.jump,
        }

    @property
    def run_id(self) -> str:
        """The run that is meddled with."""
        return self.cloud.victim or next(iter(self.cloud.requests))

    @property
    def keys(self) -> RunKeys:
        return RunKeys(self.cloud.loaded.job.name, self.run_id)

    @property
    def number(self) -> int:
        """The number of the effect beside which it happens: what is chosen is chosen by it."""
        return len(self.world.trace)

    # -- operators -------------------------------------------------------------------------------

    def _do(self, deed: Callable[[], object]) -> None:
        """Have a person do something. A person reads an error of the tree; any other is wrong."""

        def body() -> None:
            with suppress(FanfoldError):
                deed()

        def ended(process: object) -> None:
            error = getattr(process, "error", None)
            if error is not None:
                self.complaints.append(f"a person met {type(error).__name__}: {error}")

        self.world.spawn("person", body, ended, limit_seconds=PERSON_SECONDS)

    def cancel(self, run_id: str | None = None) -> None:
        """Cancel a run, as a person does from the command line."""
        keys = RunKeys(self.keys.job, run_id) if run_id else self.keys
        self._do(lambda: runs.cancel(self.cloud.store, keys))

    def repair(self) -> None:
        """Repair a run of which something was damaged by hand, if there is anything yet."""
        self._damage()
        self.repair_again()

    def repair_again(self) -> None:
        """Repair a run, as an error asked for."""
        keys, owner = self.keys, f"repair-{self.number}"

        def deed() -> None:
            repair(self.cloud.store, keys, owner=owner, draft=self.cloud.new_id())

        self._do(deed)

    def _damage(self) -> None:
        found = self.cloud.record(self.run_id)
        if found is None or found.get("state") != "running":
            return
        drafts = {plan["draft"] for plan in found["plans"].values()}
        keys = [
            key
            for key in self.cloud.store.keys(self.keys.root)
            if OF_ATTEMPTS & set(key.split("/")) and drafts & set(key.split("/"))
        ]
        if keys:
            key = keys[self.number % len(keys)]
            self.damaged.add(key)
            self.cloud.store.spoil(key)

    def look_after(self) -> None:
        """Verify a run, then clean it."""
        keys, store = self.keys, self.cloud.store
        self._do(lambda: list(verify(store, keys)))
        self._do(lambda: clean(store, keys, now=self.world.now, dry=False))

    def redo(self) -> None:
        """Ask for the shards to be done again in which records were quarantined."""
        self.cloud.start_as({"run_id": self.run_id, "redo": "quarantined"})

    def redo_afterwards(self) -> None:
        """The same, of a run that was stopped."""
        self.cloud.stop(self.run_id)
        self.redo()

    def leave_for_a_day(self) -> None:
        """Stop a run; the next day, clean it while somebody takes it up again."""
        run_id, keys = self.run_id, self.keys
        self.cloud.stop(run_id)

        def next_day() -> None:
            request = self.cloud.requests[run_id]
            now = self.world.now
            self._do(lambda: clean(self.cloud.store, keys, now=now, dry=False))
            if not self.cloud.is_published(run_id):
                self.cloud.start(request)

        self.world.after(A_DAY_AND_A_BIT, next_day)

    def clean_next_day(self) -> None:
        """Clean a run when it has been at rest for a day."""
        keys = self.keys

        def deed() -> None:
            clean(self.cloud.store, keys, now=self.world.now, dry=False)

        self.world.after(A_DAY_AND_A_BIT, lambda: self._do(deed))

    def leave_for_a_month(self) -> None:
        """Stop a run, and take it up again when its parts are about to expire."""
        self._leave(ALMOST_A_MONTH)

    def let_expire(self) -> None:
        """Stop a run, and take it up again when the bucket has let all of it expire."""
        self._leave(MORE_THAN_A_MONTH)

    def _leave(self, seconds: float) -> None:
        run_id = self.run_id
        self.excuses.add("RunExpired")
        self.cloud.stop(run_id)

        def later() -> None:
            self.cloud.store.expire(f"{self.keys.job}/runs/", KEPT_SECONDS)
            if not self.cloud.is_published(run_id):
                self.cloud.start(self.cloud.requests[run_id])

        self.world.after(seconds, later)

    # -- the world -------------------------------------------------------------------------------

    def create_input(self) -> None:
        """An object appears among the inputs, before or behind those that are there."""
        objects = self.cloud.objects
        key = sorted(objects)[0]
        folder, name = key.rsplit("/", 1)
        body = next(body for body in objects.values() if body)
        self._move(f"{folder}/{'0' if self.number % 2 else 'bb'}-{name}", self.rewrite(body))

    def overwrite_input(self) -> None:
        """One of the inputs gets another body."""
        self.excuses.add("InputChanged")
        key = self._some_input()
        self._move(key, self.rewrite(self.cloud.objects[key]))

    def delete_input(self) -> None:
        """One of the inputs goes, unless it is the last."""
        if sum(map(bool, self.cloud.objects.values())) < 2:
            return
        self.excuses.add("InputChanged")
        self._move(self._some_input(), None)

    def _move(self, key: str, body: bytes | None) -> None:
        before = dict(self.cloud.objects)
        if body is None:
            del self.cloud.objects[key]
        else:
            self.cloud.objects[key] = body
        self.on_moved(before, dict(self.cloud.objects))

    def _some_input(self) -> str:
        filled = sorted(key for key, body in self.cloud.objects.items() if body)
        return filled[self.number % len(filled)]

    def deploy(self) -> None:
        """The job is deployed anew: new containers load it, and living ones keep what they have."""
        self.cloud.deployed = self.cloud.next_version(self.cloud.deployed)

    def jump(self) -> None:
        """The clock of the container at hand jumps, forth or back."""
        process = self.world.current
        container = process.container if process is not None else None
        if container is not None:
            container.skew += JUMP_SECONDS if self.number % 2 else -JUMP_SECONDS

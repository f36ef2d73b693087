"""The commands that look after runs, one a row, and the runs that they are tried on.

A new command is one more row of `COMMANDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

import pytest

from coordinator.errors import FanfoldError
from coordinator.ids import new_draft
from coordinator.keys import RunKeys
from coordinator.limits import Limits
from coordinator.machine.local import Hear
from coordinator.model import Message, RunRecord
from coordinator.state import runs
from coordinator.store.memory import MemoryStore
from coordinator.testing import InlineCrew
from coordinator.upkeep.clean import clean
from coordinator.upkeep.repair import repair
from coordinator.upkeep.verify import verify
from tests.support import World, words

T = TypeVar("T")
KEYS = RunKeys("job", "r1")
BODIES = {"a": b"to be or\nnot \xff\nto be\n", "b": b"that is\nthe question"}
BEGAN, DAY = 1_700_000_000.0, 86_400.0
WRITES = {"create", "replace", "put", "delete"}


class Down(BaseException):
    """The process is gone."""


class Stopped(Exception):
    """The run ends here."""


class Struck(MemoryStore):
    """A store in which something happens just before the n-th operation; it knows what was done."""

    def __init__(self, at: int = 0, strike: Callable[[], object] = lambda: None) -> None:
        super().__init__(clock=lambda: BEGAN)
        self.at = at
        self.strike = strike
        self.done: list[tuple[str, str]] = []

    def perform(self, operation: str, key: str, action: Callable[[], T]) -> T:
        self.done.append((operation, key))
        if len(self.done) == self.at:
            self.strike()
        return action()


@dataclass
class StopAfter:
    """A crew that works on so many shards of a stage, and then the run ends."""

    world: World
    stage: str
    shards: int

    def work(self, run: RunRecord, messages: Sequence[Message], hear: Hear) -> None:
        crew = InlineCrew(self.world.job, self.world.store, self.world.inputs, self.world.clock)
        if messages[0].stage == self.stage:
            crew.work(run, messages[: self.shards], hear)
            raise Stopped
        crew.work(run, messages, hear)


@dataclass
class Between:
    """A crew before each of whose shards something is done."""

    world: World
    strike: Callable[[], object]

    def work(self, run: RunRecord, messages: Sequence[Message], hear: Hear) -> None:
        crew = InlineCrew(self.world.job, self.world.store, self.world.inputs, self.world.clock)
        for message in messages:
            self.strike()
            crew.work(run, [message], hear)


# ------------------------------------------------------------------------------------------------
# The commands
# ------------------------------------------------------------------------------------------------


def cleaned(*, days: float, dry: bool = False) -> Callable[[World], object]:
    return lambda world: clean(world.store, KEYS, now=BEGAN + days * DAY, dry=dry)


def repaired(world: World) -> object:
    return repair(world.store, KEYS, owner="repair", draft=new_draft())


def break_an_entry(world: World) -> None:
    """Damage an entry of a run that is not published yet, if there is one."""
    run = runs.find(world.store, KEYS)
    if run is not None and run.state == "running" and "map" in run.plans:
        for entry in list(world.store.list(runs.keys_of(run).ledger("map")))[:1]:
            world.store.replace(entry.key, b"broken", entry.tag)


def redone(world: World) -> object:
    if runs.find(world.store, KEYS) is None:  # the command line refuses this
        return None
    return world.run(redo=True)


def kept(world: World) -> set[str]:
    return {stat.key for stat in world.store.list("")}


def state(world: World) -> object:
    run = world.record()
    return run.state, run.redrafts, sorted(run.plans)


@dataclass(frozen=True)
class Command:
    """A command that looks after runs.

    `name` is what is typed, and `act` what the command does. `alive` is the same as it is called
    while an attempt may be at work. `prepare` makes a run need it. Of a published run, `removes` is
    what the command may remove and `changes` which fields of `run.json`; `refused` says that it
    does not take one. `ends` is what it brings about, killed or not, and `mends` says that the run
    it is for can't go on without it. `fences` says that whoever works on the run is fenced off, and
    `locked` that it takes the run's lock, where there is one.
    """

    name: str
    act: Callable[[World], object]
    ends: Callable[[World], object] = kept
    alive: Callable[[World], object] | None = None
    prepare: Callable[[World], None] = lambda world: None
    removes: Callable[[str], bool] = lambda key: False
    changes: frozenset[str] = field(default_factory=frozenset)
    writes: bool = True
    refused: bool = False
    mends: bool = False
    fences: bool = False
    locked: bool = False

    def typed(self, output: str, run_dir: str) -> list[str]:
        """The command line: on a folder of runs, on one of its runs, or the run's own once more."""
        first, *options = self.name.split()
        if first == "run":
            return [first, "copy.py", "in.txt", "--output", output, "--run-id", "r1", *options]
        return [first, output if first == "clean" else run_dir, *options]

    def meet(self, world: World) -> None:
        """Do it to a run that somebody works on."""
        self.prepare(world)
        with suppress(FanfoldError):
            (self.alive or self.act)(world)


COMMANDS = (
    Command("verify", lambda world: list(verify(world.store, KEYS)), writes=False),
    Command("cancel", lambda world: runs.cancel(world.store, KEYS), ends=state, fences=True),
    Command(
        "repair",
        repaired,
        ends=state,
        prepare=break_an_entry,
        refused=True,
        mends=True,
        fences=True,
        locked=True,
    ),
    Command(
        "clean",
        cleaned(days=2),
        alive=cleaned(days=0.5),
        removes=lambda key: key.startswith(KEYS.root) and key != KEYS.run,
        changes=frozenset({"cleaned"}),
        locked=True,
    ),
    Command("clean --dry-run", cleaned(days=2, dry=True), writes=False),
    Command(
        "run --redo quarantined",
        redone,
        ends=lambda world: None,  # the result, which every run has to give
        refused=True,
        fences=True,
        locked=True,
    ),
)


def on_every(commands: Sequence[Command] = COMMANDS) -> pytest.MarkDecorator:
    """Have a test run on each of these commands."""
    return pytest.mark.parametrize("command", commands, ids=[row.name for row in commands])


# ------------------------------------------------------------------------------------------------
# Worlds
# ------------------------------------------------------------------------------------------------


def a_world(store: MemoryStore | None = None) -> World:
    job = words()
    job.limits = Limits(tolerated=5, reduce_bytes=20)
    return World(job, dict(BODIES), store=store or Struck(), shard_bytes=9)


def made(stage: str) -> World:
    """A run that stopped amid a stage, with something left behind; or one that is published."""
    world = a_world()
    if stage == "published":
        world.run()
    else:
        with pytest.raises(Stopped):
            world.run(StopAfter(world, stage, 1))
        stray = world.keys.part("map", "0", "stray", "pairs")
        world.store.create(stray, b"left behind")
    return world


def copied(world: World, store: Struck | None = None) -> World:
    """The same run in a store of its own."""
    store = store or Struck()
    assert isinstance(world.store, MemoryStore)
    store._objects = dict(world.store._objects)
    store._tags = count(1_000_000)
    return a_world(store)


def bodies(world: World) -> dict[str, bytes]:
    return {key: world.body(key) for key in sorted(kept(world))}


def result(world: World) -> bytes:
    """What the run gives in the end."""
    manifest = world.run().manifest
    return world.body(f"{manifest.results_prefix}job.jsonl")


EXPECTED = result(a_world())
STAGES = ["map", "reduce", "merge"]

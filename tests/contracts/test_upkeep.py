"""What every command that looks after runs promises: one suite, run on each row of a table.

A new command is one more row of `COMMANDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

import pytest

from coordinator.cli.commands import app
from coordinator.errors import FanfoldError, RunMismatch
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
    it is for can't go on without it.
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
    ),
    Command(
        "clean",
        cleaned(days=2),
        alive=cleaned(days=0.5),
        removes=lambda key: key.startswith(KEYS.root) and key != KEYS.run,
        changes=frozenset({"cleaned"}),
    ),
    Command("clean --dry-run", cleaned(days=2, dry=True), writes=False),
    Command(
        "run --redo quarantined",
        redone,
        ends=lambda world: None,  # the result, which every run has to give
        refused=True,
        fences=True,
    ),
)
on_every = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
on_each_that_writes = pytest.mark.parametrize(
    "command", [row for row in COMMANDS if row.writes], ids=lambda command: command.name
)


def test_every_command_for_runs_has_its_row() -> None:
    registered = {one.callback.__name__ for one in app.registered_commands if one.callback}

    assert {row.name.split()[0] for row in COMMANDS} == registered - {"new"}


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


# ------------------------------------------------------------------------------------------------
# Published and living runs
# ------------------------------------------------------------------------------------------------


@on_every
def test_a_published_run_is_untouched_but_for_what_the_command_may_remove(
    command: Command,
) -> None:
    world = made("published")
    before, record = bodies(world), world.record()

    if command.refused:
        with pytest.raises(RunMismatch):
            command.act(world)
    else:
        command.act(world)

    after = bodies(world)
    gone = before.keys() - after.keys()
    assert after.keys() <= before.keys()
    assert {key for key in gone if not command.removes(key)} == set()
    other = {key for key in after if after[key] != before[key]}
    assert other <= ({KEYS.run} if command.changes else set())
    fields = {
        name
        for name in RunRecord.model_fields
        if getattr(record, name) != getattr(world.record(), name)
    }
    assert fields <= command.changes
    assert world.findings() == []
    assert result(world) == EXPECTED


@on_every
def test_a_living_run_is_fenced_off_or_not_harmed_at_whatever_moment(command: Command) -> None:
    undisturbed = a_world()
    undisturbed.run()
    assert isinstance(undisturbed.store, Struck)
    fenced = 0

    for at in range(1, len(undisturbed.store.done) + 1):
        store = Struck(at)
        world = a_world(store)
        store.strike = lambda world=world: command.meet(world)  # type: ignore[misc]
        try:
            world.run()
        except FanfoldError:
            fenced += 1
            assert not world.store.exists(KEYS.manifest) or world.findings() == []
        assert result(world) == EXPECTED
        assert world.findings() == []

    assert bool(fenced) == command.fences


@on_every
def test_between_two_shards_of_a_wave_that_takes_days_nothing_is_missed(command: Command) -> None:
    world = a_world()
    waiting = [None] * 9

    def strike() -> None:
        if waiting:
            waiting.pop()
            command.prepare(world)
            with suppress(FanfoldError):
                command.act(world)

    ended = False
    while not ended:
        try:
            world.run(Between(world, strike))
            ended = True
        except FanfoldError:
            assert command.fences
            assert waiting or not world.store.exists(KEYS.manifest)

    assert result(world) == EXPECTED
    assert world.findings() == []


# ------------------------------------------------------------------------------------------------
# Killed
# ------------------------------------------------------------------------------------------------


def die() -> None:
    raise Down


def refusal(command: Command, world: World) -> type[FanfoldError] | None:
    """What the command ends with, if not well."""
    try:
        command.act(world)
    except FanfoldError as error:
        return type(error)
    return None


@pytest.mark.parametrize("stage", [*STAGES, "published"])
@on_each_that_writes
def test_killed_at_any_operation_the_run_goes_on_and_the_command_ends_what_it_began(
    command: Command, stage: str
) -> None:
    world = made(stage)
    command.prepare(world)
    undisturbed = copied(world)
    refused = refusal(command, undisturbed)
    assert isinstance(undisturbed.store, Struck)
    operations = len(undisturbed.store.done)
    ended = command.ends(undisturbed)

    for at in range(1, operations + 1):
        killed = copied(world, Struck(at, die))
        with pytest.raises(Down):
            command.act(killed)

        if not command.mends:
            taken_up = copied(killed)
            assert result(taken_up) == EXPECTED
            assert taken_up.findings() == []
        again = copied(killed)
        too_late = again.record().state in {"publishing", "published"}
        assert refusal(command, again) == (RunMismatch if too_late and command.refused else refused)
        assert command.ends(again) == ended
        assert result(again) == EXPECTED
        assert again.findings() == []


# ------------------------------------------------------------------------------------------------
# Damaged and foreign files
# ------------------------------------------------------------------------------------------------

DAMAGES: tuple[Callable[[bytes], bytes], ...] = (
    lambda body: b"",
    lambda body: b"{}",
    lambda body: b"null\n",
    lambda body: b"[1]\n",
    lambda body: b"\xff\xfe\x00",
    lambda body: body[: len(body) // 2],
    lambda body: body * 2,
)
NAMES = (".DS_Store", "stray.json", "0 copy.json", "0.json.bak", "00.json", "x/y/z")


@pytest.mark.parametrize("stage", [*STAGES, "published"])
@on_every
def test_a_damaged_file_is_an_error_that_names_it_and_no_traceback(
    command: Command, stage: str
) -> None:
    whole = made(stage)

    undamaged = said(command, copied(whole))

    for key in sorted(kept(whole)):
        folder, _, name = key.rpartition("/")
        for damage in (*DAMAGES, None):
            world = copied(whole)
            if damage is None:
                world.store.delete([key])
            else:
                world.overwrite(key, damage(world.body(key)))
            error = said(command, world)
            assert error in {"", undamaged} or (folder in error and name in error), (key, error)


def said(command: Command, world: World) -> str:
    """The error that the command ends with; nothing if it ends well."""
    try:
        command.act(world)
    except FanfoldError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("stage", [*STAGES, "published"])
@on_every
def test_foreign_files_are_passed_over(command: Command, stage: str) -> None:
    world = made(stage)
    command.prepare(world)
    alone = copied(world)
    refused = refusal(command, alone)
    folders = {"", *(key.rpartition("/")[0] + "/" for key in kept(world))}
    strays = {folder + name for folder in folders for name in NAMES}
    for stray in sorted(strays - kept(world)):
        world.store.create(stray, b"stray")

    assert refusal(command, world) == refused
    assert result(world) == EXPECTED


# ------------------------------------------------------------------------------------------------
# Looking only
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [*STAGES, "published"])
@pytest.mark.parametrize(
    "command", [row for row in COMMANDS if not row.writes], ids=lambda command: command.name
)
def test_a_command_that_only_looks_writes_nothing(command: Command, stage: str) -> None:
    world = copied(made(stage))
    refusal(command, world)

    assert isinstance(world.store, Struck)
    assert world.store.done
    assert [what for what in world.store.done if what[0] in WRITES] == []

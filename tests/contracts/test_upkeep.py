"""What every command that looks after runs promises: one suite, run on each row of a table."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from coordinator.cli.commands import app
from coordinator.errors import FanfoldError, RunMismatch
from coordinator.model import RunRecord
from tests.contracts.upkeep_rows import (
    COMMANDS,
    EXPECTED,
    KEYS,
    STAGES,
    WRITES,
    Between,
    Command,
    Down,
    Struck,
    a_world,
    bodies,
    copied,
    kept,
    made,
    on_every,
    result,
)
from tests.support import World


def test_every_command_for_runs_has_its_row() -> None:
    registered = {one.callback.__name__ for one in app.registered_commands if one.callback}

    assert {row.name.split()[0] for row in COMMANDS} == registered - {"new"}


# ------------------------------------------------------------------------------------------------
# Published and living runs
# ------------------------------------------------------------------------------------------------


@on_every()
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


@on_every()
def test_a_living_run_is_fenced_off_or_not_harmed_at_whatever_moment(command: Command) -> None:
    undisturbed = a_world()
    undisturbed.run()
    assert isinstance(undisturbed.store, Struck)
    fenced = 0

    for at in range(1, len(undisturbed.store.done) + 1, 1 if command.writes else 5):
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


@on_every()
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
@on_every([row for row in COMMANDS if row.writes])
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
@on_every()
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
@on_every()
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
@on_every([row for row in COMMANDS if not row.writes])
def test_a_command_that_only_looks_writes_nothing(command: Command, stage: str) -> None:
    world = copied(made(stage))
    refusal(command, world)

    assert isinstance(world.store, Struck)
    assert world.store.done
    assert [what for what in world.store.done if what[0] in WRITES] == []

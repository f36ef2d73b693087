"""Merge: what lies in the way of a result, and which damage is to blame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coordinator.errors import Fate
from coordinator.formats.jsonlines import JsonLines
from coordinator.formats.objects import Blob, Objects
from coordinator.job import Job
from coordinator.model import Message
from coordinator.state import ledger
from coordinator.steps.attempts import Again, Answered, Failed
from coordinator.steps.workplace import Workplace
from coordinator.store.memory import MemoryStore
from tests.steps.test_attempts import begun, following, try_once
from tests.support import World, a_job


def joined() -> Job:
    return a_job(JsonLines())


def named() -> Job:
    return a_job(Objects(), lambda found: [Blob(found.name, found.read())], sink=Objects())


def merging(job: Job, **fields: Any) -> tuple[World, Workplace, Message]:
    """A run whose map is done, and the message that merges it."""
    world = World(job, {"a": b"1\n2\n", "b": b"3\n"}, **fields)
    place, [message] = following(*begun(world))
    assert message.stage == "merge"
    return world, place, message


@pytest.mark.parametrize(("job", "name"), [(joined, "job.jsonl"), (named, "b")])
def test_another_result_of_the_same_name_is_not_overwritten(
    job: Callable[[], Job], name: str
) -> None:
    world, place, message = merging(job())
    world.store.create(f"job/results/r1/{name}", b"of others")

    verdict = try_once(place, message, "a")

    assert isinstance(verdict, Failed)
    assert (verdict.note.error, verdict.note.fate) == ("DuplicateName", Fate.SHARD)
    assert verdict.note.reason.startswith(
        f"There is another result memory:job/results/r1/{name}. Two outputs have one name"
    )
    assert world.body(f"job/results/r1/{name}") == b"of others"
    assert ledger.find(world.store, world.keys, "merge", "0") is None


@pytest.mark.parametrize(("job", "name"), [(joined, "job.jsonl"), (named, "b")])
def test_the_very_result_of_an_attempt_that_died_is_taken(
    job: Callable[[], Job], name: str
) -> None:
    world, place, message = merging(job())
    world.store.create(f"job/results/r1/{name}", b"1\n2\n3\n" if name == "job.jsonl" else b"3\n")

    assert isinstance(try_once(place, message, "a"), Answered)


@pytest.mark.parametrize("job", [joined, named])
def test_a_part_that_was_damaged_is_to_blame_and_no_name(job: Callable[[], Job]) -> None:
    world, place, message = merging(job())
    part = next(iter(world.store.list(world.keys.parts("map"))))
    world.overwrite(part.key, b"damaged")

    verdict = try_once(place, message, "a")

    assert isinstance(verdict, Failed)
    assert (verdict.note.error, verdict.note.fate) == ("LedgerBroken", Fate.RUN)
    assert f"memory:{part.key} is missing or is not what its entry says" in verdict.note.reason
    assert [*world.store.list("job/results/")] == []


def test_a_store_that_is_down_is_asked_again() -> None:
    class Down(MemoryStore):
        down = False

        def perform(self, operation: str, key: str, action: Callable[[], Any]) -> Any:
            if self.down and "/results/" in key:
                raise OSError("down")
            return action()

    store = Down()
    world, place, message = merging(joined(), store=store)
    store.down = True

    verdict = try_once(place, message, "a")

    assert isinstance(verdict, Again)
    assert verdict.note.error == "AttemptFailed"
    store.down = False
    assert isinstance(try_once(place, message, "b", receives=2), Answered)
    assert world.body("job/results/r1/job.jsonl") == b"1\n2\n3\n"

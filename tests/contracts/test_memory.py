"""What the twins in memory promise beyond the contract: a place for faults, and fresh inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest

from coordinator.errors import AlreadyExists, InputChanged, InputInvalid, OutcomeUnknown
from coordinator.store.memory import MemoryInputs, MemoryStore

_T = TypeVar("_T")


class Scripted(MemoryStore):
    """Loses the answers of the operations named, and counts all of them."""

    def __init__(self, *lost: str) -> None:
        super().__init__(clock=lambda: 1000.0)
        self.lost = list(lost)
        self.seen: list[tuple[str, str]] = []

    def perform(self, operation: str, key: str, action: Callable[[], _T]) -> _T:
        self.seen.append((operation, key))
        result = action()
        if operation in self.lost:
            self.lost.remove(operation)
            raise OutcomeUnknown(f"the answer to {operation} {key} was lost")
        return result


def test_every_operation_goes_through_one_method() -> None:
    store = Scripted()
    tag = store.create("a", b"1")
    store.replace("a", b"2", tag)
    store.get("a")
    store.get_range("a", 0, 1)
    store.open("a")
    store.exists("a")
    list(store.list("pre"))
    for exclusive in (False, True):
        with store.writer(f"b{exclusive}", exclusive=exclusive) as writer:
            writer.write(b"part")
            writer.close()
    store.delete(["a"])
    assert store.seen == [
        ("create", "a"),
        ("replace", "a"),
        ("get", "a"),
        ("get_range", "a"),
        ("open", "a"),
        ("exists", "a"),
        ("list", "pre"),
        ("put", "bFalse"),
        ("create", "bTrue"),
        ("delete", "a"),
    ]


def test_a_lost_answer_is_a_write_that_happened() -> None:
    store = Scripted("create")
    with pytest.raises(OutcomeUnknown):
        store.create("a", b"ours")
    with pytest.raises(AlreadyExists):
        store.create("a", b"ours")
    assert store.get("a").body == b"ours"


def test_a_lost_answer_to_close_may_be_followed_by_abort() -> None:
    store = Scripted("put")
    writer = store.writer("a")
    writer.write(b"part")
    with pytest.raises(OutcomeUnknown):
        writer.close()
    writer.abort()
    assert store.get("a").body == b"part"


def test_times_come_from_the_clock() -> None:
    store = Scripted()
    store.create("a", b"")
    assert [found.modified for found in store.list("")] == [1000.0]


def test_inputs_are_looked_at_anew() -> None:
    bodies = {"a": b"1"}
    inputs = MemoryInputs(bodies)
    (page,) = inputs.pages(["a"])
    (pinned,) = page.objects
    bodies["a"] = b"2"
    with pytest.raises(InputChanged):
        inputs.open(pinned, 0, 1)
    bodies["a"] = bytes([49])
    inputs.open(pinned, 0, 1).close()


def test_an_empty_pattern_is_refused() -> None:
    with pytest.raises(InputInvalid):
        list(MemoryInputs({}).pages([""]))

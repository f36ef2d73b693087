"""What every store promises at its bounds: many keys, keys that look alike, answers that are lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import combinations

import pytest

from coordinator.errors import AlreadyExists, Changed, FanfoldError, OutcomeUnknown
from coordinator.model import File
from coordinator.store.ports import Store
from tests.contracts.places import LOSSES, Lost, Place

HOUR = 3600.0
MORE_THAN_A_PAGE = 1010  # S3 lists, and deletes, a thousand keys a request


def listed(store: Store, prefix: str = "", after: str = "") -> list[str]:
    return [found.key for found in store.list(prefix, after=after)]


def written(store: Store, key: str, body: bytes, *, exclusive: bool = False) -> File:
    with store.writer(key, exclusive=exclusive) as writer:
        writer.write(body)
        return writer.close()


def modified(store: Store, key: str) -> float:
    (found,) = store.list(key)
    return found.modified


def test_more_keys_than_a_page_holds_are_listed_and_deleted(place: Place) -> None:
    store = place.store
    keys = [f"many/{number:04d}" for number in range(MORE_THAN_A_PAGE)]
    place.fill([*keys, "other"])

    assert listed(store) == [*keys, "other"]
    assert listed(store, "many/") == keys
    assert listed(store, "many/", after=keys[4]) == keys[5:]
    assert listed(store, "", after=keys[-1]) == ["other"]

    store.delete(iter(keys))

    assert listed(store) == ["other"]


class TestTimes:
    @pytest.mark.parametrize(
        "write",
        [
            lambda store, tag: store.replace("a", b"new", tag),
            lambda store, tag: written(store, "a", b"new"),
        ],
        ids=["replace", "writer"],
    )
    def test_an_object_that_is_written_over_is_as_old_as_its_last_write(
        self, place: Place, write: Callable[[Store, str], object]
    ) -> None:
        store = place.store
        store.create("a", b"old")
        place.age("a", HOUR)
        assert modified(store, "a") < time.time() - HOUR / 2

        write(store, store.get("a").tag)

        assert store.get("a").body == b"new"
        assert abs(modified(store, "a") - time.time()) < HOUR / 2

    def test_reading_and_being_refused_make_nothing_younger(self, place: Place) -> None:
        store = place.store
        store.create("a", b"old")
        place.age("a", HOUR)

        assert store.get("a").body == b"old"
        with pytest.raises(AlreadyExists):
            store.create("a", b"new")
        with pytest.raises(Changed):
            store.replace("a", b"new", "no-tag")
        with pytest.raises(AlreadyExists):
            written(store, "a", b"new", exclusive=True)

        assert modified(store, "a") < time.time() - HOUR / 2


# Names that differ in case, in how a letter is composed, and in what else somebody may fold.
ALIKE = (
    ("a/key", "a/Key", "a/KEY", "A/key"),
    ("caf\u00e9", "cafe\u0301"),
    ("stra\u00dfe", "strasse", "STRASSE"),
    ("\ufb01le", "file"),
    ("\u212bngstrom", "\u00c5ngstrom", "A\u030angstrom"),
    ("i", "I", "\u0131", "\u0130"),
)
UNLIKE = ("a/b", "a/c", "a/b ", "a/b.", "a/b+", "a/b%20", "a/\uff42", "a-b", "ab", "a/b/c")


class TestNames:
    @pytest.mark.parametrize("keys", ALIKE)
    def test_keys_that_look_alike_are_kept_apart_where_names_are(
        self, place: Place, keys: tuple[str, ...]
    ) -> None:
        store = place.store
        kept: dict[str, str] = {}
        for key in keys:
            name = store.identity(key) if place.folds else key
            if name in kept:
                with pytest.raises(AlreadyExists):
                    store.create(key, key.encode())
            else:
                store.create(key, key.encode())
                kept[name] = key

        assert listed(store) == sorted(kept.values(), key=str.encode)
        for key in kept.values():
            assert store.get(key).body == key.encode()
        first, *rest = kept.values()
        store.delete([first])
        assert listed(store) == sorted(rest, key=str.encode)

    def test_keys_that_no_folder_takes_for_one_have_identities_of_their_own(
        self, store: Store
    ) -> None:
        keys = [key for key in UNLIKE if key != "a/b"]
        for one, other in combinations(UNLIKE, 2):
            assert store.identity(one) != store.identity(other)
        for key in keys:
            store.create(key, key.encode())

        assert listed(store) == sorted(keys, key=str.encode)
        assert [store.get(key).body for key in keys] == [key.encode() for key in keys]


# ------------------------------------------------------------------------------------------------
# Writes whose answer is lost
# ------------------------------------------------------------------------------------------------

OLD, NEW = b"old", b"new"
LARGE = b"n" * 9 * 1024**2  # more than one request
Write = Callable[[Store], object]


def outcome(write: Write, store: Store) -> FanfoldError | None:
    """The error of ours that a write ended with, if it did."""
    try:
        write(store)
    except FanfoldError as error:
        return error
    return None


@pytest.mark.parametrize("lost", LOSSES)
class TestLostAnswers:
    """A write that may have taken place is said to be unknown, or its outcome is told truly."""

    @pytest.mark.parametrize("body", [NEW, LARGE], ids=["small", "large"])
    @pytest.mark.parametrize("how", ["create", "exclusive writer"])
    def test_of_a_key_that_is_free(self, place: Place, lost: Lost, how: str, body: bytes) -> None:
        def write(store: Store) -> object:
            if how == "create":
                return store.create("a", body)
            return written(store, "a", body, exclusive=True)

        error = outcome(write, place.losing(lost))

        there = place.store.exists("a")
        assert there or lost == "before"
        if error is None:
            assert there
        elif isinstance(error, AlreadyExists):
            assert there  # it may be our own, says the port
        elif not isinstance(error, OutcomeUnknown):
            assert not there
        assert not there or place.store.get("a").body == body
        assert isinstance(outcome(write, place.store), AlreadyExists) == there
        assert place.store.get("a").body == body

    def test_of_a_replace(self, place: Place, lost: Lost) -> None:
        tag = place.store.create("a", OLD)

        def write(store: Store) -> object:
            return store.replace("a", NEW, tag)

        error = outcome(write, place.losing(lost))

        done = place.store.get("a").body == NEW
        assert place.store.get("a").body in {OLD, NEW}
        assert done or lost == "before"
        if error is None:
            assert done
        elif not isinstance(error, OutcomeUnknown):
            assert not done
            assert not isinstance(error, Changed)
        assert isinstance(outcome(write, place.store), Changed) == done
        assert place.store.get("a").body == NEW

    @pytest.mark.parametrize("body", [NEW, LARGE], ids=["small", "large"])
    def test_of_a_writer_that_is_not_exclusive(self, place: Place, lost: Lost, body: bytes) -> None:
        place.store.create("a", OLD)

        error = outcome(lambda store: written(store, "a", body), place.losing(lost))

        done = place.store.get("a").body == body
        assert done or place.store.get("a").body == OLD
        assert done or lost == "before"
        if error is None:
            assert done
        elif not isinstance(error, OutcomeUnknown):
            assert not done

    @pytest.mark.parametrize("exclusive", [False, True])
    def test_whoever_aborts_after_it_takes_nothing_back(
        self, place: Place, lost: Lost, exclusive: bool
    ) -> None:
        writer = place.losing(lost).writer("a", exclusive=exclusive)
        writer.write(LARGE)
        outcome(lambda store: writer.close(), place.store)
        before = listed(place.store)

        writer.abort()

        assert listed(place.store) == before
        assert before == ["a"] or lost == "before"

    def test_one_who_lost_the_race_is_not_told_that_it_won(self, place: Place, lost: Lost) -> None:
        tag = place.store.create("a", OLD)
        place.store.replace("a", b"another's", tag)

        for write in (
            lambda store: store.create("a", NEW),
            lambda store: store.replace("a", NEW, tag),
            lambda store: written(store, "a", NEW, exclusive=True),
        ):
            assert outcome(write, place.losing(lost)) is not None
            assert place.store.get("a").body == b"another's"

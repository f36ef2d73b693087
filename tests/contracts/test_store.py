"""What every store promises: one suite, run on memory, a directory and S3."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from coordinator.errors import AlreadyExists, Changed, KeyMissing
from coordinator.model import File
from coordinator.store.ports import Store

on_one_store = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
numbers = count()


def listed(store: Store, prefix: str = "", after: str = "") -> list[str]:
    return [found.key for found in store.list(prefix, after=after)]


def streamed(store: Store, key: str, start: int = 0, stop: int | None = None) -> bytes:
    with closing(store.open(key, start, stop)) as stream:
        return stream.read()


def fill(store: Store, *keys: str) -> None:
    for key in keys:
        store.create(key, key.encode())


class TestReading:
    def test_an_object_is_read_whole_with_its_tag(self, store: Store) -> None:
        tag = store.create("a/b.json", b"{}")
        assert store.get("a/b.json") == (b"{}", tag)

    def test_an_empty_object_is_an_object(self, store: Store) -> None:
        store.create("empty", b"")
        assert store.get("empty").body == b""
        assert streamed(store, "empty") == b""
        assert store.get_range("empty", 0, 10) == b""
        assert [found.size for found in store.list("")] == [0]

    @pytest.mark.parametrize(
        "read",
        [
            lambda store: store.get("no/thing"),
            lambda store: store.get_range("no/thing", 0, 1),
            lambda store: store.get_range("no/thing", 0, 0),
            lambda store: store.open("no/thing"),
            lambda store: store.open("no/thing", 5, 5),
            lambda store: store.get("there"),
            lambda store: store.get("there/too/deep"),
        ],
    )
    def test_nothing_lies_under_a_missing_key(
        self, store: Store, read: Callable[[Store], object]
    ) -> None:
        store.create("there/too", b"")
        with pytest.raises(KeyMissing):
            read(store)

    def test_exists(self, store: Store) -> None:
        store.create("a/b", b"")
        assert store.exists("a/b")
        assert not store.exists("a")
        assert not store.exists("a/c")
        assert not store.exists("a/b/c")

    @given(body=st.binary(max_size=300), data=st.data())
    @on_one_store
    def test_a_range_is_what_a_slice_of_the_body_is(
        self, store: Store, body: bytes, data: st.DataObject
    ) -> None:
        key = f"ranges/{next(numbers)}"
        store.create(key, body)
        start = data.draw(st.integers(0, len(body) + 5), label="start")
        stop = data.draw(st.integers(start, len(body) + 10), label="stop")
        assert store.get_range(key, start, stop) == body[start:stop]
        assert streamed(store, key, start, stop) == body[start:stop]
        assert streamed(store, key, start) == body[start:]

    @given(body=st.binary(max_size=300), size=st.integers(1, 120))
    @on_one_store
    def test_a_stream_gives_at_most_what_is_asked_and_nothing_only_at_its_end(
        self, store: Store, body: bytes, size: int
    ) -> None:
        key = f"streams/{next(numbers)}"
        store.create(key, body)
        stream = store.open(key)
        pieces = []
        while piece := stream.read(size):
            assert len(piece) <= size
            pieces.append(piece)
        assert b"".join(pieces) == body
        assert stream.read(size) == b""
        stream.close()
        stream.close()

    def test_a_stream_may_be_left_in_the_middle(self, store: Store) -> None:
        store.create("long", bytes(1_000_000))
        stream = store.open("long", 10)
        assert stream.read(5) == bytes(5)
        stream.close()


class TestConditionalWrites:
    def test_create_gives_the_tag_that_get_gives(self, store: Store) -> None:
        tag = store.create("a", b"1")
        assert store.get("a").tag == tag

    def test_a_taken_key_is_refused_and_left_alone(self, store: Store) -> None:
        store.create("a/b", b"first")
        with pytest.raises(AlreadyExists, match="a/b"):
            store.create("a/b", b"second")
        with pytest.raises(AlreadyExists):
            store.create("a/b", b"first")
        assert store.get("a/b").body == b"first"
        assert listed(store) == ["a/b"]

    def test_replace_takes_the_present_tag_only(self, store: Store) -> None:
        first = store.create("a", b"1")
        second = store.replace("a", b"2", first)
        assert store.get("a") == (b"2", second)
        assert second != first
        with pytest.raises(Changed, match="a"):
            store.replace("a", b"3", first)
        assert store.get("a") == (b"2", second)
        third = store.replace("a", b"3", second)
        assert store.get("a") == (b"3", third)

    def test_a_tag_from_a_listing_serves_too(self, store: Store) -> None:
        store.create("a", b"1")
        (found,) = store.list("")
        store.replace("a", b"2", found.tag)
        assert store.get("a").body == b"2"

    def test_what_is_not_there_has_changed(self, store: Store) -> None:
        tag = store.create("a", b"1")
        with pytest.raises(Changed):
            store.replace("b", b"2", tag)
        store.delete(["a"])
        with pytest.raises(Changed):
            store.replace("a", b"2", tag)
        assert listed(store) == []

    def test_a_deleted_key_can_be_created_again(self, store: Store) -> None:
        store.create("a/b", b"1")
        store.delete(["a/b"])
        store.create("a/b", b"2")
        assert store.get("a/b").body == b"2"

    def test_of_many_threads_that_create_one_key_one_succeeds(self, store: Store) -> None:
        threads, keys = 8, [f"race/{number}" for number in range(10)]
        start = threading.Barrier(threads)

        def race(thread: int) -> list[str]:
            start.wait()
            won = []
            for key in keys:
                try:
                    store.create(key, f"{key} by {thread}".encode())
                except AlreadyExists:
                    continue
                won.append(key)
            return won

        with ThreadPoolExecutor(threads) as pool:
            won = list(pool.map(race, range(threads)))
        assert sorted(key for keys_of_one in won for key in keys_of_one) == sorted(keys)
        for thread, keys_of_one in enumerate(won):
            for key in keys_of_one:
                assert store.get(key).body == f"{key} by {thread}".encode()

    def test_no_increment_of_many_threads_is_lost(self, store: Store) -> None:
        threads, increments = 4, 15
        store.create("counter", b"0")

        def increment(_: int) -> None:
            for _ in range(increments):
                while True:
                    body, tag = store.get("counter")
                    try:
                        store.replace("counter", b"%d" % (int(body) + 1), tag)
                        break
                    except Changed:
                        continue

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(increment, range(threads)))
        assert store.get("counter").body == b"%d" % (threads * increments)


class TestWriters:
    @pytest.mark.parametrize("exclusive", [False, True])
    def test_nothing_is_visible_before_close(self, store: Store, exclusive: bool) -> None:
        with store.writer("a/part", exclusive=exclusive) as writer:
            writer.write(b"one ")
            writer.write(b"")
            writer.write(b"two")
            assert not store.exists("a/part")
            assert listed(store) == []
            file = writer.close()
        body = b"one two"
        assert file == File(key="a/part", size=7, sha256=hashlib.sha256(body).hexdigest())
        assert store.get("a/part").body == body

    @pytest.mark.parametrize("exclusive", [False, True])
    @pytest.mark.parametrize("size", [0, 1, 300_000, 9 * 1024**2, 20 * 1024**2 + 1])
    def test_any_size(self, store: Store, size: int, exclusive: bool) -> None:
        unit = bytes(range(251)) * 4001
        body = (unit * (size // len(unit) + 1))[:size]
        writer = store.writer("big", exclusive=exclusive)
        for start in range(0, size, 700_001):
            writer.write(body[start : start + 700_001])
        file = writer.close()
        assert (file.size, file.sha256) == (size, hashlib.sha256(body).hexdigest())
        assert store.get("big").body == body
        assert store.get_range("big", max(0, size - 10), size + 10) == body[-10:]

    @pytest.mark.parametrize("body", [b"second", b"2" * 9 * 1024**2])
    def test_an_exclusive_writer_leaves_a_taken_key_alone(self, store: Store, body: bytes) -> None:
        store.create("a/part", b"first")
        writer = store.writer("a/part", exclusive=True)
        writer.write(body)
        with pytest.raises(AlreadyExists, match="a/part"):
            writer.close()
        writer.abort()
        assert store.get("a/part").body == b"first"
        assert listed(store) == ["a/part"]

    def test_a_writer_that_is_not_exclusive_puts_its_object_in_place(self, store: Store) -> None:
        store.create("a/part", b"first")
        writer = store.writer("a/part")
        writer.write(b"second")
        writer.close()
        assert store.get("a/part").body == b"second"

    @pytest.mark.parametrize("body", [b"", b"small", b"l" * 9 * 1024**2])
    def test_abort_leaves_nothing(self, store: Store, body: bytes) -> None:
        writer = store.writer("a/part")
        writer.write(body)
        writer.abort()
        writer.abort()
        assert listed(store) == []
        with pytest.raises(ValueError, match="aborted"):
            writer.close()
        with pytest.raises(ValueError, match="closed"):
            writer.write(b"more")
        assert listed(store) == []

    def test_an_error_aborts(self, store: Store) -> None:
        def fail() -> None:
            with store.writer("a/part") as writer:
                writer.write(b"half")
                raise RuntimeError("stop")

        with pytest.raises(RuntimeError, match="stop"):
            fail()
        assert listed(store) == []

    def test_close_and_abort_after_close_change_nothing(self, store: Store) -> None:
        with store.writer("a/part") as writer:
            writer.write(b"body")
            file = writer.close()
            assert writer.close() == file
            writer.abort()
        assert store.get("a/part").body == b"body"
        with pytest.raises(ValueError, match="closed"):
            writer.write(b"more")

    def test_writers_of_many_threads_do_not_meet(self, store: Store) -> None:
        def write(number: int) -> None:
            with store.writer(f"parts/{number}") as writer:
                for _ in range(20):
                    writer.write(b"%d" % number)
                writer.close()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(40)))
        for number in range(40):
            assert store.get(f"parts/{number}").body == b"%d" % number * 20


# Steps of keys, and names that no step is, so that no key is a folder of another.
STEP = st.text("ab-./0é�😀 %+&#~", min_size=1, max_size=3).filter(
    lambda step: "/" not in step and step not in {".", ".."}
)
KEY = st.builds(
    lambda steps, name: "/".join([*steps, f"{name}!"]), st.lists(STEP, max_size=3), STEP
)


class TestListing:
    def test_keys_are_ordered_by_their_bytes_not_by_their_folders(self, store: Store) -> None:
        keys = ["a-b", "a.b", "a/b", "a/b-c", "a/b.c/d", "a/bc", "a0", "aé", "a\ufffd", "a😀"]
        fill(store, *reversed(keys))
        assert listed(store) == sorted(keys, key=str.encode) == keys

    def test_a_prefix_may_end_anywhere(self, store: Store) -> None:
        fill(store, "a/b/1", "a/b/2", "a/bc", "a/c", "ab")
        assert listed(store, "a/b") == ["a/b/1", "a/b/2", "a/bc"]
        assert listed(store, "a/b/") == ["a/b/1", "a/b/2"]
        assert listed(store, "a") == ["a/b/1", "a/b/2", "a/bc", "a/c", "ab"]
        assert listed(store, "a/c") == ["a/c"]
        assert listed(store, "a/c/") == []
        assert listed(store, "b") == []
        assert listed(store, "a/b/c/d") == []

    def test_after_is_exclusive_and_need_not_be_there(self, store: Store) -> None:
        fill(store, "a/1", "a/2", "a/3/x", "b")
        assert listed(store, "a/", after="a/1") == ["a/2", "a/3/x"]
        assert listed(store, "a/", after="a/10") == ["a/2", "a/3/x"]
        assert listed(store, "a/", after="a/3/x") == []
        assert listed(store, "a/", after="0") == ["a/1", "a/2", "a/3/x"]
        assert listed(store, "a/", after="b") == []

    def test_what_a_listing_tells(self, store: Store) -> None:
        tag = store.create("a/b", b"12345")
        (found,) = store.list("a/")
        assert (found.key, found.size, found.tag) == ("a/b", 5, tag)
        assert found.modified > 1_600_000_000

    @given(keys=st.lists(KEY, unique=True, max_size=12), data=st.data())
    @on_one_store
    def test_any_keys_any_prefix_any_after(
        self, store: Store, keys: list[str], data: st.DataObject
    ) -> None:
        base = f"any/{next(numbers)}/"
        fill(store, *(base + key for key in keys))
        ordered = sorted(keys, key=str.encode)
        some_key = st.sampled_from(ordered or ["x"])
        key = data.draw(some_key, label="prefix of")
        prefix = key[: data.draw(st.integers(0, len(key)), label="length")]
        after = data.draw(st.one_of(st.just(""), some_key, KEY), label="after")
        expected = [
            base + key
            for key in ordered
            if key.startswith(prefix) and key.encode() > after.encode()
        ]
        assert listed(store, base + prefix, base + after) == expected
        assert listed(store, base) == [base + key for key in ordered]
        for key in ordered:
            assert store.get(base + key).body == (base + key).encode()


class TestDeleting:
    def test_what_is_missing_is_no_error(self, store: Store) -> None:
        fill(store, "a/1", "a/2", "b")
        store.delete(iter(["a/1", "no", "no/such", "a/1/deep"]))
        assert listed(store) == ["a/2", "b"]
        store.delete([])
        store.delete(["a/2", "b"])
        assert listed(store) == []

    def test_many(self, store: Store) -> None:
        keys = [f"many/{number}" for number in range(300)]
        fill(store, *keys)
        store.delete(keys)
        assert listed(store) == []


class TestNames:
    def test_a_url_ends_in_the_key(self, store: Store) -> None:
        assert store.url("a/b.json").endswith("a/b.json")

    def test_a_key_has_one_identity(self, store: Store) -> None:
        assert store.identity("a/b") == store.identity("a/b")
        assert store.identity("a/b") != store.identity("a/c")

"""What all inputs promise: one suite, run on memory, a directory and S3 with and without versions."""

from __future__ import annotations

from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from coordinator.errors import InputChanged
from coordinator.model import Pinned
from coordinator.store.ports import Inputs
from tests.contracts.rooms import Room

# Names that are one where case or the composition of letters is folded.
ALIKE = ("dir/key", "dir/Key", "DIR/key", "caf\u00e9", "cafe\u0301", "stra\u00dfe", "strasse")
# Names that sort closely behind others, a folder's too.
CLOSE = ("d", "d!", "d-/d", "d.csv", "d.csv.gz", "d0", "e/d", "e/d-", "e/d0", "e0/d", "e1", "e-")


def found(inputs: Inputs, *patterns: str) -> list[Pinned]:
    """All that the patterns name, in the order of keys."""
    pages = list(inputs.pages(patterns))
    assert [page.cursor is None for page in pages].index(True) == len(pages) - 1
    return sorted((pinned for page in pages for pinned in page.objects), key=lambda one: one.key)


def names(room: Room, *patterns: str, glob: str = "*") -> list[str]:
    pinned = found(room.inputs(glob=glob), *(room.at(pattern) for pattern in patterns))
    return [one.key.removeprefix(room.base) for one in pinned]


def read(inputs: Inputs, pinned: Pinned, start: int = 0, stop: int | None = None) -> bytes:
    with closing(inputs.open(pinned, start, pinned.size if stop is None else stop)) as stream:
        return stream.read()


class TestFinding:
    def test_a_folder_is_all_below_it(self, room: Room) -> None:
        for name in ("b/2.csv", "a.csv", "b/c/3.txt", "b/.hidden"):
            room.put(name, name.encode())
        assert names(room, "") == ["a.csv", "b/.hidden", "b/2.csv", "b/c/3.txt"]
        assert names(room, "b/") == ["b/.hidden", "b/2.csv", "b/c/3.txt"]
        assert names(room, "b/c/") == ["b/c/3.txt"]

    def test_the_source_s_glob_is_for_what_folders_hold(self, room: Room) -> None:
        for name in ("a.csv", "b/1.csv", "b/1.txt", "b.csv/2.txt"):
            room.put(name, b"")
        assert names(room, "", glob="*.csv") == ["a.csv", "b/1.csv"]
        assert names(room, "b/1.txt", glob="*.csv") == ["b/1.txt"]
        assert names(room, "b/*.txt", glob="*.csv") == ["b/1.txt"]

    def test_globs(self, room: Room) -> None:
        for name in ("a1.csv", "a2.csv", "ab.csv", "b/a1.csv", "b/c/a1.csv", "b/c/x.csv"):
            room.put(name, b"")
        assert names(room, "a?.csv") == ["a1.csv", "a2.csv", "ab.csv"]
        assert names(room, "a[0-9].csv") == ["a1.csv", "a2.csv"]
        assert names(room, "a[!0-9].csv") == ["ab.csv"]
        assert names(room, "*/a1.csv") == ["b/a1.csv"]
        assert names(room, "**/a1.csv") == ["a1.csv", "b/a1.csv", "b/c/a1.csv"]
        assert names(room, "b/**") == ["b/a1.csv", "b/c/a1.csv", "b/c/x.csv"]
        assert names(room, "**/c/*.csv") == ["b/c/a1.csv", "b/c/x.csv"]
        assert names(room, "*/*/[x-z].csv") == ["b/c/x.csv"]
        assert names(room, "*.parquet") == []
        assert names(room, "none/*") == []

    def test_what_exists_is_taken_literally(self, room: Room) -> None:
        room.put("a[1].csv", b"")
        room.put("a1.csv", b"")
        room.put("star*", b"")
        room.put("stars", b"")
        assert names(room, "a[1].csv") == ["a[1].csv"]
        assert names(room, "star*") == ["star*"]
        assert names(room, "sta[r]*") == ["star*", "stars"]

    def test_one_object_does_not_stand_for_what_begins_like_it(self, room: Room) -> None:
        room.put("a.csv", b"")
        room.put("a.csv.bak", b"")
        assert names(room, "a.csv") == ["a.csv"]

    def test_nothing_matches(self, room: Room) -> None:
        assert found(room.inputs(), room.at("nothing")) == []
        assert found(room.inputs(), room.at("nothing/")) == []
        assert found(room.inputs()) == []

    @pytest.mark.parametrize(
        "name", ["with space", "-rf", "ünï/cödé 😀", "a+b%20&c#d;e=f?", "quote'\"", "new\nline"]
    )
    def test_any_name(self, room: Room, name: str) -> None:
        room.put(name, b"body")
        (pinned,) = found(room.inputs(), room.at(""))
        assert pinned.key == room.at(name)
        assert read(room.inputs(), pinned) == b"body"
        assert found(room.inputs(), room.at(name)) == [pinned]

    def test_names_that_look_alike_are_inputs_of_their_own(self, room: Room) -> None:
        for name in ALIKE:
            room.put(name, name.encode())
        inputs = room.inputs()

        pinned = found(inputs, room.at(""))

        kept = room.kept()
        assert [one.key for one in pinned] == sorted(map(room.at, kept))
        assert {one.key.removeprefix(room.base): read(inputs, one) for one in pinned} == kept
        for name in kept:
            assert names(room, name) == [name]

    def test_several_patterns(self, room: Room) -> None:
        for name in ("a/1", "b/1", "c/1"):
            room.put(name, b"")
        assert names(room, "c/", "nothing", "a/1") == ["a/1", "c/1"]
        assert set(names(room, "a/", "a/1")) == {"a/1"}

    def test_sizes_and_tags(self, room: Room) -> None:
        room.put("a", b"12345")
        room.put("b", b"")
        inputs = room.inputs()
        assert [pinned.size for pinned in found(inputs, room.at(""))] == [5, 0]
        assert found(inputs, room.at("")) == found(room.inputs(), room.at(""))


def listed_from_every_cursor(room: Room, patterns: list[str], page_size: int) -> list[set[str]]:
    """The names that are listed in all, and those before each cursor with those listed from it."""
    whole: list[set[str]] = []
    before: set[str] = set()
    for page in room.inputs(page_size=page_size).pages(patterns):
        assert len(page.objects) <= page_size
        before |= {pinned.key.removeprefix(room.base) for pinned in page.objects}
        if page.cursor is not None:
            rest = room.inputs(page_size=page_size).pages(patterns, page.cursor)
            after = {one.key.removeprefix(room.base) for page in rest for one in page.objects}
            whole.append(before | after)
    return [before, *whole]


class TestPages:
    @pytest.mark.parametrize("page_size", [1, 2, 100])
    def test_from_every_cursor_the_rest_is_listed(self, room: Room, page_size: int) -> None:
        expected = {f"{folder}/{number}" for folder in "abc" for number in range(4)}
        for name in expected:
            room.put(name, b"")
        patterns = [room.at("a/"), room.at("b/*"), room.at("c/3"), room.at("c/")]

        for whole in listed_from_every_cursor(room, patterns, page_size):
            assert whole == expected

    @pytest.mark.parametrize("page_size", [1, 2])
    @pytest.mark.parametrize("pattern", ["", "**"])
    def test_no_key_that_follows_another_closely_is_skipped(
        self, room: Room, pattern: str, page_size: int
    ) -> None:
        """Between a key and the same with a `0` behind it lie its neighbours, and its folder."""
        for name in CLOSE:
            room.put(name, b"")

        for whole in listed_from_every_cursor(room, [room.at(pattern)], page_size):
            assert whole == {*CLOSE}


class TestReading:
    @given(body=st.binary(max_size=200), data=st.data())
    @settings(
        max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    def test_reading_begins_at_start_and_may_go_on_to_the_end(
        self, room: Room, body: bytes, data: st.DataObject
    ) -> None:
        room.put("body", body)
        inputs = room.inputs()
        (pinned,) = found(inputs, room.at("body"))
        start = data.draw(st.integers(0, len(body)), label="start")
        stop = data.draw(st.integers(start, len(body)), label="stop")
        assert read(inputs, pinned, start, stop) == body[start:]
        with closing(inputs.open(pinned, start, stop)) as stream:
            assert stream.read(stop - start) == body[start:stop] or not stop - start

    def test_a_body_longer_than_any_range(self, room: Room) -> None:
        body = bytes(range(256)) * 4096
        room.put("long", body)
        inputs = room.inputs()
        (pinned,) = found(inputs, room.at("long"))
        with closing(inputs.open(pinned, 100, 200)) as stream:
            pieces = []
            while piece := stream.read(10_000):
                assert len(piece) <= 10_000
                pieces.append(piece)
        assert b"".join(pieces) == body[100:]

    def test_a_stream_may_be_closed_early_and_twice(self, room: Room) -> None:
        room.put("long", bytes(300_000))
        inputs = room.inputs()
        (pinned,) = found(inputs, room.at("long"))
        stream = inputs.open(pinned, 0, 300_000)
        assert stream.read(10) == bytes(10)
        stream.close()
        stream.close()


class TestPinning:
    """An input that changed under a run is an error that names it, or is read as it was."""

    @pytest.mark.parametrize("body", [b"other", b"Body", b"", b"longer than before"])
    def test_overwritten_before_it_is_read(self, room: Room, body: bytes) -> None:
        room.put("dir/a", b"body")
        inputs = room.inputs()
        (pinned,) = found(inputs, room.at("dir/"))
        room.put("dir/a", body)
        if pinned.version_id is not None:
            assert read(inputs, pinned) == b"body"
            return
        with pytest.raises(InputChanged, match="dir/a"):
            read(inputs, pinned)

    @pytest.mark.parametrize("start", [0, 4])
    def test_deleted_before_it_is_read(self, room: Room, start: int) -> None:
        room.put("dir/a", b"body")
        inputs = room.inputs()
        (pinned,) = found(inputs, room.at("dir/"))
        room.delete("dir/a")
        if pinned.version_id is not None:
            assert read(inputs, pinned) == b"body"
            return
        with pytest.raises(InputChanged, match=r"dir/a.*deleted"):
            read(inputs, pinned, start)

    @pytest.mark.parametrize("change", ["overwrite", "delete"])
    def test_changed_while_it_is_read(self, room: Room, change: str) -> None:
        body = bytes(range(256)) * 2000
        room.put("a", body)
        inputs = room.inputs()
        (pinned,) = found(inputs, room.at("a"))
        stream = inputs.open(pinned, 0, 1000)
        pieces = [stream.read(1000)]
        if change == "overwrite":
            room.put("a", body[::-1])
        else:
            room.delete("a")
        refused = ""
        try:
            while piece := stream.read(100_000):
                pieces.append(piece)
            stream.close()
        except InputChanged as error:
            refused = str(error)
        assert room.at("a") in refused if refused else b"".join(pieces) == body

    def test_an_empty_object_is_pinned_too(self, room: Room) -> None:
        room.put("a", b"")
        inputs = room.inputs()
        (pinned,) = found(inputs, room.at("a"))
        assert read(inputs, pinned) == b""
        room.put("a", b"no longer")
        if pinned.version_id is not None:
            assert read(inputs, pinned) == b""
            return
        with pytest.raises(InputChanged):
            read(inputs, pinned)

    def test_an_object_made_after_the_listing_is_not_in_it(self, room: Room) -> None:
        room.put("a", b"")
        before = found(room.inputs(), room.at(""))
        room.put("b", b"")
        assert [pinned.key for pinned in before] == [room.at("a")]

"""What inputs on disk promise beyond the contract: odd files, links, and names from anywhere."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from coordinator.errors import InputChanged, InputInvalid, InputUnreadable
from coordinator.model import Pinned
from coordinator.store.file.inputs import FileInputs


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def found(*patterns: object, inputs: FileInputs | None = None) -> list[str]:
    pages = (inputs or FileInputs()).pages([str(pattern) for pattern in patterns])
    return sorted(pinned.key for page in pages for pinned in page.objects)


def pin(path: Path) -> Pinned:
    (page,) = FileInputs().pages([str(path)])
    (pinned,) = page.objects
    return pinned


class TestNames:
    def test_a_relative_pattern_gives_absolute_keys(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (data / "-a").write_bytes(b"")
        monkeypatch.chdir(data)
        for pattern in ("-a", "./-a", ".", "*", "./*", "**", "../data", "../data/-?", "..//data/."):
            assert found(pattern) == [str(data / "-a")]

    @pytest.mark.skipif(sys.platform == "darwin", reason="takes UTF-8 names only")
    def test_a_name_that_is_no_utf_8_is_refused(self, data: Path) -> None:
        (data / "good").write_bytes(b"")
        bad = data / os.fsdecode(b"bad\xff.txt")
        bad.write_bytes(b"")
        for pattern in (data, bad, data / "*", data / "**"):
            with pytest.raises(InputInvalid, match=r"bad\\xff\.txt.*not UTF-8"):
                found(pattern)
        assert found(data, inputs=FileInputs(glob="good")) == [str(data / "good")]
        bad.unlink()
        bad.mkdir()
        with pytest.raises(InputInvalid, match="not UTF-8"):
            found(data)

    @pytest.mark.parametrize("pattern", ["", "a\0b", "s3://bucket/key"])
    def test_a_pattern_that_names_nothing(self, pattern: str) -> None:
        with pytest.raises(InputInvalid):
            found(pattern)

    def test_a_class_that_makes_no_sense(self, data: Path) -> None:
        with pytest.raises(InputInvalid, match="range"):
            found(data / "[z-a]")

    def test_a_bracket_can_be_meant_as_one(self, data: Path) -> None:
        for name in ("a[b", "a]", "ab"):
            (data / name).write_bytes(b"")
        assert found(data / "a[[]?") == [str(data / "a[b")]
        assert found(data / "a[]b]") == [str(data / "a]"), str(data / "ab")]
        assert found(data / "a[") == []

    def test_dots_after_a_link_mean_what_they_mean_to_the_system(self, data: Path) -> None:
        (data / "real/inner").mkdir(parents=True)
        (data / "real/a").write_bytes(b"")
        (data / "link").symlink_to("real/inner")
        assert found(f"{data}/link/../a") == [str(data / "real/a")]
        assert found(f"{data}/link/../*") == [str(data / "real/a")]
        assert found(f"{data}/real/inner/../../link/../a") == [str(data / "real/a")]
        assert found(f"{data}/link/../../link/../a") == [str(data / "real/a")]

    def test_a_file_has_one_key_however_it_is_named(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (data / "sub").mkdir()
        (data / "a").write_bytes(b"")
        (data / "link").symlink_to(".")
        monkeypatch.chdir(data)
        spellings = [
            "a",
            "./a",
            "sub/../a",
            "sub/.././sub/..//a",
            f"{data}/a",
            f"/{data}/a",
            f"//{data}/a",
            f"/{data}//sub/../a",
            f"/{data}/?",
            f"/{data}/sub/../[a]",
            f"{data}/sub/./../a",
            f"{data}/../{data.name}/a",
        ]

        assert set(found(*spellings)) == {str(data / "a")}
        assert len(found(*spellings)) == len(spellings)
        assert found("link/a") == found("link/sub/../a") == [str(data / "link/a")]

    def test_a_folder_has_one_key_however_it_is_named(self, data: Path) -> None:
        (data / "sub/inner").mkdir(parents=True)
        (data / "sub/a").write_bytes(b"")
        for pattern in (f"/{data}/sub", f"/{data}/**", f"//{data}/sub/*", f"{data}/sub/inner/.."):
            assert found(pattern) == [str(data / "sub/a")]

    def test_the_root_is_one_folder(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir("/")
        for pattern in (data, f"/{data}", str(data)[1:], f"/..{data}", f"//../{data}"):
            (data / "a").write_bytes(b"")
            assert found(pattern) == [str(data / "a")]

    def test_dots_after_a_wildcard_are_refused(self, data: Path) -> None:
        with pytest.raises(InputInvalid, match="after a wildcard"):
            found(data / "*" / ".." / "a")

    def test_a_name_longer_than_the_system_takes_matches_nothing(self, data: Path) -> None:
        assert found(data / ("n" * 300)) == []
        assert found(data / "a" / ("n" * 300) / "*") == []


class TestFolders:
    def test_a_folder_that_a_glob_matches_is_walked(self, data: Path) -> None:
        for name in ("2024/a", "2024/deep/b", "2025/c", "other/d"):
            (data / name).parent.mkdir(parents=True, exist_ok=True)
            (data / name).write_bytes(b"")
        expected = [str(data / name) for name in ("2024/a", "2024/deep/b", "2025/c")]
        assert found(data / "20*") == expected
        assert found(data / "20*/") == expected
        assert found(data / "*/deep") == [str(data / "2024/deep/b")]

    def test_a_file_is_no_folder(self, data: Path) -> None:
        (data / "a").write_bytes(b"")
        for pattern in ("a/b", "a/*", "a/**", "*/b", "a/b/**"):
            assert found(data / pattern) == []

    def test_the_output_is_left_out_of_walks(self, data: Path) -> None:
        for name in ("in/a", "out/job/b"):
            (data / name).parent.mkdir(parents=True, exist_ok=True)
            (data / name).write_bytes(b"")
        (data / "way-out").symlink_to("out")
        inputs = FileInputs(exclude=[data / "out", data / "not-there"])
        here = [str(data / "in/a")]
        for pattern in ("", "*", "**", "*/**", "**/*", "*/*"):
            assert found(data / pattern, inputs=inputs) == here
        assert found(data / "out", inputs=inputs) == []
        assert found(data / "out/job", inputs=inputs) == [str(data / "out/job/b")]
        assert found(data / "out/job/b", inputs=inputs) == [str(data / "out/job/b")]

    def test_deep_folders_hold_no_more_than_a_handle_each(self, data: Path) -> None:
        deep = data.joinpath(*["d"] * 200)
        deep.mkdir(parents=True)
        (deep / "a").write_bytes(b"")
        assert found(data) == [str(deep / "a")]

    def test_a_page_is_given_before_the_next_is_listed(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(50):
            (data / f"{number}").write_bytes(b"")
        looked_at = []
        real = os.stat

        def stat(path: str, **options: bool) -> os.stat_result:
            looked_at.append(path)
            return real(path, **options)

        monkeypatch.setattr(os, "stat", stat)
        pages = FileInputs(page_size=5).pages([str(data)])
        assert len(next(pages).objects) == 5
        assert len(looked_at) < 20
        assert [len(page.objects) for page in pages] == [5] * 9

    @pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
    def test_a_folder_that_can_t_be_listed(
        self, data: Path, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        (data / "locked").mkdir()
        real = os.scandir

        def scandir(path: str) -> object:
            if path.endswith("locked"):
                raise OSError(code, os.strerror(code))
            return real(path)

        monkeypatch.setattr(os, "scandir", scandir)
        for pattern in (data, data / "locked", data / "locked/*", data / "**/a"):
            with pytest.raises(InputUnreadable, match="data/locked"):
                found(pattern)

    def test_a_path_that_can_t_be_looked_at(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def lstat(path: str) -> object:
            raise PermissionError(errno.EACCES, "no")

        monkeypatch.setattr(os, "lstat", lstat)
        with pytest.raises(InputUnreadable, match="secret"):
            found(data / "secret")


class TestLinks:
    def test_a_linked_file_is_read_through(self, data: Path) -> None:
        (data / "real").write_bytes(b"body")
        (data / "link").symlink_to("real")
        assert found(data) == [str(data / "link"), str(data / "real")]
        pinned = pin(data / "link")
        assert pinned.size == 4
        with closing(FileInputs().open(pinned, 0, 4)) as stream:
            assert stream.read() == b"body"

    def test_a_link_turned_elsewhere_is_a_change(self, data: Path) -> None:
        (data / "one").write_bytes(b"body")
        (data / "two").write_bytes(b"body")
        (data / "link").symlink_to("one")
        pinned = pin(data / "link")
        (data / "link").unlink()
        (data / "link").symlink_to("two")
        with pytest.raises(InputChanged, match="link"):
            FileInputs().open(pinned, 0, 4)

    def test_a_linked_folder_is_walked_under_its_own_name(self, data: Path, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere/a").write_bytes(b"")
        (data / "link").symlink_to(tmp_path / "elsewhere")
        for pattern in ("", "link", "**", "*/a", "l*"):
            assert found(data / pattern) == [str(data / "link/a")]

    @pytest.mark.parametrize("target", [".", "..", "../..", "../sub"])
    def test_a_loop_is_refused_by_name(self, data: Path, target: str) -> None:
        (data / "sub").mkdir()
        (data / "sub/loop").symlink_to(target)
        for pattern in (data, data / "**"):
            with pytest.raises(InputInvalid, match=r"loop.* leads back"):
                found(pattern)

    def test_a_link_to_itself(self, data: Path) -> None:
        (data / "self").symlink_to("self")
        for pattern in (data, data / "self"):
            with pytest.raises(InputUnreadable, match="self"):
                found(pattern)

    def test_a_link_to_nothing_is_refused_by_name(self, data: Path) -> None:
        (data / "dangling").symlink_to("nowhere")
        for pattern in (data, data / "dangling", data / "*", data / "**"):
            with pytest.raises(InputUnreadable, match=r"dangling.* to nothing"):
                found(pattern)
        assert found(data / "*/deeper") == []
        assert found(data, inputs=FileInputs(glob="*.csv")) == []


class TestOddFiles:
    def test_a_fifo_is_refused_by_name(self, data: Path) -> None:
        os.mkfifo(data / "fifo")
        (data / "a.csv").write_bytes(b"")
        for pattern in (data, data / "fifo", data / "f*", data / "**"):
            with pytest.raises(InputInvalid, match=r"fifo.* no regular file"):
                found(pattern)
        assert found(data, inputs=FileInputs(glob="*.csv")) == [str(data / "a.csv")]

    def test_a_socket_and_a_device(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(data)  # a socket's path is short
        with closing(socket.socket(socket.AF_UNIX)) as listening:
            listening.bind("socket")
            with pytest.raises(InputInvalid, match="socket"):
                found(data)
        with pytest.raises(InputInvalid, match="/dev/null"):
            found("/dev/null")

    def test_a_file_deleted_while_its_folder_is_listed_is_not_there(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (data / "a").write_bytes(b"")
        (data / "gone").write_bytes(b"")
        real = os.stat

        def stat(path: str) -> os.stat_result:
            (data / "gone").unlink(missing_ok=True)
            return real(path)

        monkeypatch.setattr(os, "stat", stat)
        pages = FileInputs().pages([str(data)])
        assert [pinned.key for page in pages for pinned in page.objects] == [str(data / "a")]


def _wait_for_the_clock_of(path: Path) -> None:
    """Until a change has another ctime: the clock of a file system ticks every few milliseconds."""
    probe = path.parent.with_name("probe")
    while True:
        probe.write_bytes(b"")
        if probe.stat().st_ctime_ns > path.stat().st_ctime_ns:
            return


def _lengthen(path: Path) -> None:
    path.write_bytes(b"longer than it was")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def _rewrite_and_set_the_clock_back(path: Path) -> None:
    status = path.stat()
    path.write_bytes(bytes(reversed(path.read_bytes())))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_mtime_ns == status.st_mtime_ns


def _replace_by_a_copy(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    copy.replace(path)


def _replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _replace_by_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _move_away(path: Path) -> None:
    path.replace(path.with_name("moved"))


def _remove_its_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


class TestPinning:
    def test_the_tag_is_size_mtime_inode_and_ctime(self, data: Path) -> None:
        (data / "a").write_bytes(b"12345")
        os.utime(data / "a", ns=(7, 7))
        status = (data / "a").stat()
        assert pin(data / "a").etag == f"5-7-{status.st_ino}-{status.st_ctime_ns}"
        assert status.st_ctime_ns != 7

    def test_reading_a_file_does_not_change_it(self, data: Path) -> None:
        (data / "a").write_bytes(b"12345")
        pinned = pin(data / "a")
        for _ in range(2):
            with closing(FileInputs().open(pinned, 0, 5)) as stream:
                assert stream.read() == b"12345"
        assert pin(data / "a") == pinned

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (_lengthen, "changed"),
            (_empty, "changed"),
            (_touch, "changed"),
            (_rewrite_and_set_the_clock_back, "changed"),
            (_replace_by_a_copy, "changed"),
            (_replace_by_a_folder, "changed"),
            (_replace_by_a_fifo, "changed"),
            (_move_away, "deleted"),
            (_remove_its_folder, "deleted"),
        ],
    )
    @pytest.mark.parametrize("when", ["before", "while"])
    def test_any_change_is_seen_at_open_or_at_close(
        self, data: Path, change: Callable[[Path], object], said: str, when: str
    ) -> None:
        path = data / "sub" / "a"
        path.parent.mkdir()
        path.write_bytes(b"body")
        pinned = pin(path)
        _wait_for_the_clock_of(path)
        if when == "before":
            change(path)
            with pytest.raises(InputChanged, match=rf"sub/a.*{said}.*new run"):
                FileInputs().open(pinned, 0, 4)
            return
        stream = FileInputs().open(pinned, 0, 4)
        assert stream.read(2) == b"bo"
        change(path)
        stream.read()
        with pytest.raises(InputChanged, match=rf"sub/a.*{said}.*new run"):
            stream.close()
        stream.close()

    def test_a_file_that_may_not_be_read(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (data / "a").write_bytes(b"body")
        pinned = pin(data / "a")

        def refuse(*_: object) -> int:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(InputUnreadable, match=r"data/a.*Permission denied"):
            FileInputs().open(pinned, 0, 4)

    def test_a_disk_that_fails_amid_a_file(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (data / "a").write_bytes(b"body")
        stream = FileInputs().open(pin(data / "a"), 0, 4)

        class Failing:
            def read(self, size: int) -> bytes:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        with monkeypatch.context() as patch:
            whole = stream._file  # type: ignore[attr-defined]
            patch.setattr(stream, "_file", Failing())
            with pytest.raises(InputUnreadable, match="data/a"):
                stream.read(4)
            patch.setattr(stream, "_file", whole)
            stream.close()

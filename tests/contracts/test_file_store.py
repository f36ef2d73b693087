"""What the store in a directory promises beyond the contract: kills, full disks, locks, names."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from coordinator.errors import (
    AlreadyExists,
    Changed,
    KeyMissing,
    OutcomeUnknown,
    OutputInvalid,
    OutputUnwritable,
    RunBusy,
    StoreUnavailable,
)
from coordinator.store.file.store import FileStore

ROOT = Path(__file__).parents[2]

KILLED_WRITES = """
import signal

def create(key):
    store.create(key, b'killed')

def plain(key):
    writer = store.writer(key); writer.write(b'killed'); writer.close()

def exclusive(key):
    writer = store.writer(key, exclusive=True); writer.write(b'killed'); writer.close()

def arm(call, when):
    real = getattr(os, call)
    def killed(*args, **kwargs):
        if when == 'after':
            real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(os, call, killed)

for write in (create, plain, exclusive):
    for call in ('link', 'replace', 'write', 'utime', 'unlink'):
        for when in ('before', 'after'):
            key = f'{write.__name__}/{call}/{when}'
            child = os.fork()
            if not child:
                arm(call, when)
                write(key)
                os._exit(0)
            _, status = os.waitpid(child, 0)
            print(key, 'done' if status == 0 else 'killed', flush=True)
"""
KILL = -signal.SIGKILL


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "out")


def temporaries(store: FileStore) -> list[Path]:
    return list(Path(store.root, ".fanfold", "temporaries").glob("*"))


def keys(store: FileStore) -> list[str]:
    return [found.key for found in store.list("")]


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Another Python that runs a script with `store`, on the directory that is its argument."""
    head = "import os, sys; from coordinator.store.file.store import FileStore; "
    head += "store = FileStore(sys.argv[1])\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + script, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@contextmanager
def raising(patch: pytest.MonkeyPatch, call: str, code: int, after: int = 0) -> Iterator[None]:
    """Let a system call fail, once it has worked `after` times."""
    real = getattr(os, call)
    calls = 0

    def fail(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(code, os.strerror(code))
        return real(*args, **kwargs)

    with patch.context() as context:
        context.setattr(os, call, fail)
        yield


class TestKills:
    """Whenever a process is killed, a key holds all of an object or is free."""

    def test_a_kill_leaves_all_or_nothing(self, store: FileStore) -> None:
        """Every way to write, killed before and after every system call that it makes."""
        with start(KILLED_WRITES, store.root) as process:
            said, _ = process.communicate()
        outcomes = [line.split() for line in said.splitlines()]
        assert len(outcomes) == 3 * 5 * 2
        assert {status for _, status in outcomes} == {"killed", "done"}
        assert temporaries(store)
        held = {}
        for key, status in outcomes:
            if store.exists(key):
                assert store.get(key).body == b"killed"
                held[key] = b"killed"
            else:
                assert status == "killed"
                store.create(key, b"after")
                held[key] = b"after"
        assert set(held.values()) == {b"killed", b"after"}
        assert keys(store) == sorted(held)
        store.sweep(-3600, Path(store.root).stat().st_mtime)
        assert temporaries(store) == []
        assert {key: store.get(key).body for key in keys(store)} == held

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_a_killed_replace_leaves_the_old_or_the_new(self, store: FileStore, when: str) -> None:
        tag = store.create("a", b"old")
        script = f"""
import signal
real = os.replace
def killed(*args):
    {"real(*args)" if when == "after" else "pass"}
    os.kill(os.getpid(), signal.SIGKILL)
os.replace = killed
store.replace('a', b'new', sys.argv[2])
"""
        with start(script, store.root, tag) as process:
            process.communicate()
        assert process.returncode == KILL
        body, present = store.get("a")
        assert body == (b"old" if when == "before" else b"new")
        store.replace("a", b"newer", present)

    def test_sweep_takes_only_what_is_old(self, store: FileStore) -> None:
        store.create("a", b"")
        for name, modified in (("old", 1000), ("young", 2000)):
            path = Path(store.root, ".fanfold", "temporaries", name)
            path.write_bytes(b"")
            os.utime(path, (modified, modified))
        assert store.sweep(older_than_seconds=500, now=2100) == 1
        assert [path.name for path in temporaries(store)] == ["young"]
        assert FileStore(f"{store.root}/none").sweep(0, 0) == 0

    def test_nothing_is_left_after_orderly_work(self, store: FileStore) -> None:
        tag = store.create("a", b"1")
        store.replace("a", b"2", tag)
        with pytest.raises(AlreadyExists):
            store.create("a", b"3")
        with pytest.raises(Changed):
            store.replace("a", b"3", tag)
        for exclusive in (False, True):
            writer = store.writer(f"b{exclusive}", exclusive=exclusive)
            writer.write(bytes(300_000))
            writer.close()
            aborted = store.writer("c", exclusive=exclusive)
            aborted.write(bytes(300_000))
            aborted.abort()
        assert temporaries(store) == []

    def test_no_file_stays_open(self, store: FileStore) -> None:
        if not Path("/proc/self/fd").is_dir():
            pytest.skip("no /proc")
        self.test_nothing_is_left_after_orderly_work(store)
        before = len(list(Path("/proc/self/fd").iterdir()))
        for number in range(20):
            store.create(f"d/{number}", b"")
            store.get(f"d/{number}")
            store.get_range(f"d/{number}", 0, 1)
            with pytest.raises(KeyMissing):
                store.get(f"e/{number}")
            with pytest.raises(KeyMissing):
                store.open("d")
            with pytest.raises(AlreadyExists):
                store.create(f"d/{number}", b"")
        assert len(list(Path("/proc/self/fd").iterdir())) == before


class TestLinks:
    def test_eexist_with_our_own_inode_is_success(
        self, store: FileStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A network file system may carry out a link, lose the answer and ask again."""
        real = os.link

        def twice(source: str, target: str) -> None:
            real(source, target)
            real(source, target)

        Path(store.root, "a").mkdir(parents=True)
        monkeypatch.setattr(os, "link", twice)
        tag = store.create("a/b", b"ours")
        assert store.get("a/b") == (b"ours", tag)
        writer = store.writer("a/c", exclusive=True)
        writer.write(b"ours too")
        writer.close()
        assert store.get("a/c").body == b"ours too"
        with pytest.raises(AlreadyExists):
            store.create("a/b", b"ours")

    @pytest.mark.parametrize("call", ["link", "replace"])
    def test_what_can_t_be_looked_at_either_is_an_unknown_outcome(
        self, store: FileStore, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        def lost(*_: object) -> None:
            monkeypatch.setattr(os, "stat", stale)
            raise OSError(errno.ETIMEDOUT, "Connection timed out")

        def stale(*_: object) -> None:
            raise OSError(errno.ESTALE, "Stale file handle")

        writer = store.writer("a/b", exclusive=call == "link")
        writer.write(b"ours")
        monkeypatch.setattr(os, call, lost)
        with pytest.raises(OutcomeUnknown, match="a/b was written is not known"):
            writer.close()

    def test_a_folder_that_others_remove_is_made_again(
        self, store: FileStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.link
        removed: list[str] = []

        def remove_first(source: str, target: str) -> None:
            if len(removed) < 3:
                removed.append(target)
                Path(target).parent.mkdir(parents=True, exist_ok=True)
                Path(target).parent.rmdir()
            real(source, target)

        monkeypatch.setattr(os, "link", remove_first)
        store.create("a/b/c", b"body")
        assert store.get("a/b/c").body == b"body"

    @pytest.mark.parametrize("code", [errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP])
    def test_a_file_system_without_links_is_refused(
        self, store: FileStore, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        with (
            raising(monkeypatch, "link", code),
            pytest.raises(OutputUnwritable, match="hard links"),
        ):
            store.create("a", b"")
        assert temporaries(store) == []


class TestTags:
    def test_every_version_has_its_own(self, store: FileStore) -> None:
        """Inodes are used again and clocks are coarse: neither may hide a change."""
        tags = [store.create("a", b"same size")]
        for _ in range(300):
            tags.append(store.replace("a", b"same size", tags[-1]))
        for _ in range(100):
            store.delete(["a"])
            tags.append(store.create("a", b"same size"))
        assert len(set(tags)) == len(tags)

    def test_a_coarse_clock(self, store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
        real = os.utime

        def whole_seconds(fd: int, *, ns: tuple[int, int]) -> None:
            real(fd, ns=(ns[0] // 10**9 * 10**9, ns[1] // 10**9 * 10**9))

        monkeypatch.setattr(os, "utime", whole_seconds)
        tags = [store.create("a", b"same size")]
        for _ in range(20):
            tags.append(store.replace("a", b"same size", tags[-1]))
        assert len({tag.split("-")[1] for tag in tags}) == len(tags)

    def test_a_change_by_hand_is_seen(self, store: FileStore) -> None:
        tag = store.create("a", b"one")
        path = Path(store.url("a"))
        path.write_bytes(b"two")
        os.utime(path, ns=(1, 1))
        with pytest.raises(Changed):
            store.replace("a", b"three", tag)


class TestProcesses:
    def test_of_many_processes_that_create_one_key_one_succeeds(self, store: FileStore) -> None:
        script = """
from coordinator.errors import AlreadyExists
print('ready', flush=True); sys.stdin.readline()
for number in range(200):
    try:
        store.create(f'race/{number}', sys.argv[2].encode())
        print(number)
    except AlreadyExists:
        pass
"""
        processes = [start(script, store.root, one) for one in range(4)]
        won = self._released(processes)
        assert sorted(int(line) for lines in won for line in lines) == list(range(200))
        for one, lines in enumerate(won):
            for number in lines:
                assert store.get(f"race/{number}").body == b"%d" % one

    def test_no_increment_of_many_processes_is_lost(self, store: FileStore) -> None:
        script = """
from coordinator.errors import Changed
print('ready', flush=True); sys.stdin.readline()
done = 0
while done < 50:
    body, tag = store.get('counter')
    try:
        store.replace('counter', b'%d' % (int(body) + 1), tag)
        done += 1
    except Changed:
        pass
"""
        store.create("counter", b"0")
        self._released([start(script, store.root) for _ in range(4)])
        assert store.get("counter").body == b"200"

    def test_creating_and_pruning_in_one_folder(self, store: FileStore) -> None:
        script = """
for number in range(150):
    key = f'deep/er/{sys.argv[2]}.{number}'
    store.create(key, b'')
    store.delete([key])
"""
        processes = [start(script, store.root, one) for one in range(3)]
        for process in processes:
            process.communicate()
        assert [process.returncode for process in processes] == [0, 0, 0]
        assert keys(store) == []

    def _released(self, processes: list[subprocess.Popen[str]]) -> list[list[str]]:
        """Let all go at once; gives the lines that each then printed."""
        with ExitStack() as stack:
            for process in processes:
                stack.enter_context(process)
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
            for process in processes:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            outputs = [process.communicate()[0].split() for process in processes]
        assert [process.returncode for process in processes] == [0] * len(processes)
        return outputs


class TestHolding:
    def test_a_run_is_held_once(self, store: FileStore) -> None:
        with store.hold("job/runs/1/run.json"):
            with (
                pytest.raises(RunBusy, match=r"job/runs/1/run\.json"),
                store.hold("job/runs/1/run.json"),
            ):
                pass
            with store.hold("job/runs/2/run.json"):
                pass
        with store.hold("job/runs/1/run.json"):
            pass
        assert keys(store) == []

    def test_another_process_holds_it_until_it_is_killed(self, store: FileStore) -> None:
        script = "with store.hold('run'): print('held', flush=True); sys.stdin.readline()"
        with start(script, store.root) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            with pytest.raises(RunBusy), store.hold("run"):
                pass
            process.kill()
            process.communicate()
            with store.hold("run"):
                pass

    @pytest.mark.parametrize(
        "child",
        [
            "if not os.fork(): os.write(1, b'child\\n'); sys.stdin.readline(); os._exit(0)",
            "import subprocess; subprocess.Popen(['cat'], close_fds=False); os.write(1, b'child\\n')",
        ],
    )
    def test_a_child_does_not_keep_it(self, store: FileStore, child: str) -> None:
        """Workers outlive a killed parent for a moment; its run can be taken up at once."""
        script = f"""
hold = store.hold('run'); hold.__enter__()
{child}
os.write(1, b'held\\n')
sys.stdin.readline()
"""
        with start(script, store.root) as process:
            assert process.stdout is not None
            assert {process.stdout.readline() for _ in range(2)} == {"child\n", "held\n"}
            with pytest.raises(RunBusy), store.hold("run"):
                pass
            process.kill()
            process.wait()
            with store.hold("run"):
                pass
            process.communicate()  # ends the child, which waits for its input

    def test_an_error_gives_it_back(self, store: FileStore) -> None:
        def fail() -> None:
            with store.hold("run"):
                raise RuntimeError("stop")

        with pytest.raises(RuntimeError, match="stop"):
            fail()
        with store.hold("run"):
            pass


WRITES: list[Callable[[FileStore], object]] = [
    lambda store: store.create("dir/a", b"body"),
    lambda store: _written(store, b"small", exclusive=False),
    lambda store: _written(store, b"small", exclusive=True),
    lambda store: _written(store, bytes(600_000), exclusive=False),
    lambda store: store.replace("there", b"new", store.get("there").tag),
]


def _written(store: FileStore, body: bytes, *, exclusive: bool) -> None:
    with store.writer("dir/a", exclusive=exclusive) as writer:
        writer.write(body)
        writer.close()


class TestFailingDisks:
    @pytest.mark.parametrize("write", WRITES)
    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
    def test_a_full_disk(
        self, store: FileStore, monkeypatch: pytest.MonkeyPatch, write: object, code: int
    ) -> None:
        store.create("there", b"old")
        assert callable(write)
        with (
            raising(monkeypatch, "write", code),
            pytest.raises(OutputUnwritable, match=r"out/(dir/a|there).*Make room.*again"),
        ):
            write(store)
        assert keys(store) == ["there"]
        assert temporaries(store) == []
        write(store)

    def test_a_limit_on_the_size_of_files(self, store: FileStore) -> None:
        script = """
import resource
from coordinator.errors import OutputUnwritable
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
writer = store.writer('part')
try:
    for _ in range(10):
        writer.write(bytes(100_000))
    writer.close()
except OutputUnwritable as error:
    print(error)
"""
        with start(script, store.root) as process:
            said, _ = process.communicate()
        assert "part can't be written" in said
        assert "Make room" in said
        assert keys(store) == []
        assert temporaries(store) == []

    @pytest.mark.parametrize("write", WRITES)
    @pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
    def test_a_directory_that_may_not_be_written(
        self, store: FileStore, monkeypatch: pytest.MonkeyPatch, write: object, code: int
    ) -> None:
        store.create("there", b"old")
        real = os.open

        def read_only(path: str, flags: int, mode: int = 0o777) -> int:
            if flags & os.O_CREAT:
                raise OSError(code, os.strerror(code))
            return real(path, flags, mode)

        assert callable(write)
        monkeypatch.setattr(os, "open", read_only)
        with pytest.raises(OutputUnwritable, match=r"out/(dir/a|there).*run the same command"):
            write(store)
        with pytest.raises(OutputUnwritable), store.hold("run"):
            pass
        assert store.get("there").body == b"old"

    def test_a_disk_that_is_full_only_on_close(
        self, store: FileStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        writer = store.writer("part")
        writer.write(b"body")
        real = os.close

        def close(fd: int) -> None:
            real(fd)
            raise OSError(errno.EDQUOT, "quota")

        with monkeypatch.context() as patch:
            patch.setattr(os, "close", close)
            with pytest.raises(OutputUnwritable):
                writer.close()
        assert keys(store) == []
        assert temporaries(store) == []

    def test_a_write_that_takes_a_few_bytes_at_a_time(
        self, store: FileStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.write
        monkeypatch.setattr(os, "write", lambda fd, body: real(fd, bytes(body[:3])))
        store.create("a", b"0123456789")
        assert store.get("a").body == b"0123456789"

    def test_a_read_that_gives_a_few_bytes_at_a_time(
        self, store: FileStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.create("a", b"0123456789")
        real = os.pread
        monkeypatch.setattr(os, "pread", lambda fd, size, at: real(fd, min(size, 3), at))
        assert store.get("a").body == b"0123456789"
        assert store.get_range("a", 2, 9) == b"2345678"

    def test_a_disk_that_can_t_be_read(
        self, store: FileStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.create("a", b"body")
        with raising(monkeypatch, "pread", errno.EIO), pytest.raises(StoreUnavailable, match="/a "):
            store.get("a")
        with raising(monkeypatch, "scandir", errno.EACCES), pytest.raises(StoreUnavailable):
            keys(store)
        with raising(monkeypatch, "stat", errno.EIO), pytest.raises(StoreUnavailable):
            store.exists("a")

    def test_no_flock(self, store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_locks(fd: int, operation: int) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        tag = store.create("a", b"")
        monkeypatch.setattr(fcntl, "flock", no_locks)
        with pytest.raises(OutputUnwritable, match="flock"):
            store.replace("a", b"", tag)
        with pytest.raises(OutputUnwritable, match="flock"), store.hold("a"):
            pass


class TestNames:
    @pytest.mark.parametrize(
        "key",
        [
            "",
            "/etc/passwd",
            "../up",
            "a/../../up",
            "a/..",
            "a//b",
            "a/",
            "./a",
            "a/.",
            "a\0b",
            "\udcff",
            ".fanfold/lock",
            ".FanFold/lock",
            ".fanfold",
        ],
    )
    def test_a_key_that_leads_elsewhere_is_refused(self, store: FileStore, key: str) -> None:
        uses: list[Callable[[], object]] = [
            lambda: store.get(key),
            lambda: store.get_range(key, 0, 1),
            lambda: store.open(key),
            lambda: store.exists(key),
            lambda: store.create(key, b""),
            lambda: store.replace(key, b"", "tag"),
            lambda: store.writer(key),
            lambda: store.delete([key]),
            lambda: store.hold(key).__enter__(),
        ]
        for use in uses:
            with pytest.raises(OutputInvalid, match="can't be kept below"):
                use()
        if "/" in key and not key.endswith("/."):
            with pytest.raises(OutputInvalid):
                store.list(f"{key}/")
        assert not Path(store.root).exists()

    @pytest.mark.parametrize("key", ["..a", "a..", "...", ".hidden", "a/.b", "-rf", "a b", "é\n"])
    def test_other_keys_are_not(self, store: FileStore, key: str) -> None:
        store.create(key, b"body")
        assert store.get(key).body == b"body"
        assert keys(store) == [key]

    def test_a_name_too_long_for_the_file_system(self, store: FileStore) -> None:
        key = "n" * 300
        with pytest.raises(OutputInvalid, match="too long"):
            store.create(key, b"")
        with pytest.raises(OutputInvalid, match="too long"):
            _ = store.writer(key).close()
        assert not store.exists(key)
        with pytest.raises(KeyMissing):
            store.get(key)

    @pytest.mark.parametrize("exclusive", [False, True])
    def test_a_name_can_t_be_both_a_file_and_a_folder(
        self, store: FileStore, exclusive: bool
    ) -> None:
        store.create("a/b", b"")
        for key in ("a", "a/b/c", "a/b/c/d"):
            with pytest.raises(OutputInvalid, match="in its way"):
                store.create(key, b"")
            with pytest.raises(OutputInvalid, match="in its way"):
                store.writer(key, exclusive=exclusive).close()
        assert keys(store) == ["a/b"]
        assert temporaries(store) == []

    def test_an_output_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "out").write_bytes(b"")
        store = FileStore(tmp_path / "out")
        with pytest.raises(OutputUnwritable):
            store.create("a", b"")
        assert keys(store) == []
        assert not store.exists("a")

    @pytest.mark.skipif(sys.platform == "darwin", reason="takes UTF-8 names only")
    def test_a_listing_passes_over_what_is_not_ours(self, store: FileStore) -> None:
        store.create("a/b", b"")
        os.mkfifo(Path(store.root, "a", "fifo"))
        Path(store.root, "a", "dangling").symlink_to("nowhere")
        Path(store.root, "a", "empty").mkdir()
        Path(store.root, "a", os.fsdecode(b"\xff")).write_bytes(b"")
        assert keys(store) == ["a/b"]
        assert not store.exists("a/fifo")

    def test_identity_folds_case_and_composes(self, store: FileStore) -> None:
        assert store.identity("A/Straße") == store.identity("a/STRASSE")
        assert store.identity("e\u0301") == store.identity("\u00c9")
        assert store.identity("a") != store.identity("b")

    def test_deleting_removes_emptied_folders_but_not_the_root(self, store: FileStore) -> None:
        store.create("a/b/c/1", b"")
        store.create("a/b/2", b"")
        store.delete(["a/b/c/1"])
        assert not Path(store.root, "a/b/c").exists()
        store.delete(["a/b/2"])
        assert not Path(store.root, "a").exists()
        store.create("3", b"")
        store.delete(["3"])
        assert Path(store.root).is_dir()

    def test_a_relative_root_stays_where_it_was(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        store = FileStore("out")
        store.create("a", b"")
        monkeypatch.chdir("/")
        assert store.exists("a")
        assert store.url("a") == f"{tmp_path}/out/a"

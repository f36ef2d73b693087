"""A job, a store and inputs that beat are the same job, store and inputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import get_type_hints

import pytest

from coordinator.errors import AlreadyExists
from coordinator.formats.lines import Lines
from coordinator.job import Job
from coordinator.machine.pulse import BeatingInputs, BeatingStore, Pulse, beating
from tests.machine.test_hands import open_files

HALF = bytes(8 << 20)  # more than a writer keeps in memory


def scaled(records: list[str], *, rate: int) -> list[int]:
    return [rate * int(record) for record in records]


def total(rate: int, key: str, values: Iterator[int]) -> int:
    return rate * sum(values)


def test_a_map_of_single_records_is_left_as_it_is() -> None:
    """The guard is asked before each record; that is sign enough."""
    job = Job("job", Lines())
    job.map(lambda line: [line])

    assert beating(job, Pulse()).map_function is job.map_function


def test_a_function_that_was_given_some_of_its_arguments_keeps_its_annotations() -> None:
    job = Job("job", Lines())
    job.map_batch(size=2)(partial(scaled, rate=3))
    job.reduce(partial(total, 2))

    changed = beating(job, Pulse())

    assert changed.map_function is not None
    assert changed.reduce_function is not None
    assert get_type_hints(changed.map_function) == get_type_hints(scaled)
    assert get_type_hints(changed.reduce_function) == get_type_hints(total)
    assert changed.map_function(["1", "2"]) == [3, 6]
    assert changed.reduce_function("a", iter([1, 2])) == 6


def test_a_store_that_beats_reads_any_range(tmp_path: Path) -> None:
    store = BeatingStore(tmp_path, Pulse())
    with store.writer("a") as writer:
        writer.write(b"abcdef")
        written = writer.close()

    assert written.size == 6
    for start, stop, expected in ((0, None, b"abcdef"), (2, None, b"cdef"), (2, 4, b"cd")):
        stream = store.open("a", start, stop)
        assert stream.read() == expected
        stream.close()
    stream = store.open("a")
    assert stream.read() == b"abcdef"
    stream.close()


def test_a_store_that_beats_writes_over_what_is_there_unless_it_is_told_not_to(
    tmp_path: Path,
) -> None:
    store = BeatingStore(tmp_path, Pulse())

    def write(body: bytes, **how: bool) -> None:
        with store.writer("a", **how) as writer:
            writer.write(body)
            writer.close()

    write(b"one")
    write(b"two")
    with pytest.raises(AlreadyExists):
        write(b"three", exclusive=True)

    assert store.get("a").body == b"two"


def test_what_is_not_closed_is_not_there(tmp_path: Path) -> None:
    store = BeatingStore(tmp_path, Pulse())

    with store.writer("whole") as writer:
        writer.write(HALF)
        writer.close()
    before = open_files(), [*tmp_path.rglob("*")]

    aborted = store.writer("aborted")
    aborted.write(HALF)
    aborted.abort()
    with suppress(KeyboardInterrupt), store.writer("broken") as writer:
        writer.write(HALF)
        raise KeyboardInterrupt

    assert [store.exists(key) for key in ("aborted", "broken")] == [False, False]
    assert (open_files(), [*tmp_path.rglob("*")]) == before


def test_an_input_that_beats_is_read_to_its_end_and_closed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abcdef")
    inputs = BeatingInputs(Pulse())
    [pinned] = next(iter(inputs.pages([str(path)]))).objects

    stream = inputs.open(pinned, 1, 5)

    assert stream.read(4) == b"bcde"
    stream.close()
    with pytest.raises(ValueError, match="closed"):
        stream.read()

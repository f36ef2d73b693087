"""A published run is proven again from its files alone, at any time, by anyone."""

from collections.abc import Iterator
from itertools import count

from coordinator import Job, Lines
from coordinator.keys import RunKeys
from coordinator.machine.local import LocalRun, Watch, run
from coordinator.store.memory import MemoryInputs, MemoryStore
from coordinator.testing import InlineCrew
from coordinator.upkeep.verify import Finding, verify


def test_any_damage_is_found_and_its_place_is_named() -> None:
    job = Job(name="copy", source=Lines())

    @job.map
    def copy(line: str) -> Iterator[str]:
        yield line

    seconds = count(1_800_000_000)

    def clock() -> float:
        return float(next(seconds))

    store, inputs = MemoryStore(), MemoryInputs({"a.txt": b"one\ntwo\n"})
    request = LocalRun(
        job=job,
        run_id="monday",
        patterns=("*",),
        store=store,
        inputs=inputs,
        clock=clock,
        code_version="test",
    )
    run(request, InlineCrew(job, store, inputs, clock), Watch())
    keys = RunKeys("copy", "monday")

    assert list(verify(store, keys)) == []

    result = "copy/results/monday/copy.jsonl"
    store.replace(result, b'"one"\n"2wo"\n', store.get(result).tag)

    assert list(verify(store, keys)) == [Finding(store.url(result), "the file's checksum differs")]

"""A run that failed is taken up again by the same call: only what is missing is done."""

from collections.abc import Iterator
from itertools import count

import pytest

from coordinator import Job, Lines, RetryableError
from coordinator.errors import ShardsFailed
from coordinator.machine.local import LocalRun, Watch, run
from coordinator.model import Hints
from coordinator.store.memory import MemoryInputs, MemoryStore
from coordinator.testing import InlineCrew


def test_the_same_run_id_does_only_what_is_missing() -> None:
    service_is_down = True
    mapped = []
    job = Job(name="copy", source=Lines())

    @job.map
    def copy(line: str) -> Iterator[str]:
        mapped.append(line)
        if line == "three" and service_is_down:
            raise RetryableError("The service is down.")
        yield line

    seconds = count(1_800_000_000)

    def clock() -> float:
        return float(next(seconds))

    store = MemoryStore()
    inputs = MemoryInputs({"one": b"one\n", "two": b"two\n", "z-three": b"three\n"})
    crew = InlineCrew(job, store, inputs, clock)
    request = LocalRun(
        job=job,
        run_id="monday",
        patterns=("*",),
        store=store,
        inputs=inputs,
        clock=clock,
        code_version="test",
        hints=Hints(shard_bytes=4, billed=False),
    )
    with pytest.raises(ShardsFailed, match="The service is down"):
        run(request, crew, Watch())
    assert {"one", "two"} < set(mapped)

    service_is_down = False
    mapped.clear()
    run(request, crew, Watch())

    assert mapped == ["three"]
    assert store.get("copy/results/monday/copy.jsonl").body == b'"one"\n"two"\n"three"\n'

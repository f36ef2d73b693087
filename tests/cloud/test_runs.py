"""Whole runs on the real state machine: what a run on one machine gives, a run on AWS gives too."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image

from coordinator.loading import job_names
from tests.cloud.conftest import JOBS, MakeCloud

SHARD_BYTES = 700
SHARD_ITEMS = 2


def texts() -> dict[str, bytes]:
    lines = ["to be or not to be", "", "that is the question", "naïve café 漢字", "end\r"]
    chance = random.Random(1)
    bodies = {f"{n}.txt": "\n".join(chance.choices(lines, k=40)).encode() for n in range(3)}
    return {**bodies, "empty.txt": b"", "sub/last line.txt": b"no newline at the end"}


def flights() -> dict[str, bytes]:
    chance = random.Random(2)
    header = "year,carrier,dep_delay\n"
    rows = [
        f"2013,{chance.choice(['UA', 'AA', 'B6'])},{chance.randint(-9, 99)}" for _ in range(200)
    ]
    rows[7] = "2013,UA,"
    return {
        "jan.csv": (header + "\n".join(rows[:140]) + "\n").encode(),
        "feb.csv": (header + "\n".join(rows[140:])).encode(),
    }


def happenings() -> dict[str, bytes]:
    def line(n: int) -> str:
        event = {"at": f"2026-11-{n % 28 + 1:02}T10:00:00+02:00", "user": n + 1, "kind": " Click "}
        return json.dumps(event)

    lines = [line(n) for n in range(150)]
    lines[40] = '{"at": "yesterday", "user": 1, "kind": "click"}'
    return {
        "a.jsonl": ("\n".join(lines[:100]) + "\n").encode(),
        "b.jsonl": "\n".join(lines[100:]).encode(),
    }


def pictures() -> dict[str, bytes]:
    found = {}
    for n in range(5):
        body = io.BytesIO()
        Image.new("RGB", (300 + n, 20), (n * 40, 80, 160)).save(body, "PNG")
        found[f"picture{n}.png"] = body.getvalue()
    return found


INPUTS: dict[str, Callable[[], dict[str, bytes]]] = {
    "wordcount": texts,
    "flight_delays": flights,
    "clean_events": happenings,
    "thumbnails": pictures,
}


def run_locally(name: str, inputs: Mapping[str, bytes], folder: Path) -> dict[str, bytes]:
    """`fanfold run`, as a person types it; its results by name."""
    for key, body in inputs.items():
        path = folder / "inputs" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    command = [
        str(Path(sys.executable).with_name("fanfold")), "run", str(JOBS / f"{name}.py"), "inputs",
        "--output", "out", "--workers", "1", "--run-id", "r1", "--json",
        "--shard-bytes", str(SHARD_BYTES), "--shard-items", str(SHARD_ITEMS),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True)
    results = [Path(path) for path in json.loads(done.stdout)["results"]]
    return {path.name: path.read_bytes() for path in results}


def test_every_job_has_inputs_here() -> None:
    assert set(job_names(JOBS)) == set(INPUTS)


@pytest.mark.parametrize("name", INPUTS)
def test_a_job_gives_on_aws_what_it_gives_on_one_machine(
    name: str, make_cloud: MakeCloud, tmp_path: Path
) -> None:
    inputs = INPUTS[name]()
    expected = run_locally(name, inputs, tmp_path)
    cloud = make_cloud(name)
    cloud.give(inputs)

    limits = {"shard_bytes": SHARD_BYTES, "shard_items": SHARD_ITEMS}
    ended = cloud.run({"run_id": "r1", "limits": limits})

    assert ended.succeeded
    assert len(cloud.entries("r1")) > 2
    results = cloud.results("r1")
    if name == "thumbnails":  # they are named by their whole addresses, which differ
        results, expected = _by_stem(results), _by_stem(expected)
    assert results == expected
    assert sum(map(len, results.values())) > 100
    assert ended.output["status"] == "published"
    assert cloud.latest() == "r1"


def _by_stem(results: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name.rsplit("-", 1)[0]: body for name, body in results.items()}

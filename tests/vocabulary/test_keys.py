"""Names that people choose never lead out of their folder, and every key is spelled in one place."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from coordinator.errors import InputInvalid, Unencodable
from coordinator.keys import (
    RunKeys,
    check_result_name,
    check_run_id,
    shard_and_wave_of_note,
    shard_of_entry,
)
from coordinator.store.file.store import FileStore
from tests.support import examples

KEYS = RunKeys("job", "run-1", (("map", "d1"),))


@pytest.mark.parametrize("run_id", ["a", "2026-11-08_x", "Z" * 64, "0"])
def test_a_run_id_of_letters_digits_and_signs_is_taken(run_id: str) -> None:
    assert check_run_id(run_id) == run_id


@pytest.mark.parametrize(
    "run_id", ["", "-a", "_a", "a b", "a/b", "..", "a\n", "\na", "é", "a" * 65, "a.b", "a\0"]
)
def test_any_other_run_id_is_refused_with_the_rule(run_id: str) -> None:
    with pytest.raises(InputInvalid, match="1 to 64 letters, digits"):
        check_run_id(run_id)


@pytest.mark.parametrize(
    "name",
    ["a", "a/b/c.jpg", "with space", "-dash", "漢字/é.txt", "...", "a..b", "x" * 512, "~", "*"],
)
def test_a_relative_path_names_a_result(name: str) -> None:
    assert check_result_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/etc/passwd",
        "..",
        "../x",
        "a/../b",
        "a/..",
        ".",
        "./a",
        "a//b",
        "a/",
        "a\\b",
        "a\nb",
        "a\0b",
        "a\x7f",
        "x" * 513,
        "\ud800",
        None,
        7,
        b"a",
    ],
)
def test_any_other_name_of_a_result_is_refused(name: object) -> None:
    with pytest.raises(Unencodable, match="result"):
        check_result_name(name)


@given(st.text(max_size=20))
@examples(200)
def test_no_result_ever_leaves_the_results_of_its_run(name: str) -> None:
    try:
        key = KEYS.result(name)
    except Unencodable:
        return
    store = FileStore("/data")

    assert store.url(key).startswith("/data/job/results/run-1/")
    assert ".." not in key.split("/")


@given(
    st.lists(st.integers(0, 10**6), min_size=1, max_size=4).map(
        lambda ids: ".".join(map(str, ids))
    ),
    st.integers(1, 10**6),
)
@examples(50)
def test_shard_and_wave_are_read_back_from_a_key(shard: str, wave: int) -> None:
    assert shard_of_entry(KEYS.entry("map", shard)) == shard
    assert shard_and_wave_of_note(KEYS.note("map", shard, wave)) == (shard, wave)


def test_everything_of_a_run_lies_below_its_root_but_for_results_and_the_pointer() -> None:
    below = [
        KEYS.run,
        KEYS.plan("a", "map"),
        KEYS.snapshot("a"),
        KEYS.listing("a", 1),
        KEYS.sealed("a", "map"),
        KEYS.entry("map", "0"),
        KEYS.note("map", "0", 1),
        KEYS.part("map", "0", "a", "jsonl"),
        KEYS.quarantine("map", "0", "a"),
        KEYS.items(3),
    ]

    assert all(key.startswith("job/runs/run-1/") for key in below)
    assert len(set(below)) == len(below)
    assert KEYS.latest() == "job/latest.json"


def test_uploads_have_a_pointer_for_every_source_key() -> None:
    first, second = KEYS.latest("in/a.csv"), KEYS.latest("in/b.csv")

    assert first != second
    assert first.startswith("job/latest/")
    assert KEYS.latest("in/a.csv") == first

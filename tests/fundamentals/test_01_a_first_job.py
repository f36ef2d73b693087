"""A job is a source and a map. What the map yields for each record is the result."""

from collections.abc import Iterator

from coordinator import Job, Lines
from coordinator.testing import run_job


def test_a_map_is_given_one_record_and_yields_any_number_of_outputs() -> None:
    job = Job(name="shout", source=Lines())

    @job.map
    def shout(line: str) -> Iterator[str]:
        if line:
            yield line.upper()

    outcome = run_job(job, {"greetings.txt": "hello\n\ngoodbye\n"})

    assert outcome.records() == ["HELLO", "GOODBYE"]


def test_records_come_out_in_the_order_of_their_objects_names_and_lines() -> None:
    job = Job(name="copy", source=Lines())

    @job.map
    def copy(line: str) -> Iterator[str]:
        yield line

    outcome = run_job(job, {"b.txt": "three\n", "a.txt": "one\ntwo\n"})

    assert outcome.records() == ["one", "two", "three"]

"""With `Objects`, a record is a whole file, and a result may be one too."""

from collections.abc import Iterator

from coordinator import Blob, Job, Object, Objects
from coordinator.testing import run_job


def test_every_input_object_becomes_result_objects_with_names_of_the_maps_own() -> None:
    job = Job(name="reverse", source=Objects(), sink=Objects())

    @job.map
    def reverse(found: Object) -> Iterator[Blob]:
        yield Blob(f"reversed/{found.name}", found.read()[::-1])

    outcome = run_job(job, {"in/abc.bin": b"abc", "in/empty.bin": b""})

    assert outcome.results == {"reversed/abc.bin": b"cba", "reversed/empty.bin": b""}

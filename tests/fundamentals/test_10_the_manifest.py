"""The manifest is the proof of a run: what was read, what came out, and that it adds up."""

from collections.abc import Iterator

from coordinator import Job, Limits, Lines
from coordinator.testing import run_job


def test_every_record_is_mapped_quarantined_or_blank() -> None:
    job = Job(name="halves", source=Lines(), limits=Limits(tolerated=1))

    @job.map
    def half(line: str) -> Iterator[float]:
        yield int(line) / 2

    outcome = run_job(job, {"a.txt": "1\n2\n", "b.txt": "three\n4\n"})
    manifest = outcome.manifest

    assert (manifest.objects, manifest.bytes) == (2, 12)
    totals = manifest.stages["map"]
    assert (totals.records_in, totals.mapped, totals.quarantined) == (4, 3, 1)
    assert manifest.stages["merge"].records_out == 3
    assert (manifest.result_objects, manifest.results_prefix) == (1, "halves/results/test/")
    assert manifest.results.key == "halves/published/test/results.jsonl"
    assert list(outcome.results) == ["halves.jsonl"]

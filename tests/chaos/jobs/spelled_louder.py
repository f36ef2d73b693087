"""Every line in upper case: what `spelled` is deployed anew as."""

from collections.abc import Iterator

from coordinator import Job, Limits, Lines

job = Job(name="spelled", source=Lines(), limits=Limits(shard_bytes=30))


@job.map
def spelled(line: str) -> Iterator[str]:
    yield line.upper()

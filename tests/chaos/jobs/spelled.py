"""Every line as it is: what is deployed instead of it spells louder."""

from collections.abc import Iterator

from coordinator import Job, Limits, Lines

job = Job(name="spelled", source=Lines(), limits=Limits(shard_bytes=30))


@job.map
def spelled(line: str) -> Iterator[str]:
    yield line

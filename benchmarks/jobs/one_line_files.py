"""Every line as it is: a job that does nothing, so that a shard costs what Fanfold makes it cost."""

from collections.abc import Iterator

from coordinator import Job, Limits, Lines, Text

job = Job(name="one-line-files", source=Lines(), sink=Text(), limits=Limits(shards=20_000))


@job.map
def same(line: str) -> Iterator[str]:
    yield line

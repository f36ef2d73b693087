"""Every object again, in upper case: for names that collide, too."""

from collections.abc import Iterator

from coordinator import Blob, Job, Limits, Object, Objects

job = Job(
    name="copies",
    source=Objects(),
    sink=Objects(),
    limits=Limits(shard_items=2),
)


@job.map
def copy(found: Object) -> Iterator[Blob]:
    yield Blob(found.name.split("+")[0], found.read().upper())

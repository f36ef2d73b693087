"""How often each word occurs, over any number of text files."""

from collections.abc import Iterator

from coordinator import Job, Limits, Lines

# One line in a thousand may be in another encoding; where they lie is in the quarantine.
job = Job(name="wordcount", source=Lines(), limits=Limits(tolerated=0.001))


@job.map
def words(line: str) -> Iterator[tuple[str, int]]:
    for word in line.split():
        yield word, 1


@job.combine
def add(one: int, other: int) -> int:
    return one + other


@job.reduce
def count(word: str, total: int) -> dict[str, str | int]:
    return {"word": word, "count": total}

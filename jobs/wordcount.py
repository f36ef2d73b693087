"""How often each word occurs, over any number of text files."""

from collections.abc import Iterator

from coordinator import Job, Lines

job = Job(name="wordcount", source=Lines())


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

"""`fanfold new`: a commented job, and its test."""

from __future__ import annotations

from pathlib import Path
from string import Template

from coordinator.cli.output import say
from coordinator.errors import InputInvalid, OutputUnwritable
from coordinator.keys import JOB_NAME

_JOB = Template('''\
"""What $name does, in one sentence."""

from collections.abc import Iterator

from pydantic import BaseModel

from coordinator import Job, JsonLines, Limits


class Event(BaseModel):
    """One input record. Lines that do not fit are quarantined with their place and reason."""

    kind: str
    amount: float = 0.0


job = Job(
    name="$name",
    # Objects, Lines, JsonLines or Csv; the model is optional.
    source=JsonLines(Event),
    # How many records may be quarantined before the run fails: a count, or a share such as 0.01.
    limits=Limits(tolerated=0),
)


# Called once for every record; yields any number of outputs. With a reduce below, an output is a
# pair of a key and a value; without one, it is a record of the result.
@job.map
def amounts(event: Event) -> Iterator[tuple[str, list[float]]]:
    yield event.kind, [1, event.amount]


# Optional: folds two values of one key into one, early and often. It must be associative.
@job.combine
def add(one: list[float], other: list[float]) -> list[float]:
    return [one[0] + other[0], one[1] + other[1]]


# Called once for every key: with a combine, on the one value that is left; without one, on an
# iterator over all values.
@job.reduce
def summary(kind: str, total: list[float]) -> dict[str, object]:
    count, amount = total
    return {"kind": kind, "count": count, "amount": amount}
''')

_TEST = Template('''\
"""The job $name, run in memory on small inputs."""

from pathlib import Path

from coordinator.testing import run_job

JOB = Path(__file__).parent$up / "$folder" / "$module.py"


def test_amounts_are_added_up_by_kind() -> None:
    lines = b'{"kind": "sale", "amount": 2}\\n{"kind": "sale", "amount": 3}\\n{"kind": "visit"}\\n'

    outcome = run_job(JOB, {"events.jsonl": lines})

    assert outcome.records() == [
        {"kind": "sale", "count": 2, "amount": 5.0},
        {"kind": "visit", "count": 1, "amount": 0.0},
    ]
''')


def new_command(name: str, folder_name: str) -> None:
    """Write `folder/name.py` and `tests/jobs/test_name.py`; nothing that exists is overwritten.

    Raises:
        InputInvalid: the name can't be a job's, or a file is there already.
    """
    name, folder = name.replace("_", "-"), Path(folder_name)
    if not JOB_NAME.match(name):
        raise InputInvalid(
            f"{name!r} can't name a job: take lower case letters, digits and '-', "
            "beginning with a letter."
        )
    module = name.replace("-", "_")
    tests = folder.parent / "tests" / "jobs"
    job_file, test_file = folder / f"{module}.py", tests / f"test_{module}.py"
    names = {"name": name, "module": module, "folder": folder.name, "up": ".parent" * 2}
    for path in (job_file, test_file):
        if path.exists():
            raise InputInvalid(f"{path} exists already; take another name, or remove it.")
    for path, template in ((job_file, _JOB), (test_file, _TEST)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(template.substitute(names))
        except OSError as error:
            raise OutputUnwritable(f"{path} can't be written: {error.strerror}.") from error
        say(f"wrote {path}")
    say(f"Try it: fanfold run {module} INPUT...   test it: pytest {test_file}")

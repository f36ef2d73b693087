"""Where things lie in the work bucket (or directory): the only module that spells keys.

<job>/runs/<run_id>/run.json  manifest.json
<job>/runs/<run_id>/plans/<draft>/<stage>.snapshot.jsonl.gz  <stage>.plan.jsonl  ...
<job>/runs/<run_id>/<stage>/ledger/<shard>.json
<job>/runs/<run_id>/<stage>/notes/<shard>.<wave>.json
<job>/runs/<run_id>/<stage>/parts/<shard>-<attempt>.<ext>
<job>/runs/<run_id>/<stage>/quarantine/<shard>-<attempt>.jsonl
<job>/runs/<run_id>/waves/<n>/...
<job>/results/<run_id>/...
<job>/latest.json
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from coordinator.errors import InputInvalid, OutputInvalid

JOB_NAME = re.compile(r"^[a-z][a-z0-9-]{0,45}\Z")
RUN_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
RESULT_NAME_BYTES = 512
LISTING = ".listing."


def check_run_id(run_id: str) -> str:
    """Return the run id, or refuse it.

    Raises:
        InputInvalid: it is not 1 to 64 letters, digits, `_` or `-`, the first no sign.
    """
    if not RUN_ID.match(run_id):
        raise InputInvalid(
            f"Run id {run_id!r} can't be used: take 1 to 64 letters, digits, '_' or '-', "
            "beginning with a letter or digit."
        )
    return run_id


def check_result_name(name: object) -> str:
    """Return the name of a result object, or refuse it: it must stay below the result prefix.

    Raises:
        OutputInvalid: empty, over 512 bytes, absolute, with `.` or `..` steps or control
            characters.
    """
    if not isinstance(name, str):
        raise OutputInvalid(f"The name of a result must be a str, not {type(name).__name__}.")
    steps = name.split("/")
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        length = 0
    escapes = "\\" in name or any(step in {"", ".", ".."} for step in steps)
    unprintable = any(ord(sign) < 32 or ord(sign) == 127 for sign in name)
    if escapes or unprintable or not 0 < length <= RESULT_NAME_BYTES:
        raise OutputInvalid(
            f"{name!r} can't name a result: take a relative path of at most "
            f"{RESULT_NAME_BYTES} bytes without '..', empty steps, backslashes or control signs."
        )
    return name


@dataclass(frozen=True, slots=True)
class JobKeys:
    """The keys of one job: what its runs share. A `*` for a name gives a pattern of keys."""

    job: str

    @property
    def root(self) -> str:
        return f"{self.job}/"

    @property
    def runs(self) -> str:
        return f"{self.job}/runs/"

    @property
    def results(self) -> str:
        return f"{self.job}/results/"

    @property
    def inputs(self) -> str:
        """Where a deployed job finds its inputs unless it is told otherwise."""
        return f"{self.job}/inputs/"

    @property
    def pointers(self) -> str:
        """What the keys of all pointers begin with."""
        return f"{self.job}/latest"

    def latest(self, source_key: str | None = None) -> str:
        """The pointer: one per job, or per source key for a job that uploads start."""
        if source_key is None:
            return f"{self.pointers}.json"
        digest = hashlib.sha256(source_key.encode()).hexdigest()[:32]
        return f"{self.pointers}/{digest}.json"

    def run(self, run_id: str) -> RunKeys:
        return RunKeys(self.job, run_id)

    def written(self) -> tuple[str, ...]:
        """What the keys that runs write begin with."""
        return (self.runs, self.results, *self.pointer_keys())

    def pointer_keys(self) -> tuple[str, str]:
        """The pointer of a job, and the folder of those per source key."""
        return (self.latest(), f"{self.pointers}/")

    def after_run(self, run_id: str) -> str:
        """A key that follows all of a run's and comes before those of the next run."""
        return f"{self.runs}{run_id}0"  # "0" sorts just behind "/"

    def run_id_of(self, key: str) -> str:
        """The run id in a key below `runs`."""
        return key.removeprefix(self.runs).split("/", 1)[0]


def job_of(key: str) -> str:
    """The job's name in a key."""
    return key.split("/", 1)[0]


def after_job(job: str) -> str:
    """A key that follows all of a job's and comes before those of the next job."""
    return f"{job}0"


@dataclass(frozen=True, slots=True)
class RunKeys:
    """The keys of one run."""

    job: str
    run_id: str

    @property
    def of_job(self) -> JobKeys:
        return JobKeys(self.job)

    @property
    def root(self) -> str:
        return f"{self.of_job.runs}{self.run_id}/"

    @property
    def run(self) -> str:
        return f"{self.root}run.json"

    @property
    def manifest(self) -> str:
        return f"{self.root}manifest.json"

    @property
    def results(self) -> str:
        return f"{self.of_job.results}{self.run_id}/"

    @property
    def plans(self) -> str:
        return f"{self.root}plans/"

    def plan(self, draft: str, stage: str) -> str:
        return f"{self.plans}{draft}/{stage}.plan.jsonl"

    def snapshot(self, draft: str) -> str:
        """The pinned inputs."""
        return f"{self.plans}{draft}/map.snapshot.jsonl.gz"

    def parts_list(self, draft: str, stage: str) -> str:
        """The parts that a later stage reads."""
        return f"{self.plans}{draft}/{stage}.snapshot.jsonl"

    def listing(self, draft: str, chunk: int) -> str:
        return f"{self.plans}{draft}/map{LISTING}{chunk:05d}.jsonl.gz"

    def sealed(self, draft: str, stage: str) -> str:
        return f"{self.plans}{draft}/{stage}.ledger.jsonl"

    def ledger(self, stage: str) -> str:
        return f"{self.root}{stage}/ledger/"

    def entry(self, stage: str, shard: str) -> str:
        return f"{self.root}{stage}/ledger/{shard}.json"

    def notes(self, stage: str) -> str:
        return f"{self.root}{stage}/notes/"

    def note(self, stage: str, shard: str, wave: int) -> str:
        return f"{self.root}{stage}/notes/{shard}.{wave}.json"

    def parts(self, stage: str) -> str:
        return f"{self.root}{stage}/parts/"

    def part(self, stage: str, shard: str, attempt: str, extension: str) -> str:
        return f"{self.parts(stage)}{shard}-{attempt}.{extension}"

    def quarantines(self, stage: str) -> str:
        return f"{self.root}{stage}/quarantine/"

    def quarantine(self, stage: str, shard: str, attempt: str) -> str:
        return f"{self.quarantines(stage)}{shard}-{attempt}.jsonl"

    def broken(self, stage: str, shard: str, number: int) -> str:
        """An entry that was set aside: the first, or another of the same shard."""
        again = f".{number}" if number else ""
        return f"{self.root}broken/{stage}/{shard}.json{again}"

    @property
    def waves(self) -> str:
        return f"{self.root}waves/"

    def wave(self, wave: int) -> str:
        return f"{self.waves}{wave}/"

    def map_results(self, wave: int) -> str:
        """What the names begin with that a wave's Map writes its results under."""
        return f"{self.wave(wave)}map"

    def items(self, wave: int) -> str:
        return f"{self.wave(wave)}items.json"

    def result(self, name: str) -> str:
        return f"{self.results}{check_result_name(name)}"

    def latest(self, source_key: str | None = None) -> str:
        return self.of_job.latest(source_key)


def shard_of_entry(key: str) -> str:
    """The shard id in the key of an entry."""
    return key.rsplit("/", 1)[1].removesuffix(".json")


def shard_and_wave_of_note(key: str) -> tuple[str, int]:
    """The shard id and the wave in the key of a note."""
    shard, wave = key.rsplit("/", 1)[1].removesuffix(".json").rsplit(".", 1)
    return shard, int(wave)


def is_listing(key: str) -> bool:
    """Whether a key below `plans` is a chunk of a listing."""
    return LISTING in key

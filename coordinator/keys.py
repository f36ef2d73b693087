"""Where things lie in the work bucket (or directory): the only module that spells keys.

<job>/runs/<run_id>/run.json
<job>/runs/<run_id>/plans/<draft>/<stage>.snapshot.jsonl.gz  <stage>.plan.jsonl  ...
<job>/runs/<run_id>/<stage>/<draft>/ledger/<shard>.json
<job>/runs/<run_id>/<stage>/<draft>/notes/<shard>.<wave>.json
<job>/runs/<run_id>/<stage>/<draft>/parts/<shard>-<attempt>.<ext>
<job>/runs/<run_id>/<stage>/<draft>/quarantine/<shard>-<attempt>.jsonl
<job>/runs/<run_id>/waves/<n>/...
<job>/published/<run_id>/manifest.json  results.jsonl  quarantine.jsonl  ...
<job>/results/<run_id>/...
<job>/latest.json
<job>/probe/<run_id>/...
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from coordinator.errors import InputInvalid, Unencodable

JOB_NAME = re.compile(r"^[a-z][a-z0-9-]{0,45}\Z")
STAGED = "--"  # between the name of a job and the stage that it is deployed in
RUNS, RESULTS, PUBLISHED = "runs", "results", "published"  # the folders of a job
RUN_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
RESULT_NAME_BYTES = 512
NAME_LETTERS = 80  # of a name that is refused
LISTING = ".listing."
PARTS, NOTES, QUARANTINE = "parts/", "notes/", "quarantine/"


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
        Unencodable: empty, over 512 bytes, absolute, with `.` or `..` steps or control
            characters, or no `str`.
    """
    if not isinstance(name, str):
        raise Unencodable(f"The name of a result must be a str, not {type(name).__name__}.")
    steps = name.split("/")
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        length = 0
    escapes = "\\" in name or any(step in {"", ".", ".."} for step in steps)
    unprintable = any(ord(sign) < 32 or ord(sign) == 127 for sign in name)
    if escapes or unprintable or not 0 < length <= RESULT_NAME_BYTES:
        raise Unencodable(
            f"{name[:NAME_LETTERS]!r} can't name a result: take a relative path of at most "
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
        return f"{self.job}/{RUNS}/"

    @property
    def results(self) -> str:
        return f"{self.job}/{RESULTS}/"

    @property
    def published(self) -> str:
        return f"{self.job}/{PUBLISHED}/"

    @property
    def inputs(self) -> str:
        """Where a deployed job finds its inputs unless it is told otherwise."""
        return f"{self.job}/inputs/"

    @property
    def probe(self) -> str:
        """Where the made-up inputs of probes lie."""
        return f"{self.job}/probe/"

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

    def any_run(self) -> RunKeys:
        """Patterns of the keys of all runs, drafts and stages."""
        return RunKeys(self.job, "*", (("*", "*"),))

    def written(self) -> tuple[str, ...]:
        """What the keys that runs write begin with."""
        return (self.runs, self.results, self.published, *self.pointer_keys())

    def pointer_keys(self) -> tuple[str, str]:
        """The pointer of a job, and the folder of those per source key."""
        return (self.latest(), f"{self.pointers}/")


def folder_in(prefix: str, key: str) -> str:
    """The name of the folder below a prefix that a key lies in."""
    return key.removeprefix(prefix).split("/", 1)[0]


def after_folder(prefix: str, name: str) -> str:
    """A key that follows all of a folder's and comes before those of the next."""
    return f"{prefix}{name}0"  # "0" sorts just behind "/"


def result_of_all(job: str, extension: str) -> str:
    """The name of a run's only result."""
    return f"{job}.{extension}"


def result_of_root(root: str, extension: str) -> str:
    """The name of the result of one root shard."""
    return f"part-{int(root):05d}.{extension}"


@dataclass(frozen=True, slots=True)
class RunKeys:
    """The keys of one run.

    `drafts` says under which draft the keys of a stage lie: what an attempt writes belongs to the
    draft of the plan that it was made under.
    """

    job: str
    run_id: str
    drafts: tuple[tuple[str, str], ...] = ()

    @property
    def of_job(self) -> JobKeys:
        return JobKeys(self.job)

    @property
    def root(self) -> str:
        return f"{self.of_job.runs}{self.run_id}/"

    @property
    def run(self) -> str:
        return f"{self.root}run.json"

    # -- plans -----------------------------------------------------------------------------------

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

    def inherited(self, draft: str, stage: str) -> str:
        """The entries that a draft takes over from the one before."""
        return f"{self.plans}{draft}/{stage}.inherited.jsonl"

    # -- what attempts write ---------------------------------------------------------------------

    def stage(self, stage: str) -> str:
        """What is kept of a stage, under its draft."""
        return f"{self.root}{stage}/{dict(self.drafts)[stage]}/"

    def stages(self, stage: str) -> str:
        """What is kept of a stage, under all drafts."""
        return f"{self.root}{stage}/"

    def ledger(self, stage: str) -> str:
        return f"{self.stage(stage)}ledger/"

    def entry(self, stage: str, shard: str) -> str:
        return f"{self.ledger(stage)}{shard}.json"

    def notes(self, stage: str) -> str:
        return f"{self.stage(stage)}{NOTES}"

    def note(self, stage: str, shard: str, wave: int) -> str:
        return f"{self.notes(stage)}{shard}.{wave}.json"

    def parts(self, stage: str) -> str:
        return f"{self.stage(stage)}{PARTS}"

    def part(self, stage: str, shard: str, attempt: str, extension: str) -> str:
        return f"{self.parts(stage)}{shard}-{attempt}.{extension}"

    def quarantines(self, stage: str) -> str:
        return f"{self.stage(stage)}{QUARANTINE}"

    def quarantine(self, stage: str, shard: str, attempt: str) -> str:
        return f"{self.quarantines(stage)}{shard}-{attempt}.jsonl"

    # -- waves -----------------------------------------------------------------------------------

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

    # -- what readers see ------------------------------------------------------------------------

    @property
    def results(self) -> str:
        """What all results of the run lie below."""
        return f"{self.of_job.results}{self.run_id}/"

    def results_below(self, draft: str | None) -> str:
        """What the results of one draft lie below: a stage that was drafted anew has its own."""
        return f"{self.results}{draft}/" if draft else self.results

    def result(self, name: str, draft: str | None = None) -> str:
        return f"{self.results_below(draft)}{check_result_name(name)}"

    @property
    def proof(self) -> str:
        """What proves a published result, and lives as long as it."""
        return f"{self.of_job.published}{self.run_id}/"

    @property
    def manifest(self) -> str:
        return f"{self.proof}manifest.json"

    @property
    def results_list(self) -> str:
        return f"{self.proof}results.jsonl"

    @property
    def quarantined(self) -> str:
        """The quarantined records of all shards, in order."""
        return f"{self.proof}quarantine.jsonl"

    @property
    def published_snapshot(self) -> str:
        return f"{self.proof}snapshot.jsonl.gz"

    def published_ledger(self, stage: str) -> str:
        return f"{self.proof}{stage}.ledger.jsonl"

    def latest(self, source_key: str | None = None) -> str:
        return self.of_job.latest(source_key)


SHARD_ID = r"(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*))*"
_ENTRY = re.compile(rf"({SHARD_ID})\.json\Z")
_NOTE = re.compile(rf"({SHARD_ID})\.(0|[1-9]\d*)\.json\Z")


def shard_of_entry(key: str) -> str | None:
    """The shard id in the key of an entry; None where the name is none that we give."""
    found = _ENTRY.match(key.rsplit("/", 1)[1])
    return found.group(1) if found else None


def shard_and_wave_of_note(key: str) -> tuple[str, int] | None:
    """The shard id and the wave in the key of a note; None where the name is none that we give."""
    found = _NOTE.match(key.rsplit("/", 1)[1])
    return (found.group(1), int(found.group(2))) if found else None


def folder_in_stage(key: str) -> str:
    """`parts/`, `notes/` and the like: the folder that a key below a stage and draft lies in."""
    return f"{key.rsplit('/', 2)[1]}/"


def is_listing(key: str) -> bool:
    """Whether a key below `plans` is a chunk of a listing."""
    return LISTING in key

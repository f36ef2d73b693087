"""What a person writes: a job, its source, functions, sink, limits and triggers.

A declaration that makes no sense is refused here, at import, in one sentence that names the
field and the fix.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.dataclasses import dataclass

from coordinator.errors import JobInvalid, OutputInvalid
from coordinator.keys import JOB_NAME
from coordinator.store import Readable

KIB, MIB, GIB = 1024, 1024**2, 1024**3

_STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
_Function = TypeVar("_Function", bound=Callable[..., Any])

Form = Literal["map", "map_batch", "map_shard"]


# ------------------------------------------------------------------------------------------------
# What maps are given, and what they may yield
# ------------------------------------------------------------------------------------------------


@plain_dataclass(frozen=True, slots=True)
class Context:
    """What a map with a second parameter learns of its record.

    `idempotency_key` is the same for the same record in every attempt of the run: a map that
    writes elsewhere hands it on, because a record may be mapped more than once.
    """

    job: str
    run_id: str
    shard: str
    key: str
    offset: int

    @property
    def idempotency_key(self) -> str:
        return f"{self.job}/{self.run_id}/{self.key}@{self.offset}"


@plain_dataclass(frozen=True, slots=True)
class Object:
    """A whole input object, as the map of an `Objects` source gets it; size in bytes."""

    key: str
    size: int
    opener: Callable[[], Readable] = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """The last step of the key."""
        return self.key.rsplit("/", 1)[-1]

    def open(self) -> Readable:
        """Stream the object's bytes from the start."""
        return self.opener()

    def read(self) -> bytes:
        """The object's bytes, all in memory."""
        stream = self.opener()
        try:
            pieces = []
            while piece := stream.read(MIB):
                pieces.append(piece)
        finally:
            stream.close()
        return b"".join(pieces)


@plain_dataclass(frozen=True, slots=True)
class Blob:
    """A result object, as the map of an `Objects` sink yields it.

    `name` is a relative path below the run's results; each name at most once a run.
    """

    name: str
    body: bytes


# ------------------------------------------------------------------------------------------------
# Sources and sinks
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, config=_STRICT)
class Format:
    """Base of the source and sink formats."""

    @property
    def kind(self) -> str:
        return type(self).__name__

    def describe(self) -> dict[str, Any]:
        """The format as JSON, for `run.json`; a record model is the user's own and left out."""
        options = {name: getattr(self, name) for name in self.__dataclass_fields__}
        options.pop("model", None)
        return {"kind": self.kind, **dict(sorted(options.items()))}


@dataclass(frozen=True, config=_STRICT)
class Objects(Format):
    """Source: every input object is one record, an `Object`. Sink: the map yields `Blob`s."""

    glob: str = "*"


@dataclass(frozen=True, config=_STRICT)
class Lines(Format):
    """Source: every line of a text is one record, a `str` without its line end.

    Blank lines are records. A newline is the byte 0x0A; a 0x0D before it belongs to it.
    """

    glob: str = "*"
    encoding: str = "utf-8"


@dataclass(frozen=True, config=_STRICT)
class JsonLines(Format):
    """Source and sink: one JSON value a line, UTF-8. With a model, records are its instances."""

    model: type[BaseModel] | None = None
    glob: str = "*"


@dataclass(frozen=True, config=_STRICT)
class Csv(Format):
    """Source and sink: comma-separated values with a header line, RFC 4180.

    As a source, records are instances of the model, or dicts of strings without one. An empty
    cell is left out where the model's field has a default. All objects share one header;
    `columns` names the columns of files that have none. A text with `multiline=False` promises
    that no cell holds a newline, and can then be split by bytes.

    As a sink, the columns are those of `columns` or of the model.
    """

    model: type[BaseModel] | None = None
    glob: str = "*"
    columns: tuple[str, ...] | None = None
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    encoding: str = "utf-8"
    multiline: bool = True

    def sink_columns(self) -> tuple[str, ...]:
        """The columns written by a sink.

        Raises:
            JobInvalid: neither columns nor a model were given.
        """
        if self.columns is not None:
            return self.columns
        if self.model is not None:
            return tuple(self.model.model_fields)
        raise JobInvalid("A Csv sink needs its columns: write Csv(columns=('a', 'b')).")


@dataclass(frozen=True, config=_STRICT)
class Text(Format):
    """Sink: every output record is a `str`, written as one line of UTF-8."""


Source = Objects | Lines | JsonLines | Csv
Sink = JsonLines | Text | Csv | Objects

# Encodings in which the byte 0x0A is always a newline, so that text can be cut at it.
ASCII_TRANSPARENT = frozenset(
    {"utf-8", "ascii", "latin-1", "cp1252", "iso-8859-15", "shift_jis", "euc_jp", "gbk", "big5"}
)


# ------------------------------------------------------------------------------------------------
# Limits and triggers
# ------------------------------------------------------------------------------------------------


class Limits(BaseModel):
    """How much of everything; each has a sane default.

    Sizes are in bytes. `tolerated` is how many records may be quarantined: a count (int) or a
    share of the records read (float, at most 1).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    shard_bytes: int = Field(default=16 * MIB, ge=1)
    shard_items: int = Field(default=100, ge=1)
    shards: int = Field(default=10_000, ge=1, le=1_000_000)
    reduce_bytes: int = Field(default=64 * MIB, ge=1)
    partitions: int = Field(default=256, ge=1, le=1000)
    record_bytes: int = Field(default=16 * MIB, ge=1)
    buffer_bytes: int = Field(default=64 * MIB, ge=1 * KIB)
    attempts: int = Field(default=5, ge=1, le=100)
    waves: int = Field(default=2, ge=1, le=10)
    timeout_seconds: int = Field(default=300, ge=1, le=900)
    memory_mb: int = Field(default=1769, ge=128, le=10_240)
    concurrency: int = Field(default=100, ge=2, le=10_000)
    tolerated: int | Annotated[float, Field(le=1)] = Field(default=0, ge=0)
    budget_dollars: float | None = Field(default=None, gt=0)

    def tolerates(self, quarantined: int, records: int) -> bool:
        """Whether so many quarantined, of so many records read, are within `tolerated`."""
        allowed = self.tolerated
        return quarantined <= (allowed if isinstance(allowed, int) else allowed * records)


# Limits that shape the plan or the bytes written: pinned when the run begins.
PINNED_LIMITS = (
    "shard_bytes",
    "shard_items",
    "shards",
    "reduce_bytes",
    "partitions",
    "record_bytes",
    "buffer_bytes",
)


@dataclass(frozen=True, config=_STRICT)
class Schedule:
    """Start a run by the clock.

    `cron` is EventBridge Scheduler's: `minute hour day-of-month month day-of-week year`.
    """

    cron: str
    timezone: str = "UTC"


@dataclass(frozen=True, config=_STRICT)
class OnUpload:
    """Start a run for every object created below a prefix; input is that object alone."""

    prefix: str
    suffix: str = ""


Trigger = Schedule | OnUpload


# ------------------------------------------------------------------------------------------------
# The job
# ------------------------------------------------------------------------------------------------


class Job:
    """A job: a source, a map function, maybe combine and reduce, a sink, limits, triggers.

    Args:
        name: lower case letters, digits and `-`, at most 46; names stacks, folders and runs.
        source: where records come from: `Objects`, `Lines`, `JsonLines` or `Csv`.
        sink: how output records are written: `JsonLines`, `Text`, `Csv` or `Objects`.
        merge: "single" for one result object, "parts" for one per root shard. An `Objects` sink
            names its own.
        limits: see `Limits`.
        triggers: schedules and uploads that start runs on AWS.
        requirements: packages that the job imports, bundled for its workers.
        owner, cost_centre: tags of everything deployed for the job.

    Raises:
        JobInvalid: a field makes no sense.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        *,
        sink: Sink | None = None,
        merge: Literal["single", "parts"] = "single",
        limits: Limits | None = None,
        triggers: Iterable[Trigger] = (),
        requirements: Iterable[str] = (),
        owner: str = "",
        cost_centre: str = "",
    ) -> None:
        self.name = name
        self.source = source
        self.sink: Sink = JsonLines() if sink is None else sink
        self.merge = merge
        self.limits = limits or Limits()
        self.triggers = tuple(triggers)
        self.requirements = (
            (requirements,) if isinstance(requirements, str) else tuple(requirements)
        )
        self.owner = owner
        self.cost_centre = cost_centre
        self.form: Form = "map"
        self.batch_size = 1
        self.splittable = True
        self.wants_context = False  # whether the map takes a `Context` as its second parameter
        self.map_function: Callable[..., Any] | None = None
        self.combine_function: Callable[[Any, Any], Any] | None = None
        self.reduce_function: Callable[[Any, Any], Any] | None = None
        self._check_fields()

    def __repr__(self) -> str:
        return f"Job({self.name!r})"

    # -- decorators ------------------------------------------------------------------------------

    def map(self, function: _Function) -> _Function:
        """Declare the map of one record: it yields outputs, or (key, value) before a reduce."""
        return self._set_map(function, "map")

    def map_batch(self, *, size: int) -> Callable[[_Function], _Function]:
        """Declare a map of lists of `size` records, for vectorised work."""
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise JobInvalid(
                f"Job {self.name}: map_batch(size={size!r}) must be a whole number, 1 or more."
            )

        def declare(function: _Function) -> _Function:
            self.batch_size = size
            return self._set_map(function, "map_batch")

        return declare

    def map_shard(self, function: _Function | None = None, *, splittable: bool = False) -> Any:
        """Declare a map of an iterator over a shard's records, for the tightest loops.

        It may keep state across records, so a shard is split only if it says `splittable`.
        """

        def declare(function: _Function) -> _Function:
            self.splittable = splittable
            return self._set_map(function, "map_shard")

        return declare if function is None else declare(function)

    def combine(self, function: _Function) -> _Function:
        """Declare an associative function that folds two values of one key into one."""
        self._check_function(function, "combine", {2})
        self.combine_function = function
        return function

    def reduce(self, function: _Function) -> _Function:
        """Declare the function of a key and its values: returns, or yields, output records."""
        self._check_function(function, "reduce", {2})
        self.reduce_function = function
        return function

    # -- what the framework asks -----------------------------------------------------------------

    @property
    def keyed(self) -> bool:
        """Whether there is a reduce stage."""
        return self.reduce_function is not None

    @property
    def function(self) -> Callable[..., Any]:
        """The map function.

        Raises:
            JobInvalid: the job has none.
        """
        if self.map_function is None:
            raise JobInvalid(
                f"Job {self.name} has no map: decorate a function with @job.map, "
                "@job.map_batch(size=...) or @job.map_shard."
            )
        return self.map_function

    def check(self) -> Job:
        """Refuse a job whose parts don't fit together; called once its module is imported.

        Raises:
            JobInvalid: with the part and the fix.
        """
        _ = self.function
        if self.combine_function and not self.reduce_function:
            raise JobInvalid(
                f"Job {self.name} has a combine but no reduce: add one with @job.reduce."
            )
        if self.reduce_function and isinstance(self.sink, Objects):
            raise JobInvalid(
                f"Job {self.name}: an Objects sink takes no reduce; its map names the results."
            )
        if self.form != "map" and self.wants_context:
            raise JobInvalid(
                f"Job {self.name}: only @job.map can take a context; {self.form} takes one parameter."
            )
        if isinstance(self.sink, Csv):
            self.sink.sink_columns()
        return self

    def with_limits(self, limits: Limits) -> Job:
        """The same job within other limits."""
        changed = copy(self)
        changed.limits = limits
        return changed

    def with_map(self, function: Callable[..., Any]) -> Job:
        """The same job with another map of one record."""
        changed = copy(self)
        changed.form = "map"
        changed.wants_context = False
        changed.map_function = function
        return changed

    def declaration(self) -> dict[str, Any]:
        """What a run is pinned to, as JSON: everything that shapes its plan or its bytes."""
        limits = self.limits.model_dump()
        return {
            "job": self.name,
            "source": self.source.describe(),
            "sink": self.sink.describe(),
            "form": self.form,
            "batch_size": self.batch_size,
            "splittable": self.splittable,
            "keyed": self.keyed,
            "combined": self.combine_function is not None,
            "merge": self.merge,
            "limits": {name: limits[name] for name in PINNED_LIMITS},
        }

    # -- checks ----------------------------------------------------------------------------------

    def _set_map(self, function: _Function, form: Form) -> _Function:
        if self.map_function is not None:
            raise JobInvalid(
                f"Job {self.name} has two maps: keep one of map, map_batch and map_shard."
            )
        self._check_function(function, form, {1, 2} if form == "map" else {1})
        self.form = form
        self.wants_context = _positional_parameters(function) == 2
        self.map_function = function
        return function

    def _check_function(self, function: object, role: str, arity: set[int]) -> None:
        if not callable(function):
            raise JobInvalid(
                f"Job {self.name}: @job.{role} decorates a function, not {function!r}."
            )
        name = getattr(function, "__name__", repr(function))
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise JobInvalid(f"Job {self.name}: {role} `{name}` is async; write a plain function.")
        if _positional_parameters(function) not in arity:
            wanted = " or ".join(str(count) for count in sorted(arity))
            raise JobInvalid(f"Job {self.name}: {role} `{name}` must take {wanted} parameter(s).")

    def _check_fields(self) -> None:
        if not isinstance(self.name, str) or not JOB_NAME.match(self.name):
            raise JobInvalid(
                f"Job name {self.name!r} can't be used: take lower case letters, digits and '-', "
                "at most 46, beginning with a letter."
            )
        where = f"Job {self.name}: "
        if not isinstance(self.source, (Objects, Lines, JsonLines, Csv)):
            raise JobInvalid(
                f"{where}source must be Objects(), Lines(), JsonLines() or Csv(), not {self.source!r}."
            )
        if not isinstance(self.sink, (JsonLines, Text, Csv, Objects)):
            raise JobInvalid(
                f"{where}sink must be JsonLines(), Text(), Csv() or Objects(), not {self.sink!r}."
            )
        if self.merge not in ("single", "parts"):
            raise JobInvalid(f"{where}merge must be 'single' or 'parts', not {self.merge!r}.")
        if not isinstance(self.limits, Limits):
            raise JobInvalid(f"{where}limits must be Limits(...), not {self.limits!r}.")
        for trigger in self.triggers:
            if not isinstance(trigger, (Schedule, OnUpload)):
                raise JobInvalid(
                    f"{where}triggers must be Schedule(...) or OnUpload(...), not {trigger!r}."
                )
        for role, form in (("source", self.source), ("sink", self.sink)):
            if isinstance(form, Csv):
                _check_csv(form, f"{where}{role} Csv")
        encoding = getattr(self.source, "encoding", "utf-8")
        if encoding not in ASCII_TRANSPARENT:
            known = ", ".join(sorted(ASCII_TRANSPARENT))
            raise JobInvalid(
                f"{where}source encoding {encoding!r} can't be cut at newlines; take one of {known}."
            )


def _check_csv(form: Csv, where: str) -> None:
    columns = form.columns
    if columns is not None and not 0 < len(columns) == len(set(columns)):
        raise JobInvalid(f"{where}: columns must be one or more distinct names, not {columns!r}.")
    if form.delimiter in '"\r\n':
        raise JobInvalid(f"{where}: delimiter can't be {form.delimiter!r}; take ',', ';' or '\\t'.")


def _positional_parameters(function: Callable[..., Any]) -> int:
    """How many positional parameters without a default a function takes.

    Raises:
        JobInvalid: a builtin such as `max` does not tell.
    """
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError as error:
        raise JobInvalid(f"{function!r} does not tell its parameters: wrap it in a def.") from error
    return sum(1 for p in parameters if p.kind in kinds and p.default is p.empty)


def outputs_of(value: object, role: str) -> Iterator[Any]:
    """What a map that is no generator returned, as an iterator of outputs; None is nothing.

    Raises:
        OutputInvalid: it is no collection of outputs.
    """
    if value is None:
        return iter(())
    if isinstance(value, (str, bytes, Mapping, BaseModel)) or not isinstance(value, Iterable):
        raise OutputInvalid(
            f"{role} must yield its outputs, or return an iterable of them, not {type(value).__name__}."
        )
    return iter(value)

"""What a person writes: a job, its source, functions, sink, limits and triggers.

A declaration that makes no sense is refused here, at import, in one sentence that names the
field and the fix.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable
from copy import copy
from typing import Any, Literal, TypeVar

from coordinator.declared import annotations_of, can_be_declared, types_in
from coordinator.errors import JobInvalid
from coordinator.formats.base import Sink, Source
from coordinator.formats.jsonlines import JsonLines
from coordinator.keys import JOB_NAME, STAGED
from coordinator.limits import PINNED_LIMITS, Limits
from coordinator.triggers import OnUpload, Schedule, Trigger

_Function = TypeVar("_Function", bound=Callable[..., Any])

Form = Literal["map", "map_batch", "map_shard"]


class Job:
    """A job: a source, a map function, maybe combine and reduce, a sink, limits, triggers.

    Args:
        name: lower case letters, digits and `-`, at most 46; names stacks, folders and runs.
        source: the format that records are read from.
        sink: the format that output records are written in; `JsonLines` by default.
        merge: "single" for one result object, "parts" for one per root shard. An `Objects` sink
            names its own.
        limits: see `Limits`.
        triggers: schedules and uploads that start runs on AWS.
        requirements: packages that the job imports, bundled for its workers.
        data: files that the job reads besides its inputs, by paths relative to its module. They
            are part of its code: bundled for its workers, and of its version.
        types: enums, dataclasses and models that keys and values are made of, besides those that
            map is annotated to return, and combine and reduce to take.
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
        data: Iterable[str] = (),
        types: Iterable[type] = (),
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
        self.data = (data,) if isinstance(data, str) else tuple(data)
        self.types = (types,) if isinstance(types, type) else tuple(types)
        self.owner = owner
        self.cost_centre = cost_centre
        self.form: Form = "map"
        self.batch_size = 1
        self.splittable = True
        self.wants_context = False  # whether the map takes a `Context` as its second parameter
        self.map_function: Callable[..., Any] | None = None
        self.combine_function: Callable[[Any, Any], Any] | None = None
        self.reduce_function: Callable[[Any, Any], Any] | None = None
        self.setup_function: Callable[[], Any] | None = None
        self._made: list[Any] = []  # what setup gave in this process: copies of the job share it
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

    def setup(self, function: _Function) -> _Function:
        """Declare what every worker process makes once, before its first map: a client, a model.
        A map with a context finds it there as `context.resource`."""
        self._check_function(function, "setup", {0})
        self.setup_function = function
        return function

    # -- what the framework asks -----------------------------------------------------------------

    @property
    def keyed(self) -> bool:
        """Whether there is a reduce stage."""
        return self.reduce_function is not None

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

    def resource(self) -> Any:
        """What setup makes, once in this process; None where there is none to make."""
        if self.setup_function is not None and not self._made:
            self._made.append(self.setup_function())
        return self._made[0] if self._made else None

    def check(self) -> Job:
        """Refuse a job whose parts don't fit together; called once its module is imported.

        Raises:
            JobInvalid: with the part and the fix.
        """
        self.function()
        if self.combine_function and not self.reduce_function:
            raise JobInvalid(
                f"Job {self.name} has a combine but no reduce: add one with @job.reduce."
            )
        if self.reduce_function and self.sink.names_results:
            raise JobInvalid(
                f"Job {self.name}: an {self.sink.kind} sink takes no reduce; its map names the results."
            )
        if self.form != "map" and self.wants_context:
            raise JobInvalid(
                f"Job {self.name}: only @job.map can take a context; {self.form} takes one parameter."
            )
        if self.keyed:
            self.declared_types()
        self.sink.preamble()
        return self

    def declared_types(self) -> dict[str, type]:
        """The enums, dataclasses and models that may cross from map to reduce, by name.

        Raises:
            JobInvalid: two of them have one name.
        """
        annotations: list[Any] = [*self.types, annotations_of(self.function()).get("return")]
        if self.combine_function is not None:
            annotations += annotations_of(self.combine_function).values()
        if self.reduce_function is not None:
            taken = annotations_of(self.reduce_function)
            annotations += (taken[name] for name in taken if name != "return")
        found: dict[str, type] = {}
        for kind in types_in(annotations):
            other = found.setdefault(kind.__qualname__, kind)
            if other is not kind:
                raise JobInvalid(
                    f"Job {self.name}: two types of its keys and values are called "
                    f"{kind.__qualname__} (in {other.__module__} and {kind.__module__}): rename one."
                )
        return found

    def in_stage(self, stage: str | None) -> Job:
        """The same job as it is deployed in a stage: under a name of its own, `<job>--<stage>`.

        Raises:
            JobInvalid: there can be no such name.
        """
        if stage is None:
            return self
        changed = copy(self)
        changed.name = f"{self.name}{STAGED}{stage}"
        if STAGED in f"-{stage}-" or not JOB_NAME.match(changed.name):
            raise JobInvalid(
                f"Job {self.name} can't be deployed in stage {stage!r}: take lower case letters, "
                "digits and single '-', at most 44 with the job's name."
            )
        return changed

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
        declared = {
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
        # As it will be read back: a tuple and a list are one in JSON.
        pinned: dict[str, Any] = json.loads(json.dumps(declared))
        return pinned

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
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
                raise JobInvalid(
                    f"Job {self.name}: {role} `{name}` is called without `{parameter.name}`, which "
                    "it takes by name only: give it a default."
                )

    def _check_fields(self) -> None:
        if not isinstance(self.name, str) or not JOB_NAME.match(self.name):
            raise JobInvalid(
                f"Job name {self.name!r} can't be used: take lower case letters, digits and '-', "
                "at most 46, beginning with a letter."
            )
        if STAGED in self.name:
            raise JobInvalid(
                f"Job name {self.name!r} can't be used: '{STAGED}' is what comes between the name of "
                "a job and its stage."
            )
        where = f"Job {self.name}: "
        if not isinstance(self.source, Source):
            raise JobInvalid(
                f"{where}source must be a format that is read, such as Objects(), Lines(), "
                f"JsonLines() or Csv(), not {self.source!r}."
            )
        if not isinstance(self.sink, Sink):
            raise JobInvalid(
                f"{where}sink must be a format that is written, such as JsonLines(), Text(), Csv() "
                f"or Objects(), not {self.sink!r}."
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
        for field in ("requirements", "data"):
            for item in getattr(self, field):
                if not isinstance(item, str):
                    raise JobInvalid(f"{where}{field} must be texts, not {item!r}.")
        for kind in self.types:
            if not can_be_declared(kind):
                raise JobInvalid(
                    f"{where}types must be enums, dataclasses or models that keys and values are "
                    f"made of, not {kind!r}."
                )
        self.source.check(f"{where}source")
        self.sink.check(f"{where}sink")


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

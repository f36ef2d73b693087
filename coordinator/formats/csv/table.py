"""The table that the rows of a Csv source are of: its columns, and how a row becomes a record."""

from __future__ import annotations

from typing import Any, cast

from pydantic import BaseModel

from coordinator.errors import SourceContradicted
from coordinator.formats.base import Batch
from coordinator.formats.csv.rows import misfit
from coordinator.formats.models import Refusals, read_names


class Table:
    """The columns of a Csv source, and how a row becomes a record.

    Args:
        columns: those that the source declares; None where each object has a header.
        header: the plan's; None where no object had one.
    """

    def __init__(
        self,
        columns: tuple[str, ...] | None,
        model: type[BaseModel] | None,
        header: tuple[str, ...] | None,
    ) -> None:
        self.has_header = columns is None
        self.columns = columns or header
        self.validate = model.__pydantic_validator__.validate_python if model is not None else None
        self.optional = (
            ()
            if model is None
            else tuple(name for name, required in read_names(model) if not required)
        )
        self.refusals = Refusals(model)

    def check_header(self, row: list[str] | str, key: str) -> tuple[str, ...]:
        """Hold an object's header against the plan's; the first one read sets it. Gives it.

        Raises:
            SourceContradicted: they differ, or it can't be read (a str says why).
        """
        if isinstance(row, str):
            raise SourceContradicted(
                f"The header of {key} can't be read ({row}). Correct it, or name the columns: "
                "Csv(columns=(...))."
            )
        found = tuple(row)
        if self.columns is None:
            self.columns = found
        elif found != self.columns:
            raise SourceContradicted(
                f"The header of {key} has the columns {', '.join(found)!r}, others have "
                f"{', '.join(self.columns)!r}. All objects of a Csv source share one header."
            )
        return found

    def take(self, batch: Batch, unit: int, row: list[str] | str) -> None:
        """Put a row where it belongs in its batch: record, refused or blank."""
        if isinstance(row, str):
            batch.refused.append((unit, row))
            return
        if not row:
            batch.blank.append(unit)
            return
        columns = cast("tuple[str, ...]", self.columns)
        if len(row) != len(columns):
            batch.refused.append((unit, misfit(len(row), len(columns))))
            return
        record: Any = dict(zip(columns, row, strict=True))
        if self.validate is not None:
            for name in self.optional:
                if record.get(name) == "":
                    del record[name]
            try:
                record = self.validate(record)
            except Exception as error:  # noqa: BLE001  a validator may raise anything
                batch.refused.append((unit, self.refusals.reason(error)))
                return
        batch.records.append(record)
        cast("list[int]", batch.index).append(unit)

"""EventBridge Scheduler's cron expressions: what AWS would refuse, and the longest time between runs.

Source: "Schedule types in EventBridge Scheduler", EventBridge Scheduler user guide. Six fields:
minutes, hours, day of month, month, day of week (1 is Sunday), year.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

from coordinator.errors import JobInvalid

MONTH_NAMES = (
    *("JAN", "FEB", "MAR", "APR", "MAY", "JUN"),
    *("JUL", "AUG", "SEP", "OCT", "NOV", "DEC"),
)
MONTHS = {name: number for number, name in enumerate(MONTH_NAMES, start=1)}
WEEKDAY_NAMES = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
WEEKDAYS = {name: number for number, name in enumerate(WEEKDAY_NAMES, start=1)}
YEARS = (1970, 2199)
# Gaps are measured over these years, whatever today is: a synthesis repeats itself.
SAMPLE_YEARS = (2024, 2032)

_LAST_WEEKDAY = re.compile(r"^(\w+)L$")
_NTH_WEEKDAY = re.compile(r"^(\w+)#([1-5])$")
_NEAREST_WEEKDAY = re.compile(r"^(\d{1,2})W$")


@dataclass(frozen=True, slots=True)
class Field:
    """One of the six fields: its name, its bounds and the words that stand for numbers."""

    name: str
    low: int
    high: int
    words: dict[str, int]


FIELDS = (
    Field("minutes", 0, 59, {}),
    Field("hours", 0, 23, {}),
    Field("day of month", 1, 31, {}),
    Field("month", 1, 12, MONTHS),
    Field("day of week", 1, 7, WEEKDAYS),
    Field("year", *YEARS, {}),
)


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression that AWS would accept."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    day_of_month: str
    months: tuple[int, ...]
    day_of_week: str
    years: tuple[int, ...]

    def days(self) -> Iterator[date]:
        """The days on which it fires, over the sampled years."""
        low, high = SAMPLE_YEARS
        years = [year for year in self.years if low <= year < high] or list(self.years[:2])
        for year in years:
            for month in self.months:
                yield from (date(year, month, day) for day in sorted(self._days_of(year, month)))

    def longest_gap(self) -> timedelta | None:
        """The longest time between two firings, but for changes of the clock; None: fires once."""
        times = [
            timedelta(hours=hour, minutes=minute) for hour in self.hours for minute in self.minutes
        ]
        gaps = [after - before for before, after in pairwise(times)]
        overnight = times[0] - times[-1]
        gaps += [after - before + overnight for before, after in pairwise(self.days())]
        return max(gaps, default=None)

    def _days_of(self, year: int, month: int) -> set[int]:
        length = calendar.monthrange(year, month)[1]
        if self.day_of_week == "?":
            return _month_days(self.day_of_month, year, month, length)
        return _week_days(self.day_of_week, year, month, length)


def parse_cron(expression: str) -> Cron:
    """Read a cron expression.

    Raises:
        JobInvalid: AWS would refuse it, or it never fires; says which field and why.
    """
    if re.match(r"^\s*(cron|rate|at)\s*\(", expression):
        raise _refused(expression, "write the six fields alone, without 'cron(...)'")
    fields = expression.upper().split()
    if len(fields) != len(FIELDS):
        raise _refused(
            expression,
            f"it has {len(fields)} field(s), not six: minutes hours day month weekday year",
        )
    day, weekday = fields[2], fields[4]
    if (day == "?") == (weekday == "?"):
        raise _refused(expression, "exactly one of day of month and day of week must be '?'")
    try:
        cron = Cron(
            minutes=_numbers(fields[0], FIELDS[0]),
            hours=_numbers(fields[1], FIELDS[1]),
            day_of_month=day if day == "?" else _check_month_days(day),
            months=_numbers(fields[3], FIELDS[3]),
            day_of_week=weekday if weekday == "?" else _check_week_days(weekday),
            years=_numbers(fields[5], FIELDS[5]),
        )
    except ValueError as error:
        raise _refused(expression, str(error)) from error
    if next(cron.days(), None) is None:
        raise _refused(expression, "there is no such day, so it would never fire")
    return cron


def _refused(expression: str, why: str) -> JobInvalid:
    return JobInvalid(
        f"Schedule(cron={expression!r}) would be refused by EventBridge Scheduler: {why}."
    )


def _numbers(text: str, field: Field) -> tuple[int, ...]:
    """What a field of numbers, ranges, lists and steps names.

    Raises:
        ValueError: it names nothing that the field can hold.
    """
    return tuple(sorted({number for item in text.split(",") for number in _range(item, field)}))


def _range(item: str, field: Field) -> range:
    body, slash, step_text = item.partition("/")
    step = _digits(step_text, 0)
    if slash and step < 1:
        raise ValueError(f"the step of {item!r} in {field.name} is no number above 0")
    if body == "*":
        return range(field.low, field.high + 1, step or 1)
    first, dash, last = body.partition("-")
    low = _number(first, field)
    high = _number(last, field) if dash else (field.high if slash else low)
    if high < low:
        raise ValueError(f"{item!r} in {field.name} runs backwards")
    return range(low, high + 1, step or 1)


def _number(text: str, field: Field) -> int:
    number = field.words.get(text, _digits(text, -1))
    if not field.low <= number <= field.high:
        words = f" or {next(iter(field.words))} to {list(field.words)[-1]}" if field.words else ""
        raise ValueError(f"{text!r} in {field.name} is not {field.low} to {field.high}{words}")
    return number


def _digits(text: str, otherwise: int) -> int:
    return int(text) if text.isascii() and text.isdecimal() else otherwise


def _check_month_days(text: str) -> str:
    found = _NEAREST_WEEKDAY.match(text)
    if found:
        _number(found[1], FIELDS[2])
    elif text not in {"L", "LW"}:
        _numbers(text, FIELDS[2])
    return text


def _check_week_days(text: str) -> str:
    found = _LAST_WEEKDAY.match(text) or _NTH_WEEKDAY.match(text)
    if found:
        _number(found[1], FIELDS[4])
    elif text != "L":
        _numbers(text, FIELDS[4])
    return text


def _month_days(text: str, year: int, month: int, length: int) -> set[int]:
    if text == "L":
        return {length}
    if text == "LW":
        return {_nearest_weekday(year, month, length, length)}
    if found := _NEAREST_WEEKDAY.match(text):
        day = int(found[1])
        return {_nearest_weekday(year, month, day, length)} if day <= length else set()
    return {day for day in _numbers(text, FIELDS[2]) if day <= length}


def _week_days(text: str, year: int, month: int, length: int) -> set[int]:
    def all_of(weekday: int) -> list[int]:
        return [
            day
            for day in range(1, length + 1)
            if date(year, month, day).isoweekday() % 7 + 1 == weekday
        ]

    if found := _NTH_WEEKDAY.match(text):
        return set(all_of(_number(found[1], FIELDS[4]))[int(found[2]) - 1 : int(found[2])])
    if found := _LAST_WEEKDAY.match(text):
        return {all_of(_number(found[1], FIELDS[4]))[-1]}
    wanted = (WEEKDAYS["SAT"],) if text == "L" else _numbers(text, FIELDS[4])
    return {day for weekday in wanted for day in all_of(weekday)}


def _nearest_weekday(year: int, month: int, day: int, length: int) -> int:
    """The weekday nearest to a day, within its month."""
    weekday = date(year, month, day).isoweekday()
    if weekday == 6:
        return day - 1 if day > 1 else day + 2
    if weekday == 7:
        return day + 1 if day < length else day - 2
    return day

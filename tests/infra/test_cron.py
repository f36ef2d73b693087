"""Cron expressions: what EventBridge Scheduler takes, and how long it may be silent."""

from __future__ import annotations

from datetime import timedelta

import pytest

from coordinator.errors import JobInvalid
from infra.cron import parse_cron

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("expression", "gap"),
    [
        ("0 3 * * ? *", DAY),
        ("*/5 * * * ? *", timedelta(minutes=5)),
        ("0/20 8-17 * * ? *", timedelta(hours=14, minutes=20)),
        ("0 8,20 * * ? *", timedelta(hours=12)),
        ("0 3 ? * MON-FRI *", 3 * DAY),
        ("0 3 ? * 2-6 *", 3 * DAY),
        ("0 3 ? * SUN *", 7 * DAY),
        ("0 3 ? * sun *", 7 * DAY),
        ("0 3 ? * L *", 7 * DAY),
        ("0 3 1 * ? *", 31 * DAY),
        ("0 3 L * ? *", 31 * DAY),
        ("0 3 1 JAN ? *", 366 * DAY),
        ("0 3 29 2 ? *", 1461 * DAY),
        ("0 3 ? * 6#3 *", 35 * DAY),
        ("0 3 ? * 6L *", 35 * DAY),
        ("0 3 15W * ? *", 32 * DAY),
        ("0 3 LW * ? *", 33 * DAY),
        ("30 3,4 1 1 ? 2027", timedelta(hours=1)),
    ],
)
def test_the_longest_gap(expression: str, gap: timedelta) -> None:
    assert parse_cron(expression).longest_gap() == gap


def test_a_schedule_that_fires_once_has_no_gap() -> None:
    assert parse_cron("0 3 1 1 ? 2031").longest_gap() is None


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("0 3 * * *", "5 field(s), not six"),
        ("", "0 field(s)"),
        ("cron(0 3 * * ? *)", "without 'cron(...)'"),
        ("rate(5 minutes)", "without 'cron(...)'"),
        ("0 3 * * * *", "exactly one of day of month and day of week must be '?'"),
        ("0 3 ? * ? *", "exactly one"),
        ("60 3 * * ? *", "'60' in minutes is not 0 to 59"),
        ("0 24 * * ? *", "'24' in hours is not 0 to 23"),
        ("0 3 32 * ? *", "'32' in day of month"),
        ("0 3 0 * ? *", "'0' in day of month"),
        ("0 3 * 13 ? *", "not 1 to 12 or JAN to DEC"),
        ("0 3 ? * 8 *", "not 1 to 7 or SUN to SAT"),
        ("0 3 ? * MON#6 *", "in day of week"),
        ("0 3 * * ? 1969", "'1969' in year"),
        ("0 3-1 * * ? *", "runs backwards"),
        ("*/0 3 * * ? *", "no number above 0"),
        ("a 3 * * ? *", "'A' in minutes"),
        ("0 3 30 FEB ? *", "never fire"),
        ("² 3 * * ? *", "in minutes"),
    ],
)
def test_what_aws_would_refuse_is_refused(expression: str, why: str) -> None:
    with pytest.raises(JobInvalid) as caught:
        parse_cron(expression)
    assert why in str(caught.value)
    assert repr(expression) in str(caught.value)

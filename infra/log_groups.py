"""Where logs go, and for how long."""

from __future__ import annotations

from aws_cdk import RemovalPolicy, aws_kms as kms, aws_logs as logs
from constructs import Construct

from infra.options import LOG_DAYS

_KEPT = logs.RetentionDays
RETENTION = dict(
    zip(
        LOG_DAYS,
        (
            _KEPT.ONE_DAY,
            _KEPT.THREE_DAYS,
            _KEPT.FIVE_DAYS,
            _KEPT.ONE_WEEK,
            _KEPT.TWO_WEEKS,
            _KEPT.ONE_MONTH,
            _KEPT.TWO_MONTHS,
            _KEPT.THREE_MONTHS,
            _KEPT.FOUR_MONTHS,
            _KEPT.FIVE_MONTHS,
            _KEPT.SIX_MONTHS,
            _KEPT.ONE_YEAR,
            _KEPT.THIRTEEN_MONTHS,
            _KEPT.EIGHTEEN_MONTHS,
            _KEPT.TWO_YEARS,
            _KEPT.THREE_YEARS,
            _KEPT.FIVE_YEARS,
            _KEPT.TEN_YEARS,
        ),
        strict=True,
    )
)


class LogGroups(Construct):
    """Makes the log groups of a job, all kept equally long."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        days: int,
        key: kms.IKey | None,
    ) -> None:
        super().__init__(scope, construct_id)
        self._days = days
        self._key = key

    def group(self, construct_id: str, name: str) -> logs.LogGroup:
        """A log group by that name."""
        return logs.LogGroup(
            self,
            construct_id,
            log_group_name=name,
            retention=RETENTION[self._days],
            encryption_key=self._key,
            removal_policy=RemovalPolicy.DESTROY,
        )

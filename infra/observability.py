"""What a person sees of a job: its metrics, and a dashboard of three rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aws_cdk import Duration, aws_cloudwatch as cw, aws_sqs as sqs
from constructs import Construct

from coordinator.job import Job
from coordinator.rules.transport import METRICS
from infra.functions import Functions
from infra.names import Names
from infra.queues import LostTriggers, Queues
from infra.state_machine import StateMachine

FIVE_MINUTES = Duration.minutes(5)
HOUR = Duration.hours(1)
WIDTH = 24
HEIGHT = 6


class Metrics:
    """The metrics of a job: its own, by the dimension `job`, and those of what it runs on."""

    def __init__(
        self,
        *,
        names: Names,
        machine: StateMachine,
        functions: Functions,
        queues: Queues,
    ) -> None:
        self.job = names.job
        self._machine = machine.machine
        self._functions = functions
        self._queues = queues

    def own(
        self, name: str, statistic: str, *, period: Duration = FIVE_MINUTES, label: str = ""
    ) -> cw.Metric:
        """A metric that the functions emit."""
        return cw.Metric(
            namespace=METRICS,
            metric_name=name,
            dimensions_map={"job": self.job},
            statistic=statistic,
            period=period,
            label=label or name,
        )

    def executions(self, outcome: str, *, period: Duration = FIVE_MINUTES) -> cw.Metric:
        """How many executions of the machine have this outcome: Started, Succeeded, Failed, ..."""
        return self._machine.metric(
            f"Executions{outcome}", statistic="Sum", period=period, label=outcome.lower()
        )

    def failed_runs(self, *, period: Duration = FIVE_MINUTES) -> cw.MathExpression:
        """Runs that failed, were stopped or timed out."""
        outcomes = {
            name.lower(): self.executions(name, period=period)
            for name in ("Failed", "Aborted", "TimedOut")
        }
        total = " + ".join(f"FILL({name}, 0)" for name in outcomes)
        return cw.MathExpression(
            expression=total, using_metrics=outcomes, period=period, label="failed"
        )

    def success_rate(self) -> cw.MathExpression:
        """Percent of the runs that ended which ended well."""
        failed = self.failed_runs(period=HOUR)
        return cw.MathExpression(
            expression="100 * good / (good + bad)",
            using_metrics={"good": self.executions("Succeeded", period=HOUR), "bad": failed},
            period=HOUR,
            label="succeeded, %",
        )

    def failing_share(self) -> cw.MathExpression:
        """Percent of the shards that ended which failed."""
        return cw.MathExpression(
            expression="100 * FILL(failed, 0) / (FILL(failed, 0) + FILL(done, 0) + 0.001)",
            using_metrics={
                "failed": self.own("ShardsFailed", "Sum"),
                "done": self.own("ShardsDone", "Sum"),
            },
            period=FIVE_MINUTES,
            label="failed, %",
        )

    def failed_by_reason(self) -> cw.MathExpression:
        """Failed shards, a line a reason, whatever the reasons are."""
        search = f'{{{METRICS},job,reason}} MetricName="ShardsFailed" job="{self.job}"'
        return cw.MathExpression(
            expression=f"SEARCH('{search}', 'Sum', 300)",
            using_metrics={},
            period=FIVE_MINUTES,
            label="",
        )

    def retries(self) -> cw.MathExpression:
        """Attempts that committed nothing."""
        return cw.MathExpression(
            expression="FILL(attempts, 0) - FILL(done, 0) - FILL(split, 0)",
            using_metrics={
                "attempts": self.own("Attempts", "Sum"),
                "done": self.own("ShardsDone", "Sum"),
                "split": self.own("ShardsSplit", "Sum"),
            },
            period=FIVE_MINUTES,
            label="retries",
        )

    def a_second(self, name: str) -> cw.MathExpression:
        """A counter as a rate."""
        return cw.MathExpression(
            expression="counted / PERIOD(counted)",
            using_metrics={"counted": self.own(name, "Sum")},
            period=FIVE_MINUTES,
            label=f"{name.lower()} a second",
        )

    def age(self, queue: sqs.Queue, label: str) -> cw.Metric:
        """Seconds that the oldest message of a queue has waited."""
        return queue.metric_approximate_age_of_oldest_message(
            statistic="Maximum", period=FIVE_MINUTES, label=label
        )

    def held(self, queue: sqs.Queue, label: str) -> cw.MathExpression:
        """Messages in a queue, waiting or received and not yet deleted. The age of the oldest would
        leave out those that were received three times and more."""
        hidden = queue.metric_approximate_number_of_messages_not_visible(
            statistic="Maximum", period=FIVE_MINUTES, label="hidden"
        )
        return cw.MathExpression(
            expression="FILL(waiting, 0) + FILL(hidden, 0)",
            using_metrics={"waiting": self.depth(queue, "waiting"), "hidden": hidden},
            period=FIVE_MINUTES,
            label=label,
        )

    def depth(self, queue: sqs.Queue, label: str) -> cw.Metric:
        """Messages that wait in a queue."""
        return queue.metric_approximate_number_of_messages_visible(
            statistic="Maximum", period=FIVE_MINUTES, label=label
        )

    def throttles(self) -> list[cw.Metric]:
        """Refused invocations of each function."""
        return [
            function.metric_throttles(statistic="Sum", period=FIVE_MINUTES, label=role)
            for role, function in self._functions.all.items()
        ]


class Panel(NamedTuple):
    """A graph that begins at zero, with a limit drawn in if there is one."""

    title: str
    metrics: Sequence[cw.IMetric]
    unit: str = ""
    limit: float | None = None


class Dashboard(Construct):
    """Three rows: did it go well and what did it cost; what is wrong now; where the time goes."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        job: Job,
        names: Names,
        metrics: Metrics,
        queues: Queues,
        lost: LostTriggers | None,
    ) -> None:
        super().__init__(scope, construct_id)
        self._job = job
        self._metrics = metrics
        self._queues = queues
        self._lost = lost
        self.dashboard = cw.Dashboard(
            self, "Dashboard", dashboard_name=names.stack, default_interval=Duration.days(3)
        )
        self._row("## Executive: are results fresh, and what do they cost?", self._executive())
        self._row("## On call: what is wrong now?", self._on_call())
        self._row("## Debug: where does the time go?", self._debug())

    def _executive(self) -> list[Panel]:
        own = self._metrics.own
        return [
            Panel("Runs that succeeded", [self._metrics.success_rate()], "%"),
            Panel("Runs published", [own("RunsPublished", "Sum", period=HOUR)]),
            Panel("Cost of runs", [own("RunDollars", "Sum", period=HOUR)], "dollars"),
            Panel("Freshness of results", [own("FreshnessSeconds", "Maximum")], "seconds"),
        ]

    def _on_call(self) -> list[Panel]:
        metrics, queues = self._metrics, self._queues
        dead = [metrics.age(queues.dead_letters, "dead letters")]
        if self._lost is not None:
            dead.append(metrics.age(self._lost.queue, "lost triggers"))
        in_work = [metrics.own("ShardSeconds", "Maximum")]
        return [
            Panel("Failed shards, by reason", [metrics.failed_by_reason()]),
            Panel("Age in the dead-letter queues", dead, "seconds"),
            Panel("Oldest shard waiting", [metrics.age(queues.work, "queue")], "seconds"),
            Panel("Oldest shard in work", in_work, "seconds", self._job.limits.timeout_seconds),
            Panel("Retries", [metrics.retries()]),
        ]

    def _debug(self) -> list[Panel]:
        metrics = self._metrics
        durations = [metrics.own("ShardSeconds", p, label=p) for p in ("p50", "p90", "p99")]
        peak = [metrics.own("PeakMemoryBytes", "Maximum")]
        return [
            Panel("Duration of shards", durations, "seconds"),
            Panel("Records", [metrics.a_second("Records")]),
            Panel("Bytes", [metrics.a_second("Bytes")]),
            Panel("Throttled invocations", metrics.throttles()),
            Panel("Peak memory", peak, "bytes", self._job.limits.memory_mb * 1024**2),
        ]

    def _row(self, title: str, panels: Sequence[Panel]) -> None:
        """A heading, and panels that together are as wide as CloudWatch's grid."""
        self.dashboard.add_widgets(cw.TextWidget(markdown=title, width=WIDTH, height=1))
        even, rest = divmod(WIDTH, len(panels))
        graphs = [_graph(panel, width=even + (place < rest)) for place, panel in enumerate(panels)]
        self.dashboard.add_widgets(*graphs)


def _graph(panel: Panel, *, width: int) -> cw.GraphWidget:
    lines = (
        [] if panel.limit is None else [cw.HorizontalAnnotation(value=panel.limit, label="limit")]
    )
    return cw.GraphWidget(
        title=panel.title,
        left=list(panel.metrics),
        left_y_axis=cw.YAxisProps(min=0, label=panel.unit, show_units=False),
        left_annotations=lines,
        height=HEIGHT,
        width=width,
    )

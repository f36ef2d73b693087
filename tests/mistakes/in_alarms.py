"""Mistakes in what alarms and panels of a stack watch."""

from __future__ import annotations

from tests.infra import test_alarms
from tests.mistakes.templates import Resources, TemplateMistake, alarm, every, metric


def two_runs_have_to_fail(resources: Resources) -> None:
    watching = alarm(resources, "run-failed")
    watching["ComparisonOperator"] = "GreaterThanThreshold"


def runs_that_time_out_are_not_counted(resources: Resources) -> None:
    watching = alarm(resources, "run-failed")
    watching["Metrics"][0]["Expression"] = "FILL(failed, 0) + FILL(aborted, 0)"


def the_alarm_of_dead_letters_watches_the_work_queue(resources: Resources) -> None:
    watched = metric(alarm(resources, "dead-letters"))["MetricStat"]["Metric"]["Dimensions"]
    work = next(name for name in resources if name.startswith("QueuesWork"))
    watched[0]["Value"]["Fn::GetAtt"][0] = work


def dead_letters_are_watched_by_their_age(resources: Resources) -> None:
    watched = metric(alarm(resources, "dead-letters"))["MetricStat"]["Metric"]
    watched["MetricName"] = "ApproximateAgeOfOldestMessage"


def dead_letters_ring_when_there_are_none(resources: Resources) -> None:
    alarm(resources, "dead-letters")["ComparisonOperator"] = "LessThanThreshold"


def dead_letters_ring_after_a_day(resources: Resources) -> None:
    alarm(resources, "dead-letters")["Threshold"] = 86_400


def failing_shards_are_counted_by_a_name_that_nobody_writes(resources: Resources) -> None:
    watched = metric(alarm(resources, "shards-failing"))["MetricStat"]["Metric"]
    watched["MetricName"] = "ShardFailures"


def failing_shards_are_those_of_all_jobs(resources: Resources) -> None:
    watched = metric(alarm(resources, "shards-failing"))["MetricStat"]["Metric"]
    watched["Dimensions"] = [{"Name": "service", "Value": "fanfold"}]


def failing_shards_are_looked_for_elsewhere(resources: Resources) -> None:
    for number in (0, 1):
        watched = metric(alarm(resources, "shards-failing"), number)["MetricStat"]["Metric"]
        watched["Namespace"] = "fanfold"


def failing_shards_are_a_share_of_one(resources: Resources) -> None:
    alarm(resources, "shards-failing")["Threshold"] = 0.2


def a_budget_is_compared_with_the_sum_of_runs(resources: Resources) -> None:
    metric(alarm(resources, "budget-passed"))["MetricStat"]["Stat"] = "Sum"


def a_budget_rings_when_it_is_kept(resources: Resources) -> None:
    alarm(resources, "budget-passed")["ComparisonOperator"] = "LessThanThreshold"


def a_schedule_is_never_missed(resources: Resources) -> None:
    alarm(resources, "schedule-missed")["ComparisonOperator"] = "LessThanOrEqualToThreshold"


def throttled_workers_are_not_counted(resources: Resources) -> None:
    watching = alarm(resources, "throttled")
    watching["Metrics"][0]["Expression"] = "FILL(m0, 0) + FILL(m1, 0) + FILL(m2, 0)"


def throttles_are_the_mean_of_each(resources: Resources) -> None:
    for number in range(5):
        metric(alarm(resources, "throttled"), number)["MetricStat"]["Stat"] = "Average"


def long_runs_are_watched_by_their_mean(resources: Resources) -> None:
    metric(alarm(resources, "long-run"))["MetricStat"]["Stat"] = "Average"


def long_runs_ring_after_a_day_of_minutes(resources: Resources) -> None:
    alarm(resources, "long-run")["Threshold"] = 24 * 60


def shards_that_wait_are_looked_for_among_the_dead(resources: Resources) -> None:
    watched = metric(alarm(resources, "shards-waiting"))["MetricStat"]["Metric"]["Dimensions"]
    dead = next(name for name in resources if name.startswith("QueuesDeadLetters"))
    watched[0]["Value"]["Fn::GetAtt"][0] = dead


def shards_that_wait_ring_before_their_tries_are_over(resources: Resources) -> None:
    alarm(resources, "shards-waiting")["Threshold"] = 600


def lost_triggers_ring_at_two(resources: Resources) -> None:
    alarm(resources, "trigger-lost")["Threshold"] = 2


def the_dashboard_shows_what_nobody_writes(resources: Resources) -> None:
    (dashboard,) = every(resources, "AWS::CloudWatch::Dashboard")
    pieces = dashboard["DashboardBody"]["Fn::Join"][1]
    pieces[:] = [
        each.replace("FreshnessSeconds", "Freshness") if isinstance(each, str) else each
        for each in pieces
    ]


def functions_write_where_nobody_looks(resources: Resources) -> None:
    for each in every(resources, "AWS::Lambda::Function"):
        each["Environment"]["Variables"]["POWERTOOLS_METRICS_NAMESPACE"] = "fanfold"


def alarms_may_not_publish(resources: Resources) -> None:
    (policy,) = every(resources, "AWS::SNS::TopicPolicy")
    policy["PolicyDocument"]["Statement"] = [
        each for each in policy["PolicyDocument"]["Statement"] if each.get("Sid") != "1"
    ]


ALARMS = test_alarms.test_what_each_alarm_watches_and_when_it_rings
READ = test_alarms.test_what_alarms_and_panels_read_is_what_functions_write

MISTAKES = (
    TemplateMistake("busy", two_runs_have_to_fail, (ALARMS,)),
    TemplateMistake("busy", runs_that_time_out_are_not_counted, (ALARMS,)),
    TemplateMistake("busy", the_alarm_of_dead_letters_watches_the_work_queue, (ALARMS,)),
    TemplateMistake("busy", dead_letters_are_watched_by_their_age, (ALARMS,)),
    TemplateMistake("busy", dead_letters_ring_when_there_are_none, (ALARMS,)),
    TemplateMistake("busy", dead_letters_ring_after_a_day, (ALARMS,)),
    TemplateMistake("plain", failing_shards_are_counted_by_a_name_that_nobody_writes, (READ,)),
    TemplateMistake("plain", failing_shards_are_those_of_all_jobs, (READ,)),
    TemplateMistake(
        "plain",
        failing_shards_are_looked_for_elsewhere,
        (test_alarms.test_functions_write_where_alarms_and_panels_look,),
    ),
    TemplateMistake("busy", failing_shards_are_a_share_of_one, (ALARMS,)),
    TemplateMistake("busy", a_budget_is_compared_with_the_sum_of_runs, (ALARMS,)),
    TemplateMistake("busy", a_budget_rings_when_it_is_kept, (ALARMS,)),
    TemplateMistake("busy", a_schedule_is_never_missed, (ALARMS,)),
    TemplateMistake("busy", throttled_workers_are_not_counted, (ALARMS,)),
    TemplateMistake("busy", throttles_are_the_mean_of_each, (ALARMS,)),
    TemplateMistake("busy", long_runs_are_watched_by_their_mean, (ALARMS,)),
    TemplateMistake("busy", long_runs_ring_after_a_day_of_minutes, (ALARMS,)),
    TemplateMistake("busy", shards_that_wait_are_looked_for_among_the_dead, (ALARMS,)),
    TemplateMistake("busy", shards_that_wait_ring_before_their_tries_are_over, (ALARMS,)),
    TemplateMistake("busy", lost_triggers_ring_at_two, (ALARMS,)),
    TemplateMistake("plain", the_dashboard_shows_what_nobody_writes, (READ,)),
    TemplateMistake(
        "plain",
        functions_write_where_nobody_looks,
        (test_alarms.test_functions_write_where_alarms_and_panels_look,),
    ),
    TemplateMistake(
        "busy",
        alarms_may_not_publish,
        (test_alarms.test_whoever_alarms_may_publish_to_the_topic,),
    ),
)

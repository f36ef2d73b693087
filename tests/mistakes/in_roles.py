"""Mistakes in what the roles of a stack allow."""

from __future__ import annotations

from tests.infra import test_grants
from tests.mistakes.templates import Resources, TemplateMistake, forbid, statement

WORK_ROLE = "FunctionsWorkRole"
BURY_ROLE = "FunctionsBuryRole"
RECONCILE_ROLE = "FunctionsReconcileRole"
PLAN_ROLE = "FunctionsPlanRole"
SCHEDULER_ROLE = "TriggersSchedulerRole"
EVENTS_ROLE = "TriggersEventsRole"


def lambda_may_not_take_shards(resources: Resources) -> None:
    forbid(resources, WORK_ROLE, "sqs:ReceiveMessage")


def lambda_may_not_delete_dead_letters(resources: Resources) -> None:
    forbid(resources, BURY_ROLE, "sqs:DeleteMessage")


def lambda_may_not_look_at_its_queue(resources: Resources) -> None:
    forbid(resources, BURY_ROLE, "sqs:GetQueueAttributes")


def reconcile_may_not_look_at_the_queue(resources: Resources) -> None:
    allowed = statement(resources, RECONCILE_ROLE, "sqs:GetQueueAttributes")
    allowed["Action"] = "sqs:GetQueueUrl"


def work_may_not_back_off(resources: Resources) -> None:
    forbid(resources, WORK_ROLE, "sqs:ChangeMessageVisibility")


def bury_may_write_entries(resources: Resources) -> None:
    allowed = statement(resources, BURY_ROLE, "s3:PutObject")
    allowed["Resource"]["Fn::Join"][1][-1] = "/plain/runs/*"


def bury_may_not_answer_children(resources: Resources) -> None:
    allowed = statement(resources, BURY_ROLE, "states:SendTaskFailure")
    allowed["Resource"] = allowed["Resource"][0]


def work_may_not_see_that_a_key_is_missing(resources: Resources) -> None:
    allowed = statement(resources, WORK_ROLE, "s3:ListBucket")
    allowed["Action"] = "s3:ListBucketVersions"


def plan_may_not_log(resources: Resources) -> None:
    forbid(resources, PLAN_ROLE, "logs:PutLogEvents")


def a_schedule_may_start_any_machine(resources: Resources) -> None:
    statement(resources, SCHEDULER_ROLE, "states:StartExecution")["Resource"] = "*"


def a_schedule_may_not_start_its_machine(resources: Resources) -> None:
    allowed = statement(resources, SCHEDULER_ROLE, "states:StartExecution")
    allowed["Action"] = "states:StartSyncExecution"


def a_schedule_may_not_leave_what_is_lost(resources: Resources) -> None:
    allowed = statement(resources, SCHEDULER_ROLE, "sqs:SendMessage")
    allowed["Action"] = "sqs:ReceiveMessage"


def an_upload_may_not_start_its_machine(resources: Resources) -> None:
    allowed = statement(resources, EVENTS_ROLE, "states:StartExecution")
    allowed["Action"] = "states:StopExecution"


def rules_may_not_leave_what_is_lost(resources: Resources) -> None:
    for name, resource in resources.items():
        if resource["Type"] == "AWS::SQS::QueuePolicy" and name.startswith("LostTriggers"):
            del resource["Properties"]["PolicyDocument"]["Statement"][2:]


BURY = test_grants.test_bury_may_do_exactly_this
WORK = test_grants.test_work_may_do_exactly_this
STARTING = test_grants.test_what_starts_runs_may_do_exactly_this

MISTAKES = (
    TemplateMistake("plain", lambda_may_not_take_shards, (WORK,)),
    TemplateMistake("plain", lambda_may_not_delete_dead_letters, (BURY,)),
    TemplateMistake("plain", lambda_may_not_look_at_its_queue, (BURY,)),
    TemplateMistake(
        "plain",
        reconcile_may_not_look_at_the_queue,
        (test_grants.test_reconcile_may_do_exactly_this,),
    ),
    TemplateMistake("plain", work_may_not_back_off, (WORK,)),
    TemplateMistake("plain", bury_may_write_entries, (BURY,)),
    TemplateMistake("plain", bury_may_not_answer_children, (BURY,)),
    TemplateMistake("plain", work_may_not_see_that_a_key_is_missing, (WORK,)),
    TemplateMistake("plain", plan_may_not_log, (test_grants.test_every_function_may_log,)),
    TemplateMistake("busy", a_schedule_may_start_any_machine, (STARTING,)),
    TemplateMistake("busy", a_schedule_may_not_start_its_machine, (STARTING,)),
    TemplateMistake("busy", a_schedule_may_not_leave_what_is_lost, (STARTING,)),
    TemplateMistake("busy", an_upload_may_not_start_its_machine, (STARTING,)),
    TemplateMistake(
        "busy",
        rules_may_not_leave_what_is_lost,
        (test_grants.test_rules_may_leave_what_they_could_not_deliver,),
    ),
)

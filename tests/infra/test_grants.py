"""Least privilege: no role may do more than its part of a run takes."""

from __future__ import annotations

import pytest

from coordinator.loading import job_names
from tests.infra.conftest import DECLARATIONS, KEY_ARN, OUR_JOBS, Synthesised
from tests.infra.policies import Grant, Policies

JOBS = [*DECLARATIONS, *(name.replace("_", "-") for name in job_names(OUR_JOBS))]
ROLES = ("plan", "reconcile", "work", "bury", "publish")

# Actions for which AWS offers no resource. Source: Service Authorization Reference.
WITHOUT_RESOURCE = {
    "xray:PutTraceSegments",
    "xray:PutTelemetryRecords",
    "xray:GetSamplingRules",
    "xray:GetSamplingTargets",
    "logs:CreateLogDelivery",
    "logs:GetLogDelivery",
    "logs:UpdateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:DescribeResourcePolicies",
    "logs:DescribeLogGroups",
}
TRACING = {
    Grant("xray:PutTraceSegments", "*"),
    Grant("xray:PutTelemetryRecords", "*"),
}
STATES = "arn:aws:states:us-east-1:123456789012"
BUCKET = "arn:aws:s3:::work-bucket"


@pytest.mark.parametrize("job", JOBS)
def test_no_action_is_a_wildcard(synthesised: Synthesised, job: str) -> None:
    policies = Policies(synthesised.template(job))
    for role in policies.roles():
        assert not [grant for grant in policies.grants(role) if "*" in grant.action]


@pytest.mark.parametrize("job", JOBS)
def test_no_resource_is_wider_than_aws_asks_for(synthesised: Synthesised, job: str) -> None:
    policies = Policies(synthesised.template(job))
    own = {f"{job}/runs/", f"{job}/results/", f"{job}/latest"}
    own |= {f"{job}/published/", f"{job}/inputs/", f"{job}/probe/"}
    given = {"busy": {"drop/"}, "guest": {"raw/2026/", "raw/extra/", "new/"}}.get(job, set())
    for role in policies.roles():
        for grant in policies.grants(role):
            place = grant.resource.partition("*")[0]
            if grant.resource == "*":
                assert grant.action in WITHOUT_RESOURCE
            elif grant.action.startswith("s3:") and "/" in grant.resource:
                key = place.split("/", 1)[1]
                assert key.startswith(tuple(own | given)), grant
            elif "*" in grant.resource:
                machine = f":stateMachine:fanfold-{job}"
                assert place.endswith(
                    (
                        *(f":execution:fanfold-{job}:", f":execution:fanfold-{job}/FanOut:"),
                        *(f"{machine}:", f"{machine}/", f":mapRun:fanfold-{job}/FanOut:"),
                    )
                ) or place.startswith("arn:aws:logs:"), grant


@pytest.mark.parametrize("job", JOBS)
def test_listings_are_confined_to_the_prefixes(synthesised: Synthesised, job: str) -> None:
    policies = Policies(synthesised.template(job))
    for role in policies.roles():
        for grant in policies.grants(role):
            if grant.action in {"s3:ListBucket", "s3:ListBucketVersions"}:
                assert grant.prefixes, grant
                assert "*" not in grant.prefixes, grant


def test_only_their_service_takes_on_the_roles(synthesised: Synthesised) -> None:
    for job in JOBS:
        for role in synthesised.resources(job, "AWS::IAM::Role").values():
            assert "ManagedPolicyArns" not in role
            for statement in role["AssumeRolePolicyDocument"]["Statement"]:
                service = statement["Principal"]["Service"]
                assert service.endswith(".amazonaws.com")
                if service != "lambda.amazonaws.com":
                    condition = statement["Condition"]["StringEquals"]
                    assert condition == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}


def test_the_state_machine_may_do_exactly_this(synthesised: Synthesised) -> None:
    policies = Policies(synthesised.template("plain"))
    function = "arn:aws:lambda:us-east-1:123456789012:function:fanfold-plain-{}"
    children = f"{STATES}:execution:fanfold-plain/FanOut:*"
    waves = f"{BUCKET}/plain/runs/*/waves/*"
    found = {
        grant for grant in policies.grants(policies.role_of_machine()) if grant.resource != "*"
    }
    assert found == {
        *(
            Grant("lambda:InvokeFunction", function.format(name))
            for name in ("plan", "reconcile", "publish")
        ),
        Grant("sqs:SendMessage", "arn:aws:sqs:us-east-1:123456789012:fanfold-plain-work"),
        Grant("states:StartExecution", f"{STATES}:stateMachine:fanfold-plain"),
        Grant("states:DescribeExecution", f"{STATES}:execution:fanfold-plain:*"),
        Grant("states:StopExecution", f"{STATES}:execution:fanfold-plain:*"),
        Grant("states:DescribeExecution", children),
        Grant("states:StopExecution", children),
        Grant("states:RedriveExecution", children),
        Grant("s3:GetObject", waves),
        Grant("s3:PutObject", waves),
        Grant("s3:ListMultipartUploadParts", waves),
        Grant("s3:AbortMultipartUpload", waves),
    }


def test_with_snapstart_only_the_alias_is_invoked(synthesised: Synthesised) -> None:
    policies = Policies(synthesised.template("fast"))
    invoked = {
        grant.resource
        for grant in policies.grants(policies.role_of_machine())
        if grant.action == "lambda:InvokeFunction"
    }
    assert len(invoked) == 3
    assert all(resource.endswith(":live") for resource in invoked)


@pytest.mark.parametrize(("job", "key"), [("sealed", "key/new"), ("guest", KEY_ARN)])
def test_whoever_touches_encrypted_data_may_use_the_key(
    synthesised: Synthesised, job: str, key: str
) -> None:
    policies = Policies(synthesised.template(job))
    both = {"kms:Decrypt", "kms:GenerateDataKey"}
    for role in [*(policies.role_of(name) for name in ROLES), policies.role_of_machine()]:
        grants = policies.grants(role)
        used = {grant.action for grant in grants if grant.action.startswith("kms:")}
        assert used == both, role
        assert all(g.resource.endswith(key) for g in grants if g.action in both)


def test_services_may_use_a_new_key_for_what_they_write(synthesised: Synthesised) -> None:
    statements = synthesised.only("sealed", "AWS::KMS::Key")["KeyPolicy"]["Statement"]
    services = str([each["Principal"].get("Service") for each in statements])
    for service in ("events.amazonaws.com", "cloudwatch.amazonaws.com", "'logs.'"):
        assert service in services
    for statement in statements:
        service = statement["Principal"].get("Service", "events.amazonaws.com")
        # CDK lets EventBridge use the key of a topic without a condition, as its topics ask.
        assert service == "events.amazonaws.com" or statement["Condition"]


def of_role(synthesised: Synthesised, role: str) -> set[Grant]:
    """What a function of the plain job may do."""
    policies = Policies(synthesised.template("plain"))
    return policies.grants(policies.role_of(role))


def to_consume(queue: str) -> set[Grant]:
    """What Lambda's own mapping takes of its function's role."""
    arn = f"arn:aws:sqs:us-east-1:123456789012:fanfold-plain-{queue}"
    actions = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
    return {Grant(action, arn) for action in actions}


def to_log(role: str) -> set[Grant]:
    arn = f"arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/fanfold-plain-{role}:*"
    return {Grant("logs:CreateLogStream", arn), Grant("logs:PutLogEvents", arn)}


def to_answer() -> set[Grant]:
    machine, name = f"{STATES}:stateMachine:fanfold-plain", "fanfold-plain"
    return {
        Grant(f"states:SendTask{outcome}", resource)
        for outcome in ("Success", "Failure")
        for resource in (
            *(machine, f"{machine}/*", f"{machine}:*", f"{STATES}:mapRun:{name}/FanOut:*"),
            *(f"{STATES}:execution:{name}:*", f"{STATES}:execution:{name}/FanOut:*"),
        )
    }


def test_bury_may_do_exactly_this(synthesised: Synthesised) -> None:
    assert of_role(synthesised, "bury") == {
        *to_log("bury"),
        *to_consume("dead"),
        *to_answer(),
        Grant("s3:GetObject", f"{BUCKET}/plain/runs/*"),
        Grant("s3:ListBucket", BUCKET, ("plain/*",)),
        Grant("s3:PutObject", f"{BUCKET}/plain/runs/*/*/*/notes/*"),
    }


def test_reconcile_may_do_exactly_this(synthesised: Synthesised) -> None:
    runs = f"{BUCKET}/plain/runs/*"
    assert of_role(synthesised, "reconcile") == {
        *to_log("reconcile"),
        *(
            Grant(action, runs)
            for action in ("s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload")
        ),
        Grant("s3:ListBucket", BUCKET, ("plain/*",)),
        Grant("sqs:GetQueueAttributes", "arn:aws:sqs:us-east-1:123456789012:fanfold-plain-work"),
    }


def test_work_may_do_exactly_this(synthesised: Synthesised) -> None:
    runs, results = f"{BUCKET}/plain/runs/*", f"{BUCKET}/plain/results/*"
    actions = ("s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload")
    queue = "arn:aws:sqs:us-east-1:123456789012:fanfold-plain-work"
    assert of_role(synthesised, "work") == {
        *to_log("work"),
        *to_consume("work"),
        *to_answer(),
        *(Grant(action, resource) for action in actions for resource in (runs, results)),
        *(
            Grant(action, f"{BUCKET}/plain/{folder}/*")
            for action in ("s3:GetObject", "s3:GetObjectVersion")
            for folder in ("inputs", "probe")
        ),
        Grant("s3:ListBucket", BUCKET, ("plain/*",)),
        Grant("s3:ListBucket", BUCKET, ("plain/inputs/*", "plain/probe/*")),
        Grant("sqs:ChangeMessageVisibility", queue),
    }


def test_every_function_may_log(synthesised: Synthesised) -> None:
    policies = Policies(synthesised.template("plain"))
    for role in ROLES:
        assert to_log(role) <= policies.grants(policies.role_of(role)), role


def test_only_where_it_is_asked_for_functions_may_trace(synthesised: Synthesised) -> None:
    for job, traced in (("busy", TRACING), ("plain", set())):
        policies = Policies(synthesised.template(job))
        for role in ROLES:
            assert policies.grants(policies.role_of(role)) & TRACING == traced, (job, role)


@pytest.mark.parametrize("job", JOBS)
def test_lambda_may_take_from_both_queues(synthesised: Synthesised, job: str) -> None:
    policies = Policies(synthesised.template(job))
    for role, queue in (("work", "work"), ("bury", "dead")):
        arn = f"arn:aws:sqs:us-east-1:123456789012:fanfold-{job}-{queue}"
        taken = {
            grant.action
            for grant in policies.grants(policies.role_of(role))
            if grant.resource == arn
        }
        assert taken >= {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}


def roles_of(synthesised: Synthesised, service: str) -> list[str]:
    """The roles of the busy job that a service takes on."""
    return [
        name
        for name, each in synthesised.resources("busy", "AWS::IAM::Role").items()
        for statement in each["AssumeRolePolicyDocument"]["Statement"]
        if statement["Principal"]["Service"] == service
    ]


def test_what_starts_runs_may_do_exactly_this(synthesised: Synthesised) -> None:
    policies = Policies(synthesised.template("busy"))
    starting = Grant("states:StartExecution", f"{STATES}:stateMachine:fanfold-busy")
    lost = "arn:aws:sqs:us-east-1:123456789012:fanfold-busy-lost-triggers"
    (scheduler,) = roles_of(synthesised, "scheduler.amazonaws.com")
    (events,) = roles_of(synthesised, "events.amazonaws.com")
    assert policies.grants(scheduler) == {starting, Grant("sqs:SendMessage", lost)}
    assert policies.grants(events) == {starting}
    schedule = synthesised.only("busy", "AWS::Scheduler::Schedule")
    assert schedule["Target"]["RoleArn"] == {"Fn::GetAtt": [scheduler, "Arn"]}
    for rule in synthesised.resources("busy", "AWS::Events::Rule").values():
        if "upload" in rule["Name"]:
            assert rule["Targets"][0]["RoleArn"] == {"Fn::GetAtt": [events, "Arn"]}


def test_a_scheduler_that_can_not_start_a_run_may_encrypt_what_it_leaves(
    synthesised: Synthesised,
) -> None:
    policies = Policies(synthesised.template("sealed"))
    roles = synthesised.resources("sealed", "AWS::IAM::Role")
    (scheduler,) = (name for name in roles if "Scheduler" in name)
    used = {grant.action for grant in policies.grants(scheduler) if "kms:" in grant.action}
    assert used == {"kms:GenerateDataKey", "kms:Decrypt"}


def test_rules_may_leave_what_they_could_not_deliver(synthesised: Synthesised) -> None:
    (queue,) = (
        name
        for name, each in synthesised.resources("busy", "AWS::SQS::Queue").items()
        if each["QueueName"].endswith("lost-triggers")
    )
    (policy,) = (
        each["PolicyDocument"]["Statement"]
        for each in synthesised.resources("busy", "AWS::SQS::QueuePolicy").values()
        if each["Queues"] == [{"Ref": queue}]
    )
    sending = {
        statement["Condition"]["ArnEquals"]["aws:SourceArn"]["Fn::GetAtt"][0]
        for statement in policy
        if statement["Effect"] == "Allow"
        and statement["Action"] == "sqs:SendMessage"
        and statement["Principal"] == {"Service": "events.amazonaws.com"}
    }
    rules = synthesised.resources("busy", "AWS::Events::Rule")
    assert sending == set(rules)
    for rule in rules.values():
        (target,) = rule["Targets"]
        assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": [queue, "Arn"]}}

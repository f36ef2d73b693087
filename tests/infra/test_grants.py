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
    own |= {f"{job}/published/", f"{job}/inputs/"}
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
                assert place.endswith(
                    (f":execution:fanfold-{job}:", f":execution:fanfold-{job}/FanOut:")
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

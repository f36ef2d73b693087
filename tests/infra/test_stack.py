"""What a job's stack holds, for each way of deploying it (see conftest.DECLARATIONS)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aws_cdk import App, Stack, aws_iam as iam
from aws_cdk.assertions import Match

from coordinator.state.runs import RUN_DAYS
from infra.app import FLAGS, build
from infra.settings import Settings
from tests.infra.conftest import KEY_ARN, REPOSITORY, Synthesised, empty_code, write_jobs

DEFINITION = REPOSITORY / "coordinator" / "run.asl.json"

ROLES = ("plan", "reconcile", "work", "bury", "publish")

QUEUE = "AWS::SQS::Queue"
FUNCTION = "AWS::Lambda::Function"
MAPPING = "AWS::Lambda::EventSourceMapping"
BUCKET = "AWS::S3::Bucket"


def queue(synthesised: Synthesised, job: str, name: str) -> dict[str, Any]:
    queues = synthesised.resources(job, QUEUE).values()
    return next(each for each in queues if each["QueueName"] == f"fanfold-{job}-{name}")


def function(synthesised: Synthesised, job: str, role: str) -> dict[str, Any]:
    functions = synthesised.resources(job, FUNCTION).values()
    return next(each for each in functions if each["FunctionName"] == f"fanfold-{job}-{role}")


# Storage ------------------------------------------------------------------------------------------


def test_the_bucket_is_private_encrypted_and_tells_of_uploads(synthesised: Synthesised) -> None:
    synthesised.assertions("plain").has_resource(
        BUCKET,
        {
            "DeletionPolicy": "RetainExceptOnCreate",
            "Properties": {
                "PublicAccessBlockConfiguration": {
                    "BlockPublicAcls": True,
                    "BlockPublicPolicy": True,
                    "IgnorePublicAcls": True,
                    "RestrictPublicBuckets": True,
                },
                "BucketEncryption": Match.any_value(),
                "NotificationConfiguration": {
                    "EventBridgeConfiguration": {"EventBridgeEnabled": True}
                },
                "VersioningConfiguration": Match.absent(),
            },
        },
    )


@pytest.mark.parametrize("job", ["plain", "busy", "sealed"])
def test_only_encrypted_connections_are_let_in(synthesised: Synthesised, job: str) -> None:
    refusals = {
        "Effect": "Deny",
        "Principal": {"AWS": "*"},
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    template = synthesised.assertions(job)
    for kind, count in (("AWS::S3::BucketPolicy", 1), ("AWS::SQS::QueuePolicy", None)):
        found = template.find_resources(
            kind,
            {
                "Properties": {
                    "PolicyDocument": {"Statement": Match.array_with([Match.object_like(refusals)])}
                }
            },
        )
        assert len(found) == (count or len(synthesised.resources(job, QUEUE)))


def test_runs_expire_and_results_never_do(synthesised: Synthesised) -> None:
    for job in ("plain", "busy"):
        rules = synthesised.only(job, BUCKET)["LifecycleConfiguration"]["Rules"]
        expiring = [rule for rule in rules if "ExpirationInDays" in rule]
        assert [(rule["Prefix"], rule["ExpirationInDays"]) for rule in expiring] == [
            (f"{job}/runs/", RUN_DAYS)
        ]
        assert any("AbortIncompleteMultipartUpload" in rule for rule in rules)
        touched = {
            rule.get("Prefix") for rule in rules if "AbortIncompleteMultipartUpload" not in rule
        }
        assert touched <= {f"{job}/runs/", f"{job}/latest"}


def test_versions_by_option(synthesised: Synthesised) -> None:
    bucket = synthesised.only("busy", BUCKET)
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    rules = {rule["Id"]: rule for rule in bucket["LifecycleConfiguration"]["Rules"]}
    assert rules["runs-expire"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
    assert rules["markers-of-expired-runs-go"]["ExpiredObjectDeleteMarker"] is True


def test_an_existing_bucket_is_used_by_name(synthesised: Synthesised) -> None:
    assert not synthesised.resources("guest", BUCKET)
    for role in ROLES:
        environment = function(synthesised, "guest", role)["Environment"]["Variables"]
        assert environment["FANFOLD_BUCKET"] == "shared-bucket"


def test_a_key_of_our_own_encrypts_everything(synthesised: Synthesised) -> None:
    (key,) = synthesised.resources("sealed", "AWS::KMS::Key")
    arn, reference = {"Fn::GetAtt": [key, "Arn"]}, {"Ref": key}
    assert synthesised.only("sealed", "AWS::KMS::Key")["EnableKeyRotation"] is True
    (rule,) = synthesised.only("sealed", BUCKET)["BucketEncryption"][
        "ServerSideEncryptionConfiguration"
    ]
    assert rule["ServerSideEncryptionByDefault"]["KMSMasterKeyID"] == arn
    assert all(
        each["KmsMasterKeyId"] == arn for each in synthesised.resources("sealed", QUEUE).values()
    )
    logs = synthesised.resources("sealed", "AWS::Logs::LogGroup").values()
    assert all(each["KmsKeyId"] == arn for each in logs)
    assert synthesised.only("sealed", "AWS::SNS::Topic")["KmsMasterKeyId"] in (arn, reference)


def test_someone_elses_key_encrypts_what_holds_data(synthesised: Synthesised) -> None:
    assert queue(synthesised, "guest", "work")["KmsMasterKeyId"] == KEY_ARN
    assert queue(synthesised, "guest", "dead")["KmsMasterKeyId"] == KEY_ARN
    assert queue(synthesised, "guest", "lost-triggers")["SqsManagedSseEnabled"] is True
    logs = synthesised.resources("guest", "AWS::Logs::LogGroup").values()
    assert all("KmsKeyId" not in each and each["RetentionInDays"] == 90 for each in logs)


# Queues -------------------------------------------------------------------------------------------


def test_a_message_outlives_its_function_and_its_throttles(synthesised: Synthesised) -> None:
    busy, plain = queue(synthesised, "busy", "work"), queue(synthesised, "plain", "work")
    assert busy["VisibilityTimeout"] == 120 + 60
    assert busy["RedrivePolicy"]["maxReceiveCount"] == 8
    assert plain["RedrivePolicy"]["maxReceiveCount"] == 5
    dead = queue(synthesised, "busy", "dead")
    assert dead["MessageRetentionPeriod"] == 14 * 86_400 > busy["MessageRetentionPeriod"]
    assert dead["RedriveAllowPolicy"]["redrivePermission"] == "byQueue"
    (source,) = dead["RedriveAllowPolicy"]["sourceQueueArns"]
    assert source["Fn::Join"][1][-1] == ":fanfold-busy-work"


# Functions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_a_function(synthesised: Synthesised, role: str) -> None:
    found = function(synthesised, "busy", role)
    assert found["Runtime"] == "python3.13"
    assert found["Architectures"] == ["arm64"]
    assert found["Handler"] == f"functions.{role}.handler"
    assert found["TracingConfig"] == {"Mode": "Active"}
    assert "TracingConfig" not in function(synthesised, "plain", role)
    untraced = function(synthesised, "plain", role)["Environment"]["Variables"]
    assert untraced["POWERTOOLS_TRACE_DISABLED"] == "true"
    environment = found["Environment"]["Variables"]
    assert "POWERTOOLS_TRACE_DISABLED" not in environment
    assert environment["FANFOLD_JOB_MODULE"] == "jobs.busy"
    assert environment["FANFOLD_TIMEOUT_SECONDS"] == "120"
    assert environment["POWERTOOLS_METRICS_NAMESPACE"] == "Fanfold"
    assert environment["PYTHONHASHSEED"] == "0"


def test_functions_are_sized_by_the_limits(synthesised: Synthesised) -> None:
    work = function(synthesised, "busy", "work")
    assert (work["MemorySize"], work["Timeout"]) == (512, 120)
    machine = json.loads(DEFINITION.read_text())
    for state in ("Plan", "Reconcile", "Publish"):
        seconds = function(synthesised, "busy", state.lower())["Timeout"]
        assert seconds < machine["States"][state]["TimeoutSeconds"]


def mapping_of(synthesised: Synthesised, job: str, queue_id: str) -> dict[str, Any]:
    mappings = synthesised.resources(job, MAPPING).values()
    return next(
        each for each in mappings if each["EventSourceArn"]["Fn::GetAtt"][0].startswith(queue_id)
    )


def test_workers_are_never_throttled_by_their_own_mapping(synthesised: Synthesised) -> None:
    mapping = mapping_of(synthesised, "busy", "QueuesWork")
    work = function(synthesised, "busy", "work")
    assert mapping["BatchSize"] == 1
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["ScalingConfig"]["MaximumConcurrency"] == 50
    assert "ReservedConcurrentExecutions" not in work


def test_provisioned_pollers_take_the_place_of_the_maximum_concurrency(
    synthesised: Synthesised,
) -> None:
    mapping = mapping_of(synthesised, "fast", "QueuesWork")
    assert "ScalingConfig" not in mapping
    assert mapping["ProvisionedPollerConfig"] == {"MinimumPollers": 2, "MaximumPollers": 20}
    assert function(synthesised, "fast", "work")["ReservedConcurrentExecutions"] == 200


def test_snapstart_goes_through_an_alias(synthesised: Synthesised) -> None:
    for found in synthesised.resources("fast", FUNCTION).values():
        assert found["SnapStart"] == {"ApplyOn": "PublishedVersions"}
    aliases = synthesised.resources("fast", "AWS::Lambda::Alias")
    assert len(aliases) == len(ROLES)
    machine = synthesised.only("fast", "AWS::StepFunctions::StateMachine")
    for name in ("Plan", "Reconcile", "Publish"):
        assert machine["DefinitionSubstitutions"][f"{name}FunctionArn"]["Ref"] in aliases


def test_the_inputs_of_runs_that_name_none_are_told_if_they_lie_elsewhere(
    synthesised: Synthesised,
) -> None:
    environment = function(synthesised, "guest", "plan")["Environment"]["Variables"]
    told = json.loads(environment["FANFOLD_INPUTS"])
    assert told == ["s3://lake/raw/2026/*.csv", "s3://lake/raw/extra/"]
    assert environment["FANFOLD_REQUESTER_PAYS"] == "true"
    assert "FANFOLD_INPUTS" not in function(synthesised, "busy", "plan")["Environment"]["Variables"]


# State machine ------------------------------------------------------------------------------------


def test_the_machine_is_the_file_with_its_names_filled_in(synthesised: Synthesised) -> None:
    machine = synthesised.only("busy", "AWS::StepFunctions::StateMachine")
    text = synthesised.definition("busy")
    assert text == DEFINITION.read_text()
    for name in machine["DefinitionSubstitutions"]:
        assert f"${{{name}}}" in text
    assert text.count("${") == sum(
        text.count(f"${{{name}}}") for name in machine["DefinitionSubstitutions"]
    )
    assert machine["TracingConfiguration"] == {"Enabled": True}
    other = synthesised.only("plain", "AWS::StepFunctions::StateMachine")
    assert not other.get("TracingConfiguration", {}).get("Enabled")
    assert machine["LoggingConfiguration"]["IncludeExecutionData"] is False


def test_the_machine_calls_the_services_of_its_own_partition(synthesised: Synthesised) -> None:
    machine = synthesised.only("busy", "AWS::StepFunctions::StateMachine")
    _, pieces = machine["DefinitionString"]["Fn::Join"]
    references = [piece for piece in pieces if not isinstance(piece, str)]
    assert len(references) == DEFINITION.read_text().count("arn:aws:states:::") == 7
    assert references == [{"Ref": "AWS::Partition"}] * 7


def test_no_template_names_a_partition(synthesised: Synthesised) -> None:
    given = {"guest"}  # its options name ARNs
    for job in set(synthesised.jobs) - given:
        assert "arn:aws" not in synthesised.path(job).read_text(), job


# Triggers -----------------------------------------------------------------------------------------


def test_a_schedule_has_its_zone_its_retries_and_its_dead_letters(synthesised: Synthesised) -> None:
    schedule = synthesised.only("busy", "AWS::Scheduler::Schedule")
    assert schedule["ScheduleExpression"] == "cron(0 3 ? * MON-FRI *)"
    assert schedule["ScheduleExpressionTimezone"] == "Europe/Berlin"
    target = schedule["Target"]
    assert target["RetryPolicy"]["MaximumRetryAttempts"] > 0
    assert target["DeadLetterConfig"]["Arn"]["Fn::GetAtt"][0].startswith("LostTriggers")
    assert json.loads(target["Input"]) == {
        "schedule": "fanfold-busy-1",
        "scheduled_time": "<aws.scheduler.scheduled-time>",
    }


def test_uploads_start_runs_by_a_prefix_and_a_suffix(synthesised: Synthesised) -> None:
    rules = {
        rule["Name"]: rule
        for rule in synthesised.resources("busy", "AWS::Events::Rule").values()
        if "upload" in rule["Name"]
    }
    keys = [rule["EventPattern"]["detail"]["object"]["key"] for _, rule in sorted(rules.items())]
    assert keys == [[{"prefix": "busy/inputs/"}], [{"wildcard": "drop/*.csv"}]]
    for rule in rules.values():
        (target,) = rule["Targets"]
        assert target["DeadLetterConfig"]
        assert "Input" not in target
    (guest,) = (
        rule
        for rule in synthesised.resources("guest", "AWS::Events::Rule").values()
        if "upload" in rule["Name"]
    )
    assert guest["EventPattern"]["detail"]["bucket"]["name"] == ["landing"]


def test_a_job_without_triggers_has_nothing_of_them(synthesised: Synthesised) -> None:
    for kind in ("AWS::Events::Rule", "AWS::Scheduler::Schedule", "AWS::SNS::Topic"):
        assert not synthesised.resources("plain", kind)


def test_bad_ends_are_told_to_the_topic(synthesised: Synthesised) -> None:
    (rule,) = (
        rule
        for rule in synthesised.resources("guest", "AWS::Events::Rule").values()
        if "bad-ends" in rule["Name"]
    )
    assert rule["EventPattern"]["source"] == ["aws.states"]
    assert rule["EventPattern"]["detail"]["status"] == ["FAILED", "ABORTED", "TIMED_OUT"]
    (target,) = rule["Targets"]
    assert target["Arn"] == "arn:aws:sns:eu-west-1:123456789012:alarms"


# Tags, nag ----------------------------------------------------------------------------------------


def test_everything_is_tagged_from_the_declaration(synthesised: Synthesised) -> None:
    wanted = {"job": "busy", "owner": "data team", "cost-centre": "4711"}
    for kind in (
        BUCKET,
        QUEUE,
        FUNCTION,
        "AWS::StepFunctions::StateMachine",
        "AWS::Logs::LogGroup",
    ):
        for found in synthesised.resources("busy", kind).values():
            assert {tag["Key"]: tag["Value"] for tag in found["Tags"]} == wanted
    tags = synthesised.only("plain", BUCKET)["Tags"]
    assert tags == [{"Key": "job", "Value": "plain"}]


def test_no_function_but_the_five_and_no_custom_resource(synthesised: Synthesised) -> None:
    for job in synthesised.jobs:
        assert len(synthesised.resources(job, FUNCTION)) == len(ROLES)
        kinds = {each["Type"] for each in synthesised.template(job)["Resources"].values()}
        assert not any(kind.startswith(("Custom::", "AWS::CloudFormation::")) for kind in kinds)


def test_cdk_nag_is_asked(tmp_path: Any) -> None:
    """An app with a policy that says `s3:*` on `*` is not synthesised."""
    jobs = write_jobs(tmp_path / "jobs", {"wide": ""})
    app = App(outdir=str(tmp_path / "out"), context={**FLAGS, "jobs": str(jobs)})
    (stack,) = build(app, lambda loaded: empty_code(tmp_path), Settings())
    assert isinstance(stack, Stack)
    role = iam.Role(stack, "Wide", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    role.add_to_policy(iam.PolicyStatement(actions=["s3:*"], resources=["*"]))
    with pytest.raises(RuntimeError, match="ValidationFailed"):
        app.synth()

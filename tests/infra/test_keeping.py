"""What a stack keeps when it is removed, how all of it is encrypted, and how messages travel."""

from __future__ import annotations

from typing import Any

from coordinator.limits import Limits
from coordinator.rules.transport import BURY_SECONDS, COORDINATOR_SECONDS, receives
from tests.infra.conftest import KEY_ARN, Synthesised

BUCKET, KEY, TOPIC = "AWS::S3::Bucket", "AWS::KMS::Key", "AWS::SNS::Topic"
QUEUE, LOGS = "AWS::SQS::Queue", "AWS::Logs::LogGroup"
FUNCTION, MAPPING = "AWS::Lambda::Function", "AWS::Lambda::EventSourceMapping"
DAY = 86_400


def named(synthesised: Synthesised, job: str, kind: str) -> dict[str, dict[str, Any]]:
    """Queues or functions by the last steps of their names."""
    return {
        (each.get("QueueName") or each["FunctionName"]).removeprefix(f"fanfold-{job}-"): each
        for each in synthesised.resources(job, kind).values()
    }


def id_of(synthesised: Synthesised, job: str, kind: str, name: str) -> str:
    """The logical id of a queue or function."""
    found = synthesised.resources(job, kind).items()
    return next(
        key
        for key, each in found
        if f"fanfold-{job}-{name}" in (each.get("QueueName"), each.get("FunctionName"))
    )


# What stays ---------------------------------------------------------------------------------------


def test_data_and_the_key_that_reads_it_outlive_the_stack(synthesised: Synthesised) -> None:
    kept = []
    for job in synthesised.jobs:
        for resource in synthesised.template(job)["Resources"].values():
            if resource["Type"] in {BUCKET, KEY}:
                kept.append((job, resource["Type"]))
                kept_unless_rolled_back = resource["DeletionPolicy"] == "RetainExceptOnCreate"
                assert kept_unless_rolled_back, (job, resource["Type"])
                assert resource["UpdateReplacePolicy"] == "Retain", (job, resource["Type"])
    assert ("sealed", KEY) in kept
    assert ("plain", BUCKET) in kept


def test_logs_are_kept_for_as_long_as_is_asked_for(synthesised: Synthesised) -> None:
    for job, days in (("plain", 30), ("guest", 90)):
        groups = synthesised.resources(job, LOGS).values()
        assert {each["LogGroupName"] for each in groups} == {
            *(f"/aws/lambda/fanfold-{job}-{role}" for role in named(synthesised, job, FUNCTION)),
            f"/aws/vendedlogs/states/fanfold-{job}",
        }
        assert {each["RetentionInDays"] for each in groups} == {days}


def test_every_function_writes_to_its_own_log(synthesised: Synthesised) -> None:
    template = synthesised.template("plain")["Resources"]
    for role, function in named(synthesised, "plain", FUNCTION).items():
        group = template[function["LoggingConfig"]["LogGroup"]["Ref"]]["Properties"]
        assert group["LogGroupName"] == f"/aws/lambda/fanfold-plain-{role}"


# Encryption ---------------------------------------------------------------------------------------


def test_every_queue_is_encrypted(synthesised: Synthesised) -> None:
    for job in synthesised.jobs:
        for name, queue in named(synthesised, job, QUEUE).items():
            assert queue.get("KmsMasterKeyId") or queue.get("SqsManagedSseEnabled") is True, name


def test_a_bucket_is_encrypted_with_the_key_there_is(synthesised: Synthesised) -> None:
    (key,) = synthesised.resources("sealed", KEY)
    for job, wanted in (
        ("plain", {"SSEAlgorithm": "AES256"}),
        ("sealed", {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": {"Fn::GetAtt": [key, "Arn"]}}),
    ):
        (rule,) = synthesised.only(job, BUCKET)["BucketEncryption"][
            "ServerSideEncryptionConfiguration"
        ]
        assert rule["ServerSideEncryptionByDefault"] == wanted
        assert rule.get("BucketKeyEnabled", False) is (job == "sealed")


def test_logs_topics_and_queues_are_encrypted_with_a_key_of_our_own(
    synthesised: Synthesised,
) -> None:
    (key,) = synthesised.resources("sealed", KEY)
    arn = {"Fn::GetAtt": [key, "Arn"]}
    logs = synthesised.resources("sealed", LOGS).values()
    assert [each["KmsKeyId"] for each in logs] == [arn] * 6
    queues = named(synthesised, "sealed", QUEUE)
    assert {name: each["KmsMasterKeyId"] for name, each in queues.items()} == dict.fromkeys(
        ("work", "dead", "lost-triggers"), arn
    )
    assert synthesised.only("sealed", TOPIC)["KmsMasterKeyId"] == arn


def test_someone_elses_key_is_only_asked_for_what_our_roles_write(synthesised: Synthesised) -> None:
    queues = named(synthesised, "guest", QUEUE)
    assert {name: each.get("KmsMasterKeyId") for name, each in queues.items()} == {
        "work": KEY_ARN,
        "dead": KEY_ARN,
        "lost-triggers": None,
    }


def test_the_services_that_write_for_us_may_use_a_key_of_our_own(synthesised: Synthesised) -> None:
    """And what they may do is to encrypt, and to read what they encrypted."""
    policy = synthesised.only("sealed", KEY)["KeyPolicy"]["Statement"]
    used: dict[str, set[str]] = {}
    for statement in policy:
        services = statement["Principal"].get("Service", [])
        for service in services if isinstance(services, list) else [services]:
            name = service if isinstance(service, str) else service["Fn::Join"][1][0]
            used.setdefault(name, set()).update(statement["Action"])
    both = {"kms:Decrypt", "kms:GenerateDataKey*"}
    assert used == {
        "events.amazonaws.com": both,
        "cloudwatch.amazonaws.com": both,
        "logs.": {*both, "kms:Encrypt"},
    }


# Queues and their mappings ------------------------------------------------------------------------


def test_a_message_is_hidden_for_longer_than_its_function_runs(synthesised: Synthesised) -> None:
    for job in synthesised.jobs:
        queues, functions = named(synthesised, job, QUEUE), named(synthesised, job, FUNCTION)
        for queue, role in (("work", "work"), ("dead", "bury")):
            hidden = queues[queue]["VisibilityTimeout"]
            assert hidden == functions[role]["Timeout"] + 60, (job, queue)
        assert functions["bury"]["Timeout"] == BURY_SECONDS
        for role in ("plan", "reconcile", "publish"):
            assert functions[role]["Timeout"] == COORDINATOR_SECONDS


def test_a_message_is_received_as_often_as_the_rules_say_and_then_buried(
    synthesised: Synthesised,
) -> None:
    attempts = {"busy": 8}
    for job in synthesised.jobs:
        queues = named(synthesised, job, QUEUE)
        redrive = queues["work"]["RedrivePolicy"]
        assert redrive["maxReceiveCount"] == receives(Limits(attempts=attempts.get(job, 5))), job
        dead = id_of(synthesised, job, QUEUE, "dead")
        assert redrive["deadLetterTargetArn"] == {"Fn::GetAtt": [dead, "Arn"]}
        assert "RedrivePolicy" not in queues["dead"]


def test_how_long_queues_keep_what_nobody_takes(synthesised: Synthesised) -> None:
    queues = named(synthesised, "busy", QUEUE)
    kept = {name: each["MessageRetentionPeriod"] / DAY for name, each in queues.items()}
    assert kept == {"work": 4, "dead": 14, "lost-triggers": 14}


def test_what_each_mapping_hands_to_its_function(synthesised: Synthesised) -> None:
    mappings = {
        each["EventSourceArn"]["Fn::GetAtt"][0]: each
        for each in synthesised.resources("busy", MAPPING).values()
    }
    for queue, role, batch, at_once in (("work", "work", 1, 50), ("dead", "bury", 10, 2)):
        mapping = dict(mappings.pop(id_of(synthesised, "busy", QUEUE, queue)))
        del mapping["EventSourceArn"], mapping["Tags"]
        assert mapping == {
            "BatchSize": batch,
            "FunctionName": {"Ref": id_of(synthesised, "busy", FUNCTION, role)},
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
            "ScalingConfig": {"MaximumConcurrency": at_once},
        }
    assert not mappings


def test_every_queue_of_every_job_has_its_mapping(synthesised: Synthesised) -> None:
    for job in synthesised.jobs:
        found = synthesised.resources(job, MAPPING).values()
        assert sorted(each["EventSourceArn"]["Fn::GetAtt"][0] for each in found) == sorted(
            id_of(synthesised, job, QUEUE, name) for name in ("work", "dead")
        )
        for each in found:
            assert each["FunctionResponseTypes"] == ["ReportBatchItemFailures"], job
            assert each.get("Enabled", True) is True

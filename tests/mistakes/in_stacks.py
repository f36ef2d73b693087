"""Mistakes in the queues, the functions, the bucket and the key of a stack."""

from __future__ import annotations

from tests.infra import test_keeping, test_stack
from tests.mistakes.templates import Resources, TemplateMistake, every, function, mapping, queue

BUCKET = "AWS::S3::Bucket"
KEY = "AWS::KMS::Key"
LOGS = "AWS::Logs::LogGroup"


# ------------------------------------------------------------------------------------------------
# Queues and mappings
# ------------------------------------------------------------------------------------------------


def a_message_is_received_once(resources: Resources) -> None:
    queue(resources, "work")["RedrivePolicy"]["maxReceiveCount"] = 1


def dead_letters_go_nowhere(resources: Resources) -> None:
    del queue(resources, "work")["RedrivePolicy"]


def a_message_is_seen_again_while_its_function_runs(resources: Resources) -> None:
    queue(resources, "work")["VisibilityTimeout"] = 60


def a_dead_letter_is_seen_again_while_it_is_buried(resources: Resources) -> None:
    del queue(resources, "dead")["VisibilityTimeout"]


def dead_letters_are_forgotten_in_four_days(resources: Resources) -> None:
    queue(resources, "dead")["MessageRetentionPeriod"] = 345_600


def lost_triggers_are_forgotten_in_four_days(resources: Resources) -> None:
    del queue(resources, "lost-triggers")["MessageRetentionPeriod"]


def one_dead_letter_takes_its_batch_with_it(resources: Resources) -> None:
    del mapping(resources, "QueuesDeadLetters")["FunctionResponseTypes"]


def failed_shards_are_deleted(resources: Resources) -> None:
    mapping(resources, "QueuesWork")["FunctionResponseTypes"] = []


def dead_letters_are_buried_by_any_number(resources: Resources) -> None:
    del mapping(resources, "QueuesDeadLetters")["ScalingConfig"]


def dead_letters_come_one_by_one(resources: Resources) -> None:
    mapping(resources, "QueuesDeadLetters")["BatchSize"] = 1


def shards_come_ten_at_a_time(resources: Resources) -> None:
    mapping(resources, "QueuesWork")["BatchSize"] = 10


def nobody_buries(resources: Resources) -> None:
    mapping(resources, "QueuesDeadLetters")["Enabled"] = False


def workers_take_dead_letters(resources: Resources) -> None:
    work = mapping(resources, "QueuesWork")["FunctionName"]
    mapping(resources, "QueuesDeadLetters")["FunctionName"] = work


# ------------------------------------------------------------------------------------------------
# Encryption, and what stays
# ------------------------------------------------------------------------------------------------


def messages_lie_in_the_clear(resources: Resources) -> None:
    queue(resources, "work")["SqsManagedSseEnabled"] = False


def lost_triggers_have_another_key(resources: Resources) -> None:
    lost = queue(resources, "lost-triggers")
    del lost["KmsMasterKeyId"]
    lost["SqsManagedSseEnabled"] = True


def objects_have_another_key(resources: Resources) -> None:
    (bucket,) = every(resources, BUCKET)
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    rule["ServerSideEncryptionByDefault"] = {"SSEAlgorithm": "AES256"}


def logs_lie_in_the_clear(resources: Resources) -> None:
    for group in every(resources, LOGS):
        if group["LogGroupName"].startswith("/aws/vendedlogs"):
            del group["KmsKeyId"]


def logs_are_kept_for_ever(resources: Resources) -> None:
    for group in every(resources, LOGS):
        del group["RetentionInDays"]


def results_go_with_the_stack(resources: Resources) -> None:
    (bucket,) = (each for each in resources.values() if each["Type"] == BUCKET)
    bucket["DeletionPolicy"] = "Delete"


def results_go_with_a_replaced_bucket(resources: Resources) -> None:
    (bucket,) = (each for each in resources.values() if each["Type"] == BUCKET)
    del bucket["UpdateReplacePolicy"]


def the_key_goes_with_the_stack(resources: Resources) -> None:
    (key,) = (each for each in resources.values() if each["Type"] == KEY)
    key["DeletionPolicy"] = "Delete"


def the_key_is_never_rotated(resources: Resources) -> None:
    (key,) = every(resources, KEY)
    key["EnableKeyRotation"] = False


def alarms_may_not_use_the_key(resources: Resources) -> None:
    (key,) = every(resources, KEY)
    for each in key["KeyPolicy"]["Statement"]:
        if isinstance(each["Principal"].get("Service"), list):
            each["Principal"]["Service"].remove("cloudwatch.amazonaws.com")


def results_expire(resources: Resources) -> None:
    (bucket,) = every(resources, BUCKET)
    bucket["LifecycleConfiguration"]["Rules"][0]["Prefix"] = "plain/"


# ------------------------------------------------------------------------------------------------
# Functions
# ------------------------------------------------------------------------------------------------


def the_coordinator_has_a_minute(resources: Resources) -> None:
    function(resources, "reconcile")["Timeout"] = 60


def bury_has_three_seconds(resources: Resources) -> None:
    del function(resources, "bury")["Timeout"]


def plan_logs_to_work(resources: Resources) -> None:
    group = function(resources, "work")["LoggingConfig"]
    function(resources, "plan")["LoggingConfig"] = group


MAPPINGS = test_keeping.test_what_each_mapping_hands_to_its_function
HIDDEN = test_keeping.test_a_message_is_hidden_for_longer_than_its_function_runs
STAYS = test_keeping.test_data_and_the_key_that_reads_it_outlive_the_stack
RECEIVED = test_keeping.test_a_message_is_received_as_often_as_the_rules_say_and_then_buried
KEPT = test_keeping.test_how_long_queues_keep_what_nobody_takes
OWN_KEY = test_keeping.test_logs_topics_and_queues_are_encrypted_with_a_key_of_our_own

MISTAKES = (
    TemplateMistake("busy", a_message_is_received_once, (RECEIVED,)),
    TemplateMistake("busy", dead_letters_go_nowhere, (RECEIVED,)),
    TemplateMistake("busy", a_message_is_seen_again_while_its_function_runs, (HIDDEN,)),
    TemplateMistake("busy", a_dead_letter_is_seen_again_while_it_is_buried, (HIDDEN,)),
    TemplateMistake("busy", dead_letters_are_forgotten_in_four_days, (KEPT,)),
    TemplateMistake("busy", lost_triggers_are_forgotten_in_four_days, (KEPT,)),
    TemplateMistake("busy", one_dead_letter_takes_its_batch_with_it, (MAPPINGS,)),
    TemplateMistake("busy", failed_shards_are_deleted, (MAPPINGS,)),
    TemplateMistake("busy", dead_letters_are_buried_by_any_number, (MAPPINGS,)),
    TemplateMistake("busy", dead_letters_come_one_by_one, (MAPPINGS,)),
    TemplateMistake("busy", shards_come_ten_at_a_time, (MAPPINGS,)),
    TemplateMistake("busy", nobody_buries, (MAPPINGS,)),
    TemplateMistake("busy", workers_take_dead_letters, (MAPPINGS,)),
    TemplateMistake(
        "plain", messages_lie_in_the_clear, (test_keeping.test_every_queue_is_encrypted,)
    ),
    TemplateMistake("sealed", lost_triggers_have_another_key, (OWN_KEY,)),
    TemplateMistake(
        "sealed",
        objects_have_another_key,
        (test_keeping.test_a_bucket_is_encrypted_with_the_key_there_is,),
    ),
    TemplateMistake("sealed", logs_lie_in_the_clear, (OWN_KEY,)),
    TemplateMistake(
        "plain",
        logs_are_kept_for_ever,
        (test_keeping.test_logs_are_kept_for_as_long_as_is_asked_for,),
    ),
    TemplateMistake("plain", results_go_with_the_stack, (STAYS,)),
    TemplateMistake("sealed", results_go_with_a_replaced_bucket, (STAYS,)),
    TemplateMistake("sealed", the_key_goes_with_the_stack, (STAYS,)),
    TemplateMistake(
        "sealed", the_key_is_never_rotated, (test_stack.test_a_key_of_our_own_encrypts_everything,)
    ),
    TemplateMistake(
        "sealed",
        alarms_may_not_use_the_key,
        (test_keeping.test_the_services_that_write_for_us_may_use_a_key_of_our_own,),
    ),
    TemplateMistake("plain", results_expire, (test_stack.test_runs_expire_and_results_never_do,)),
    TemplateMistake("plain", the_coordinator_has_a_minute, (HIDDEN,)),
    TemplateMistake("plain", bury_has_three_seconds, (HIDDEN,)),
    TemplateMistake(
        "plain", plan_logs_to_work, (test_keeping.test_every_function_writes_to_its_own_log,)
    ),
)

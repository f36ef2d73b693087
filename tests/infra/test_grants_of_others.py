"""What `fanfold grants` prints for the owners of other accounts' buckets and keys."""

from __future__ import annotations

import hashlib

import pytest

from coordinator.errors import InputInvalid
from coordinator.formats.lines import Lines
from coordinator.job import Job
from coordinator.triggers import OnUpload
from infra.grants import Readers, bucket_policies, input_locations, key_policy
from infra.options import read_options
from tests.infra.conftest import KEY_ARN

PLAN = "arn:aws:iam::123456789012:role/fanfold-words-Plan"
WORK = "arn:aws:iam::123456789012:role/fanfold-words-Work"
READERS = Readers("big-words", PLAN, WORK)


def test_inputs_lie_where_options_and_triggers_say() -> None:
    job = Job(name="words", source=Lines(), triggers=[OnUpload("new/")])
    job.map(lambda line: [line])
    given = read_options({"inputs": "s3://lake/raw/*.csv,s3://lake/extra/", "uploads": "landing"})
    assert input_locations(job, given, "own") == (
        ("lake", "raw/"),
        ("lake", "extra/"),
        ("landing", "new/"),
    )
    assert input_locations(job, read_options({}), "own") == (
        ("own", "words/inputs/"),
        ("own", "new/"),
    )


def test_a_bucket_lets_both_roles_list_and_read_below_the_prefixes() -> None:
    job = Job(name="words", source=Lines())
    given = read_options({"inputs": "s3://lake/raw/a*,s3://lake/raw/a*.csv,s3://pond/"})
    policies = bucket_policies(READERS, input_locations(job, given, "own"))

    assert set(policies) == {"lake", "pond"}
    assert policies["pond"]["Statement"][0]["Condition"] == {
        "StringLikeIfExists": {"s3:prefix": ["*"]}
    }
    lists, reads = policies["lake"]["Statement"]
    digest = hashlib.sha256(READERS.job.encode()).hexdigest()[:8]
    assert lists == {
        "Sid": f"FanfoldBigWords{digest}Lists",
        "Effect": "Allow",
        "Principal": {"AWS": [PLAN, WORK]},
        "Action": "s3:ListBucket",
        "Resource": "arn:aws:s3:::lake",
        "Condition": {"StringLikeIfExists": {"s3:prefix": ["raw/a*"]}},
    }
    assert reads == {
        "Sid": f"FanfoldBigWords{digest}Reads",
        "Effect": "Allow",
        "Principal": {"AWS": [PLAN, WORK]},
        "Action": ["s3:GetObject", "s3:GetObjectVersion"],
        "Resource": ["arn:aws:s3:::lake/raw/a*"],
    }


@pytest.mark.parametrize(
    ("partition", "via"),
    [
        ("aws", "s3.eu-west-1.amazonaws.com"),
        ("aws-us-gov", "s3.eu-west-1.amazonaws.com"),
        ("aws-cn", "s3.eu-west-1.amazonaws.com.cn"),
    ],
)
def test_a_key_lets_both_roles_decrypt_by_s3_alone(partition: str, via: str) -> None:
    readers = Readers("words", PLAN.replace("aws", partition), WORK.replace("aws", partition))
    [statement] = key_policy(readers, KEY_ARN)["Statement"]
    assert statement["Action"] == "kms:Decrypt"
    assert statement["Principal"] == {"AWS": [readers.plan, readers.work]}
    assert statement["Condition"] == {"StringEquals": {"kms:ViaService": via}}


def test_a_stack_that_names_no_roles_has_to_be_deployed_again() -> None:
    with pytest.raises(InputInvalid, match="no output WorkRoleArn: deploy the job again"):
        Readers.from_outputs("words", {"PlanRoleArn": PLAN})

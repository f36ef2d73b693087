"""Where a job's inputs lie, and what other accounts have to allow for it to read them: texts to put
into their policies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from coordinator.errors import InputInvalid
from coordinator.job import Job
from coordinator.keys import JobKeys
from infra.checks import uploads
from infra.options import Location, Options

Policy = dict[str, Any]

VERSION = "2012-10-17"  # of the policy language


@dataclass(frozen=True, slots=True)
class Readers:
    """The roles that list and read a job's inputs."""

    job: str
    plan: str
    work: str

    @property
    def partition(self) -> str:
        """That of the account: aws, aws-us-gov, aws-cn."""
        return self.plan.split(":")[1]

    @classmethod
    def from_outputs(cls, job: str, outputs: Mapping[str, str]) -> Readers:
        """The roles that a stack names.

        Raises:
            InputInvalid: it names none.
        """
        try:
            return cls(job, outputs["PlanRoleArn"], outputs["WorkRoleArn"])
        except KeyError as missing:
            raise InputInvalid(
                f"The stack of job {job} has no output {missing.args[0]}: deploy the job again first."
            ) from missing


def input_locations(job: Job, options: Options, bucket: str) -> tuple[Location, ...]:
    """Where a job's inputs lie: as given by option, or its own folder; and what uploads start."""
    given = options.input_locations() or (Location(bucket, JobKeys(job.name).inputs),)
    uploaded = (
        Location(options.uploads or bucket, upload.prefix) for upload in uploads(job.triggers)
    )
    return (*given, *uploaded)


def patterns(locations: Iterable[Location]) -> dict[str, list[str]]:
    """By bucket, what the keys of these inputs look like."""
    found: dict[str, list[str]] = {}
    for bucket, prefix in locations:
        known = found.setdefault(bucket, [])
        if f"{prefix}*" not in known:
            known.append(f"{prefix}*")
    return found


def bucket_policies(readers: Readers, locations: Iterable[Location]) -> dict[str, Policy]:
    """By bucket, the statements that its policy needs for these inputs."""
    by_bucket = patterns(locations)
    return {bucket: _bucket_policy(readers, bucket, keys) for bucket, keys in by_bucket.items()}


def key_policy(readers: Readers, key_arn: str) -> Policy:
    """The statement that the policy of a key needs, by which inputs are encrypted."""
    region = key_arn.split(":")[3]
    domain = "amazonaws.com.cn" if readers.partition == "aws-cn" else "amazonaws.com"
    return _policy(
        {
            "Sid": _sid(readers, "Decrypts"),
            "Effect": "Allow",
            "Principal": {"AWS": [readers.plan, readers.work]},
            "Action": "kms:Decrypt",
            "Resource": "*",  # in a key's own policy: this key
            "Condition": {"StringEquals": {"kms:ViaService": f"s3.{region}.{domain}"}},
        }
    )


def _bucket_policy(readers: Readers, bucket: str, keys: list[str]) -> Policy:
    arn = f"arn:{readers.partition}:s3:::{bucket}"
    who = {"AWS": [readers.plan, readers.work]}
    return _policy(
        {
            "Sid": _sid(readers, "Lists"),
            "Effect": "Allow",
            "Principal": who,
            "Action": "s3:ListBucket",
            "Resource": arn,
            "Condition": {"StringLikeIfExists": {"s3:prefix": keys}},
        },
        {
            "Sid": _sid(readers, "Reads"),
            "Effect": "Allow",
            "Principal": who,
            "Action": ["s3:GetObject", "s3:GetObjectVersion"],
            "Resource": [f"{arn}/{each}" for each in keys],
        },
    )


def _policy(*statements: Policy) -> Policy:
    return {"Version": VERSION, "Statement": list(statements)}


def _sid(readers: Readers, does: str) -> str:
    """A statement's name, of letters and digits only: no two jobs have one."""
    name = "".join(part.capitalize() for part in readers.job.split("-"))
    digest = hashlib.sha256(readers.job.encode()).hexdigest()[:8]
    return f"Fanfold{name}{digest}{does}"

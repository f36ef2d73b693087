"""The account that a job is deployed to, and what is deployed there already."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra.advice import DeploymentFailed, advice

if TYPE_CHECKING:
    import boto3

METADATA = "Fanfold"  # where a template says what it was made with
NOT_THERE = frozenset({"REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE", "DELETE_COMPLETE"})


@dataclass(frozen=True, slots=True)
class Standing:
    """A stack that is deployed: its outputs, and the options that it was given."""

    outputs: dict[str, str]
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Account:
    """An account and Region, as a profile and the environment lead to them."""

    profile: str | None = None
    region: str | None = None

    def variables(self) -> dict[str, str]:
        """What a process has in its environment that works in this Region."""
        return {"AWS_REGION": self.region, "AWS_DEFAULT_REGION": self.region} if self.region else {}

    def environment(self) -> str:
        """The account and Region, as CDK names them.

        Raises:
            DeploymentFailed: there are no credentials that work, or no Region.
        """
        with self.asking() as session:
            number = session.client("sts").get_caller_identity()["Account"]
        return f"aws://{number}/{session.region_name}"

    def standing(self, stack: str) -> Standing | None:
        """A deployed stack; None where there is none.

        Raises:
            DeploymentFailed: AWS can't be asked.
        """
        from botocore.exceptions import ClientError

        with self.asking() as session:
            client = session.client("cloudformation")
            try:
                found = client.describe_stacks(StackName=stack)["Stacks"][0]
            except ClientError as error:
                if "does not exist" in str(error):
                    return None
                raise
            if found["StackStatus"] in NOT_THERE:
                return None
            template: Any = client.get_template(StackName=stack)["TemplateBody"]
        outputs = {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])}
        known = template.get("Metadata", {}).get(METADATA, {})
        return Standing(outputs, dict(known.get("options", {})))

    def running(self, machine_arn: str) -> list[str]:
        """The names of a state machine's executions that have not ended.

        Raises:
            DeploymentFailed: AWS can't be asked.
        """
        with self.asking() as session:
            pages = session.client("stepfunctions").get_paginator("list_executions")
            asked = pages.paginate(stateMachineArn=machine_arn, statusFilter="RUNNING")
            return [each["name"] for page in asked for each in page["executions"]]

    def check_bucket(self, bucket: str) -> None:
        """Refuse a bucket of another account or Region: a Distributed Map reads and writes in its
        own alone, and events of uploads arrive only there.

        Source: "Importing data", Distributed Map, Step Functions developer guide.

        Raises:
            DeploymentFailed: it is of another, does not exist, or AWS can't be asked.
        """
        from botocore.exceptions import ClientError

        with self.asking() as session:
            number = session.client("sts").get_caller_identity()["Account"]
            try:
                found = session.client("s3").head_bucket(Bucket=bucket, ExpectedBucketOwner=number)
            except ClientError as error:
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                if status not in {403, 404}:
                    raise
                why = "does not exist" if status == 404 else f"is not one of account {number}"
                raise DeploymentFailed(
                    f"The bucket {bucket} {why}, or may not be seen: take one of the account and "
                    "Region that the job is deployed to."
                ) from error
            region = found.get("BucketRegion", session.region_name)
            if region != session.region_name:
                raise DeploymentFailed(
                    f"The bucket {bucket} lies in {region}, and the job is deployed to "
                    f"{session.region_name}: take a bucket there, or deploy with --region {region}."
                )

    @contextmanager
    def asking(self) -> Iterator[boto3.Session]:
        """A session, for what else is to be asked.

        Raises:
            DeploymentFailed: what is asked of it failed; with what to do, where that is known.
        """
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError, NoRegionError

        try:
            # CDK heeds AWS_REGION, boto3 does not.
            region = self.region or os.environ.get("AWS_REGION") or None
            session = boto3.Session(profile_name=self.profile, region_name=region)
            if not session.region_name:
                raise NoRegionError
            yield session
        except (BotoCoreError, ClientError) as error:
            said = " ".join(str(error).split())
            raise DeploymentFailed(advice(said) or f"AWS refused: {said.rstrip('.')}.") from error

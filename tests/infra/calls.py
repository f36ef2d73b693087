"""The calls that each function makes to AWS, with the permissions that they take."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from botocore.client import BaseClient

from tests.cloud.harness.functions import ACCOUNT, REGION, running_function

# Source: Service Authorization Reference, and S3's "Required permissions for S3 API operations".
OBJECT_ACTIONS = {
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
}
BUCKET_ACTIONS = {
    "ListObjectsV2": "s3:ListBucket",
    "ListObjectVersions": "s3:ListBucketVersions",
    "GetBucketVersioning": "s3:GetBucketVersioning",
}
TOKEN_ACTIONS = {"SendTaskSuccess", "SendTaskFailure"}


@dataclass(frozen=True)
class Need:
    """A permission that a call took."""

    action: str
    resource: str
    prefix: str | None = None


@dataclass(frozen=True)
class Call:
    """A call that a function made."""

    function: str
    service: str
    operation: str
    parameters: dict[str, Any]

    def needs(self, machine_arn: str) -> Iterator[Need]:
        """What it takes of the function's role.

        Raises:
            KeyError: no one has said what the operation takes.
        """
        if self.service == "s3":
            yield from self._s3_needs()
        elif self.service == "sqs":
            name = self.parameters["QueueUrl"].rpartition("/")[2]
            yield Need(f"sqs:{self.operation}", f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}")
        elif self.service == "stepfunctions" and self.operation in TOKEN_ACTIONS:
            # What AWS checks is not documented: every form that this machine's tokens may have.
            execution = machine_arn.replace(":stateMachine:", ":execution:")
            children = f"{machine_arn.replace(':stateMachine:', ':mapRun:')}/FanOut:1"
            forms = (machine_arn, f"{machine_arn}/FanOut", f"{machine_arn}:1", children)
            for form in (*forms, f"{execution}:run", f"{execution}/FanOut:child"):
                yield Need(f"states:{self.operation}", form)
        elif self.service == "stepfunctions":
            yield Need(f"states:{self.operation}", self.parameters["executionArn"])
        else:
            raise KeyError(f"{self.service}.{self.operation}")

    def _s3_needs(self) -> Iterator[Need]:
        bucket = f"arn:aws:s3:::{self.parameters['Bucket']}"
        if self.operation in BUCKET_ACTIONS:
            prefix = self.parameters.get("Prefix")
            yield Need(BUCKET_ACTIONS[self.operation], bucket, prefix)
            return
        action = OBJECT_ACTIONS[self.operation]
        resource = f"{bucket}/{self.parameters['Key']}"
        if action == "s3:GetObject" and "VersionId" in self.parameters:
            action = "s3:GetObjectVersion"
        yield Need(action, resource)
        if self.operation == "PutObject" and "IfMatch" in self.parameters:
            yield Need("s3:GetObject", resource)


@contextmanager
def recorded() -> Iterator[list[Call]]:
    """All calls that functions make, threads of theirs included."""
    calls: list[Call] = []
    make_call: Any = vars(BaseClient)["_make_api_call"]
    submit: Any = ThreadPoolExecutor.submit

    def recording_call(self: Any, operation: str, parameters: Any) -> Any:
        function = running_function.get()
        if function is not None:
            service = self.meta.service_model.service_name
            calls.append(Call(function, service, operation, dict(parameters)))
        return make_call(self, operation, parameters)

    def submit_in_context(self: Any, function: Any, /, *args: Any, **options: Any) -> Any:
        return submit(self, copy_context().run, function, *args, **options)

    with (
        patch.object(BaseClient, "_make_api_call", recording_call),
        patch.object(ThreadPoolExecutor, "submit", submit_in_context),
    ):
        yield calls

"""S3 on moto, with faults that tests script."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import boto3.session
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Answer = tuple[AWSResponse, dict[str, Any]]


@cache
def session() -> boto3.session.Session:
    """One for all clients: it keeps the description of S3, which takes long to load."""
    return boto3.session.Session()


def new_client(tries: int = 1) -> S3Client:
    return session().client(
        "s3",
        region_name="us-east-1",
        config=Config(
            retries={"mode": "standard", "total_max_attempts": tries}, max_pool_connections=50
        ),
    )


def new_bucket(client: S3Client) -> str:
    name = f"bucket-{uuid4()}"
    client.create_bucket(Bucket=name)
    return name


def no_sleep(seconds: float) -> None:
    assert seconds >= 0


def refusal(code: str, status: int, *, retries: int = 0) -> Answer:
    """An answer with which S3 refuses a request."""
    parsed = {
        "Error": {"Code": code, "Message": f"scripted {code}"},
        "ResponseMetadata": {"HTTPStatusCode": status, "RetryAttempts": retries},
    }
    return AWSResponse("https://s3", status, HTTPHeaders(), b""), parsed


class Faults:
    """Scripted faults of one client, and the requests that it made.

    Scripts are taken one a request, in order; when they are used up, requests work.
    """

    def __init__(self, client: S3Client) -> None:
        self.requests: list[tuple[str, Mapping[str, Any]]] = []
        self._events = client.meta.events
        self._events.register_first("before-call.s3.*", self._record)

    def refuse(self, operation: str, *answers: Answer) -> None:
        """These answers, without the request being carried out."""
        script = iter(answers)

        def handler(**_: object) -> Any:
            return next(script, None)

        self._events.register(f"before-call.s3.{operation}", handler)

    def lose(self, operation: str, *errors: Exception | None, carried_out: bool) -> None:
        """These errors of the connection, before or after the request is carried out."""
        script = iter(errors)

        def handler(event_name: str, **_: object) -> None:
            if event_name.endswith(f".{operation}") and (error := next(script, None)) is not None:
                raise error

        if carried_out:  # handlers of the general event come after those of the special, and moto
            self._events.register_last("before-send", handler)
        else:
            self._events.register_first(f"before-send.s3.{operation}", handler)

    def change(self, operation: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change every answer to an operation in place."""
        self._events.register(f"after-call.s3.{operation}", lambda parsed, **_: change(parsed))

    def of(self, operation: str) -> list[Mapping[str, str]]:
        """The headers of every request for this operation."""
        return [headers for name, headers in self.requests if name == operation]

    def _record(self, model: Any, params: dict[str, Any], **_: object) -> None:
        headers = {str(name).lower(): value for name, value in params["headers"].items()}
        self.requests.append((model.name, headers))


class Breaking:
    """A body that gives a few bytes and then loses its connection, or just ends."""

    def __init__(self, body: Any, size: int, error: Exception | None) -> None:
        self._body = body
        self._left = size
        self._error = error

    def read(self, size: int) -> bytes:
        if not self._left and self._error is not None:
            raise self._error
        piece: bytes = self._body.read(min(size, self._left))
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        self._body.close()


def break_off(faults: Faults, *sizes: int, error: Exception | None) -> None:
    """Let the next bodies break off after so many bytes."""
    script = iter(sizes)

    def change(parsed: dict[str, Any]) -> None:
        if "Body" in parsed and (size := next(script, None)) is not None:
            parsed["Body"] = Breaking(parsed["Body"], size, error)

    faults.change("GetObject", change)

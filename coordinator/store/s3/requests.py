"""Requests to S3, and what became of them. With `functions/`, the only place that knows boto3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from random import SystemRandom
from typing import TYPE_CHECKING

import boto3.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError as BotoConnectionError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    TokenRetrievalError,
)
from urllib3.exceptions import HTTPError

from coordinator.errors import (
    FanfoldError,
    OutcomeUnknown,
    OutputUnwritable,
    StoreUnavailable,
)
from coordinator.store.s3.transfers import Body, BodyBroken, Fetched

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

THREADS = 32


def client_config(*, read_timeout_seconds: int, connections: int = 10) -> Config:
    """How every client of ours waits and tries again.

    Retries are botocore's `standard` ones, five tries in all: `adaptive` would slow down every
    thread for one throttled prefix.
    """
    return Config(
        retries={"mode": "standard", "total_max_attempts": 5},
        connect_timeout=5,
        read_timeout=read_timeout_seconds,
        tcp_keepalive=True,
        max_pool_connections=connections,
    )


def make_client(
    *, threads: int = THREADS, region: str | None = None, endpoint_url: str | None = None
) -> S3Client:
    """A client with time-outs, retries and a connection for each of so many threads."""
    config = client_config(read_timeout_seconds=60, connections=threads + 4)
    session = boto3.session.Session()  # the default session is no friend of threads
    return session.client("s3", region_name=region, endpoint_url=endpoint_url, config=config)


# Of the operating system: containers thawed from one snapshot would share a generator's state.
_uniform = SystemRandom().random


def full_jitter(attempt: int, uniform: Callable[[], float] = _uniform) -> float:
    """Seconds to wait before try `attempt + 1`: anything up to 0.1 × 2^attempt, 5 at most."""
    return uniform() * min(5.0, 0.1 * 2.0**attempt)


# ------------------------------------------------------------------------------------------------
# What went wrong
# ------------------------------------------------------------------------------------------------


class Cause(Enum):
    """Why a request failed, by error code and status; never by the text of a message."""

    MISSING = "missing"
    NO_BUCKET = "no such bucket"
    REFUSED = "precondition failed"
    CONFLICT = "concurrent conflict"
    BEYOND = "range beyond the end"
    DENIED = "denied"
    ARCHIVED = "archived"
    THROTTLED = "throttled"
    CORRUPTED = "corrupted on the way"
    FAULT = "server fault"
    LOST = "connection lost"
    OTHER = "other"


_CAUSE_OF_CODE = {
    "NoSuchKey": Cause.MISSING,
    "NoSuchVersion": Cause.MISSING,
    "NoSuchUpload": Cause.MISSING,
    "NoSuchBucket": Cause.NO_BUCKET,
    "PreconditionFailed": Cause.REFUSED,
    "ConditionalRequestConflict": Cause.CONFLICT,
    "OperationAborted": Cause.CONFLICT,
    "InvalidRange": Cause.BEYOND,
    "InvalidObjectState": Cause.ARCHIVED,
    "AccessDenied": Cause.DENIED,
    "ExpiredToken": Cause.DENIED,
    "InvalidToken": Cause.DENIED,
    "TokenRefreshRequired": Cause.DENIED,
    "SlowDown": Cause.THROTTLED,
    "Throttling": Cause.THROTTLED,
    "ThrottlingException": Cause.THROTTLED,
    "RequestLimitExceeded": Cause.THROTTLED,
    "TooManyRequests": Cause.THROTTLED,
    "BadDigest": Cause.CORRUPTED,
    "XAmzContentSHA256Mismatch": Cause.CORRUPTED,
    "XAmzContentChecksumMismatch": Cause.CORRUPTED,
    "IncompleteBody": Cause.CORRUPTED,
    "RequestTimeout": Cause.LOST,
}
# The answer to a HEAD has no body, and so no code.
_CAUSE_OF_STATUS = {
    403: Cause.DENIED,
    404: Cause.MISSING,
    409: Cause.CONFLICT,
    412: Cause.REFUSED,
    416: Cause.BEYOND,
    429: Cause.THROTTLED,
}
_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
)


class Trouble(Exception):
    """A request that failed. `retried` tells that it was sent more than once, so that an earlier
    try may have been carried out whatever became of the last."""

    def __init__(self, cause: Cause, reason: str, *, retried: bool = False) -> None:
        super().__init__(reason)
        self.cause = cause
        self.reason = reason
        self.retried = retried

    @property
    def passing(self) -> bool:
        """Whether the same request, made again, may well succeed."""
        return self.cause in _PASSING

    def on_reading(self, address: str, permission: str, fatal: type[FanfoldError]) -> FanfoldError:
        """The error for a person when a read failed: `fatal` is what trying again can't mend."""
        if self.passing:
            return StoreUnavailable(f"{address} can't be read just now ({self.reason}).")
        return fatal(f"{address} can't be read: {self._advice(permission)}")

    def on_writing(self, address: str, permission: str) -> FanfoldError:
        """The error for a person when a write failed; it says whether it may have happened."""
        if self.cause in {Cause.LOST, Cause.FAULT} or (self.passing and self.retried):
            return OutcomeUnknown(
                f"Whether {address} was written is not known ({self.reason}). Read it back."
            )
        if self.passing:
            return StoreUnavailable(f"{address} can't be written just now ({self.reason}).")
        return OutputUnwritable(f"{address} can't be written: {self._advice(permission)}")

    def _advice(self, permission: str) -> str:
        if self.cause is Cause.DENIED:
            return (
                f"the role or user needs {permission} there ({self.reason}). "
                "Grant it, then run the same command again."
            )
        if self.cause is Cause.NO_BUCKET:
            return "its bucket does not exist. Make it or name another, then run again."
        if self.cause is Cause.ARCHIVED:
            return "it is archived. Restore it first, then run the same command again."
        return f"{self.reason}. Once that is mended, run the same command again."


_PASSING = {Cause.THROTTLED, Cause.CORRUPTED, Cause.FAULT, Cause.LOST, Cause.CONFLICT}


@contextmanager
def requesting() -> Iterator[None]:
    """Turn what a request of boto3 raises into `Trouble`."""
    try:
        yield
    except ClientError as error:
        raise trouble_of(error) from error
    except (HTTPClientError, BotoConnectionError) as error:
        raise Trouble(Cause.LOST, _one_line(error), retried=True) from error
    except _CREDENTIALS as error:
        raise Trouble(Cause.DENIED, _one_line(error)) from error
    except FlexibleChecksumError as error:
        raise Trouble(Cause.CORRUPTED, _one_line(error)) from error
    except BotoCoreError as error:
        raise Trouble(Cause.OTHER, _one_line(error)) from error


def trouble_of(error: ClientError) -> Trouble:
    """What an answer of AWS that is an error stands for, of S3 or of another service."""
    code = error.response.get("Error", {}).get("Code", "")
    metadata = error.response.get("ResponseMetadata", {})
    cause = cause_of_code(code, metadata.get("HTTPStatusCode", 0))
    return Trouble(cause, _one_line(error), retried=metadata.get("RetryAttempts", 0) > 0)


def cause_of_code(code: str, status: int) -> Cause:
    """The cause that an error code, or the status where there is none, stands for."""
    cause = _CAUSE_OF_CODE.get(code) or _CAUSE_OF_STATUS.get(status)
    if cause is not None:
        return cause
    return Cause.FAULT if status >= 500 else Cause.OTHER


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


class StreamedBody:
    """The body of a GetObject, whose broken connections become `BodyBroken`."""

    def __init__(self, stream: Body, address: str) -> None:
        self._stream = stream
        self._address = address

    def read(self, size: int, /) -> bytes:
        try:
            return self._stream.read(size)
        except FlexibleChecksumError as error:
            raise StoreUnavailable(
                f"{self._address} arrived corrupted ({_one_line(error)}). Try again."
            ) from error
        except (HTTPClientError, IncompleteReadError, HTTPError, OSError) as error:
            raise BodyBroken(_one_line(error)) from error

    def close(self) -> None:
        self._stream.close()


def fetched(answer: GetObjectOutputTypeDef, address: str) -> Fetched:
    """The answer of a GetObject as a reader takes it."""
    size = answer["ContentLength"]
    if of_whole := answer.get("ContentRange"):
        size = int(of_whole.rpartition("/")[2])
    return Fetched(StreamedBody(answer["Body"], address), size)

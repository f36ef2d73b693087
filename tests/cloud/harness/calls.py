"""Every call to AWS that is made in this process, on its way to moto."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import boto3
from botocore.awsrequest import AWSPreparedRequest
from moto.core.base_backend import BaseBackend
from moto.core.botocore_stubber import BotocoreStubber

from tests.cloud.harness.faults import Faults
from tests.cloud.harness.functions import running_function
from tests.cloud.harness.records import ApiCall, Records

INTERPRETER_KEY = "ak"  # moto's own
HARNESS_KEY = "harness"
LOCKED_SERVICES = frozenset({"s3", "sqs", "states"})


class CallHost(Protocol):
    """The cloud that is called."""

    records: Records
    faults: Faults

    def lock_of(self, service: str) -> Any: ...
    def called(self, call: ApiCall) -> None: ...


def observed(host: CallHost) -> Callable[..., Any]:
    """Every request of every client in the process passes here: counted, guarded, or spoiled."""
    original = BotocoreStubber.__call__

    def call_moto(
        self: BotocoreStubber, event_name: str, request: AWSPreparedRequest, **kwargs: Any
    ) -> Any:
        if not self.enabled:
            return original(self, event_name, request, **kwargs)
        call = api_call(event_name, request)
        host.faults.at_call(call, "before")
        with host.lock_of(call.service):
            response = original(self, event_name, request, **kwargs)
        status = None if response is None else int(response.status_code)
        with host.records.writing():
            host.records.api_calls.append(_with_status(call, status))
        host.called(call)
        host.faults.at_call(call, "after")
        return response

    return call_moto


def api_call(event_name: str, request: AWSPreparedRequest) -> ApiCall:
    """The call in a prepared request; `event_name` is `before-send.<service>.<operation>`."""
    _, service, operation = event_name.split(".", 2)
    headers = {name: text_of(value) for name, value in request.headers.items()}
    sdk_request = headers.get("amz-sdk-request", "")
    attempt = sdk_request.partition("attempt=")[2].partition(";")[0]
    body = request.body
    return ApiCall(
        actor=_actor(headers.get("Authorization", "")),
        service={"sfn": "states"}.get(service, service),
        operation=operation,
        key=_s3_key(request.url) if service == "s3" else "",
        attempt=int(attempt or 1),
        invocation_id=headers.get("amz-sdk-invocation-id", ""),
        headers=headers,
        body=body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else b"",
    )


def _with_status(call: ApiCall, status: int | None) -> ApiCall:
    return ApiCall(**{**vars(call), "status": status})


def _actor(authorization: str) -> str:
    if f"Credential={INTERPRETER_KEY}/" in authorization:
        return "states"
    if f"Credential={HARNESS_KEY}/" in authorization:
        return "harness"
    return running_function.get() or "code"


def _s3_key(url: str) -> str:
    """The key, whether the bucket is in the host or in the path."""
    parts = urlsplit(url)
    path = unquote(parts.path).lstrip("/")
    if parts.netloc.startswith(("s3.", "s3-")):
        return path.partition("/")[2]
    return path


def text_of(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


_clients: dict[tuple[str, str], Any] = {}
_clients_lock = threading.Lock()


def shared_client(*, service_name: str, aws_access_key_id: str, **kwargs: Any) -> Any:
    """A client made once a process: moto makes one for every task, which costs more than the task.

    Clients of the interpreter and of the harness may outlive a cloud: their calls reach whichever
    cloud is up.
    """
    with _clients_lock:
        key = (service_name, aws_access_key_id)
        if key not in _clients:
            make: Any = boto3.session.Session().client
            _clients[key] = make(
                service_name=service_name, aws_access_key_id=aws_access_key_id, **kwargs
            )
        return _clients[key]


_urls_of: Any = BaseBackend.urls
_urls_made: dict[type[BaseBackend], Any] = {}
_urls_lock = threading.Lock()


def urls_of(backend: BaseBackend) -> Any:
    """moto derives a service's URLs anew for every request; S3's by reloading a module."""
    with _urls_lock:
        if type(backend) not in _urls_made:
            _urls_made[type(backend)] = _urls_of.fget(backend)
        return _urls_made[type(backend)]

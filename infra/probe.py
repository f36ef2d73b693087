"""`fanfold probe`: small made-up runs on a deployed stack, watched to their ends and cleaned up
after. coordinator/rules/probing.py says what they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from coordinator.ids import new_owner
from coordinator.keys import JobKeys, result_of_all
from coordinator.rules.probing import OBJECTS, PROBE, expected, made_up
from infra.account import Standing
from infra.advice import DeploymentFailed, mend
from infra.deployment import Deployment
from infra.names import Names

LOOK_SECONDS = 5.0
PATIENCE_SECONDS = 900.0  # a probe takes two minutes
ROLES = ("plan", "reconcile", "work", "bury", "publish")


@dataclass(frozen=True, slots=True)
class Watch:
    """How a probe tells of itself, and waits."""

    say: Callable[[str], None]
    pause: Callable[[float], None]
    now: Callable[[], float]


def probe(target: Deployment, watch: Watch) -> None:
    """Run both probes.

    Raises:
        DeploymentFailed: one did not end as it should; says which permission or quota is missing,
            where that is known.
    """
    standing = target.standing()
    with target.account.asking() as session:
        for objects in OBJECTS:
            _Probe(target.job.name, standing, session, watch, objects).run()


class _Probe:
    def __init__(
        self, job: str, standing: Standing, session: Any, watch: Watch, objects: int
    ) -> None:
        self._keys = JobKeys(job)
        self._names = Names(job)
        self._outputs = standing.outputs
        self._bucket = standing.outputs["Bucket"]
        self._session = session
        self._s3 = session.client("s3")
        self._states = session.client("stepfunctions")
        self._watch = watch
        self._objects = objects
        self._run_id = new_owner(PROBE)

    def run(self) -> None:
        """Run it, hold its result against what is known of it, and remove it."""
        self._watch.say(f"A probe of {self._objects} objects, as run {self._run_id}:")
        began = self._watch.now()
        with self._cleaned_up():
            folder = f"{self._keys.probe}{self._run_id}/"
            for name, body in made_up(self._objects):
                self._s3.put_object(Bucket=self._bucket, Key=folder + name, Body=body)
            event = {PROBE: self._run_id, "inputs": [f"s3://{self._bucket}/{folder}"]}
            execution = self._states.start_execution(
                stateMachineArn=self._outputs["StateMachineArn"],
                name=self._run_id,
                input=json.dumps(event),
            )["executionArn"]
            with self._stopped(execution):
                self._await(execution, began)
            self._check_result()
        seconds = self._watch.now() - began
        self._watch.say(f"  listed, mapped, reduced, merged, published and read: {seconds:.0f} s.")

    def _await(self, execution: str, began: float) -> None:
        while True:
            told = self._states.describe_execution(executionArn=execution)
            if told["status"] == "SUCCEEDED":
                return
            if told["status"] != "RUNNING":
                said = (
                    f"{told.get('error', told['status'])}: {told.get('cause', 'it says nothing')}"
                )
                raise self._failed(f"ended as {told['status']}. {said}", began)
            if self._watch.now() - began > PATIENCE_SECONDS:
                raise self._failed(f"does not come to an end. {self._stuck()}", began)
            self._watch.pause(LOOK_SECONDS)

    def _stuck(self) -> str:
        """Where its messages are."""
        work, dead = self._waiting("QueueUrl"), self._waiting("DeadLetterQueueUrl")
        if dead:
            return f"{dead} dead letters are not taken: look at {self._names.function('bury')}."
        if work:
            return (
                f"{work} messages are not taken: look at the mapping of "
                f"{self._names.function('work')}, and at the account's concurrent Lambda executions."
            )
        return "No message waits: whoever took the last one did not answer."

    def _waiting(self, queue: str) -> int:
        """How many messages wait in a queue."""
        name = "ApproximateNumberOfMessages"
        told = self._session.client("sqs").get_queue_attributes(
            QueueUrl=self._outputs[queue], AttributeNames=[name]
        )
        return int(told["Attributes"][name])

    def _failed(self, how: str, began: float) -> DeploymentFailed:
        logged = " ".join(self._logged(began))
        said = f"{how} {logged}".strip()
        return DeploymentFailed(
            f"The probe of {self._objects} objects {said.rstrip('.')}. {mend(said)}"
        )

    def _logged(self, began: float) -> Iterator[str]:
        """The last error that each function has logged."""
        logs = self._session.client("logs")
        for role in ROLES:
            group = f"/aws/lambda/{self._names.function(role)}"
            found = logs.filter_log_events(
                logGroupName=group,
                startTime=int(began * 1000),
                filterPattern='{ $.level = "ERROR" }',
            )["events"]
            for event in found[-1:]:
                line = _fields(event["message"])
                what = line.get("reason") or line.get("exception") or line.get("message")
                yield f"{role} logged: {line.get('error', '')} {what}."

    def _check_result(self) -> None:
        name = result_of_all(self._keys.job, "jsonl")
        key = f"{self._keys.results}{self._run_id}/{name}"
        found = json.loads(self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read())
        if found != expected(self._objects):
            raise DeploymentFailed(
                f"The probe of {self._objects} objects published {found}, not "
                f"{dict(expected(self._objects))}: two versions of Fanfold may be mixed. Deploy again."
            )
        manifest = f"{self._keys.published}{self._run_id}/manifest.json"
        told = json.loads(self._s3.get_object(Bucket=self._bucket, Key=manifest)["Body"].read())
        if not told["stages"]["map"].get("failures"):
            raise DeploymentFailed(
                f"The message that the probe of {self._objects} objects let die was never buried: "
                f"look at {self._names.dead_letters} and {self._names.function('bury')}."
            )

    @contextmanager
    def _stopped(self, execution: str) -> Iterator[None]:
        """Leave no execution behind."""
        try:
            yield
        except BaseException:
            self._states.stop_execution(executionArn=execution)
            raise

    @contextmanager
    def _cleaned_up(self) -> Iterator[None]:
        """Remove all that it has written, whatever comes of it."""
        try:
            yield
        finally:
            keys = self._keys
            folders = (keys.probe, keys.runs, keys.published, keys.results)
            for prefix in (*(f"{each}{self._run_id}/" for each in folders), keys.latest(PROBE)):
                self._remove(prefix)

    def _remove(self, prefix: str) -> None:
        pages = self._s3.get_paginator("list_object_versions")
        for page in pages.paginate(Bucket=self._bucket, Prefix=prefix):
            every = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            gone = [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in every]
            if gone:
                told = self._s3.delete_objects(Bucket=self._bucket, Delete={"Objects": gone})
                for error in told.get("Errors", ()):
                    self._watch.say(f"  {error['Key']} stays: {error['Code']}.")


def _fields(line: str) -> dict[str, Any]:
    try:
        return dict(json.loads(line))
    except ValueError:
        return {"message": line}

"""Where a job's state, inputs and results lie: the work bucket, its key, and who may touch what."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import Duration, RemovalPolicy, Stack, aws_iam as iam, aws_kms as kms, aws_s3 as s3
from constructs import Construct

from coordinator.job import Job
from coordinator.keys import JobKeys
from coordinator.state.runs import RUN_DAYS
from infra.grants import input_locations, patterns
from infra.names import Names
from infra.options import Location, Options
from infra.policies import acknowledge, allow

ABANDONED_UPLOAD_DAYS = 2
OLD_VERSION_DAYS = 30

OWN_FOLDERS = "Keys below the job's own folders are made at run time, by run, shard and attempt."


class Storage(Construct):
    """The work bucket, or an existing one by name, and the key if there is one.

    `service_key` is the key for what AWS services write themselves (logs, notifications, lost
    triggers). Only a key of our own is used there: the policy of someone else's may not let them.
    """

    def __init__(self, scope: Construct, construct_id: str, *, job: Job, options: Options) -> None:
        super().__init__(scope, construct_id)
        self._job = job
        self.keys = JobKeys(job.name)
        self.service_key = self._new_key() if options.kms == "new" else None
        self.key: kms.IKey | None = self.service_key
        if options.kms not in (None, "new"):
            self.key = kms.Key.from_key_arn(self, "Key", options.kms)
        self._input_keys = options.input_keys
        self.bucket: s3.IBucket = (
            s3.Bucket.from_bucket_name(self, "Bucket", options.bucket)
            if options.bucket
            else self._new_bucket(options)
        )
        self.uploads = options.uploads or self.bucket.bucket_name
        self.inputs = input_locations(job, options, self.bucket.bucket_name)
        self._probes = Location(self.bucket.bucket_name, self.keys.probe)

    # -- grants ----------------------------------------------------------------------------------

    def allow_reading(self, role: iam.Role, *keys: str) -> None:
        """Allow to get what lies under these keys; one that ends with a slash is a folder.

        S3 says that a key is missing, and not that it is forbidden, only to those who may list
        the bucket. A get carries no `s3:prefix`, hence the IfExists.
        """
        allow(role, "s3:GetObject", on=self._objects(keys), why=OWN_FOLDERS)
        self._allow_listing(role, self.bucket.bucket_name, [f"{self.keys.root}*"], "s3:ListBucket")
        self._allow_key(role, "kms:Decrypt")

    def allow_writing(self, role: iam.Role, *keys: str, in_parts: bool = True) -> None:
        """Allow to put objects under these keys; one that ends with a slash is a folder."""
        actions = ("s3:PutObject", "s3:AbortMultipartUpload") if in_parts else ("s3:PutObject",)
        allow(role, *actions, on=self._objects(keys), why=OWN_FOLDERS)
        self._allow_key(role, "kms:GenerateDataKey", "kms:Decrypt")

    def allow_finding_inputs(self, role: iam.Role) -> None:
        """Allow to list the inputs, and those of probes, with their versions."""
        for bucket, keys in patterns((*self.inputs, self._probes)).items():
            allow(role, "s3:GetBucketVersioning", on=[_bucket_arn(self, bucket)])
            self._allow_listing(role, bucket, keys, "s3:ListBucket", "s3:ListBucketVersions")

    def allow_reading_inputs(self, role: iam.Role, *, probes: bool = False) -> None:
        """Allow to read the inputs, in the version that the plan has pinned; those of probes too."""
        found = (*self.inputs, self._probes) if probes else self.inputs
        for bucket, keys in patterns(found).items():
            arn = _bucket_arn(self, bucket)
            objects = [f"{arn}/{key}" for key in keys]
            allow(
                role,
                "s3:GetObject",
                "s3:GetObjectVersion",
                on=objects,
                why="Inputs are found at run time, below the prefixes that the job was deployed for.",
            )
            self._allow_listing(role, bucket, keys, "s3:ListBucket")
        if self._input_keys:
            allow(role, "kms:Decrypt", on=self._input_keys)
        self._allow_key(role, "kms:Decrypt")

    def allow_map_files(self, role: iam.Role) -> None:
        """Allow the Map to read its items and write its results, in the waves of the job's runs.

        Source: "IAM policies for using Distributed Map states", Step Functions developer guide.
        """
        waves = self._objects((self.keys.any_run().waves,))
        allow(role, "s3:GetObject", on=waves, why=OWN_FOLDERS)
        allow(
            role,
            "s3:PutObject",
            "s3:ListMultipartUploadParts",
            "s3:AbortMultipartUpload",
            on=waves,
            why=OWN_FOLDERS,
        )
        self._allow_key(role, "kms:Decrypt", "kms:GenerateDataKey")

    def _allow_listing(
        self, role: iam.Role, bucket: str, keys: Sequence[str], *actions: str
    ) -> None:
        condition = {"StringLikeIfExists": {"s3:prefix": list(keys)}}
        allow(role, *actions, on=[_bucket_arn(self, bucket)], conditions=condition)

    def _allow_key(self, role: iam.Role, *actions: str) -> None:
        if self.key is not None:
            allow(role, *actions, on=[self.key.key_arn])

    def _objects(self, keys: Sequence[str]) -> list[str]:
        """The ARNs of the objects under keys and below folders."""
        arn = self.bucket.bucket_arn
        return [f"{arn}/{key}{'*' if key.endswith('/') else ''}" for key in keys]

    # -- resources -------------------------------------------------------------------------------

    def _new_bucket(self, options: Options) -> s3.Bucket:
        bucket = s3.Bucket(
            self,
            "Bucket",
            versioned=options.versioned,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            encryption=s3.BucketEncryption.KMS if self.key else s3.BucketEncryption.S3_MANAGED,
            encryption_key=self.key,
            bucket_key_enabled=True if self.key else None,
            lifecycle_rules=self._lifecycle(options),
            removal_policy=RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
        )
        # By the plain property: CDK's own switch would deploy a function that sets it.
        resource = bucket.node.default_child
        assert isinstance(resource, s3.CfnBucket)  # noqa: S101
        resource.notification_configuration = s3.CfnBucket.NotificationConfigurationProperty(
            event_bridge_configuration=s3.CfnBucket.EventBridgeConfigurationProperty(
                event_bridge_enabled=True
            )
        )
        acknowledge(
            bucket,
            "AwsSolutions-S1",
            "Every run's manifest names each object read and written; an access log would need a "
            "second bucket that no one reads. Turn it on for an existing bucket of your own.",
        )
        return bucket

    def _lifecycle(self, options: Options) -> list[s3.LifecycleRule]:
        """Runs expire, results never do."""
        runs = self.keys.runs
        rules = [
            s3.LifecycleRule(
                id="runs-expire",
                prefix=runs,
                expiration=Duration.days(RUN_DAYS),
                noncurrent_version_expiration=Duration.days(1) if options.versioned else None,
            ),
            s3.LifecycleRule(
                id="abandoned-uploads-go",
                abort_incomplete_multipart_upload_after=Duration.days(ABANDONED_UPLOAD_DAYS),
            ),
        ]
        if options.versioned:
            rules += [
                s3.LifecycleRule(
                    id="markers-of-expired-runs-go", prefix=runs, expired_object_delete_marker=True
                ),
                s3.LifecycleRule(
                    id="old-pointers-go",
                    prefix=self.keys.pointers,
                    noncurrent_version_expiration=Duration.days(OLD_VERSION_DAYS),
                ),
            ]
        return rules

    def _new_key(self) -> kms.Key:
        """A key for all of the job, which the services that write for it may use too."""
        stack = Stack.of(self)
        key = kms.Key(
            self,
            "Key",
            alias=f"alias/{Names(self._job.name).stack}",
            description=f"Encrypts the data, messages and logs of the Fanfold job {self._job.name}.",
            enable_key_rotation=True,
            removal_policy=RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
        )
        own = {"StringEquals": {"aws:SourceAccount": stack.account}}
        logs = f"arn:{stack.partition}:logs:{stack.region}:{stack.account}:log-group:*"
        for service, conditions in (
            ("events.amazonaws.com", own),
            ("cloudwatch.amazonaws.com", own),
            (
                f"logs.{stack.region}.amazonaws.com",
                {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": logs}},
            ),
        ):
            key.add_to_resource_policy(
                iam.PolicyStatement(
                    actions=["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey*"]
                    if service.startswith("logs")
                    else ["kms:Decrypt", "kms:GenerateDataKey*"],
                    principals=[iam.ServicePrincipal(service)],
                    resources=["*"],  # in a key's own policy: this key
                    conditions=conditions,
                )
            )
        return key


def _bucket_arn(scope: Construct, bucket: str) -> str:
    return f"arn:{Stack.of(scope).partition}:s3:::{bucket}"

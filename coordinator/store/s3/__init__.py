"""The twins in S3; the only modules of the coordinator that know boto3."""

"""What CDK and AWS say when they refuse, and what to do about it."""

from __future__ import annotations

import re

from coordinator.errors import UsageError


class DeploymentFailed(UsageError):
    """CDK or AWS refused; the message says what to do, where it is known."""

    exit_code = 1


# What CDK says, and what to do about it. The first that fits counts.
ADVICE: tuple[tuple[str, str], ...] = (
    (
        r"has the environment been bootstrapped|is not bootstrapped|/cdk-bootstrap/|"
        r"hasn't been bootstrapped|requires bootstrap stack version",
        "This account and region are not set up for CDK yet: run `fanfold bootstrap` once, then "
        "this command again.",
    ),
    (
        r"[Uu]nable to resolve AWS account|no credentials have been configured|"
        r"Could not load credentials|Unable to locate credentials|could not be found|"
        r"ExpiredToken|[Tt]oken (included in the request )?(is|has) (invalid|expired)|"
        r"Token is expired|UnrecognizedClientException|InvalidClientTokenId|SSO session",
        "There are no AWS credentials that work: run `aws sso login` (or `aws configure`), name the "
        "profile with --profile, then run this command again.",
    ),
    (
        r"Missing [Rr]egion|[Rr]egion is missing|Unable to determine AWS region|"
        r"[Mm]ust specify a region|need to specify a region",
        "No region is set: run this command again with AWS_REGION=..., or set one with "
        "`aws configure set region ...`.",
    ),
    (
        r"Stack with id .* does not exist",
        "The job is not deployed in this account and Region: run `fanfold deploy` first, or name "
        "another profile with --profile.",
    ),
    (
        r"UnreservedConcurrentExecution",
        "The account has too little Lambda concurrency left to reserve for the workers: lower "
        "limits.concurrency, leave out the option reserved, or ask AWS for a higher quota.",
    ),
)


_DENIED = re.compile(r"not authorized to perform: (?P<action>\S+)(?: on resource: (?P<on>\S+))?")


def mend(said: str) -> str:
    """What to do about an error of a run: a permission that is missing, a quota that is spent, or
    what the error says itself."""
    if found := _DENIED.search(said):
        on = f" on {found['on']}" if found["on"] else ""
        return (
            f"A role of the stack may not {found['action']}{on}, though the stack allows it: look for a "
            "permissions boundary, an organisation's policy, or the policy of the bucket or key."
        )
    if re.search(r"AccessDenied|KMS\.|kms:", said):
        return "Look at the policies of the bucket and of its key: they deny what the stack allows."
    if re.search(r"TooManyRequests|ConcurrentInvocationLimit|Rate [Ee]xceeded|Throttl", said):
        return (
            "The account's quota of concurrent Lambda executions is spent: ask AWS for more "
            "(Service Quotas, AWS Lambda), or lower limits.concurrency."
        )
    return "The runbooks in docs/runbooks say what to look at."


def advice(output: str) -> str | None:
    """What to do about what CDK said, if it is known."""
    return next((text for pattern, text in ADVICE if re.search(pattern, output)), None)

"""cfn-lint finds nothing in any template."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from cfnlint.api import ManualArgs, lint  # type: ignore[import-untyped]
from cfnlint.core import get_rules  # type: ignore[import-untyped]

from coordinator.loading import job_names
from tests.infra.conftest import DECLARATIONS, OUR_JOBS, Synthesised

# CDK writes a role as a dependency beside its policy, though the role's ARN implies it.
ANSWERED = ["W3005"]

JOBS = [*DECLARATIONS, *(name.replace("_", "-") for name in job_names(OUR_JOBS))]


@cache
def rules() -> Any:
    """The rules, which take longer to read than a template to check."""
    return get_rules([], ANSWERED, [], {}, False)


def findings(template: str) -> list[str]:
    config = ManualArgs(ignore_checks=ANSWERED)
    return [str(match) for match in lint(template, rules=rules(), config=config)]


@pytest.mark.parametrize("job", JOBS)
def test_cfn_lint(synthesised: Synthesised, job: str) -> None:
    assert not findings(synthesised.path(job).read_text())


def test_cfn_lint_is_asked(synthesised: Synthesised) -> None:
    template = synthesised.template("plain")
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::SQS::Queue":
            resource["Properties"]["VisibilityTimeout"] = 100_000
    assert findings(json.dumps(template))

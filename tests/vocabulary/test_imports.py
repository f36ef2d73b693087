"""Nothing heavy is imported before it is needed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "asyncio",
    "boto3",
    "botocore",
    "coordinator.job",
    "coordinator.model",
    "coordinator.store.s3.store",
    "aws_cdk",
    "pydantic",
    "pydantic_core",
    "rich.live",
    "rich.progress",
    "rich.traceback",
}


def imported_by(code: str) -> set[str]:
    """The modules that a new process has loaded when it has run this."""
    ended = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(ended.stdout.splitlines()[-1]))


def test_help_imports_nothing_heavy() -> None:
    code = "from coordinator.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"

    assert not imported_by(code) & HEAVY


def test_a_local_run_and_its_workers_never_import_aws() -> None:
    loaded = imported_by("import coordinator.cli.running, coordinator.machine.worker")

    assert not {name for name in loaded if name.split(".")[0] in {"boto3", "botocore", "aws_cdk"}}


def test_commands_for_aws_leave_cdk_to_the_process_that_needs_it() -> None:
    """CDK starts a Node of its own when it is imported, and not everybody has one."""
    loaded = imported_by("import infra.commands, infra.deployment, infra.probe, infra.grants")

    assert not {name for name in loaded if name.split(".")[0] in {"jsii", "aws_cdk"}}


def test_a_worker_imports_no_command_line() -> None:
    loaded = imported_by("import coordinator.machine.worker")

    assert not {name for name in loaded if name.split(".")[0] in {"typer", "rich", "click"}}


def test_the_package_itself_costs_nothing() -> None:
    assert not imported_by("import coordinator") & HEAVY


def test_everything_that_jobs_need_is_found_in_the_package() -> None:
    import coordinator

    for name in coordinator.__all__:
        assert getattr(coordinator, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = coordinator.Nothing

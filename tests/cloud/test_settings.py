"""What the functions take from their environment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coordinator.errors import JobInvalid
from functions.settings import settings


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("FANFOLD_BUCKET", "work-bucket")
    monkeypatch.setenv("FANFOLD_JOB_MODULE", "jobs.wordcount")
    monkeypatch.setenv("FANFOLD_TIMEOUT_SECONDS", "300")
    monkeypatch.delenv("FANFOLD_INPUTS", raising=False)
    settings.cache_clear()
    yield
    settings.cache_clear()


def test_a_run_without_inputs_reads_the_folder_of_its_job() -> None:
    assert settings().usual_inputs("wordcount") == ("s3://work-bucket/wordcount/inputs/",)


def test_a_deployment_may_name_the_usual_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FANFOLD_INPUTS", '["s3://lake/events/", "s3://archive/2025/"]')

    assert settings().usual_inputs("wordcount") == ("s3://lake/events/", "s3://archive/2025/")


@pytest.mark.parametrize("wrong", ["", "lake/events", '{"a": 1}'])
def test_wrong_inputs_are_named(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("FANFOLD_INPUTS", wrong)

    with pytest.raises(JobInvalid, match="FANFOLD_INPUTS"):
        settings()


def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FANFOLD_BUCKET")

    with pytest.raises(JobInvalid, match="FANFOLD_BUCKET"):
        settings()

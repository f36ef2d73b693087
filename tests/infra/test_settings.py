"""`fanfold.toml`: what counts of what it says, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.errors import InputInvalid
from coordinator.loading import load_job
from infra.app import check_named
from infra.options import Options, given_options, read_request
from infra.settings import Settings, lasting_context, read_settings
from tests.infra.conftest import write_jobs

FILE = """
jobs = "ours"
profile = "production"
region = "eu-central-1"

[options]
logDays = 90
versioned = true

[job.words.options]
versioned = false
inputs = ["s3://lake/raw/", "s3://lake/more/"]

[stage.staging]
profile = "testing"
[stage.staging.options]
logDays = 3
[stage.staging.job.words.options]
inputs = "s3://lake/test/"

[stage.empty]
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "fanfold.toml"
    path.write_text(FILE)
    return read_settings(path)


def read(text: str, tmp_path: Path) -> Settings:
    path = tmp_path / "fanfold.toml"
    path.write_text(text)
    return read_settings(path)


def test_without_a_file_all_is_as_usual(tmp_path: Path) -> None:
    settings = read_settings(tmp_path / "fanfold.toml")

    assert settings.jobs == Path("jobs")
    assert (settings.profile_of(None), settings.region_of(None)) == (None, None)
    assert read_request({}, settings).options_of("words") == Options()


def test_the_nearest_says_what_counts(settings: Settings) -> None:
    def options(job: str, stage: str | None = None, **context: str) -> Options:
        return read_request(context, settings, stage).options_of(job)

    assert options("other").versioned
    assert options("other").log_days == 90
    assert not options("words").versioned
    assert options("words").input_locations() == (("lake", "raw/"), ("lake", "more/"))
    assert options("words", "staging").log_days == 3
    assert options("words", "staging").inputs == ("s3://lake/test/",)
    assert options("words", "empty") == options("words")
    assert options("words", "staging", logDays="7", versioned="true").log_days == 7
    assert options("words", "staging", logDays="7", versioned="true").versioned
    assert read_request({"stage": "staging", "@aws-cdk/x:y": 1}, settings).stage == "staging"


def test_a_stage_lies_where_it_says_or_where_the_others_do(settings: Settings) -> None:
    assert settings.jobs == Path("ours")
    assert [settings.profile_of(each) for each in (None, "staging", "empty")] == [
        "production",
        "testing",
        "production",
    ]
    assert settings.region_of("staging") == "eu-central-1"


def test_what_was_given_is_told_by_the_names_it_was_given_by(settings: Settings) -> None:
    options = read_request({}, settings, "staging").options_of("words")

    assert given_options(options) == {
        "versioned": False,
        "logDays": 3,
        "inputs": ["s3://lake/test/"],
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("jobs = ", "fanfold.toml can't be read"),
        ("job = 1", "job: Input should be a valid dictionary"),
        ("[stages.x]", "stages: Extra inputs are not permitted"),
        ("[job.words]\nversioned = true", "job.words.versioned: Extra inputs"),
        ("[stage.x.stage.y]", "stage.x.stage: Extra inputs"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_with_the_place(
    text: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(InputInvalid) as caught:
        read(text, tmp_path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "[options]\nlogdays = 3",
        "[job.other.options]\nlogdays = 3",
        "[stage.staging.options]\nlogdays = 3",
        "[stage.staging.job.other.options]\nlogdays = 3",
    ],
)
def test_an_option_that_there_is_not_is_refused_wherever_it_stands(
    text: str, tmp_path: Path
) -> None:
    with pytest.raises(InputInvalid, match=r"'logdays'\. Did you mean logDays"):
        read_request({}, read(text, tmp_path))


def test_a_stage_that_is_not_declared_is_refused(settings: Settings) -> None:
    with pytest.raises(InputInvalid, match=r"declare it in .*fanfold\.toml .*\[stage\.stagign\]"):
        read_request({}, settings, "stagign")


def test_options_of_a_job_that_there_is_not_are_refused(tmp_path: Path) -> None:
    folder = write_jobs(tmp_path / "jobs", {"big_words": "", "other": ""})
    words = load_job("big_words", folder)

    def check(name: str) -> None:
        text = f"jobs = '{folder}'\n[stage.staging.job.{name}.options]\nlogDays = 3"
        check_named(read(text, tmp_path), [words])

    check("big-words")
    check("other")
    with pytest.raises(InputInvalid, match="options of the job 'big_word'"):
        check("big_word")


def test_what_cdk_is_told_by_its_own_file_counts_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert lasting_context() == {}
    Path("cdk.json").write_text('{"context": {"logDays": 7}}')
    assert lasting_context() == {"logDays": 7}
    for text in ("[]", '{"context": null}', '{"context": [1]}', "{"):
        Path("cdk.json").write_text(text)
        with pytest.raises(InputInvalid, match=r"cdk\.json can't be read"):
            lasting_context()

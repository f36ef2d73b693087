"""What AWS would refuse is refused at synthesis, in one sentence."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.errors import InputInvalid, JobInvalid
from coordinator.formats.lines import Lines
from coordinator.job import Job
from coordinator.keys import JOB_NAME
from coordinator.limits import Limits
from coordinator.triggers import OnUpload, Schedule
from infra.checks import Deployed, check_job, check_together
from infra.names import longest_job_name
from infra.options import Options, read_options


def job(name: str = "words", **fields: Any) -> Job:
    return Job(name=name, source=Lines(), **fields)


POLLERS = {"provisionedPollers": True, "reserved": True}


@pytest.mark.parametrize(
    ("refused", "options", "says"),
    [
        (job(limits=Limits(shards=10_001)), {}, "limits.shards is 10001"),
        (job(limits=Limits(concurrency=1001)), {}, "limits.concurrency is 1001"),
        (job(limits=Limits(concurrency=30)), POLLERS | {"provisionedPollers": "2-4"}, "fewer pollers"),
        (job(limits=Limits(concurrency=19)), POLLERS, "limits.concurrency (19)"),
        (job(), {"provisionedPollers": True, "reserved": False}, "reserved=true"),
        (job(owner="a<b"), {}, "owner='a<b'"),
        (job(cost_centre="x" * 257), {}, "cost_centre="),
        (job(triggers=[Schedule("0 3 * * *")]), {}, "not six"),
        (job(triggers=[Schedule("0 3 * * ? *", "Mars/Base")]), {}, "'Mars/Base'"),
        (job(triggers=[OnUpload("in/*.csv")]), {}, "'in/*.csv'"),
        (job(triggers=[OnUpload("in/", ".c?v")]), {}, "suffix='.c?v'"),
        (job(triggers=[OnUpload("/in/")]), {}, "leading slash"),
        (job(triggers=[OnUpload("s3://b/in/")]), {}, "scheme"),
        (job(triggers=[OnUpload("in\n")]), {}, "prefix="),
    ],
)  # fmt: skip
def test_one_sentence_names_the_field(refused: Job, options: dict[str, Any], says: str) -> None:
    with pytest.raises(JobInvalid) as caught:
        check_job(refused, read_options(options))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields", [{"memory_mb": 64}, {"timeout_seconds": 901}, {"concurrency": 1}]
)
def test_limits_out_of_bounds_are_refused_by_the_declaration(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        Limits(**fields)


@pytest.mark.parametrize(
    "prefix",
    ["", "w", "words", "words/", "words/r", "words/runs/", "words/runs/x/", "words/results/",
     "words/latest", "words/latest.json", "words/latest/"],
)  # fmt: skip
def test_an_upload_prefix_that_matches_own_outputs_is_an_endless_loop(prefix: str) -> None:
    with pytest.raises(JobInvalid, match="every run would start another"):
        check_job(job(triggers=[OnUpload(prefix)]), Options())


@pytest.mark.parametrize(
    "prefix", ["words/inputs/", "words/inp", "wordsmith/", "other/results/", "in"]
)
def test_other_upload_prefixes_are_taken(prefix: str) -> None:
    check_job(job(triggers=[OnUpload(prefix)]), Options())


def test_uploads_to_another_bucket_match_no_output() -> None:
    check_job(job(triggers=[OnUpload("")]), Options(uploads="landing"))
    with pytest.raises(JobInvalid, match="every run would start another"):
        check_job(job(triggers=[OnUpload("")]), Options(bucket="shared", uploads="shared"))


def test_jobs_that_share_a_bucket_may_follow_each_other_but_not_in_a_circle() -> None:
    shared = Options(bucket="shared")
    first = Deployed(job("first", triggers=[OnUpload("in/")]), shared)
    second = Deployed(job("second", triggers=[OnUpload("first/results/")]), shared)
    third = Deployed(job("third", triggers=[OnUpload("second/results/")]), shared)
    check_together([first, second, third])
    back = Deployed(job("first", triggers=[OnUpload("third/results/")]), shared)
    with pytest.raises(JobInvalid, match="first → second → third → first"):
        check_together([back, second, third])
    apart = [Deployed(each.job, Options()) for each in (back, second, third)]
    check_together(apart)


def test_two_jobs_of_one_name_are_refused() -> None:
    with pytest.raises(JobInvalid, match="Two modules"):
        check_together([Deployed(job(), Options()), Deployed(job(), Options())])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"versiond": True}, "Did you mean versioned?"),
        ({"x": 1}, "There is no option 'x'. There are: bucket,"),
        ({"versioned": "perhaps"}, "versioned is 'perhaps'"),
        ({"bucket": "Shared"}, "bucket is 'Shared'"),
        ({"kms": "mine"}, "kms"),
        ({"inputs": "lake/raw"}, "'lake/raw': write s3://bucket/prefix/"),
        ({"logDays": 2}, "logDays is 2"),
        ({"provisionedPollers": "9-x"}, "provisionedPollers"),
        ({"alarmTopic": "alarms"}, "alarmTopic is 'alarms'"),
        ({"alarmTopic": "arn:aws:sns:eu-west-1:123456789012:a", "alarmEmail": "a@b"}, "not both"),
        ({"ticketTopic": "arn:aws:sns:eu-west-1:123456789012:a"}, "give alarmTopic or alarmEmail"),
        ({"bucket": "shared", "versioned": True}, "yourself"),
        ({"bucket": "shared", "kms": "new"}, "the ARN of its key"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        read_options(given)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_come_as_text_from_the_command_line() -> None:
    read = read_options(
        {
            "versioned": "true",
            "inputs": "s3://lake/raw/**/*.csv, s3://lake/x",
            "provisionedPollers": "true",
            "logDays": "90",
        }
    )
    assert read.versioned
    assert read.input_locations() == (("lake", "raw/"), ("lake", "x"))
    assert read.provisioned_pollers is not None
    assert (read.provisioned_pollers.minimum, read.provisioned_pollers.maximum) == (2, None)
    assert read.log_days == 90
    assert read_options({"provisionedPollers": "false"}).provisioned_pollers is None


def test_every_name_that_a_job_can_have_fits_the_names_made_of_it() -> None:
    longest = "a" * longest_job_name()

    assert JOB_NAME.match(longest)
    assert not JOB_NAME.match(f"{longest}a")

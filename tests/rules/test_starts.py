"""What started an execution, understood: schedules, uploads and people, and what is refused."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, strategies as st

from coordinator.errors import InputInvalid, Superseded
from coordinator.keys import RUN_ID, check_run_id
from coordinator.limits import Limits
from coordinator.model import RunRecord
from coordinator.rules.starts import (
    Start,
    Started,
    Uploaded,
    limits_of,
    lists_inputs,
    understand,
)
from coordinator.rules.transport import MAP_ITEMS
from tests.support import examples

USUAL = ("s3://work/job/inputs/",)
STARTED = 1_795_000_000.0
FIVE_OCLOCK = datetime(2026, 11, 21, 5, tzinfo=UTC).timestamp()
SCHEDULE = "arn:aws:scheduler:us-east-1:123456789012:schedule/default/fanfold-words-1"
ADDRESS = "s3://lake/in/a b+ü.txt"
ETAG = "d41d8cd98f00b204e9800998ecf8427e"
HOW_TO = 'Send {"inputs": ["s3://bucket/prefix/"], "run_id": "...", "limits": {...}}'


def unasked(name: str) -> Any:
    raise AssertionError(f"Nobody needs to know of {name}.")


def understood(
    event: object,
    *,
    find: Callable[[str], Uploaded | None] = unasked,
    standing: Callable[[str], RunRecord | None] = unasked,
    execution: str = "by-hand",
    limits: Limits | None = None,
) -> Start:
    trigger = Started(
        event=event,
        execution=execution,
        started=STARTED,
        usual_inputs=USUAL,
        limits=limits or Limits(),
    )
    return understand(trigger, find=find, standing=standing)


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine's time is nine hours ahead of UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


def refusal(event: object, **found: Any) -> str:
    with pytest.raises(InputInvalid) as caught:
        understood(event, **found)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------
# Schedules
# ------------------------------------------------------------------------------------------------


def scheduled(moment: str = "2026-11-21T05:00:00Z", schedule: str = SCHEDULE) -> dict[str, Any]:
    return {"schedule": schedule, "scheduled_time": moment}


def test_a_schedule_starts_a_run_over_the_usual_inputs_named_after_its_time() -> None:
    start = understood(scheduled())

    assert re.fullmatch(r"at-20261121T050000Z-[0-9a-f]{8}", start.run_id)
    assert start == Start(run_id=start.run_id, inputs=USUAL, logical_time=FIVE_OCLOCK)


def test_a_second_delivery_of_a_schedule_finds_the_first_ones_run() -> None:
    one = understood(scheduled(), execution="one")
    other = understood(scheduled(), execution="other")

    assert one == other


@pytest.mark.parametrize(
    "moment", ["2026-11-21T06:00:00+01:00", "2026-11-20T19:30:00-09:30", "2026-11-21T05:00:00"]
)
def test_a_moment_is_the_same_in_every_time_zone_and_without_one_it_is_utc(
    moment: str, in_tokyo: None
) -> None:
    start = understood(scheduled(moment))

    assert start == understood(scheduled())
    assert start.logical_time == FIVE_OCLOCK


def test_a_moment_that_utc_does_not_have_is_refused() -> None:
    assert "can't be told in UTC" in refusal(scheduled("9999-12-31T23:59:59-05:00"))


def test_two_schedules_of_one_moment_are_two_runs() -> None:
    one, other = understood(scheduled()), understood(scheduled(schedule=SCHEDULE + "2"))

    assert one.run_id != other.run_id
    assert one.logical_time == other.logical_time


@given(st.lists(st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(9999, 1, 1))))  # noqa: DTZ001
@examples(100)
def test_runs_of_a_schedule_sort_by_name_as_they_do_by_time(times: list[datetime]) -> None:
    starts = [understood(scheduled(moment.isoformat())) for moment in times]

    by_time = sorted(starts, key=lambda start: int(start.logical_time))
    assert [start.run_id for start in by_time] == sorted(start.run_id for start in starts)


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        ({"schedule": SCHEDULE}, "scheduled_time: Field required."),
        ({"schedule": "", "scheduled_time": "2026-11-21T05:00:00Z"}, "schedule: String should"),
        (scheduled("<aws.scheduler.scheduled-time>"), "scheduled_time: Input should be a valid"),
        ({**scheduled(), "inputs": ["s3://b/"]}, "inputs: Extra inputs are not permitted."),
    ],
)
def test_a_schedule_that_sends_something_else_is_refused_by_field(
    event: dict[str, Any], problem: str
) -> None:
    message = refusal(event)

    assert problem in message
    assert HOW_TO in message


# ------------------------------------------------------------------------------------------------
# Uploads
# ------------------------------------------------------------------------------------------------


def uploaded(
    key: str = "in/a b+ü.txt",
    *,
    sequencer: str = "00617F08299329D189",
    **item: str,
) -> dict[str, Any]:
    """The event that S3 sends of an upload, as far as it matters and a little further."""
    described = {"key": key, "etag": ETAG, "sequencer": sequencer, "size": 3, **item}
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "time": "2026-11-21T05:00:00Z",
        "detail": {"bucket": {"name": "lake"}, "object": described, "reason": "PutObject"},
    }


def holding(body: bytes = b"abc", etag: str = ETAG) -> Callable[[str], Uploaded]:
    return lambda address: Uploaded(etag, body)


def test_an_upload_starts_a_run_over_that_object_alone() -> None:
    asked: list[str] = []

    def find(address: str) -> Uploaded:
        asked.append(address)
        return Uploaded(ETAG, b"")

    start = understood(uploaded(), find=find)

    assert asked == [ADDRESS]
    assert re.fullmatch(r"up-00617f08299329d18900000000000000-[0-9a-f]{12}", start.run_id)
    assert start == Start(
        run_id=start.run_id, inputs=(ADDRESS,), logical_time=FIVE_OCLOCK, source_key=ADDRESS
    )


def test_a_second_delivery_of_an_upload_finds_the_first_ones_run() -> None:
    again = {**uploaded(), "id": "another delivery has its own", "account": "123456789012"}

    assert understood(uploaded(), find=holding(), execution="one") == understood(
        again, find=holding(), execution="other"
    )


@pytest.mark.parametrize(
    "other",
    [
        uploaded("in/other.txt"),
        uploaded(sequencer="00617F08299329D190"),
        uploaded(**{"version-id": "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e"}),
        {**uploaded(), "detail": {**uploaded()["detail"], "bucket": {"name": "sea"}}},
    ],
    ids=["key", "sequencer", "version", "bucket"],
)
def test_another_upload_is_another_run(other: dict[str, Any]) -> None:
    one = understood(uploaded(), find=holding())

    assert understood(other, find=holding()).run_id != one.run_id


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("00617F08299329D189", "00617F08299329D18A"),
        ("00617F08299329D189", "00617f08299329d18a"),
        ("00617F08299329D18F", "00617F08299329D190"),
        ("0061", "0062"),
        ("0061FF", "0062"),
        ("", "00617F08299329D189"),
    ],
)
def test_uploads_sort_by_run_id_as_they_do_by_sequencer(earlier: str, later: str) -> None:
    """Of two uploads in one second, the later one has to be the newer."""
    one, other = (
        understood(uploaded(sequencer=sequencer), find=holding()) for sequencer in (earlier, later)
    )

    assert one.logical_time == other.logical_time
    assert one.run_id < other.run_id


@pytest.mark.parametrize("sequencer", ["", "0", "00617F08299329D189", "F" * 30])
def test_the_run_id_of_an_upload_can_be_used(sequencer: str) -> None:
    run_id = understood(uploaded(sequencer=sequencer), find=holding()).run_id

    assert check_run_id(run_id) == run_id


@pytest.mark.parametrize(
    "found",
    [None, Uploaded("another", b"abc"), Uploaded("", b"abc")],
    ids=["deleted", "replaced", "of no etag"],
)
def test_an_object_that_is_not_there_any_more_was_superseded(found: Uploaded | None) -> None:
    with pytest.raises(Superseded) as caught:
        understood(uploaded(), find=lambda address: found)

    assert str(caught.value) == f"{ADDRESS} has been replaced or deleted since it was uploaded."


@pytest.mark.parametrize(("told", "found"), [(f'"{ETAG}"', ETAG), (ETAG, f'"{ETAG}"')])
def test_quotes_around_an_etag_make_no_difference(told: str, found: str) -> None:
    assert understood(uploaded(etag=told), find=holding(etag=found)).inputs == (ADDRESS,)


def test_an_event_without_an_etag_is_of_whatever_is_there() -> None:
    event = uploaded()
    del event["detail"]["object"]["etag"]

    assert understood(event, find=holding(etag="whatever")).inputs == (ADDRESS,)


def test_an_uploaded_list_starts_a_run_over_what_it_lists() -> None:
    listed = ["s3://lake/a/", "s3://sea/b*.txt"]

    start = understood(
        uploaded("in/november.inputs.json"), find=holding(json.dumps({"inputs": listed}).encode())
    )

    assert start.inputs == tuple(listed)
    assert start.source_key == "s3://lake/in/november.inputs.json"


@pytest.mark.parametrize(
    ("address", "is_list"),
    [
        ("s3://lake/november.inputs.json", True),
        ("s3://lake/.inputs.json", True),
        ("s3://lake/inputs.json", False),
        ("s3://lake/november.inputs.json.gz", False),
        ("s3://lake/november.INPUTS.JSON", False),
        ("s3://lake/november.inputs.json/a", False),
    ],
)
def test_a_list_of_inputs_is_known_by_how_its_name_ends(address: str, is_list: bool) -> None:
    key = address.removeprefix("s3://lake/")
    body = b'{"inputs": ["s3://lake/listed"]}'

    assert lists_inputs(address) is is_list
    start = understood(uploaded(key), find=holding(body))
    assert start.inputs == (("s3://lake/listed",) if is_list else (address,))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"inputs": []}',
        b'{"inputs": "s3://lake/"}',
        b'{"inputs": [1]}',
        b'{"inputs": ["s3://lake/"], "run_id": "r1"}',
        b'{"inputs": ["\xff"]}',
    ],
)
def test_a_list_that_is_none_is_refused_by_name(body: bytes) -> None:
    assert refusal(uploaded("in/november.inputs.json"), find=holding(body)) == (
        "s3://lake/in/november.inputs.json must hold "
        '{"inputs": ["s3://bucket/key", ...]} and nothing else.'
    )


def test_a_list_that_was_replaced_is_not_read() -> None:
    with pytest.raises(Superseded):
        understood(uploaded("in/november.inputs.json"), find=holding(b"nonsense", etag="other"))


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        ({"detail-type": "Object Created"}, "time: Field required."),
        ({**uploaded(), "time": "today"}, "time: Input should be a valid datetime"),
        ({**uploaded(), "detail": {"object": {"key": "a"}}}, "detail.bucket: Field required."),
        (uploaded(""), "detail.object.key: String should have at least 1 character."),
    ],
)
def test_an_event_that_names_no_object_is_refused(event: dict[str, Any], problem: str) -> None:
    message = refusal(event)

    assert problem in message
    assert HOW_TO in message


# ------------------------------------------------------------------------------------------------
# People
# ------------------------------------------------------------------------------------------------


def a_run(run_id: str = "r1", **fields: Any) -> RunRecord:
    return RunRecord(
        job="job",
        run_id=run_id,
        created=1.0,
        logical_time=fields.pop("logical_time", 2.0),
        owner="arn",
        declaration={},
        inputs=("s3://here/",),
        **fields,
    )


def none_stands(run_id: str) -> None:
    return None


def test_an_empty_input_starts_a_run_over_the_usual_inputs_under_the_executions_name() -> None:
    assert understood({}) == Start(run_id="by-hand", inputs=USUAL, logical_time=STARTED)


def test_a_person_may_give_everything() -> None:
    event = {
        "inputs": ["s3://b/", "s3://a/"],
        "run_id": "r1",
        "limits": {"concurrency": 7},
        "logical_time": 12.5,
    }

    assert understood(event) == Start(
        run_id="r1",
        inputs=("s3://b/", "s3://a/"),
        logical_time=12.5,
        limits={"concurrency": 7},
    )


@pytest.mark.parametrize("length", [63, 64])
def test_an_executions_name_that_is_short_enough_is_the_run_id(length: int) -> None:
    assert understood({}, execution="e" * length).run_id == "e" * length


def test_the_run_id_of_the_longest_executions_name_can_be_used_and_is_its_own() -> None:
    one, other = (understood({}, execution="e" * 79 + last).run_id for last in "ab")

    assert RUN_ID.match(one)
    assert RUN_ID.match(other)
    assert one != other


def test_a_run_id_alone_begins_a_run_that_is_not_there_yet() -> None:
    assert understood({"run_id": "r1"}, standing=none_stands) == Start(
        run_id="r1", inputs=USUAL, logical_time=STARTED
    )


def test_a_run_id_alone_takes_a_run_up_as_it_was_begun() -> None:
    run = a_run(source_key=ADDRESS, limits={"waves": 3})
    asked: list[str] = []

    def standing(run_id: str) -> RunRecord:
        asked.append(run_id)
        return run

    start = understood({"run_id": "r1"}, standing=standing)

    assert asked == ["r1"]
    assert start == Start(
        run_id="r1",
        inputs=("s3://here/",),
        logical_time=2.0,
        source_key=ADDRESS,
        limits={"waves": 3},
    )


def test_a_run_may_be_taken_up_with_other_limits() -> None:
    run = a_run(limits={"waves": 3, "tolerated": 1})

    start = understood({"run_id": "r1", "limits": {"tolerated": 9}}, standing=lambda run_id: run)

    assert (start.inputs, start.limits) == (("s3://here/",), {"tolerated": 9})


def test_a_run_id_with_inputs_asks_for_just_these_and_leaves_it_to_the_claim() -> None:
    start = understood({"run_id": "r1", "inputs": ["s3://there/"]})

    assert start == Start(run_id="r1", inputs=("s3://there/",), logical_time=STARTED)


@pytest.mark.parametrize("run_id", ["", "../r1", "a/b", "a b", "-r1", "_r1", "r" * 65, "r1\n", "é"])
def test_a_run_id_that_would_leave_its_folder_is_refused(run_id: str) -> None:
    for event in ({"run_id": run_id}, {"run_id": run_id, "inputs": ["s3://b/"]}):
        assert f"Run id {run_id!r} can't be used" in refusal(event)


def test_an_executions_name_that_can_be_no_run_id_is_refused() -> None:
    assert "Run id 'a.b' can't be used" in refusal({}, execution="a.b")


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        ({"memory_mb": 4096}, "limits.memory_mb is fixed when the job is deployed"),
        ({"timeout_seconds": 10}, "limits.timeout_seconds is fixed when the job is deployed"),
        ({"attempts": 1, "waves": 1}, "limits.attempts is fixed when the job is deployed"),
        ({"concurrency": "many"}, "limits.concurrency: Input should be a valid integer."),
        ({"concurrency": 1}, "limits.concurrency: Input should be greater than or equal to 2."),
        ({"waves": 3.0}, "limits.waves: Input should be a valid integer."),
        ({"speed": 1}, "limits.speed: Extra inputs are not permitted."),
        ({"shards": 20_000}, "limits.shards is 20000; a stage on AWS has at most 10000."),
    ],
)
def test_limits_that_can_not_be_changed_or_make_no_sense_are_refused_by_name(
    limits: dict[str, Any], problem: str
) -> None:
    assert problem in refusal({"limits": limits})
    assert problem in refusal({"run_id": "r1", "limits": limits}, standing=lambda run_id: a_run())


def test_as_many_shards_as_a_map_has_children_are_allowed() -> None:
    assert understood({"limits": {"shards": MAP_ITEMS}}).limits == {"shards": MAP_ITEMS}


@pytest.mark.parametrize(
    ("event", "found"),
    [
        ({}, {}),
        (scheduled(), {}),
        (uploaded(), {"find": holding()}),
        ({"run_id": "r1"}, {"standing": lambda run_id: a_run()}),
    ],
    ids=["by hand", "scheduled", "uploaded", "taken up"],
)
def test_a_job_that_declares_more_shards_than_a_map_has_children_starts_no_run(
    event: dict[str, Any], found: dict[str, Any]
) -> None:
    limits = Limits(shards=MAP_ITEMS + 1)

    assert "limits.shards is 10001" in refusal(event, limits=limits, **found)


def test_a_run_begun_with_more_shards_than_a_map_has_children_is_not_taken_up() -> None:
    run = a_run(limits={"shards": MAP_ITEMS + 1})

    assert "limits.shards is 10001" in refusal({"run_id": "r1"}, standing=lambda run_id: run)


def test_a_run_begun_with_limits_that_are_none_any_more_is_not_taken_up() -> None:
    run = a_run(limits={"gone": 1})

    message = refusal({"run_id": "r1"}, standing=lambda run_id: run)

    assert message.startswith("Run r1 was begun with limits that the job does not take any more")


def test_an_infinite_budget_is_refused() -> None:
    assert "finite" in refusal(json.loads('{"limits": {"budget_dollars": 1e999}}'))


def test_what_is_no_unicode_is_refused() -> None:
    assert "lone surrogate" in refusal(json.loads('{"inputs": ["\\ud800"]}'))


@pytest.mark.parametrize("sequencer", ["../../x", "F" * 33])
def test_a_sequencer_that_is_none_is_refused(sequencer: str) -> None:
    assert "sequencer: String should match" in refusal(
        uploaded(sequencer=sequencer), find=holding()
    )


def test_an_upload_that_names_no_zone_was_in_utc(in_tokyo: None) -> None:
    event = uploaded()
    told = {**event, "time": event["time"].removesuffix("Z")}

    assert understood(told, find=holding()) == understood(event, find=holding())


@pytest.mark.parametrize("event", [[], [1, 2], "go", None, 3, True])
def test_what_is_no_json_object_is_refused(event: object) -> None:
    message = refusal(event)

    assert message.startswith("The execution's input is no JSON object.")
    assert HOW_TO in message


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        ({"run": "r1"}, "run: Extra inputs are not permitted."),
        ({"detail-type": "Object Deleted"}, "detail-type: Extra inputs are not permitted."),
        ({"inputs": "s3://bucket/"}, "inputs: Input should be a valid list."),
        ({"inputs": []}, "inputs: List should have at least 1 item"),
        ({"inputs": ["s3://b/", 3]}, "inputs.1: Input should be a valid string."),
        ({"run_id": 7}, "run_id: Input should be a valid string."),
        ({"limits": [1]}, "limits: Input should be a valid dictionary."),
        ({"logical_time": "now"}, "logical_time: Input should be a valid number."),
        ({"logical_time": True}, "logical_time: Input should be a valid number."),
        (json.loads('{"logical_time": 1e999}'), "logical_time: Input should be a finite number."),
    ],
)
def test_what_no_trigger_sends_is_refused_by_field(event: dict[str, Any], problem: str) -> None:
    message = refusal(event)

    assert f"The execution's input can't be used: {problem}" in message
    assert HOW_TO in message


# ------------------------------------------------------------------------------------------------
# Too large
# ------------------------------------------------------------------------------------------------

MOST_BYTES = 128 * 1024  # of the 256 KiB that a payload of Step Functions has
ROOM = MOST_BYTES - len('{"inputs": ["s3://b/"]}')


@pytest.mark.parametrize("letter", ["a", "ü", "漢"])
def test_an_input_is_measured_in_bytes_not_in_letters(letter: str) -> None:
    letters = ROOM // len(letter.encode())
    fits, rest = letter * letters, "a" * (ROOM - letters * len(letter.encode()))

    just_fits = {"inputs": [f"s3://b/{fits}{rest}"]}
    assert understood(just_fits).inputs == (f"s3://b/{fits}{rest}",)

    message = refusal({"inputs": [f"s3://b/{fits}{rest}a"]})
    assert f"has {MOST_BYTES + 1} bytes, more than {MOST_BYTES}" in message
    assert "ends in .inputs.json" in message


def test_what_is_too_large_is_refused_before_anything_is_looked_up() -> None:
    event = uploaded("in/november.inputs.json")
    event["detail"]["padding"] = "x" * MOST_BYTES

    assert f"more than {MOST_BYTES}" in refusal(event)


# ------------------------------------------------------------------------------------------------
# Limits
# ------------------------------------------------------------------------------------------------


def test_changed_limits_keep_what_was_not_changed() -> None:
    limits = Limits(waves=3, tolerated=0.5)

    assert limits_of(limits, {}) is limits
    assert limits_of(limits, {"tolerated": 1}) == Limits(waves=3, tolerated=1)

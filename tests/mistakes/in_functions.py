"""Mistakes in functions/."""

from __future__ import annotations

from tests.mistakes.making import Mistake

WORK = "functions/work.py"
BURY = "functions/bury.py"
ANSWERS = "functions/answers.py"
PLAN = "functions/plan.py"
RECONCILE = "functions/reconcile.py"
PUBLISH = "functions/publish.py"
WIRING = "functions/wiring.py"
TELEMETRY = "functions/telemetry.py"
COMPILER = "infra/bundling/bytecode.py"

FAULTS = "tests/cloud/test_faults.py"
OWNERSHIP = "tests/cloud/test_ownership.py"
OBSERVABILITY = "tests/cloud/test_observability.py"
EVENTS = "tests/cloud/test_events.py"

MISTAKES = (
    Mistake(
        "receives are not counted",
        WORK,
        "int(record.attributes.approximate_receive_count)",
        "1",
        ("tests/cloud/test_messages.py::test_a_failed_attempt_is_seen_again_after_its_backoff",),
    ),
    Mistake(
        "a failed attempt is deleted with its message",
        WORK,
        '        raise AttemptFailed(f"Shard {note.shard} is tried again; its note says why.")\n',
        "        return\n",
        ("tests/cloud/test_messages.py::test_a_failed_attempt_is_seen_again_after_its_backoff",),
    ),
    Mistake(
        "a failed attempt is seen again at once",
        WORK,
        "        answers.delay(record, verdict.delay_seconds)\n",
        "        answers.delay(record, 0.0)\n",
        ("tests/cloud/test_messages.py::test_a_failed_attempt_is_seen_again_after_its_backoff",),
    ),
    Mistake(
        "the guard does not know how much time the function has left",
        WORK,
        "guard=Pace(remaining_seconds, look_around(place, message), time.monotonic)",
        "guard=Pace(900.0, look_around(place, message), time.monotonic)",
        (
            "tests/cloud/test_faults.py::test_a_shard_near_its_deadline_commits_what_it_has_and_children_do_the_rest",
        ),
    ),
    Mistake(
        "the guard does not look around",
        WORK,
        "guard=Pace(remaining_seconds, look_around(place, message), time.monotonic)",
        "guard=Pace(remaining_seconds, lambda elapsed: False, time.monotonic)",
        (
            "tests/cloud/test_messages.py::test_a_long_shard_sees_what_its_container_does_not_know_yet",
        ),
    ),
    Mistake(
        "a shard's counts are measured again with every message",
        WORK,
        "fresh=verdict.answer.attempt == attempt",
        "fresh=True",
        (
            "tests/cloud/test_handlers.py::test_what_became_of_a_shard_is_logged_once_with_its_counts",
        ),
    ),
    Mistake(
        "a record's contents are logged",
        WORK,
        "JOBS_OWN = (MapFailed, ReduceFailed, Retry, StopRun)",
        "JOBS_OWN = (ReduceFailed, Retry, StopRun)",
        ("tests/cloud/test_observability.py::test_what_a_job_says_of_its_records_is_not_logged",),
    ),
    Mistake(
        "a burial counts its own receive",
        BURY,
        "receives = max(int(record.attributes.approximate_receive_count) - 1, 1)",
        "receives = max(int(record.attributes.approximate_receive_count), 1)",
        (
            "tests/cloud/test_messages.py::test_a_burial_charges_every_attempt_that_left_nothing_a_whole_timeout",
        ),
    ),
    Mistake(
        "a burial loads the job",
        BURY,
        "run = wiring.run_of(message)",
        "run = wiring.workplace_of(message).run",
        ("tests/cloud/test_messages.py::test_a_burial_needs_nothing_of_the_job",),
    ),
    Mistake(
        "a traced handler is no span",
        TELEMETRY,
        'told = measured if os.environ.get(UNTRACED) == "true" else traced()',
        "told = measured",
        ("tests/cloud/test_handlers.py::test_a_handler_is_one_span_where_traces_are_wanted",),
    ),
    Mistake(
        "bytecode is held against its source",
        COMPILER,
        "PycInvalidationMode.UNCHECKED_HASH",
        "PycInvalidationMode.CHECKED_HASH",
        (
            "tests/infra/test_bundling.py::test_what_a_function_imports_is_compiled_and_never_held_against_its_source",
        ),
    ),
    Mistake(
        "a bundle is made of files that are not those that were loaded",
        "infra/bundling/bundler.py",
        "                _check_unchanged(loaded)\n                made.replace(path)\n",
        "                made.replace(path)\n",
        ("tests/infra/test_bundling.py::test_a_job_that_changes_while_it_is_bundled_is_refused",),
    ),
    Mistake(
        "an import inside a function is not looked for",
        "infra/bundling/required.py",
        "    elif isinstance(node, ast.If):",
        "    elif isinstance(node, ast.FunctionDef):\n        return\n    elif isinstance(node, ast.If):",
        ("tests/infra/test_bundled_imports.py::test_what_the_bundle_would_lack_is_named",),
    ),
    Mistake(
        "a burial charges no time",
        BURY,
        "timeout_seconds=float(settings().timeout_seconds)",
        "timeout_seconds=0.0",
        (
            "tests/cloud/test_messages.py::test_a_burial_charges_every_attempt_that_left_nothing_a_whole_timeout",
        ),
    ),
    Mistake(
        "a message that is not ours stays in the queue of the dead",
        BURY,
        '        telemetry.logger.error("not a message of ours", extra={"reason": str(error)})\n        return\n',
        "        raise\n",
        ("tests/cloud/test_faults.py::test_a_message_that_is_not_ours_ends_as_a_log_line",),
    ),
    Mistake(
        "one message of a batch that can't be buried takes the others with it",
        ANSWERS,
        "processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)",
        "processor = BatchProcessor(event_type=EventType.SQS)",
        (
            "tests/cloud/test_messages.py::test_a_batch_of_which_nothing_can_be_buried_comes_back_as_a_whole",
        ),
    ),
    Mistake(
        "a token that was answered before is an error",
        ANSWERS,
        'SPENT = frozenset({"TaskTimedOut", "InvalidToken", "TaskDoesNotExist"})',
        'SPENT = frozenset({"InvalidToken", "TaskDoesNotExist"})',
        ("tests/cloud/test_messages.py::test_a_token_that_nobody_waits_for_is_no_failure",),
    ),
    Mistake(
        "a cause is longer than Step Functions takes",
        ANSWERS,
        "cause=cause[:CAUSE_LETTERS]",
        "cause=cause",
        (
            "tests/cloud/test_messages.py::test_an_error_and_its_cause_are_cut_to_what_step_functions_takes",
        ),
    ),
    Mistake(
        "an execution that waits to be redriven is taken for dead",
        PLAN,
        'LIVE = frozenset({"RUNNING", "PENDING_REDRIVE"})',
        'LIVE = frozenset({"RUNNING"})',
        ("tests/cloud/test_messages.py::test_which_executions_are_alive",),
    ),
    Mistake(
        "a run that was published before is planned again",
        PLAN,
        'if run.state == "published":',
        'if run.state == "done":',
        ("tests/cloud/test_ownership.py::test_two_executions_of_one_run_id_one_after_the_other",),
    ),
    Mistake(
        "an error of Plan that a redrive follows is raised again",
        RECONCILE,
        'if failure and redrives <= state.get("redrives", 0):',
        "if failure:",
        (
            "tests/cloud/test_ownership.py::test_a_run_that_failed_before_it_was_planned_is_taken_up_by_redrive",
        ),
    ),
    Mistake(
        "waves of more than forty shards go out inline",
        RECONCILE,
        "inline = len(items) <= INLINE_ITEMS",
        "inline = True",
        ("tests/cloud/test_sizes.py::test_no_payload_grows_with_ten_thousand_shards",),
    ),
    Mistake(
        "a queue that can't be asked has no workers",
        RECONCILE,
        "        return True\n",
        "        return False\n",
        (
            "tests/cloud/test_handlers.py::test_a_silent_run_is_given_up_when_no_worker_is_at_any_message",
        ),
    ),
    Mistake(
        "a wave after failures goes out at once",
        RECONCILE,
        '"next": "pause" if pause else way,',
        '"next": way,',
        (
            "tests/cloud/test_pauses.py::test_what_recovers_during_a_pause_is_done_in_the_wave_after_it",
        ),
    ),
    Mistake(
        "a run that is redriven has gone on since it was begun",
        RECONCILE,
        "wiring.now() - ahead.run.tenure.began",
        "wiring.now() - ahead.run.created",
        (
            "tests/cloud/test_handlers.py::test_how_long_a_run_goes_on_is_told_since_it_was_taken_up",
        ),
    ),
    Mistake(
        "the cause of a failure is lost",
        RECONCILE,
        'message = found.get("errorMessage", cause) if isinstance(found, dict) else cause',
        "message = cause",
        ("tests/cloud/test_messages.py::test_reconcile_knows_an_error_by_what_was_caught_of_it",),
    ),
    Mistake(
        "freshness is counted from when the run was published",
        PUBLISH,
        "wiring.now() - manifest.logical_time",
        "wiring.now() - manifest.published",
        (
            "tests/cloud/test_observability.py::test_a_result_is_as_fresh_as_the_time_that_its_run_stands_for",
        ),
    ),
    Mistake(
        "a container works on a message with a record older than it",
        WIRING,
        "if seen is None or moment - seen.at > FRESH_SECONDS or _is_behind(seen.run, message):",
        "if seen is None or moment - seen.at > FRESH_SECONDS:",
        ("tests/cloud/test_messages.py::test_a_container_knows_of_a_run_what_its_message_knows",),
    ),
    Mistake(
        "a container never reads the record of a run again",
        WIRING,
        "if seen is None or moment - seen.at > FRESH_SECONDS or _is_behind(seen.run, message):",
        "if seen is None or _is_behind(seen.run, message):",
        (
            "tests/cloud/test_messages.py::test_a_container_sees_within_half_a_minute_that_a_run_was_cancelled",
        ),
    ),
    Mistake(
        "a run has the limits of its job, not its own",
        WIRING,
        "return job.with_limits(limits_of(job.limits, run.limits))",
        "return job",
        ("tests/cloud/test_faults.py::test_too_many_refused_records_fail_the_run_by_name",),
    ),
    Mistake(
        "what was measured before a handler raised is lost",
        TELEMETRY,
        "        try:\n            return handler(event, context)\n        finally:\n"
        "            if metrics.metric_set:\n                metrics.flush_metrics()\n",
        "        answer = handler(event, context)\n        if metrics.metric_set:\n"
        "            metrics.flush_metrics()\n        return answer\n",
        (
            "tests/cloud/test_messages.py::test_what_was_measured_is_written_though_the_handler_raises",
        ),
    ),
)

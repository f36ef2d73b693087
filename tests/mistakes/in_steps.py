"""Mistakes in coordinator/steps and coordinator/state."""

from __future__ import annotations

from tests.mistakes.making import Mistake

ATTEMPTS = "coordinator/steps/attempts.py"
MAP = "coordinator/steps/map.py"
SPLIT = "coordinator/steps/split.py"
COSTS = "coordinator/rules/costs.py"
RECONCILE = "coordinator/steps/reconcile.py"
PUBLISH = "coordinator/steps/publish.py"
PARTS = "coordinator/steps/parts.py"
RUNS = "coordinator/state/runs.py"
NOTES = "coordinator/state/notes.py"
LEDGER = "coordinator/state/ledger.py"
CATALOGUE = "coordinator/state/catalogue.py"
FILES = "coordinator/state/files.py"
PROOF = "coordinator/state/proof.py"

MISTAKES = (
    Mistake(
        "a message is tried once more than the job says",
        ATTEMPTS,
        "receives < place.job.limits.attempts",
        "receives <= place.job.limits.attempts",
        (
            "tests/steps/test_attempts.py::test_what_may_pass_is_tried_again_and_each_failure_is_counted",
        ),
        shared=True,
    ),
    Mistake(
        "a record that is to be tried again later is not waited for",
        ATTEMPTS,
        "delay_seconds=max(asked, backoff_seconds(receives, jitter()))",
        "delay_seconds=backoff_seconds(receives, jitter())",
        ("tests/steps/test_fates.py::test_what_cannot_be_waited_for_is_left_to_the_queue",),
    ),
    Mistake(
        "what was mapped before a record that does not come right is done again",
        "coordinator/steps/map.py",
        "                    if not (anything or number):\n                        raise\n",
        "                    raise\n",
        (
            "tests/steps/test_fates.py::test_what_is_done_is_kept_and_the_rest_goes_on_as_another_shard",
        ),
    ),
    Mistake(
        "a backoff does not ask for the receives",
        ATTEMPTS,
        "delay_seconds=max(asked, backoff_seconds(receives, jitter()))",
        "delay_seconds=max(asked, backoff_seconds(1, jitter()))",
        (
            "tests/steps/test_attempts.py::test_a_failed_attempt_is_tried_again_after_a_wait_that_doubles",
        ),
    ),
    Mistake(
        "a backoff does not ask for its jitter",
        ATTEMPTS,
        "delay_seconds=max(asked, backoff_seconds(receives, jitter()))",
        "delay_seconds=max(asked, backoff_seconds(receives, 1.0))",
        (
            "tests/steps/test_attempts.py::test_a_failed_attempt_is_tried_again_after_a_wait_that_doubles",
        ),
    ),
    Mistake(
        "attempts that died leave no mark",
        ATTEMPTS,
        'update={"unfinished": before.unfinished + 1}',
        'update={"unfinished": before.unfinished}',
        (
            "tests/steps/test_attempts.py::test_a_shard_is_taken_apart_when_two_attempts_have_died_that_left_a_mark",
        ),
    ),
    Mistake(
        "a shard is taken apart after one worker died of it",
        ATTEMPTS,
        "return before.unfinished >= KILLED_ATTEMPTS",
        "return before.unfinished >= 1",
        (
            "tests/steps/test_attempts.py::test_a_shard_is_taken_apart_when_two_attempts_have_died_that_left_a_mark",
        ),
    ),
    Mistake(
        "a burial counts one failure, however often the message was received",
        ATTEMPTS,
        "lost = max(note.receives - failures, 1)",
        "lost = 1",
        ("tests/steps/test_attempts.py::test_a_message_received_too_often_is_buried_with_a_note",),
    ),
    Mistake(
        "attempts that died cost nothing when they are buried",
        ATTEMPTS,
        "failures, seconds, unfinished = failures + lost, seconds + lost * lost_seconds, 0",
        "failures, seconds, unfinished = failures + lost, seconds, 0",
        ("tests/steps/test_attempts.py::test_a_message_received_too_often_is_buried_with_a_note",),
    ),
    Mistake(
        "a message is buried though its shard is done",
        ATTEMPTS,
        "    if standing is not None:\n        return Answered(answer=answer_of(standing))\n    if (unasked",
        "    if (unasked",
        ("tests/steps/test_attempts.py::test_a_message_whose_shard_is_done_is_not_buried",),
    ),
    Mistake(
        "code that was changed under an attempt commits all the same",
        ATTEMPTS,
        "        place.program.check()\n",
        "",
        ("tests/steps/test_attempts.py::test_code_that_its_epoch_is_not_bound_to_commits_nothing",),
    ),
    Mistake(
        "an attempt does not look which code its epoch is bound to",
        ATTEMPTS,
        "        check_code(place.run, place.code_version)\n",
        "",
        ("tests/steps/test_attempts.py::test_code_that_its_epoch_is_not_bound_to_commits_nothing",),
    ),
    Mistake(
        "an attempt of half a day commits",
        ATTEMPTS,
        "if seconds > ATTEMPT_HOURS * 3600:",
        "if seconds > ATTEMPT_HOURS * 3600 * 24:",
        ("tests/steps/test_attempts.py::test_an_attempt_of_more_than_half_a_day_does_not_commit",),
    ),
    Mistake(
        "a shard that refuses more than is tolerated commits",
        ATTEMPTS,
        "refused > limits.tolerated:",
        "refused > limits.tolerated + 1:",
        (
            "tests/steps/test_interference.py::test_a_shard_that_refuses_more_than_is_tolerated_commits_nothing_and_is_mended",
        ),
    ),
    Mistake(
        "one bad record takes its whole list with it",
        MAP,
        "                self._map_one_at_a_time(group, refusals)\n",
        "                for batch, refused in zip(group, refusals, strict=True):\n"
        "                    for number in range(len(batch.records)):\n"
        '                        refused.append((batch.unit(number), "its list"))\n',
        ("tests/steps/test_refusals.py",),
    ),
    Mistake(
        "a list is not tried record by record when its outputs have no encoding",
        MAP,
        "return next((refusal for _, refusal in self.outlet.settle()), None)",
        "self.outlet.settle()\n        return None",
        ("tests/steps/test_refusals.py",),
    ),
    Mistake(
        "a refused record of a list is looked for among the decoded ones only",
        MAP,
        "                    refused.append((batch.unit(number), reason_of(refusal)))",
        "                    refused.append((number, reason_of(refusal)))",
        ("tests/steps/test_refusals.py",),
    ),
    Mistake(
        "the refusals of a settled record name the record as it was taken",
        MAP,
        "refusals.append((batch.unit(taken[which]), reason_of(refusal)))",
        "refusals.append((batch.unit(which), reason_of(refusal)))",
        ("tests/steps/test_refusals.py",),
    ),
    Mistake(
        "a shard that is to stop maps one record more than it may",
        MAP,
        "                done = number\n                break\n",
        "                done = number + 1\n                break\n",
        (
            "tests/steps/test_attempts.py::test_a_shard_stopped_anywhere_and_its_rest_stopped_again_give_the_same_bytes",
        ),
    ),
    Mistake(
        "the lists of a split shard are cut anywhere",
        SPLIT,
        '    if job.form == "map_batch":\n        return (rest,)\n',
        "",
        (
            "tests/steps/test_attempts.py::test_a_map_of_lists_gets_the_same_lists_wherever_its_shard_is_split",
        ),
    ),
    Mistake(
        "a long shard does not see that its run was cancelled",
        SPLIT,
        '            raise (RunCancelled if run.state == "cancelled" else Superseded)(reason)\n',
        "            return False\n",
        (
            "tests/steps/test_look_around.py::test_a_shard_that_nobody_wants_any_more_ends_at_its_next_look",
        ),
    ),
    Mistake(
        "a long shard looks at the run as it was when it began",
        SPLIT,
        "        run = runs.read(place.store, place.keys)\n",
        "        run = place.run\n",
        (
            "tests/steps/test_look_around.py::test_a_shard_that_nobody_wants_any_more_ends_at_its_next_look",
        ),
    ),
    Mistake(
        "a long shard compares itself with the first that were done",
        SPLIT,
        "sample = list(islice(done, 0, None, max(len(done) // SAMPLED, 1)))",
        "sample = done[:1]",
        (
            "tests/steps/test_look_around.py::test_those_it_compares_itself_with_are_from_all_over_the_stage",
        ),
    ),
    Mistake(
        "a long shard counts the shards that it looked at, not all that are done",
        SPLIT,
        'return is_skewed(elapsed_seconds, taken, len(done), run.plans["map"].shards)',
        'return is_skewed(elapsed_seconds, taken, len(taken), run.plans["map"].shards)',
        (
            "tests/steps/test_look_around.py::test_a_shard_is_behind_when_half_of_all_are_done_and_took_a_quarter_of_its_time",
        ),
    ),
    Mistake(
        "a budget covers each stage by itself",
        RECONCILE,
        "{**run.totals, stage: totals})",
        "{stage: totals})",
        ("tests/steps/test_reconcile.py::test_a_budget_covers_all_stages_together",),
    ),
    Mistake(
        "a budget does not know of the coordinator",
        COSTS,
        "            coordinator_seconds=run.coordinator_seconds,\n",
        "            coordinator_seconds=0.0,\n",
        ("tests/steps/test_reconcile.py::test_a_budget_pays_for_the_coordinator_too",),
    ),
    Mistake(
        "a publish that fails is tried for ever",
        RECONCILE,
        "    stalled = found.progress.stalled + 1\n    if stalled",
        "    stalled = 1\n    if stalled",
        (
            "tests/steps/test_reconcile.py::test_a_publish_that_fails_again_and_again_ends_the_run_until_it_is_redriven",
        ),
    ),
    Mistake(
        "a plan that fails is tried for ever",
        RECONCILE,
        "    stalled = found.progress.stalled + 1 if unchanged else 0\n",
        "    stalled = 0\n",
        ("tests/steps/test_reconcile.py::test_a_plan_that_fails_again_and_again_ends_the_run",),
    ),
    Mistake(
        "an error that going round can't mend is tried again",
        RECONCILE,
        "if failure.fate is not Fate.RETRY and type(failure) is not FanfoldError:",
        "if failure.fate is Fate.SHARD:",
        (
            "tests/steps/test_reconcile.py::test_an_error_that_going_round_can_not_mend_ends_the_run",
        ),
    ),
    Mistake(
        "an error of nobody's ends the run at once",
        RECONCILE,
        "if failure.fate is not Fate.RETRY and type(failure) is not FanfoldError:",
        "if failure.fate is not Fate.RETRY:",
        ("tests/steps/test_reconcile.py::test_an_error_that_may_pass_leads_round_again",),
    ),
    Mistake(
        "a redrive does not begin a new epoch",
        RECONCILE,
        "if redrives > found.tenure.redrives:",
        "if redrives > found.tenure.redrives + 1:",
        (
            "tests/steps/test_reconcile.py::test_a_redrive_takes_the_run_up_once_whatever_the_error_was",
        ),
    ),
    Mistake(
        "a run that is taken up again is still stalled",
        RUNS,
        '            "progress": LastPass(),\n',
        "",
        ("tests/steps/test_reconcile.py::test_a_stalled_run_that_is_redriven_has_its_waves_anew",),
    ),
    Mistake(
        "a stage inherits the stall of the one before",
        RECONCILE,
        '                "progress": LastPass(),\n',
        "",
        ("tests/steps/test_reconcile.py::test_waves_that_stalled_are_not_held_against_publishing",),
    ),
    Mistake(
        "a publish that was asleep publishes an older draft",
        PUBLISH,
        "if (found.plans, found.sealed) != (run.plans, run.sealed):",
        "if found.plans.keys() != run.plans.keys():",
        ("tests/steps/test_publish.py::test_what_was_proven_is_what_is_published",),
    ),
    Mistake(
        "a manifest that is there already is written over",
        PUBLISH,
        "store.writer(keys.manifest, exclusive=True)",
        "store.writer(keys.manifest)",
        ("tests/steps/test_publish.py::test_publishing_again_changes_nothing",),
    ),
    Mistake(
        "outputs wait in memory whatever they weigh",
        PARTS,
        "if self._waiting_bytes > WAITING_BYTES:",
        "if len(self._waiting) > WAITING_BYTES:",
        (
            "tests/shuffle/test_bounds.py::test_what_256_records_yield_is_written_before_it_is_too_much",
        ),
    ),
    Mistake(
        "a run may be taken up when its parts have expired",
        RUNS,
        "if now - found.created > (RUN_DAYS - 1) * DAY_SECONDS:",
        "if now - found.created > (RUN_DAYS + 1) * DAY_SECONDS:",
        ("tests/state/test_runs.py",),
    ),
    Mistake(
        "a run is taken over with all of its waves anew",
        RUNS,
        "tenure = Tenure(began=now, after=found.wave, waves=1, redrives=wanted.redrives)",
        "tenure = Tenure(began=now, after=found.wave, waves=wanted.waves, redrives=wanted.redrives)",
        ("tests/state/test_runs.py",),
    ),
    Mistake(
        "a run that is taken over is not bound to the new code",
        RUNS,
        '            "code_version": code_version,\n            "state"',
        '            "state"',
        ("tests/state/test_runs.py",),
    ),
    Mistake(
        "a run is cancelled whose publishing is committed",
        RUNS,
        "if found.state in COMMITTED:",
        'if found.state == "published":',
        ("tests/state/test_runs.py",),
    ),
    Mistake(
        "a change whose outcome is unknown is made twice",
        RUNS,
        "if store.get(keys.run).body != after.encode():",
        "if True:",
        ("tests/state/test_runs.py",),
    ),
    Mistake(
        "attempts that ended with nothing cost nothing",
        NOTES,
        "return Failures(by_shard, count, attempts + lost, seconds + lost * timeout_seconds)",
        "return Failures(by_shard, count, attempts + lost, seconds)",
        ("tests/state/test_notes.py",),
    ),
    Mistake(
        "the attempt that a done shard ended with counts as failed",
        NOTES,
        "max(marks - (shard in done), 0)",
        "max(marks, 0)",
        ("tests/state/test_notes.py",),
    ),
    Mistake(
        "an attempt that has begun counts as one that failed",
        NOTES,
        "        if not note.failures:\n",
        "        if note.failures < 0:\n",
        ("tests/state/test_notes.py",),
    ),
    Mistake(
        "an entry under another shard's name is believed",
        LEDGER,
        'if named not in (None, shard) or entry["stage"] != self.stage:',
        'if entry["stage"] != self.stage:',
        (
            "tests/steps/test_attempts.py::test_an_entry_under_another_shards_name_breaks_the_ledger",
        ),
    ),
    Mistake(
        "of two runs of one logical time the pointer stays with the first",
        CATALOGUE,
        "return pointer.logical_time, pointer.run_id",
        'return pointer.logical_time, ""',
        (
            "tests/steps/test_publish.py::test_the_pointer_moves_forward_in_logical_time_whoever_ends_last",
        ),
    ),
    Mistake(
        "a file is believed to be what it was by its size",
        FILES,
        "if (size, digest.hexdigest()) != (file.size, file.sha256):",
        "if size != file.size:",
        (
            "tests/steps/test_publish.py::test_a_sealed_ledger_that_was_changed_is_named",
            "tests/upkeep/test_verify.py",
        ),
    ),
    Mistake(
        "a segment is not held against its checksum",
        FILES,
        "if (length, crc) != tuple(part.segments[partition]):",
        "if length != part.segments[partition][0]:",
        ("tests/state/test_files.py::test_a_segment_that_is_not_what_its_entry_says_is_named",),
    ),
    Mistake(
        "records that are lost on their way to merge are not noticed",
        PROOF,
        'if stage == "merge" and given is not None and given[1] != found.records_in:',
        'if stage == "reduce" and given is not None and given[1] != found.records_in:',
        (
            "tests/steps/test_publish.py::test_a_stage_that_took_other_records_than_were_given_is_not_proven",
        ),
    ),
)

"""Mistakes in coordinator/rules."""

from __future__ import annotations

from tests.mistakes.making import Mistake

TRANSPORT = "coordinator/rules/transport.py"
PACING = "coordinator/rules/pacing.py"
DECIDE = "coordinator/rules/decide.py"
COSTS = "coordinator/rules/costs.py"
COVERAGE = "coordinator/rules/coverage.py"
SHARDING = "coordinator/rules/sharding.py"
STAGES = "coordinator/rules/stages.py"

MISTAKES = (
    Mistake(
        "throttles use up the receives of a job with few attempts",
        TRANSPORT,
        "return max(RECEIVES_AT_LEAST, limits.attempts)",
        "return limits.attempts",
        ("tests/rules/test_transport.py",),
    ),
    Mistake(
        "a message is seen again while its function still runs",
        TRANSPORT,
        "return function_seconds + GRACE_SECONDS",
        "return function_seconds",
        ("tests/rules/test_transport.py",),
        shared=True,
    ),
    Mistake(
        "a child gives up before its tries have had their time",
        TRANSPORT,
        "math.ceil(work / limits.concurrency) + tries_seconds(limits)",
        "math.ceil(work / limits.concurrency)",
        ("tests/rules/test_transport.py",),
    ),
    Mistake(
        "a child waits for longer than its message is kept",
        TRANSPORT,
        "return min(max(CHILD_SECONDS_LEAST, longest), QUEUE_DAYS * 86_400)",
        "return max(CHILD_SECONDS_LEAST, longest)",
        ("tests/rules/test_transport.py",),
    ),
    Mistake(
        "a child does not wait for the shards before it",
        TRANSPORT,
        "math.ceil(work / limits.concurrency) + tries_seconds(limits)",
        "tries_seconds(limits)",
        ("tests/rules/test_transport.py",),
    ),
    Mistake(
        "a wave of which nothing is heard opens child after child",
        TRANSPORT,
        "return open_children(limits, items) - 1",
        "return items - 1",
        (
            "tests/rules/test_transport.py",
            "tests/chaos/test_silence.py",
        ),
    ),
    Mistake(
        "all runs come back at once after a pause",
        PACING,
        "wanted = longest * (1 + jitter) / 2",
        "wanted = longest",
        ("tests/rules/test_pacing.py",),
    ),
    Mistake(
        "a pause has no bound",
        PACING,
        "longest = min(PAUSE_MOST_SECONDS, PAUSE_SECONDS * PAUSE_FACTOR ** min(waves - 1, 8))",
        "longest = PAUSE_SECONDS * PAUSE_FACTOR ** min(waves - 1, 8)",
        ("tests/rules/test_pacing.py",),
    ),
    Mistake(
        "a clock that is ahead lengthens a pause",
        PACING,
        "min(max(passed_seconds, 0.0), wanted)",
        "min(passed_seconds, wanted)",
        ("tests/rules/test_pacing.py",),
    ),
    Mistake(
        "a wave that nothing is heard of is sent again at once",
        DECIDE,
        "pauses = [pause_seconds(progress.stalled, facts.now - progress.sent, jitter)]",
        "pauses = [0]",
        ("tests/rules/test_decide.py::test_how_long_a_wave_waits",),
    ),
    Mistake(
        "a run that waits behind others is given up",
        DECIDE,
        "progress.stalled > 0 and silent and not facts.served",
        "progress.stalled > 0 and silent",
        ("tests/rules/test_decide.py::test_a_silent_wave_may_wait_behind_those_of_other_runs",),
    ),
    Mistake(
        "silence begins anew with every wave",
        DECIDE,
        "since = seen.since if seen.stalled else at",
        "since = at",
        ("tests/rules/test_decide.py",),
    ),
    Mistake(
        "a backoff grows by as much each time",
        PACING,
        "BACKOFF_SECONDS * 2 ** min(receives, 16)",
        "BACKOFF_SECONDS * 2 * receives",
        ("tests/rules/test_pacing.py",),
    ),
    Mistake(
        "a backoff has no jitter",
        PACING,
        "return float(jitter * min(",
        "return float(min(",
        ("tests/rules/test_pacing.py",),
    ),
    Mistake(
        "a backoff has no bound",
        PACING,
        "min(BACKOFF_MOST_SECONDS, BACKOFF_SECONDS * 2 ** min(receives, 16))",
        "BACKOFF_SECONDS * 2 ** min(receives, 16)",
        ("tests/rules/test_pacing.py",),
    ),
    Mistake(
        "the guard looks around at every record after the first minute",
        PACING,
        "            self._next_look = now + LOOK_SECONDS\n",
        "",
        ("tests/rules/test_pacing.py",),
    ),
    Mistake(
        "the guard goes on though the shard is far behind",
        PACING,
        "                self._ends = now\n",
        "                pass\n",
        ("tests/rules/test_pacing.py",),
    ),
    Mistake(
        "the guard keeps no reserve",
        PACING,
        "self._ends = self._began + working_seconds(remaining_seconds)",
        "self._ends = self._began + remaining_seconds",
        ("tests/rules/test_pacing.py",),
    ),
    Mistake(
        "messages of an epoch that has ended are worked on",
        DECIDE,
        "if message.epoch < run.epoch:",
        "if message.epoch > run.epoch:",
        ("tests/rules/test_decide.py::test_why_nobody_wants_a_message",),
    ),
    Mistake(
        "messages of a cancelled run are worked on",
        DECIDE,
        'if run.state == "cancelled":',
        'if run.state == "canceled":',
        ("tests/rules/test_decide.py::test_why_nobody_wants_a_message",),
    ),
    Mistake(
        "messages of a draft that was replaced are worked on",
        DECIDE,
        "if plan is None or plan.draft != message.draft:",
        "if plan is None:",
        ("tests/rules/test_decide.py::test_why_nobody_wants_a_message",),
    ),
    Mistake(
        "messages of a run that is being published are worked on",
        DECIDE,
        "if run.state in COMMITTED:",
        'if run.state == "published":',
        ("tests/rules/test_decide.py::test_why_nobody_wants_a_message",),
    ),
    Mistake(
        "a budget is noticed only once it is spent",
        DECIDE,
        "    return due[:count]\n",
        "    return due\n",
        ("tests/rules/test_decide.py",),
    ),
    Mistake(
        "a run that was redriven fails of its old notes",
        DECIDE,
        "failure.fate is Fate.RUN and failure.wave > facts.tenure.after",
        "failure.fate is Fate.RUN",
        ("tests/rules/test_decide.py",),
    ),
    Mistake(
        "waves of earlier tenures are counted",
        DECIDE,
        "return [failure for failure in failures if failure.wave > tenure.after]",
        "return list(failures)",
        ("tests/rules/test_decide.py",),
    ),
    Mistake(
        "waves in which nothing happens are not counted",
        DECIDE,
        "stalled = progress.stalled + 1 if progress.dispatched and unchanged else 0",
        "stalled = 1 if progress.dispatched and unchanged else 0",
        ("tests/rules/test_decide.py",),
    ),
    Mistake(
        "a share of refused records is judged before all are read",
        DECIDE,
        "if (share and not complete) or limits.tolerates(quarantined, records):",
        "if limits.tolerates(quarantined, records):",
        ("tests/rules/test_decide.py",),
    ),
    Mistake(
        "failed attempts cost nothing",
        COSTS,
        "        seconds = self.worker_seconds + self.failed_seconds\n",
        "        seconds = self.worker_seconds\n",
        ("tests/steps/test_interference.py::test_what_failed_is_in_the_price_of_a_run",),
    ),
    Mistake(
        "the coordinator costs nothing",
        COSTS,
        "            + lambda_dollars(self.coordinator_seconds, COORDINATOR_MEMORY_MB)\n",
        "",
        ("tests/steps/test_reconcile.py::test_a_budget_pays_for_the_coordinator_too",),
    ),
    Mistake(
        "a shard is expected to cost nothing until one is done",
        COSTS,
        "return lambda_dollars(timeout_seconds, memory_mb) + OVERHEAD_A_SHARD",
        "return 0.0",
        (
            "tests/steps/test_reconcile.py::test_until_a_shard_is_done_a_budget_reckons_with_the_worst",
        ),
    ),
    Mistake(
        "what was read in another version is taken for covered",
        COVERAGE,
        "if waiting.pinned != pinned:",
        "if waiting.pinned.key != pinned.key:",
        ("tests/rules/test_coverage.py",),
    ),
    Mistake(
        "bytes that are lost between two slices are not noticed",
        COVERAGE,
        "if waiting.start != place:",
        "if waiting.start < place:",
        ("tests/rules/test_coverage.py",),
    ),
    Mistake(
        "an object that does not fit goes into a full shard",
        SHARDING,
        "if shard and not cutting and filled + size > cut.shard_bytes:",
        "if shard and not cutting and filled > cut.shard_bytes:",
        ("tests/rules/test_sharding.py",),
    ),
    Mistake(
        "the number of partitions has no bound",
        SHARDING,
        "max(1, min(limits.partitions, -(-total_bytes // limits.reduce_bytes)))",
        "max(1, -(-total_bytes // limits.reduce_bytes))",
        (
            "tests/rules/test_sharding.py",
            "tests/machine/test_in_memory.py::test_the_number_of_partitions_changes_the_order_only",
        ),
    ),
    Mistake(
        "the children of a split get results of their own",
        STAGES,
        "key=lambda leaf: root_id(leaf[0])",
        "key=lambda leaf: leaf[0]",
        ("tests/rules/test_stages.py",),
    ),
)

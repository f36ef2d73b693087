"""Mistakes in coordinator/run.asl.json."""

from __future__ import annotations

from typing import Any

from tests.mistakes.making import DefinitionMistake

State = dict[str, Any]
TESTS = ("tests/cloud/test_definition.py",)
LOST_ANSWER = "tests/cloud/test_faults.py::test_a_run_ends_though_an_answer_is_lost_for_good"


def child(states: State, fan_out: str) -> State:
    """The state in which a child of a Map sends its message and waits."""
    name = "Shard" if fan_out == "FanOut" else "ShardInline"
    found: State = states[fan_out]["ItemProcessor"]["States"][name]
    return found


def a_function_is_given_less_time_than_it_has(states: State) -> None:
    states["Reconcile"]["TimeoutSeconds"] = 840


def a_function_is_waited_for_an_hour(states: State) -> None:
    for name in ("Plan", "Reconcile", "Publish"):
        states[name]["TimeoutSeconds"] = 3600


def an_unavailable_store_is_not_retried(states: State) -> None:
    for name in ("Plan", "Reconcile", "Publish"):
        states[name]["Retry"][0]["ErrorEquals"].remove("StoreUnavailable")


def a_lost_connection_is_not_retried(states: State) -> None:
    for name in ("Plan", "Reconcile", "Publish"):
        states[name]["Retry"][0]["ErrorEquals"].remove("EndpointConnectionError")


def a_killed_function_is_not_retried(states: State) -> None:
    for name in ("Plan", "Reconcile", "Publish"):
        states[name]["Retry"][1]["ErrorEquals"].remove("Sandbox.Timedout")


def a_busy_function_is_tried_once_more_only(states: State) -> None:
    for name in ("Plan", "Reconcile", "Publish"):
        states[name]["Retry"][0]["MaxAttempts"] = 1


def what_stops_a_run_is_retried(states: State) -> None:
    for name in ("Plan", "Reconcile", "Publish"):
        states[name]["Retry"][0]["ErrorEquals"].append("ShardsFailed")


def an_error_of_plan_takes_the_run_with_it(states: State) -> None:
    del states["Plan"]["Catch"][0]["ResultPath"]


def an_error_of_publish_ends_as_a_success(states: State) -> None:
    states["Publish"]["Catch"][0]["Next"] = "Done"


def an_error_of_the_map_publishes(states: State) -> None:
    states["FanOut"]["Catch"][0]["Next"] = "Publish"


def the_map_is_not_judged(states: State) -> None:
    states["FanOut"]["Next"] = "Publish"


def a_few_failures_end_the_map(states: State) -> None:
    states["FanOut"]["ToleratedFailurePercentage"] = 5


def any_failure_ends_the_map(states: State) -> None:
    del states["FanOut"]["ToleratedFailureCountPath"]


def lost_children_never_end_the_map(states: State) -> None:
    del states["FanOut"]["ToleratedFailureCountPath"]
    states["FanOut"]["ToleratedFailurePercentage"] = 100


def a_child_that_timed_out_is_one_that_failed(states: State) -> None:
    for name in ("FanOut", "FanOutInline"):
        child(states, name)["Catch"][0]["ErrorEquals"] = ["States.ALL"]


def a_pause_is_a_minute(states: State) -> None:
    del states["Pause"]["SecondsPath"]
    states["Pause"]["Seconds"] = 60


def a_large_wave_goes_out_inline_after_a_pause(states: State) -> None:
    states["Paused"]["Choices"][0]["Next"] = "FanOutInline"


def reconcile_does_not_know_the_queue(states: State) -> None:
    del states["Reconcile"]["Parameters"]["Payload"]["queue"]


def the_map_has_no_label(states: State) -> None:
    del states["FanOut"]["Label"]


def children_are_express(states: State) -> None:
    states["FanOut"]["ItemProcessor"]["ProcessorConfig"]["ExecutionType"] = "EXPRESS"


def all_children_of_the_map_are_open_at_once(states: State) -> None:
    del states["FanOut"]["MaxConcurrencyPath"]


def all_inline_children_are_open_at_once(states: State) -> None:
    del states["FanOutInline"]["MaxConcurrencyPath"]


def a_child_waits_for_ever(states: State) -> None:
    for name in ("FanOut", "FanOutInline"):
        del child(states, name)["TimeoutSecondsPath"]


def a_child_that_timed_out_sends_its_message_again(states: State) -> None:
    for name in ("FanOut", "FanOutInline"):
        child(states, name)["Retry"][0]["ErrorEquals"].append("States.Timeout")


def a_message_that_was_not_sent_is_given_up(states: State) -> None:
    for name in ("FanOut", "FanOutInline"):
        child(states, name)["Retry"][0]["MaxAttempts"] = 0


def a_message_that_sqs_refused_is_given_up(states: State) -> None:
    for name in ("FanOut", "FanOutInline"):
        child(states, name)["Retry"][0]["ErrorEquals"].remove("SQS.AmazonSQSException")


def one_inline_failure_ends_the_others(states: State) -> None:
    del child(states, "FanOutInline")["Catch"]


def a_child_does_not_wait_for_its_answer(states: State) -> None:
    for name in ("FanOut", "FanOutInline"):
        child(states, name)["Resource"] = "arn:aws:states:::sqs:sendMessage"


def the_answers_of_a_map_are_the_state(states: State) -> None:
    del states["FanOut"]["ResultPath"]


def the_results_of_a_map_lie_nowhere(states: State) -> None:
    del states["FanOut"]["ResultWriter"]


def messages_are_of_the_first_epoch(states: State) -> None:
    for name in ("FanOut", "FanOutInline"):
        selector = states[name]["ItemSelector"]
        del selector["epoch.$"]
        selector["epoch"] = 1


def messages_name_no_draft(states: State) -> None:
    for name in ("FanOut", "FanOutInline"):
        del child(states, name)["Parameters"]["MessageBody"]["draft.$"]


def what_starts_a_run_is_taken_for_its_state(states: State) -> None:
    del states["Trigger"]["Result"]


def a_second_delivery_is_reconciled(states: State) -> None:
    stop = states["Planned"]["Choices"][1]
    stop["Next"] = "Reconcile"


def an_answer_that_is_none_publishes(states: State) -> None:
    states["Reconciled"]["Default"] = "Publish"


def reconcile_does_not_see_the_state(states: State) -> None:
    del states["Reconcile"]["Parameters"]["Payload"]["state.$"]


EDITS = (
    a_function_is_given_less_time_than_it_has,
    a_function_is_waited_for_an_hour,
    an_unavailable_store_is_not_retried,
    a_lost_connection_is_not_retried,
    a_killed_function_is_not_retried,
    a_busy_function_is_tried_once_more_only,
    what_stops_a_run_is_retried,
    an_error_of_plan_takes_the_run_with_it,
    an_error_of_publish_ends_as_a_success,
    an_error_of_the_map_publishes,
    the_map_is_not_judged,
    a_few_failures_end_the_map,
    any_failure_ends_the_map,
    lost_children_never_end_the_map,
    a_child_that_timed_out_is_one_that_failed,
    a_pause_is_a_minute,
    a_large_wave_goes_out_inline_after_a_pause,
    reconcile_does_not_know_the_queue,
    the_map_has_no_label,
    children_are_express,
    all_children_of_the_map_are_open_at_once,
    all_inline_children_are_open_at_once,
    a_child_waits_for_ever,
    a_child_that_timed_out_sends_its_message_again,
    a_message_that_was_not_sent_is_given_up,
    a_message_that_sqs_refused_is_given_up,
    one_inline_failure_ends_the_others,
    a_child_does_not_wait_for_its_answer,
    the_answers_of_a_map_are_the_state,
    the_results_of_a_map_lie_nowhere,
    messages_are_of_the_first_epoch,
    messages_name_no_draft,
    what_starts_a_run_is_taken_for_its_state,
    a_second_delivery_is_reconciled,
    an_answer_that_is_none_publishes,
    reconcile_does_not_see_the_state,
)
MISTAKES = tuple(DefinitionMistake(edit, TESTS) for edit in EDITS)

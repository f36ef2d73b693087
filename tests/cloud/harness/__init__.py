"""A mocked AWS account that runs the real state machine with real or fake handlers.

    with Cloud(handlers) as cloud:  # {"plan": handler, ..., "publish": handler}
        cloud.faults.crash("work", match=about_shard("3"), nth=1)
        ended = cloud.run({"run_id": "r1", "inputs": [...]}, name="r1")
        assert ended.succeeded
        assert cloud.records.count("work") == 11

Step Functions is moto's interpreter, S3 and SQS are moto's, Lambda is a function call, and the
event source mapping is `mapping.py`. `faults.py` is the script of what goes wrong, `records.py`
what happened. No test sleeps: time that AWS would let pass passes at once.

The definition goes to the interpreter as it is, with its `${...}` filled in: nothing in it had to
be changed for moto. What moto lacks or does otherwise is adapted, and only where this table says:

    what                      in moto 5.2                      here
    ------------------------  -------------------------------  -------------------------------------
    lambda:invoke             echoes its input                 the handler is called; its errors,
                                                               deaths and refusals are answered as
                                                               Lambda answers them
    $$.Execution              no RedriveCount, StartTime is    as AWS has them
                              no string
    RedriveExecution          refused                          Cloud.redrive: the same execution
                                                               enters its unfinished state again,
                                                               with that state's input; a Map sends
                                                               all its items again, where AWS runs
                                                               only its unfinished children
    StopExecution             ends when every child was        ends at once, as ABORTED, with both;
                              answered, at times as FAILED;    children stop waiting
                              no error, no cause
    a token answered twice    accepted in silence              TaskTimedOut
    SendTaskFailure           drops the cause                  keeps it
    Parameters of             see the Map's results: a path    see the state's input; the manifest
    ResultWriter              into the input fails             is still moto's and lists no result
                                                               files
    ToleratedFailureCount     no bound                         as in moto: the simulator of
                                                               tests/chaos has the bound
    concurrency of a Map      a thread each, also for items    at most concurrency_limit; what was
                              that don't exist                 asked is in
                                                               records.requested_concurrency
    timeout of a child        real time                        passes at once when the child's
                                                               message is gone from the queues and
                                                               nobody answered
    waits of Retry and SDKs   sleep                            noted in records.retry_waits, not
                                                               slept
    Wait                      waits                            noted in records.pauses, not waited;
                                                               Cloud.on_pause happens meanwhile
    visibility timeout        real time                        passes at once when no other message
                                                               is visible; never while the message
                                                               is being handled
    event source mapping      no receive count, no partial     mapping.py polls
                              failures
    executions at once        one that starts breaks the       its environment is made before it
                              answers of another               starts
    requests at once          conditional writes and queue     one lock each for s3, sqs and states
                              lists race
    speed                     a client for every task; URLs,   made once; the recursion limit is
                              JSON paths and definitions       raised
                              parsed at every use; a
                              recursion for every child

Not emulated: the history of a redriven execution shows ExecutionStarted where AWS has
ExecutionRedriven. The children of a Distributed Map are no executions of their own: their
transitions are in `records.transitions`, and they end with the token's error or `{}` only there.
A message's receive count goes on counting in the dead-letter queue. Of payloads, moto checks only
the outputs of states: assert on `records.payload_bytes()`.
"""

from tests.cloud.harness.cloud import Cloud, Ended, Stuck, substituted
from tests.cloud.harness.faults import (
    Faults,
    Hold,
    Throttled,
    WorkerDied,
    about_shard,
    key_contains,
    message_of,
)
from tests.cloud.harness.functions import LambdaContext
from tests.cloud.harness.records import (
    PAYLOAD_LIMIT_BYTES,
    ApiCall,
    Delivery,
    Invocation,
    Records,
    Transition,
    size_bytes,
)

__all__ = [
    "PAYLOAD_LIMIT_BYTES",
    "ApiCall",
    "Cloud",
    "Delivery",
    "Ended",
    "Faults",
    "Hold",
    "Invocation",
    "LambdaContext",
    "Records",
    "Stuck",
    "Throttled",
    "Transition",
    "WorkerDied",
    "about_shard",
    "key_contains",
    "message_of",
    "size_bytes",
    "substituted",
]

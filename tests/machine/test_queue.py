"""The queue of a wave: what is ready, what comes back later, and what nobody waits for any more."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coordinator.machine.queue import SECONDS_KEPT, WITHOUT_END, WaveQueue
from coordinator.machine.worker import Delivery
from coordinator.model import Message, ShardRef
from tests.support import EFFORT, examples

WAVE = 7


def message(shard: str, wave: int = WAVE) -> Message:
    ref = ShardRef(id=shard, key="plan", digest=f"digest of {shard}")
    return Message(job="job", run_id="r1", stage="map", draft="d", wave=wave, epoch=1, shard=ref)


def delivery(shard: str, receives: int = 1, wave: int = WAVE) -> Delivery:
    return Delivery(message=message(shard, wave), receives=receives)


def queue_of(*shards: str) -> WaveQueue:
    return WaveQueue([message(shard) for shard in shards])


def emptied(*shards: str) -> WaveQueue:
    """A queue whose messages have all been taken, and are still open."""
    queue = queue_of(*shards)
    queue.ready.clear()
    return queue


def shards_of(deliveries: Sequence[Delivery] | deque[Delivery]) -> list[str]:
    return [each.message.shard.id for each in deliveries]


# ------------------------------------------------------------------------------------------------
# Ready
# ------------------------------------------------------------------------------------------------


def test_at_first_every_message_is_ready_in_order_and_received_once() -> None:
    queue = queue_of("2", "10", "3.0")

    assert list(queue.ready) == [delivery("2"), delivery("10"), delivery("3.0")]
    assert (queue.open, queue.closed) == (3, 0)


def test_a_wave_without_messages_is_over() -> None:
    queue = WaveQueue([])

    assert (queue.open, queue.closed, len(queue.ready)) == (0, 0, 0)
    assert queue.patience(5.0) == WITHOUT_END
    assert not queue.wants(delivery("0"))


# ------------------------------------------------------------------------------------------------
# Delayed
# ------------------------------------------------------------------------------------------------


def test_a_delayed_delivery_is_ready_at_its_time_and_not_before() -> None:
    queue = emptied("0")
    queue.delay(delivery("0"), 10.0)

    queue.ripen(9.999)
    assert list(queue.ready) == []

    queue.ripen(10.0)
    assert shards_of(queue.ready) == ["0"]


def test_a_delayed_delivery_is_the_same_message_received_once_more() -> None:
    queue = emptied("0")
    queue.delay(delivery("0", receives=3), 1.0)

    queue.ripen(1.0)

    assert list(queue.ready) == [delivery("0", receives=4)]


def test_a_delayed_delivery_ripens_once() -> None:
    queue = emptied("0")
    queue.delay(delivery("0"), 1.0)

    queue.ripen(2.0)
    queue.ripen(3.0)

    assert shards_of(queue.ready) == ["0"]


def test_what_ripens_comes_behind_what_is_ready() -> None:
    queue = queue_of("0", "1")
    queue.delay(queue.ready.popleft(), 1.0)

    queue.ripen(1.0)

    assert shards_of(queue.ready) == ["1", "0"]


@given(st.lists(st.integers(0, 5), max_size=12), st.integers(0, 5))
@examples(100)
def test_deliveries_ripen_in_order_of_their_time_then_of_their_delay(
    dues: list[int], now: int
) -> None:
    shards = [str(number) for number in range(len(dues))]
    queue = emptied(*shards)
    for shard, due in zip(shards, dues, strict=True):
        queue.delay(delivery(shard), float(due))

    queue.ripen(float(now))

    ripe = [shard for shard in shards if dues[int(shard)] <= now]
    assert shards_of(queue.ready) == sorted(ripe, key=lambda shard: dues[int(shard)])


def test_a_delayed_delivery_of_a_closed_shard_does_not_come_back() -> None:
    queue = emptied("0", "1")
    for shard in ("0", "1"):
        queue.delay(delivery(shard), 1.0)
    queue.close(delivery("0"))

    queue.ripen(1.0)

    assert shards_of(queue.ready) == ["1"]


# ------------------------------------------------------------------------------------------------
# Patience
# ------------------------------------------------------------------------------------------------


def test_patience_lasts_until_the_next_delayed_delivery_is_due() -> None:
    queue = emptied("0", "1")
    assert queue.patience(100.0) == WITHOUT_END
    queue.delay(delivery("0"), 110.0)
    queue.delay(delivery("1"), 104.5)

    assert queue.patience(100.0) == 4.5
    assert queue.patience(104.5) == 0.0
    assert queue.patience(1000.0) == 0.0

    queue.ripen(104.5)
    assert queue.patience(104.5) == 5.5
    queue.ripen(110.0)
    assert queue.patience(110.0) == WITHOUT_END


# ------------------------------------------------------------------------------------------------
# Open and closed
# ------------------------------------------------------------------------------------------------


def test_a_closed_shard_is_counted_and_not_wanted_any_more() -> None:
    queue = queue_of("0", "1", "2")

    queue.close(delivery("1"))

    assert (queue.open, queue.closed) == (2, 1)
    assert [queue.wants(delivery(shard)) for shard in ("0", "1", "2")] == [True, False, True]
    assert not queue.wants(delivery("1", receives=2))


def test_an_open_shard_is_wanted_however_often_it_was_received() -> None:
    queue = emptied("0")

    assert queue.wants(delivery("0", receives=9))


def test_a_shard_that_is_not_of_this_wave_is_not_wanted() -> None:
    queue = queue_of("0")

    assert not queue.wants(delivery("1"))


@pytest.mark.parametrize("wave", [WAVE - 1, WAVE + 1])
def test_a_delivery_of_another_wave_is_not_wanted(wave: int) -> None:
    queue = queue_of("0")

    assert not queue.wants(delivery("0", wave=wave))
    assert queue.wants(delivery("0"))


def test_children_and_parent_are_shards_of_their_own() -> None:
    queue = queue_of("1", "1.0", "1.0.3", "11")

    queue.close(delivery("1.0"))

    wanted = [shard for shard in ("1", "1.0", "1.0.3", "11") if queue.wants(delivery(shard))]
    assert wanted == ["1", "1.0.3", "11"]
    assert (queue.open, queue.closed) == (3, 1)


def test_only_shards_that_are_done_tell_how_long_they_took() -> None:
    queue = queue_of("0", "1", "2")

    queue.close(delivery("0"), seconds=1.5)
    queue.close(delivery("1"))
    queue.close(delivery("2"), seconds=0.0)

    assert list(queue.seconds) == [1.5, 0.0]
    assert (queue.open, queue.closed) == (0, 3)


def test_of_a_long_wave_the_latest_times_are_kept() -> None:
    shards = [str(number) for number in range(SECONDS_KEPT + 2)]
    queue = queue_of(*shards)

    for shard in shards:
        queue.close(delivery(shard), seconds=float(shard))

    assert len(queue.seconds) == SECONDS_KEPT
    assert (queue.seconds[0], queue.seconds[-1]) == (2.0, SECONDS_KEPT + 1.0)
    assert queue.closed == SECONDS_KEPT + 2


# ------------------------------------------------------------------------------------------------
# Begun a second time
# ------------------------------------------------------------------------------------------------


def test_a_shard_may_be_begun_a_second_time_once() -> None:
    queue = emptied("0", "1", "1.0")

    assert queue.double(delivery("1"))
    assert not queue.double(delivery("1"))
    assert not queue.double(delivery("1", receives=2))
    assert queue.double(delivery("0"))
    assert queue.double(delivery("1.0"))


def test_of_a_doubled_shard_the_first_outcome_closes_it_for_both() -> None:
    queue = emptied("0", "1")
    slow = delivery("0")
    queue.double(slow)
    queue.delay(slow, 1.0)

    queue.close(slow, seconds=2.0)
    queue.ripen(1.0)

    assert not queue.wants(slow)
    assert list(queue.ready) == []
    assert (queue.open, queue.closed) == (1, 1)


# ------------------------------------------------------------------------------------------------
# Whatever happens
# ------------------------------------------------------------------------------------------------


class Waves(RuleBasedStateMachine):
    """A wave worked on by workers that answer, fail, die and help, in any order.

    The model is a plain list of what is delayed and of what is ready; what is at workers is known
    here alone. Nobody closes a shard that the queue does not want.
    """

    @initialize(
        shards=st.lists(
            st.sampled_from(["0", "1", "1.0", "1.1", "1.1.0", "2", "10"]), unique=True, max_size=5
        )
    )
    def begin(self, shards: list[str]) -> None:
        self.queue = queue_of(*shards)
        self.shards = shards
        self.now = 0.0
        self.ready = [delivery(shard) for shard in shards]
        self.delayed: list[tuple[float, Delivery]] = []
        self.held: list[Delivery] = []
        self.doubled: set[str] = set()
        self.outcomes: Counter[str] = Counter()

    def some_held(self, data: st.DataObject) -> Delivery:
        place = data.draw(st.integers(0, len(self.held) - 1), label="which")
        return self.held.pop(place)

    # -- what happens ----------------------------------------------------------------------------

    @precondition(lambda self: self.ready)
    @rule()
    def take(self) -> None:
        self.held.append(self.queue.ready.popleft())
        self.ready.pop(0)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        found = self.some_held(data)
        if self.queue.wants(found):
            self.queue.close(found, seconds=1.0)
            self.outcomes[found.message.shard.id] += 1

    @precondition(lambda self: self.held)
    @rule(data=st.data(), seconds=st.integers(0, 4))
    def fail(self, data: st.DataObject, seconds: int) -> None:
        found = self.some_held(data)
        if self.queue.wants(found):
            self.queue.delay(found, self.now + seconds)
            self.delayed.append((self.now + seconds, found.received_again()))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def help_out(self, data: st.DataObject) -> None:
        found = self.some_held(data)
        self.held.append(found)
        shard = found.message.shard.id
        if not self.queue.wants(found):
            return
        allowed = self.queue.double(found)
        assert allowed == (shard not in self.doubled)
        if allowed:
            self.doubled.add(shard)
            self.held.append(found)

    @rule(shard=st.sampled_from(["0", "1", "1.0", "3"]), wave=st.sampled_from([WAVE - 1, WAVE + 1]))
    def answer_late(self, shard: str, wave: int) -> None:
        assert not self.queue.wants(delivery(shard, wave=wave))

    @rule(seconds=st.integers(0, 3))
    def pass_time(self, seconds: int) -> None:
        self.now += seconds
        self.queue.ripen(self.now)
        due = sorted((each for each in self.delayed if each[0] <= self.now), key=lambda it: it[0])
        self.delayed = [each for each in self.delayed if each[0] > self.now]
        self.ready += [found for _, found in due if not self.outcomes[found.message.shard.id]]

    # -- what always holds -----------------------------------------------------------------------

    @invariant()
    def only_what_should_be_is_ready(self) -> None:
        assert list(self.queue.ready) == self.ready

    @invariant()
    def every_open_shard_is_somewhere_and_none_twice_unless_doubled(self) -> None:
        waiting = [found for _, found in self.delayed]
        somewhere = Counter(shards_of([*self.ready, *waiting, *self.held]))
        for shard in self.shards:
            if not self.outcomes[shard]:
                assert 1 <= somewhere[shard] <= 1 + (shard in self.doubled)

    @invariant()
    def every_shard_is_open_until_its_one_outcome(self) -> None:
        assert all(times == 1 for times in self.outcomes.values())
        assert self.queue.closed == len(self.outcomes)
        assert self.queue.open == len(self.shards) - len(self.outcomes)
        for shard in self.shards:
            assert self.queue.wants(delivery(shard)) == (shard not in self.outcomes)

    @invariant()
    def patience_ends_when_the_first_that_is_wanted_is_due(self) -> None:
        wanted = [due for due, each in self.delayed if not self.outcomes[each.message.shard.id]]
        patience = self.queue.patience(self.now)
        assert patience >= min(
            (max(due - self.now, 0.0) for due, _ in self.delayed), default=WITHOUT_END
        )
        assert patience <= min((max(due - self.now, 0.0) for due in wanted), default=WITHOUT_END)

    def teardown(self) -> None:
        """Whoever is at a message answers it: the wave ends with one outcome for every shard."""
        if not hasattr(self, "queue"):
            return
        self.queue.ripen(self.now + 10.0)
        for found in [*self.queue.ready, *self.held]:
            if self.queue.wants(found):
                self.queue.close(found)
                self.outcomes[found.message.shard.id] += 1
        assert self.outcomes == Counter(self.shards)
        assert (self.queue.open, self.queue.closed) == (0, len(self.shards))


TestWaves = Waves.TestCase
TestWaves.settings = settings(
    max_examples=100 * EFFORT, stateful_step_count=30, deadline=None, print_blob=True
)

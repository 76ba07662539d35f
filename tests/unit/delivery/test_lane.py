"""One lane: batches, retries, splits, giving up, tumbling windows."""

from __future__ import annotations

from typing import Any

import pytest

from delivery.lane import (
    AGE_EXCEEDED,
    PAYLOAD_BYTES_MAX,
    RETENTION_S,
    RETRIES_EXHAUSTED,
    RETRY_MS_MAX,
    RETRY_MS_MIN,
    STATE_BYTES_MAX,
    Arrival,
    Discard,
    Invoke,
    Lane,
    WindowSpan,
)
from delivery.verdict import UNHANDLED, Outcome, Verdict
from geodyne.triggers.mapping import LATEST, Mapping

SECOND_US = 1_000_000
START_US = 1_000_000 * SECOND_US  # a multiple of the windows used here
FAILED = Verdict(Outcome.FAILED, detail="boom", error=UNHANDLED)
NOT_REACHED = Verdict(Outcome.NOT_REACHED, detail="busy")


def mapping(**members: Any) -> Mapping:
    return Mapping("m", "t", "l", "f", LATEST, **{"batch_size": 3, **members})


def arrived(sequence: int, *, at_s: float = 0.0, size: int = 10) -> Arrival:
    return Arrival(sequence, f"s{sequence}", 0, START_US + int(at_s * SECOND_US), b"x" * size)


class Driven:
    """A lane with the time and what the feed has shown."""

    def __init__(self, count: int = 0, *, at_s: float = 0.0, **members: Any) -> None:
        self.lane = Lane(0, mapping(**members))
        self.now_ms = 0
        self.wall_us = START_US
        self.feed_us = START_US
        self.hurry = self.ended = False
        self.add(*range(1, count + 1), at_s=at_s)

    def add(self, *sequences: int, at_s: float = 0.0, size: int = 10) -> None:
        for sequence in sequences:
            self.lane.on_arrival(arrived(sequence, at_s=at_s, size=size), self.now_ms)

    def wait(self, ms: int) -> None:
        self.now_ms += ms
        self.wall_us += ms * 1000

    def decide(self) -> Invoke | Discard | None:
        return self.lane.decide(self.now_ms, self.wall_us, feed_us=self.feed_us, hurry=self.hurry, ended=self.ended)

    def called(self) -> list[int]:
        """The sequences of the call that is due, after any back-off."""
        return [one.sequence for one in self.call().arrivals]

    def call(self) -> Invoke:
        decision = self.due()
        assert isinstance(decision, Invoke), decision
        return decision

    def given_up(self) -> Discard:
        decision = self.due()
        assert isinstance(decision, Discard), decision
        return decision

    def due(self) -> Invoke | Discard | None:
        decision = self.decide()
        if decision is None:
            wake_ms = self.lane.wake_ms(self.now_ms)
            assert wake_ms is not None
            self.wait(wake_ms - self.now_ms)
            decision = self.decide()
        return decision

    def answer(self, verdict: Verdict) -> None:
        self.lane.on_verdict(verdict, self.now_ms, 0.999)

    def done(self, count: int, state: Any = None) -> None:
        self.answer(Verdict(Outcome.DONE, count, state=state))

    @property
    def floor(self) -> int | None:
        return None if self.lane.floor is None else self.lane.floor.sequence


def test_records_go_in_batches_one_after_the_other() -> None:
    driven = Driven(5)
    assert driven.called() == [1, 2, 3]
    assert driven.decide() is None
    assert driven.floor == 1
    driven.done(3)
    assert driven.floor == 4
    assert driven.called() == [4, 5]
    driven.done(2)
    assert driven.lane.idle
    assert driven.lane.pending_records == driven.lane.pending_bytes == 0


def test_a_batching_window_waits_for_a_full_batch_and_no_longer() -> None:
    driven = Driven(2, batching_window_s=5)
    assert driven.decide() is None
    assert driven.lane.wake_ms(0) == 5_000
    driven.wait(3_000)
    driven.add(3)
    assert driven.called() == [1, 2, 3]
    driven.done(3)
    driven.add(4)
    assert driven.decide() is None
    driven.wait(5_000)
    assert driven.called() == [4]


@pytest.mark.parametrize("reason", ["hurry", "ended"])
def test_nothing_is_waited_for_that_will_not_come(reason: str) -> None:
    driven = Driven(1, batching_window_s=5)
    setattr(driven, reason, True)
    assert driven.called() == [1]


def test_a_call_is_at_most_as_large_as_the_payload_limit() -> None:
    driven = Driven(batch_size=100, batching_window_s=300)
    driven.add(1, 2, 3, size=PAYLOAD_BYTES_MAX // 3)
    assert driven.called() == [1, 2]
    driven.done(2)
    driven = Driven(batching_window_s=300)
    driven.add(1, size=PAYLOAD_BYTES_MAX * 2)
    driven.add(2)
    assert driven.called() == [1], "one record goes whatever its size"


def test_a_failed_batch_is_tried_again_later_and_later() -> None:
    driven = Driven(2)
    waits = []
    for _ in range(12):
        assert driven.called() == [1, 2]
        before_ms = driven.now_ms
        driven.answer(FAILED)
        wake_ms = driven.lane.wake_ms(driven.now_ms)
        assert wake_ms is not None
        waits.append(wake_ms - before_ms)
    assert waits == sorted(waits)
    assert RETRY_MS_MIN // 2 <= waits[0] <= RETRY_MS_MIN
    assert RETRY_MS_MAX // 2 <= waits[-1] <= RETRY_MS_MAX


def test_a_batch_that_failed_too_often_is_given_up_at_once_and_the_next_one_tried() -> None:
    driven = Driven(5, max_retries=2)
    for _ in range(3):
        assert driven.called() == [1, 2, 3]
        driven.answer(FAILED)
    discard = driven.decide()
    assert isinstance(discard, Discard)
    assert (discard.condition, discard.invocations, discard.batch_size) == (RETRIES_EXHAUSTED, 3, 3)
    assert (discard.first.sequence, discard.last.sequence) == (1, 3)
    assert (discard.error, discard.detail) == (UNHANDLED, "boom")
    assert driven.floor == 1, "it holds the bookmark until the destination has it"
    driven.lane.on_discarded()
    assert driven.called() == [4, 5]


def test_no_retries_means_one_try() -> None:
    driven = Driven(1, max_retries=0)
    driven.call()
    driven.answer(FAILED)
    assert driven.given_up().invocations == 1


def test_a_destination_that_refuses_blocks_the_lane_until_it_takes_the_record() -> None:
    driven = Driven(4, max_retries=0)
    driven.call()
    driven.answer(FAILED)
    for _ in range(20):
        assert driven.given_up().batch_size == 3
        driven.lane.on_discard_failed(driven.now_ms, 0.5)
        assert driven.decide() is None
    assert driven.given_up().batch_size == 3
    driven.lane.on_discarded()
    assert driven.called() == [4]


def test_a_call_that_did_not_reach_the_function_does_not_count() -> None:
    driven = Driven(1, max_retries=0)
    for _ in range(20):
        driven.call()
        driven.answer(NOT_REACHED)
    driven.call()
    driven.done(1)
    assert driven.lane.idle


def test_records_that_are_too_old_are_given_up_before_their_first_try() -> None:
    driven = Driven(max_record_age_s=60)
    driven.add(1, 2, at_s=0)
    driven.add(3, at_s=50)
    driven.wait(70_000)
    discard = driven.given_up()
    assert (discard.condition, discard.invocations, discard.error) == (AGE_EXCEEDED, 0, "")
    assert [one.sequence for one in discard.arrivals] == [1, 2]
    driven.lane.on_discarded()
    assert driven.called() == [3]


def test_a_record_that_grew_too_old_by_failing_is_given_up() -> None:
    driven = Driven(1, max_record_age_s=60)
    driven.call()
    driven.answer(FAILED)
    driven.wait(60_001)
    assert driven.given_up().condition == AGE_EXCEEDED


@pytest.mark.parametrize("verdict", [FAILED, NOT_REACHED])
def test_without_limits_a_record_is_tried_for_as_long_as_streams_keep_records(verdict: Verdict) -> None:
    driven = Driven(1)
    driven.call()
    driven.answer(verdict)
    driven.wait(RETENTION_S * 1000 - 60_000)
    driven.call()
    driven.answer(verdict)
    driven.wait(61_000)
    assert driven.given_up().condition == AGE_EXCEEDED


def test_an_old_record_without_a_limit_has_its_first_try() -> None:
    driven = Driven(1)
    driven.wait((RETENTION_S + 60) * 1000)
    assert driven.called() == [1]


def test_a_split_does_not_count_and_finds_the_bad_record() -> None:
    driven = Driven(4, batch_size=4, bisect=True, max_retries=1)
    tried = []
    given_up: list[int] = []
    while not driven.lane.idle:
        decision = driven.due()
        if isinstance(decision, Discard):
            given_up += [one.sequence for one in decision.arrivals]
            driven.lane.on_discarded()
            continue
        assert decision is not None
        sequences = [one.sequence for one in decision.arrivals]
        tried.append(sequences)
        if 3 in sequences:
            driven.answer(FAILED)
        else:
            driven.done(len(sequences))
    assert tried == [[1, 2, 3, 4], [1, 2], [3, 4], [3], [3], [4]]
    assert given_up == [3]


def test_a_partial_success_ends_what_came_before_the_failure() -> None:
    driven = Driven(3, max_retries=1)
    driven.call()
    driven.answer(Verdict(Outcome.PARTLY, 1))
    assert driven.floor == 2
    assert driven.called() == [2, 3]
    driven.answer(Verdict(Outcome.PARTLY, 1))
    discard = driven.given_up()
    assert [one.sequence for one in discard.arrivals] == [3]
    assert discard.invocations == 2


def test_with_bisect_a_partial_success_is_a_split_at_that_record() -> None:
    driven = Driven(3, max_retries=0, bisect=True)
    driven.call()
    driven.answer(Verdict(Outcome.PARTLY, 1))
    assert driven.called() == [2, 3]
    driven.answer(FAILED)
    assert driven.called() == [2]
    driven.answer(FAILED)
    assert [one.sequence for one in driven.given_up().arrivals] == [2]
    driven.lane.on_discarded()
    assert driven.called() == [3]


# --- tumbling windows


def span(call: Invoke) -> WindowSpan:
    assert call.window is not None
    return call.window


def test_a_window_hands_its_state_on_and_ends_with_a_final_call() -> None:
    driven = Driven(tumbling_window_s=10, batch_size=2)
    driven.add(1, 2, 3, at_s=1)
    driven.add(4, at_s=11)
    first = driven.call()
    assert span(first) == WindowSpan(START_US, START_US + 10 * SECOND_US, {}, False, False)
    driven.done(2, {"n": 2})
    second = driven.call()
    assert [one.sequence for one in second.arrivals] == [3]
    assert span(second).state == {"n": 2}
    driven.done(1, {"n": 3})
    assert driven.floor == 1, "a restart would need all of the window again"
    final = driven.call()
    assert final.arrivals == ()
    assert span(final) == WindowSpan(START_US, START_US + 10 * SECOND_US, {"n": 3}, True, False)
    driven.done(0)
    assert driven.floor == 4
    assert span(driven.call())[:3] == (START_US + 10 * SECOND_US, START_US + 20 * SECOND_US, {})


def test_a_window_ends_when_the_feed_has_passed_its_end() -> None:
    driven = Driven(1, tumbling_window_s=10)
    driven.call()
    driven.done(1, 1)
    driven.wait(60_000)
    assert driven.decide() is None, "the wall clock alone does not tell what may still arrive"
    driven.feed_us = START_US + 10 * SECOND_US
    assert span(driven.call()).final


def test_a_window_ends_with_the_stream() -> None:
    driven = Driven(1, tumbling_window_s=10)
    driven.call()
    driven.done(1, 1)
    driven.ended = True
    assert span(driven.call()).final
    driven.done(0)
    assert driven.lane.idle


def test_too_large_a_state_ends_the_window_early() -> None:
    driven = Driven(3, tumbling_window_s=10, batch_size=2)
    large = "x" * STATE_BYTES_MAX
    driven.call()
    driven.done(2, large)
    final = span(driven.call())
    assert (final.state, final.final, final.early) == (large, True, True)
    driven.done(0)
    again = driven.call()
    assert [one.sequence for one in again.arrivals] == [3]
    assert span(again) == WindowSpan(START_US, START_US + 10 * SECOND_US, {}, False, False)


def test_the_rest_of_a_split_batch_goes_into_a_new_window_when_the_state_grew_too_large() -> None:
    driven = Driven(2, tumbling_window_s=10, bisect=True)
    driven.call()
    driven.answer(FAILED)
    assert driven.called() == [1]
    driven.done(1, "x" * STATE_BYTES_MAX)
    assert span(driven.call()).early
    driven.done(0)
    rest = driven.call()
    assert [one.sequence for one in rest.arrivals] == [2]
    assert span(rest).state == {}


def test_a_final_call_is_retried_and_given_up_like_any_other() -> None:
    driven = Driven(2, tumbling_window_s=10, max_retries=1)
    driven.call()
    driven.done(2, 1)
    driven.ended = True
    for _ in range(2):
        assert span(driven.call()).final
        driven.answer(FAILED)
    discard = driven.given_up()
    assert (discard.arrivals, discard.batch_size) == ((), 2)
    assert (discard.first.sequence, discard.last.sequence) == (1, 2)
    assert discard.window is not None
    assert discard.window.state == 1
    driven.lane.on_discarded()
    assert driven.lane.idle


def test_records_that_were_given_up_leave_the_state_as_it_was() -> None:
    driven = Driven(2, tumbling_window_s=10, batch_size=1, max_retries=0)
    driven.call()
    driven.done(1, {"n": 1})
    driven.call()
    driven.answer(FAILED)
    driven.given_up()
    driven.lane.on_discarded()
    driven.ended = True
    assert span(driven.call()).state == {"n": 1}

"""One mapping and partition: reading, lanes, bookmark; and all of it under random orders, failures and restarts."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, TypeVar

import pytest

from delivery.lane import Arrival, Discard, Invoke, Lane
from delivery.progress import Commit, Instruction, Progress, ProgressSettings, Read
from delivery.verdict import UNHANDLED, Outcome, Verdict
from geodyne.messages import FROM_COMMITTED
from geodyne.triggers.mapping import LATEST, Mapping

START_US = 1_000_000_000_000
T = TypeVar("T")
SMALL = ProgressSettings(page_records=4, pending_records_max=12, commit_every_ms=10, idle_commit_every_ms=50)


def mapping(**members: Any) -> Mapping:
    return Mapping("m", "t", "l", "f", LATEST, **members)


def arrived(sequence: int, key: int = 0, time_us: int = START_US) -> Arrival:
    return Arrival(sequence, str(sequence), key, time_us, b"%d" % sequence)


def page(progress: Progress, *arrivals: Arrival, following: int, now_ms: int = 0, ended: bool = False) -> None:
    progress.on_page(arrivals, following, now_ms, feed_us=0, more=True, ended=ended)


def of(kind: type[T], instructions: Sequence[Instruction]) -> list[T]:
    return [one for one in instructions if isinstance(one, kind)]


def test_reading_begins_at_the_bookmark_and_follows_the_pages() -> None:
    progress = Progress(mapping(), SMALL)
    assert progress.decide(0, START_US) == [Read(FROM_COMMITTED, SMALL.read_wait_ms)]
    assert of(Read, progress.decide(0, START_US)) == []
    page(progress, arrived(65), following=70)
    assert of(Read, progress.decide(0, START_US)) == [Read(70, SMALL.read_wait_ms)]


def test_a_read_that_failed_is_repeated_after_a_while() -> None:
    progress = Progress(mapping(), SMALL)
    progress.decide(0, START_US)
    progress.on_read_failed(0)
    assert progress.decide(0, START_US) == []
    wake_ms = progress.wake_ms(0)
    assert wake_ms is not None
    assert of(Read, progress.decide(wake_ms, START_US)) == [
        Read(FROM_COMMITTED, 0)
    ]  # an answer at once says it is over
    page(progress, following=70)
    assert of(Read, progress.decide(wake_ms, START_US)) == [Read(70, SMALL.read_wait_ms)]


def test_the_bookmark_stays_before_the_oldest_record_that_has_not_ended() -> None:
    progress = Progress(mapping(parallelization_factor=2, batch_size=1), SMALL)
    progress.decide(0, START_US)
    page(progress, arrived(65, 0), arrived(66, 1), arrived(67, 1), following=70)
    assert of(Commit, progress.decide(0, START_US)) == [Commit(64)]
    progress.on_committed(64)
    progress.on_verdict(1, Verdict(Outcome.DONE, 1), 0, 0)
    assert progress.acknowledged == 64
    progress.on_verdict(0, Verdict(Outcome.DONE, 1), 0, 0)
    assert progress.acknowledged == 66
    assert of(Commit, progress.decide(10, START_US)) == [Commit(66)]


def test_records_that_were_filtered_out_are_passed_over_by_the_bookmark() -> None:
    progress = Progress(mapping(), SMALL)
    progress.decide(0, START_US)
    page(progress, following=70)
    assert of(Commit, progress.decide(60_000, START_US)) == [Commit(70)]


def test_a_blocked_lane_does_not_stop_the_others_before_the_bound() -> None:
    progress = Progress(mapping(parallelization_factor=2, batch_size=1), SMALL)
    sequence = 0
    served = reads = 0
    now_ms = 0
    for _ in range(100):
        now_ms += 1_000
        for one in progress.decide(now_ms, START_US):
            if isinstance(one, Read):
                reads += 1
                page(progress, *(arrived(sequence + i, i) for i in (1, 2)), following=sequence + 2, now_ms=now_ms)
                sequence += 2
            elif isinstance(one, Invoke) and one.lane == 1:
                served += 1
                progress.on_verdict(1, Verdict(Outcome.FAILED), now_ms, 0)
            elif isinstance(one, Invoke):
                served += 1
                progress.on_verdict(0, Verdict(Outcome.DONE, 1), now_ms, 0)
    assert served > SMALL.pending_records_max // 2
    assert progress.pending_records <= SMALL.pending_records_max + SMALL.page_records
    assert reads < 20


def test_without_room_nothing_is_read_and_batches_do_not_wait() -> None:
    progress = Progress(mapping(batching_window_s=300), SMALL)
    progress.decide(0, START_US)
    page(progress, arrived(1), following=1)
    assert of(Invoke, progress.decide(0, START_US)) == []
    instructions = progress.decide(0, START_US, may_read=False)
    assert len(of(Invoke, instructions)) == 1


def test_a_stream_that_ended_is_finished_when_all_is_delivered_and_committed() -> None:
    progress = Progress(mapping(), SMALL)
    progress.decide(0, START_US)
    page(progress, arrived(1), following=9, ended=True)
    instructions = progress.decide(0, START_US)
    assert of(Read, instructions) == []
    progress.on_verdict(0, Verdict(Outcome.DONE, 1), 0, 0)
    assert not progress.finished
    progress.on_committed(0)
    [commit] = of(Commit, progress.decide(10, START_US))
    progress.on_committed(commit.sequence)
    assert progress.finished
    assert progress.decide(60_000, START_US) == []


# --- everything at random


class World:
    """A stream, a function that fails by the seed, a destination that is away at times, and a process that restarts."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        chance = self.chance
        self.mapping = mapping(
            batch_size=chance.randint(1, 5),
            parallelization_factor=chance.randint(1, 4),
            max_retries=chance.choice((0, 1, 3)),
            bisect=chance.random() < 0.5,
            report_failures=chance.random() < 0.5,
            batching_window_s=chance.choice((0, 0, 1)),
            tumbling_window_s=chance.choice((0, 0, 2)),
        )
        self.records = [
            arrived(65536 + i, chance.randrange(6), START_US + i * 100_000) for i in range(chance.randint(1, 60))
        ]
        self.keys = {one.sequence: one.lane_hash for one in self.records}
        self.poison = {one.sequence for one in self.records if chance.random() < 0.1}
        self.now_ms = 0
        self.bookmark = 0
        self.restarts = 0
        self.taken: dict[int, list[int]] = defaultdict(list)  # by key: the sequences of calls that succeeded
        self.given_up: set[int] = set()
        self.finals = 0
        self.start()

    def start(self) -> None:
        self.progress = Progress(self.mapping, SMALL)
        self.under_way: list[Instruction] = []
        self.lately: dict[int, int] = {}  # by key: the newest taken or given up since this start

    def run(self) -> None:
        for _ in range(20_000):
            wall_us = START_US + self.now_ms * 1_000
            self.under_way += self.progress.decide(self.now_ms, wall_us)
            if self.progress.finished:
                return
            if self.chance.random() < 0.005 and self.restarts < 5:
                self.restarts += 1
                self.start()
            elif self.under_way and self.chance.random() < 0.8:
                self.answer(self.under_way.pop(self.chance.randrange(len(self.under_way))))
            else:
                self.now_ms += self.chance.choice((1, 10, 100, 5_000))
        raise AssertionError("not finished")

    def answer(self, one: Instruction) -> None:
        progress = self.progress
        match one:
            case Read():
                self.answer_read(one)
            case Commit(sequence):
                if self.chance.random() < 0.2:
                    progress.on_commit_failed(self.now_ms)
                else:
                    assert sequence >= self.bookmark or self.restarts
                    self.bookmark = max(self.bookmark, sequence)
                    self.check_bookmark()
                    progress.on_committed(sequence)
            case Discard():
                if self.chance.random() < 0.3:
                    progress.on_discard_failed(one.lane, self.now_ms, self.chance.random())
                else:
                    self.given_up |= {arrival.sequence for arrival in one.arrivals}
                    self.in_order(one.arrivals)
                    progress.on_discarded(one.lane)
            case Invoke():
                progress.on_verdict(one.lane, self.called(one), self.now_ms, self.chance.random())

    def answer_read(self, read: Read) -> None:
        if self.chance.random() < 0.1:
            self.progress.on_read_failed(self.now_ms)
            return
        after = self.bookmark if read.after == FROM_COMMITTED else read.after
        found = [one for one in self.records if one.sequence > after][: self.chance.randint(1, SMALL.page_records)]
        following = found[-1].sequence if found else max(after, self.records[-1].sequence)
        ended = following >= self.records[-1].sequence
        feed_us = found[-1].time_us if found else 0
        self.progress.on_page(found, following, self.now_ms, feed_us=feed_us, more=not ended, ended=ended)

    def called(self, call: Invoke) -> Verdict:
        sequences = [one.sequence for one in call.arrivals]
        assert len(sequences) <= self.mapping.batch_size
        if self.chance.random() < 0.1:
            return Verdict(Outcome.NOT_REACHED)
        bad = next((place for place, sequence in enumerate(sequences) if sequence in self.poison), None)
        if bad is None:
            self.finals += call.window is not None and call.window.final
            self.take(call.arrivals)
            return Verdict(Outcome.DONE, len(sequences), state=1)
        if self.mapping.report_failures and bad:
            self.take(call.arrivals[:bad])
            return Verdict(Outcome.PARTLY, bad, state=1)
        return Verdict(Outcome.FAILED, error=UNHANDLED)

    def take(self, arrivals: Sequence[Arrival]) -> None:
        self.in_order(arrivals)
        for one in arrivals:
            self.taken[one.lane_hash].append(one.sequence)

    def in_order(self, arrivals: Sequence[Arrival]) -> None:
        for one in arrivals:
            key = self.keys[one.sequence]
            assert one.sequence > self.lately.get(key, 0), "a key went backwards without a restart"
            self.lately[key] = one.sequence

    def ended(self) -> set[int]:
        return self.given_up.union(*self.taken.values())

    def check_bookmark(self) -> None:
        missing = {one.sequence for one in self.records if one.sequence <= self.bookmark} - self.ended()
        assert not missing, f"the bookmark {self.bookmark} passed {missing}"


@pytest.mark.parametrize("block", range(4))
def test_every_record_ends_in_order_whatever_fails_and_restarts(block: int) -> None:
    restarts = given_up = finals = 0
    for seed in range(block * 150, block * 150 + 150):
        world = World(seed)
        world.run()
        everything = {one.sequence for one in world.records}
        assert world.ended() == everything, f"seed {seed}"
        assert world.poison <= world.given_up, f"seed {seed}"
        restarts += world.restarts
        given_up += len(world.given_up)
        finals += world.finals
    assert restarts
    assert given_up
    assert finals


def test_the_simulation_sees_a_bookmark_that_is_committed_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Progress, "acknowledged", property(lambda progress: progress.position))

    def run_all() -> None:
        for seed in range(50):
            World(seed).run()

    with pytest.raises(AssertionError, match="passed"):
        run_all()


def test_the_simulation_sees_a_key_that_is_in_several_lanes() -> None:
    def run_all() -> None:
        for seed in range(50):
            world = World(seed)
            world.records = [one._replace(lane_hash=place) for place, one in enumerate(world.records)]
            world.run()

    with pytest.raises(AssertionError, match="backwards"):
        run_all()


def test_the_simulation_sees_records_that_are_given_up_without_the_destination(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(lane: Lane, _now_ms: int, _jitter: float) -> None:
        lane.on_discarded()

    def run_all() -> None:
        for seed in range(50):
            World(seed).run()

    monkeypatch.setattr(Lane, "on_discard_failed", forget)
    with pytest.raises(AssertionError, match="passed"):
        run_all()

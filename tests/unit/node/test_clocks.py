"""The rule of clocks: who is off, who stands back, and that somebody is always willing to lead."""

from __future__ import annotations

import itertools

from prometheus_client import CollectorRegistry

from node.clocks import READING_MS_MAX, RELUCTANCE_MS, ROUND_TRIP_MS_MAX, ClockGuard, ClockWatch
from node.metrics import NodeMetrics
from node.raft.liveness import Liveness
from node.raft.patience import Patience
from node.raft.settings import Settings

BOUND_US = 1_000_000
NOW_MS = 50_000
WALL_US = 1_700_000_000_000_000


def region(*offsets_s: float) -> list[ClockWatch]:
    """What each of so many nodes sees when their clocks are off the true time by these seconds."""
    watches = []
    names = [f"n{number}" for number in range(len(offsets_s))]
    for own, own_s in zip(names, offsets_s, strict=True):
        watch = ClockWatch(BOUND_US)
        for peer, peer_s in zip(names, offsets_s, strict=True):
            if peer != own:
                watch.heard(peer, NOW_MS - 20, 0, wall(peer_s) - 10_000, NOW_MS)
        watch.look(wall(own_s), NOW_MS, [name for name in names if name != own])
        watches.append(watch)
    return watches


def wall(offset_s: float) -> int:
    return WALL_US + round(offset_s * 1e6)


def test_a_node_compares_itself_with_the_median_of_its_region() -> None:
    good, also, ahead = region(0, 0.01, 300)
    assert (good.off, also.off, ahead.off) == (False, False, True)
    assert ahead.offset_us == 299_990_000
    assert good.peers_off() == ["n2"]
    assert ahead.peers_off() == []  # the others are right, and it knows


def test_a_difference_within_the_bound_is_nobodys_fault() -> None:
    assert not any(watch.off for watch in region(0, 0.4, -0.5))


def test_some_node_is_willing_however_much_the_clocks_differ() -> None:
    for count in range(1, 7):
        for offsets in itertools.combinations_with_replacement((0, 30, 60, 900), count):
            assert not all(watch.off for watch in region(*offsets)), offsets


def test_of_two_halves_neither_refuses() -> None:
    assert not any(watch.off for watch in region(0, 0, 300, 300))
    assert not any(watch.off for watch in region(0, 300))


def test_readings_of_less_than_a_majority_say_nothing() -> None:
    watch = ClockWatch(BOUND_US)
    watch.heard("b", NOW_MS - 2, 0, wall(300), NOW_MS)
    watch.look(WALL_US, NOW_MS, ["b", "c", "d", "e"])
    assert (watch.off, watch.offset_us) == (False, None)


def test_a_reading_that_took_too_long_or_says_nothing_is_thrown_away() -> None:
    watch = ClockWatch(BOUND_US)
    watch.heard("b", NOW_MS - ROUND_TRIP_MS_MAX - 1, 0, wall(300), NOW_MS)
    watch.heard("c", NOW_MS - 2, 0, 0, NOW_MS)
    watch.heard("c", NOW_MS - 2, 3, wall(300), NOW_MS)  # held for longer than it was away
    watch.look(WALL_US, NOW_MS, ["b", "c"])
    assert watch.offset_us is None


def test_the_time_that_an_acknowledgement_was_held_is_no_part_of_the_round_trip() -> None:
    watch = ClockWatch(BOUND_US)
    for peer in ("b", "c"):
        watch.heard(peer, NOW_MS - 160, 150, WALL_US - 5_000, NOW_MS)  # 5 ms on its way back
    watch.look(WALL_US, NOW_MS, ["b", "c"])
    assert watch.offset_us == 0


def test_a_clock_that_was_set_right_is_right_at_once() -> None:
    watch = region(300, 0, 0)[0]
    assert watch.off
    watch.look(wall(0.2), NOW_MS, ["n1", "n2"])  # without another reading: those of peers rest on the lease clock
    assert (watch.off, watch.offset_us) == (False, 200_000)


def test_a_clock_near_the_bound_is_not_wrong_and_right_by_turns() -> None:
    watch = region(1.1, 0, 0)[0]
    assert watch.off
    watch.look(wall(0.9), NOW_MS, ["n1", "n2"])
    assert watch.off
    watch.look(wall(0.4), NOW_MS, ["n1", "n2"])
    assert not watch.off


def test_a_silent_peer_is_remembered_for_a_while() -> None:
    watch = region(300, 0, 0)[0]
    watch.look(wall(300) + 60_000_000, NOW_MS + 60_000, ["n1", "n2"])
    assert watch.off
    late_ms = NOW_MS + READING_MS_MAX + 1
    watch.look(wall(300) + (READING_MS_MAX + 1) * 1_000, late_ms, ["n1", "n2"])
    assert watch.offset_us is None


class Clock:
    def __init__(self, offset_s: float) -> None:
        self.offset_s = offset_s

    def wall_us(self) -> int:
        return wall(self.offset_s)

    def lease_ms(self) -> int:
        return NOW_MS


class NoChance:
    def random(self) -> float:
        return 0.0


def test_a_wrong_clock_gives_away_what_it_leads_and_stands_back_until_it_is_right() -> None:
    settings, clock, registry = Settings(), Clock(300), CollectorRegistry()
    liveness = Liveness(settings, ["b", "c"], 1, started_ms=0)
    patience = Patience(settings, NoChance(), liveness)
    guard = ClockGuard(clock, liveness, NodeMetrics(registry))
    given = []
    guard.give_away = lambda: given.append(True)
    before_ms = patience.election_ms(), patience.staggered_ms(1)
    for peer in ("b", "c"):
        guard.heard(peer, NOW_MS, 0, WALL_US, NOW_MS)
    guard.step(["b", "c"])
    guard.step(["b", "c"])
    assert given == [True]  # not at every look
    assert (patience.election_ms(), patience.staggered_ms(1)) == tuple(ms + RELUCTANCE_MS for ms in before_ms)
    assert registry.get_sample_value("geodyne_clock_offset_seconds") == 300
    assert registry.get_sample_value("geodyne_clock_wrong") == 1
    assert guard.status() == {"offset_s": 300.0, "wrong": True, "others_wrong": []}
    clock.offset_s = 0
    guard.step(["b", "c"])
    assert (patience.election_ms(), patience.staggered_ms(1)) == before_ms
    assert registry.get_sample_value("geodyne_clock_wrong") == 0


def test_who_stands_back_waits_longer_than_any_election_of_others() -> None:
    assert 2 * Settings().election_ms_max < RELUCTANCE_MS

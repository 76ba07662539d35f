"""Distances between regions and damping of their health."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.geo import Geography, HealthLimits, RegionHealth

EAST, WEST, SEOUL = "us-east-1", "eu-west-1", "ap-northeast-2"
REGIONS = (EAST, WEST, SEOUL)
DISTANCES = {frozenset((EAST, WEST)): 76.0, frozenset((EAST, SEOUL)): 178.0, frozenset((WEST, SEOUL)): 170.0}
LIMITS = HealthLimits(failures_to_down=2, successes_to_up=3, down_ms_min=1000, down_ms_max=4000, calm_ms=10_000)


def geography() -> Geography:
    return Geography(REGIONS, DISTANCES, home=EAST)


def up(*tables: str) -> RegionHealth:
    health = RegionHealth(LIMITS)
    health.succeeded(0, frozenset(tables))
    return health


def test_regions_are_ordered_by_round_trip_from_the_client() -> None:
    assert geography().nearest(EAST) == (EAST, WEST, SEOUL)
    assert geography().nearest(SEOUL) == (SEOUL, WEST, EAST)
    assert geography().round_trip_ms(SEOUL, WEST) == geography().round_trip_ms(WEST, SEOUL) == 170.0
    assert geography().round_trip_ms(WEST, WEST) == 0.0


def test_a_geography_that_lacks_a_distance_or_names_a_strange_region_is_refused() -> None:
    with pytest.raises(ValueError, match="no distance between"):
        Geography((EAST, WEST, "mars"), DISTANCES, home=EAST)
    with pytest.raises(ValueError, match="mars is not a region"):
        Geography(REGIONS, DISTANCES, home="mars")
    assert Geography((EAST,), {}, home=EAST).nearest(EAST) == (EAST,)


def test_a_region_is_not_used_before_its_first_good_probe() -> None:
    health = RegionHealth(LIMITS)
    assert not health.healthy
    assert health.succeeded(5, frozenset("t"))
    assert health.healthy


def test_one_failed_probe_is_forgiven_and_two_in_a_row_are_not() -> None:
    health = up()
    assert not health.failed(1, "slow")
    assert not health.succeeded(2)
    assert not health.failed(3, "slow")
    assert health.failed(4, "slow")
    assert (health.healthy, health.reason) == (False, "slow")


def test_a_broken_connection_takes_a_region_out_at_once_and_its_tables_stay_known() -> None:
    health = up("t")
    assert health.lost(1, "refused")
    assert not health.lost(2, "refused")
    assert health.tables == {"t"}


def test_a_region_comes_back_after_good_probes_and_a_minimum_time() -> None:
    health = up()
    health.lost(0, "refused")
    assert not any(health.succeeded(ms) for ms in (100, 200, 300, 400, 999))
    assert health.succeeded(1000)
    health = up()
    health.lost(0, "refused")
    assert not any(health.succeeded(ms) for ms in (2000, 2001))
    assert health.succeeded(2002)


def test_a_region_that_flaps_stays_out_longer_each_time_up_to_a_bound() -> None:
    health, now, outages = up(), 0, []
    for _ in range(5):
        health.lost(now, "refused")
        began = now
        while not health.healthy:
            now += 100
            health.succeeded(now)
        outages.append(now - began)
    assert outages == [1000, 2000, 4000, 4000, 4000]
    now += LIMITS.calm_ms
    health.lost(now, "refused")
    assert not health.succeeded(now + 999)
    assert [health.succeeded(now + ms) for ms in (1000, 1001)] == [False, True]


events = st.lists(st.tuples(st.sampled_from("sfu"), st.integers(min_value=0, max_value=3000)), max_size=60)


@settings(max_examples=100, deadline=None)
@given(events)
def test_no_history_brings_a_region_back_early_or_makes_two_runs_differ(history: list[tuple[str, int]]) -> None:
    def run() -> list[tuple[int, bool]]:
        health, now, changes = RegionHealth(LIMITS), 0, []
        for event, later in history:
            now += later
            if event == "s":
                changed = health.succeeded(now)
            else:
                changed = (health.failed if event == "f" else health.lost)(now, "x")
            if changed:
                changes.append((now, health.healthy))
        return changes

    changes = run()
    assert changes == run()
    assert [healthy for _, healthy in changes] == [position % 2 == 0 for position in range(len(changes))]
    for (before, was_up), (after, is_up) in pairwise(changes):
        if not was_up and is_up:
            assert after - before >= LIMITS.down_ms_min


@settings(max_examples=100, deadline=None)
@given(events)
def test_a_region_goes_down_at_most_once_in_the_time_that_its_flapping_has_earned(
    history: list[tuple[str, int]],
) -> None:
    health, now, outages, went_down = RegionHealth(LIMITS), 0, [], 0
    for event, later in history:
        now += later
        was = health.healthy
        if event == "s":
            health.succeeded(now)
        else:
            (health.failed if event == "f" else health.lost)(now, "x")
        if was and not health.healthy:
            went_down = now
        elif health.healthy and not was and went_down:
            outages.append((went_down, now))
    for (_, back), (again, until) in pairwise(outages):
        if again - back < LIMITS.calm_ms:
            assert until - again >= 2 * LIMITS.down_ms_min

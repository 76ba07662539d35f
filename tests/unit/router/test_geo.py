"""Choice of a region and damping of its health."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.geo import Choice, Geography, HealthLimits, RegionHealth, choose

EAST, WEST, SEOUL = "us-east-1", "eu-west-1", "ap-northeast-2"
REGIONS = (EAST, WEST, SEOUL)
DISTANCES = {frozenset((EAST, WEST)): 76.0, frozenset((EAST, SEOUL)): 178.0, frozenset((WEST, SEOUL)): 170.0}
LIMITS = HealthLimits(failures_to_down=2, successes_to_up=3, down_ms_min=1000, down_ms_max=4000, calm_ms=10_000)


def geography(**changes: object) -> Geography:
    return Geography(REGIONS, DISTANCES, home=EAST, **changes)  # type: ignore[arg-type]


def up(*tables: str) -> RegionHealth:
    health = RegionHealth(LIMITS)
    health.succeeded(0, frozenset(tables))
    return health


def down(*tables: str) -> RegionHealth:
    health = up(*tables)
    health.unreachable(0, "refused")
    return health


def test_a_location_is_a_region_or_an_alias_and_otherwise_the_endpoints_own() -> None:
    places = geography(aliases={"Frankfurt": WEST})
    assert places.origin(WEST) == WEST
    assert places.origin(" frankfurt") == WEST
    assert places.origin("") == places.origin("mars") == EAST


def test_regions_are_ordered_by_round_trip_from_the_client() -> None:
    assert geography().nearest(EAST) == (EAST, WEST, SEOUL)
    assert geography().nearest(SEOUL) == (SEOUL, WEST, EAST)


def test_a_geography_that_lacks_a_distance_or_names_a_strange_region_is_refused() -> None:
    with pytest.raises(ValueError, match="no distance between"):
        Geography((EAST, WEST, "mars"), DISTANCES, home=EAST)
    with pytest.raises(ValueError, match="mars is not a region"):
        geography(aliases={"red planet": "mars"})
    assert Geography((EAST,), {}, home=EAST).nearest(EAST) == (EAST,)


def test_the_nearest_healthy_region_with_the_table_serves() -> None:
    health = {EAST: up(), WEST: up("t"), SEOUL: up("t", "u")}
    near = geography().nearest(EAST)
    assert choose(near, health, ["t"]) == [
        Choice(WEST, "nearest with the table"),
        Choice(SEOUL, f"fail-over from {WEST}"),
    ]
    assert choose(near, health, ["t", "u"]) == [Choice(SEOUL, "nearest with the table")]
    health[WEST] = down("t")
    assert choose(near, health, ["t"]) == [Choice(SEOUL, f"fail-over from {WEST}")]


def test_a_table_whose_only_regions_are_down_is_not_looked_for_elsewhere() -> None:
    assert choose(REGIONS, {EAST: up(), WEST: down("t"), SEOUL: up()}, ["t"]) == []


def test_a_request_about_no_table_or_an_unknown_one_goes_to_the_nearest_healthy_region() -> None:
    health = {EAST: up(), WEST: up("t"), SEOUL: up("u")}
    assert choose(REGIONS, health, [])[0] == Choice(EAST, "nearest")
    assert choose(REGIONS, health, ["new"])[0] == Choice(EAST, "nearest")
    health[EAST] = down()
    assert choose(REGIONS, health, [])[0] == Choice(WEST, f"fail-over from {EAST}")


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
    assert health.unreachable(1, "refused")
    assert not health.unreachable(2, "refused")
    assert health.tables == {"t"}


def test_a_region_comes_back_after_good_probes_and_a_minimum_time() -> None:
    health = up()
    health.unreachable(0, "refused")
    assert not any(health.succeeded(ms) for ms in (100, 200, 300, 400, 999))
    assert health.succeeded(1000)
    health = up()
    health.unreachable(0, "refused")
    assert not any(health.succeeded(ms) for ms in (2000, 2001))
    assert health.succeeded(2002)


def test_a_region_that_flaps_stays_out_longer_each_time_up_to_a_bound() -> None:
    health, now, outages = up(), 0, []
    for _ in range(5):
        health.unreachable(now, "refused")
        began = now
        while not health.healthy:
            now += 100
            health.succeeded(now)
        outages.append(now - began)
    assert outages == [1000, 2000, 4000, 4000, 4000]
    now += LIMITS.calm_ms
    health.unreachable(now, "refused")
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
                changed = (health.failed if event == "f" else health.unreachable)(now, "x")
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
@given(
    st.sampled_from(REGIONS),
    st.lists(st.tuples(st.booleans(), st.frozensets(st.sampled_from("ab"))), min_size=3, max_size=3),
    st.frozensets(st.sampled_from("abc")),
)
def test_choices_are_healthy_nearest_first_and_have_the_tables_if_any_region_has(
    origin: str, states: list[tuple[bool, frozenset[str]]], tables: frozenset[str]
) -> None:
    health = {region: (up if is_up else down)(*has) for region, (is_up, has) in zip(REGIONS, states, strict=True)}
    near = geography().nearest(origin)
    chosen = [choice.region for choice in choose(near, health, tables)]
    holders = [region for region in near if tables <= health[region].tables]
    assert chosen == [region for region in (holders or near) if health[region].healthy]

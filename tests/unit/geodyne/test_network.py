"""States of the network as values: cuts, pauses and paths, and when they are over."""

from __future__ import annotations

import pytest

from geodyne.network import (
    CUTS_MAX,
    LOSS_MAX,
    PAUSES_MAX,
    Cut,
    LinkQuality,
    NetworkError,
    NetworkState,
    Pause,
    quality_from,
    state_from,
)

EAST, WEST, SEOUL = "us-east-1", "eu-west-1", "ap-northeast-2"


def test_a_cut_is_of_one_direction() -> None:
    state = NetworkState().with_cuts([Cut(EAST, WEST)])
    assert state.is_cut(EAST, WEST)
    assert not state.is_cut(WEST, EAST)


def test_healing_is_of_a_pair_of_one_place_or_of_all() -> None:
    state = NetworkState().with_cuts([Cut(EAST, WEST), Cut(WEST, EAST), Cut(SEOUL, EAST)])
    assert state.healed(WEST, EAST).cuts == (Cut(SEOUL, EAST),)
    assert state.healed(SEOUL).cuts == (Cut(EAST, WEST), Cut(WEST, EAST))
    assert state.healed(EAST).cuts == state.healed().cuts == ()


def test_what_has_a_duration_is_over_when_its_time_has_come() -> None:
    state = NetworkState().with_cuts([Cut(EAST, WEST, 500), Cut(WEST, EAST)]).with_pause(Pause("t", "", 700))
    assert state.next_end_ms() == 500
    assert state.current(499) == state
    assert state.current(500).cuts == (Cut(WEST, EAST),)
    assert state.current(500).next_end_ms() == 700
    assert state.current(700).pauses == ()
    assert state.current(700).next_end_ms() is None


def test_the_same_cut_or_pause_again_replaces_the_first() -> None:
    state = NetworkState().with_cuts([Cut(EAST, WEST, 500)]).with_cuts([Cut(EAST, WEST, 900)])
    assert state.cuts == (Cut(EAST, WEST, 900),)
    state = state.with_pause(Pause("t", EAST, 500)).with_pause(Pause("t", EAST, 900)).with_pause(Pause("t", "", 300))
    assert state.pauses == (Pause("t", EAST, 900), Pause("t", "", 300))
    assert state.resumed("t", EAST).pauses == (Pause("t", "", 300),)
    assert state.resumed("t", "").pauses == (Pause("t", EAST, 900),)
    assert state.resumed("t").pauses == ()
    assert state.resumed("u") == state


def test_a_pause_covers_what_leaves_and_what_arrives_in_its_region() -> None:
    pause = Pause("t", WEST, 1)
    assert pause.covers("t", WEST, EAST)
    assert pause.covers("t", EAST, WEST)
    assert not pause.covers("t", EAST, SEOUL)
    assert not pause.covers("u", EAST, WEST)
    assert Pause("t", "", 1).covers("t", EAST, SEOUL)


def test_a_state_is_the_same_after_json() -> None:
    state = (
        NetworkState()
        .with_quality(EAST, WEST, LinkQuality(80, 5, 0.01, 100))
        .with_cuts([Cut(EAST, WEST, 500)])
        .with_pause(Pause("t", "", 700))
    )
    assert state_from(state.to_json()) == state


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"qualities": [], "cuts": [["a", "b"]], "pauses": []},
        {"qualities": [["a", "b", {"loss": 2}]], "cuts": [], "pauses": []},
        {"qualities": [["a", "b", {"speed": 2}]], "cuts": [], "pauses": []},
        {"qualities": [], "cuts": [["a", "b", 0]] * (CUTS_MAX + 1), "pauses": []},
    ],
)
def test_what_is_no_state_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(NetworkError):
        state_from(data)


@pytest.mark.parametrize(
    ("name", "value"),
    [("loss", LOSS_MAX + 0.1), ("round_trip_ms", -1), ("jitter_ms", True), ("bandwidth_mbit", 0.001), ("x", 1)],
)
def test_a_quality_beyond_its_bounds_is_refused(name: str, value: float) -> None:
    with pytest.raises(NetworkError, match=name):
        quality_from({name: value}, LinkQuality())


def test_what_is_not_named_stays() -> None:
    assert quality_from({"loss": 0.1}, LinkQuality(80, 5)) == LinkQuality(80, 5, 0.1)


def test_pauses_are_bounded() -> None:
    state = NetworkState(pauses=tuple(Pause(f"t{number}", "", 1) for number in range(PAUSES_MAX)))
    with pytest.raises(NetworkError):
        state.with_pause(Pause("one more", "", 1))

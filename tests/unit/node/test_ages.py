"""An age is believed as far as both clocks have been watched."""

from __future__ import annotations

from node.transactions.ages import JUMP_US, Watched


def test_clocks_that_go_alike_are_believed_for_as_long_as_they_were_watched() -> None:
    watched = Watched()
    assert watched.look(5_000_000, 100) == 0
    assert watched.look(6_000_000, 1_100) == 1_000_000
    assert watched.look(605_000_000, 600_100) == 600_000_000


def test_a_clock_that_was_set_is_watched_anew() -> None:
    for set_us in (-JUMP_US - 1, JUMP_US + 1):
        watched = Watched()
        watched.look(0, 0)
        assert watched.look(1_000_000 + set_us, 1_000) == 0
        assert watched.look(2_000_000 + set_us, 2_000) == 1_000_000


def test_a_clock_that_drifts_was_not_set() -> None:
    watched = Watched()
    for second in range(100):
        last_us = watched.look(second * 1_100_000, second * 1_000)
    assert last_us == 99_000_000

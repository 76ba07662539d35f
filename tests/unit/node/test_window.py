import pytest

from geodyne.messages import WriteId, Written
from node import window as module
from node.window import ROUTER_IDLE_US, Standing, Window


def test_a_resent_write_gets_the_first_answer() -> None:
    window = Window()
    window.remember(WriteId(7, 3, 3), Written(0, 10, b"{}"), wall_us=1)
    assert window.lookup(WriteId(7, 3, 3)) == Written(0, 10, b"{}")
    assert window.lookup(WriteId(7, 4, 3)) is Standing.NEW
    assert window.lookup(WriteId(8, 3, 3)) is Standing.NEW


def test_what_the_router_no_longer_waits_for_must_not_run_again() -> None:
    window = Window()
    window.remember(WriteId(7, 3, 3), Written(0, 10), wall_us=1)
    window.remember(WriteId(7, 9, 8), Written(0, 10), wall_us=2)
    assert window.lookup(WriteId(7, 3, 3)) is Standing.FINISHED
    assert window.lookup(WriteId(7, 8, 8)) is Standing.NEW


def test_a_router_unheard_of_is_forgotten_by_the_logs_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUTERS_MIN", 1)
    window = Window()
    window.remember(WriteId(1, 1, 1), Written(0, 1), wall_us=0)
    window.remember(WriteId(2, 1, 1), Written(0, 1), wall_us=ROUTER_IDLE_US)
    assert window.lookup(WriteId(1, 1, 1)) == Written(0, 1)
    window.remember(WriteId(3, 1, 1), Written(0, 1), wall_us=ROUTER_IDLE_US + 1)
    assert window.lookup(WriteId(1, 1, 1)) is Standing.NEW


def test_the_routers_last_heard_of_are_known_whatever_a_leaders_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUTERS_MIN", 3)
    window = Window()
    wrong_us = 10 * ROUTER_IDLE_US
    for router, wall_us in ((1, 0), (2, 1), (3, wrong_us), (4, wrong_us), (5, 2)):
        window.remember(WriteId(router, 1, 1), Written(0, router), wall_us)
    assert window.lookup(WriteId(1, 1, 1)) is Standing.NEW
    assert [window.lookup(WriteId(router, 1, 1)) for router in (2, 3, 4, 5)] == [Written(0, n) for n in (2, 3, 4, 5)]


def test_a_router_keeps_a_bounded_number_of_outcomes_and_refuses_what_fell_out(monkeypatch) -> None:
    monkeypatch.setattr(module, "OUTCOMES_MAX", 3)
    window = Window()
    for sequence in range(1, 6):
        window.remember(WriteId(1, sequence, 1), Written(0, sequence), wall_us=0)
    assert window.lookup(WriteId(1, 2, 1)) is Standing.FINISHED
    assert window.lookup(WriteId(1, 3, 1)) == Written(0, 3)


def test_a_window_survives_its_bytes() -> None:
    window = Window()
    window.remember(WriteId(1, 5, 4), Written(3, 10, b"{}"), wall_us=9)
    window.remember(WriteId(2, 1, 1), Written(0, 0), wall_us=9)
    indexed = Written(3, 10, None, (("by_a", 2), ("by_b", 1)), 0)
    window.remember(WriteId(3, 1, 1), indexed, wall_us=9)
    again = Window.from_bytes(window.to_bytes())
    assert again.to_bytes() == window.to_bytes()
    assert again.lookup(WriteId(1, 5, 4)) == Written(3, 10, b"{}")
    assert again.lookup(WriteId(1, 3, 4)) is Standing.FINISHED
    assert again.lookup(WriteId(3, 1, 1)) == indexed

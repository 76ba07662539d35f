"""A lone request never waits; a busy process lets messages gather."""

from __future__ import annotations

from geodyne.rpc.pace import BUSY_FROM, BUSY_FULL, GAP_S_MAX, SAMPLE_S, Pace


class Clocks:
    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def run(self, share: float, seconds: float = SAMPLE_S) -> None:
        self.wall += seconds
        self.cpu += share * seconds


def gap_after(*shares: float) -> float:
    clocks = Clocks()
    pace = Pace(lambda: clocks.wall, lambda: clocks.cpu)
    gap = pace.gap_s()
    for share in shares:
        clocks.run(share)
        gap = pace.gap_s()
    return gap


def test_nothing_waits_on_a_process_that_is_not_busy() -> None:
    assert gap_after() == 0.0
    assert gap_after(0.99 * BUSY_FROM) == 0.0


def test_the_gap_grows_with_the_load_up_to_its_bound() -> None:
    middle = gap_after((BUSY_FROM + BUSY_FULL) / 2)
    assert 0.4 * GAP_S_MAX < middle < 0.6 * GAP_S_MAX
    assert gap_after(BUSY_FULL) > 0.99 * GAP_S_MAX
    assert gap_after(2.0) == GAP_S_MAX


def test_the_gap_is_gone_one_sample_after_the_load() -> None:
    assert gap_after(1.0, 0.0) == 0.0

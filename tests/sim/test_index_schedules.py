"""A few random schedules of global indexes with every change; more of them with `long`."""

from __future__ import annotations

import pytest

from geodyne.sim.indexschedule import run_index_schedule


@pytest.mark.parametrize("seed", range(1, 7))
def test_indexes_hold_what_the_items_say_after_any_faults(seed: int) -> None:
    counts = run_index_schedule(seed)
    assert counts["sent"] > 0


@pytest.mark.long
@pytest.mark.parametrize("seed", range(7, 107))
def test_indexes_hold_what_the_items_say_after_many_faults(seed: int) -> None:
    run_index_schedule(seed)

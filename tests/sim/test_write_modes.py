"""The active region of a table is changed again and again while clients write in all regions and faults go on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from unittest.mock import patch

import pytest

from geodyne.sim import globalrun
from geodyne.sim.globalchecks import GlobalChecks
from geodyne.sim.globalfaults import OF_LIFE, draw
from geodyne.sim.globalmoves import Moves
from geodyne.sim.globalregions import Regions
from geodyne.sim.globalrun import run_seed
from node.engine.writemode import WriteRule
from replication.service import Replicator

SEEDS = range(1, 5)
LONG_SEEDS = range(5, 60)
MUTATION_SEEDS_MAX = 40


def played(seed: int) -> tuple[str, int]:
    """What went wrong ("": nothing), and how often another region began to write."""
    made: list[Moves] = []

    def moves(all_: Regions, checks: GlobalChecks, seed: int) -> Moves:
        made.append(Moves(all_, checks, seed))
        return made[-1]

    with ExitStack() as stack:
        stack.enter_context(patch.object(globalrun, "moving", lambda seed, plan: True))
        stack.enter_context(patch.object(globalrun, "Moves", moves))
        outcome = run_seed(seed, [fault for fault in draw(seed) if fault.kind not in OF_LIFE])
    return outcome.problem, made[0].terms.count if made[0].terms is not None else 0


@pytest.mark.parametrize("seed", SEEDS)
def test_no_two_regions_take_writes_at_once_and_the_next_one_has_all_of_the_one_before(seed: int) -> None:
    problem, terms = played(seed)
    assert not problem
    assert terms > 1


@pytest.mark.long
@pytest.mark.parametrize("seed", LONG_SEEDS)
def test_over_many_seeds_no_two_regions_take_writes_at_once(seed: int) -> None:
    problem, _ = played(seed)
    assert not problem


def what_was_written_is_not_waited_for() -> AbstractContextManager[Any]:
    return patch.object(Replicator, "_passed_revision", lambda *_: 1 << 62)


def a_region_that_stops_goes_on_with_the_writes_of_items() -> AbstractContextManager[Any]:
    return patch.object(WriteRule, "closed", property(lambda rule: not rule.home and rule.active != rule.own))


@pytest.mark.parametrize(
    "mutation",
    [what_was_written_is_not_waited_for, a_region_that_stops_goes_on_with_the_writes_of_items],
    ids=lambda mutation: mutation.__name__,
)
def test_a_rule_that_is_left_out_is_found(mutation: Callable[[], AbstractContextManager[Any]]) -> None:
    with mutation():
        for seed in range(1, MUTATION_SEEDS_MAX + 1):
            problem, _ = played(seed)
            if problem:
                print(f"seed {seed}: {problem[:200]}")
                return
    pytest.fail("no seed found it")

"""The simulation must be able to fail: with each rule of safety switched off, some seed of the first 200 shows it.

The quick share runs those that the first seeds show within a second or so; `make test-long` hunts all of them. Each
prints the seed that caught it.
"""

from __future__ import annotations

import pytest

from geodyne.sim.run import Outcome, run_seed
from tests.sim.mutations import MUTATIONS, Mutation

SEEDS_MAX = 200
QUICK_SEEDS_MAX = 12
QUICK = (
    "nothing is fsynced",
    "followers acknowledge before they have fsynced",
    "votes leave before they are durable",
    "a leader counts itself before its fsync",
    "terms and votes are not written",
    "votes are not written",
    "entries are written before their term",
    "the state runs ahead of the log",
    "nobody asks for pre-votes",
    "a pre-vote changes the term",
    "voters do not compare logs",
    "entries of older terms commit by counting",
    "leases never end",
    "leases count from the acknowledgement's receipt",
    "restarted nodes vote at once",
    "live leaders are voted against",
    "leaders serve before they know what is committed",
)


def hunt(mutation: Mutation, seeds_max: int) -> Outcome | None:
    """The first seed, from 1 on, that shows what the mutation breaks."""
    with mutation():
        for seed in range(1, seeds_max + 1):
            outcome = run_seed(seed)
            if outcome.problem:
                return outcome
    return None


def _caught(name: str, seeds_max: int) -> None:
    outcome = hunt(MUTATIONS[name], seeds_max)
    assert outcome is not None, f"{seeds_max} seeds do not show that {name}"
    print(f"{name}: seed {outcome.seed}: {outcome.problem.splitlines()[0][:200]}")


@pytest.mark.parametrize("name", QUICK)
def test_a_broken_rule_is_seen_at_once(name: str) -> None:
    _caught(name, QUICK_SEEDS_MAX)


@pytest.mark.long
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_rule_is_seen_within_200_seeds(name: str) -> None:
    _caught(name, SEEDS_MAX)

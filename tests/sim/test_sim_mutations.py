"""The simulation must be able to fail: with each rule of safety switched off, some seed of the first 200 shows it.

The quick share runs those that the first seeds show within a second or so; `make test-long` hunts all of them. Each
prints the seed that caught it.
"""

from __future__ import annotations

from random import Random

import pytest

from geodyne.sim.faults import LEADER, Fault
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
    "reads do not look at the lease",
    "reads are confirmed by an earlier round",
    "joint configurations count the new half only",
    "learners count",
    "replicas go before the move is done",
)

# Rules that only one kind of fault can show, and that kind: of those a run of nothing else is made. What it shows does
# not depend on what else the first seeds happen to draw.
DIRECTED = {
    "support is never withdrawn": "glimpse",
    "a failed fsync is tried again": "failed_sync",
    "a failed fsync is taken for a success": "failed_sync",
    "checksums of rows are not looked at": "rot_state",
    "damage is not healed": "rot_state",
    "damage in the log is taken for its torn end": "rot_log",
    "replicas that come back are trusted": "member",
}
DIRECTED_FAULTS, DIRECTED_EVERY_S, DIRECTED_S = 12, 4.0, (0.8, 1.6)
DIRECTED_SEEDS_MAX = 5
# What a finding is: anything else that ends a run would be the mutation's own mistake, or the simulation's.
FINDINGS = ("Violation", "ConsensusViolation", "JSONDecodeError")


def hunt(mutation: Mutation, seeds_max: int) -> Outcome | None:
    """The first seed, from 1 on, that shows what the mutation breaks."""
    with mutation():
        for seed in range(1, seeds_max + 1):
            outcome = run_seed(seed)
            if outcome.problem:
                return outcome
    return None


def hunt_with(kind: str, mutation: Mutation, seeds_max: int) -> Outcome | None:
    """The first seed that shows it in a run of this kind of fault alone."""
    with mutation():
        for seed in range(1, seeds_max + 1):
            random = Random(seed)
            plan = [
                Fault(
                    2.0 + number * DIRECTED_EVERY_S,
                    kind,
                    LEADER,
                    round(random.uniform(*DIRECTED_S), 3),
                    random.getrandbits(24),
                )
                for number in range(DIRECTED_FAULTS)
            ]
            outcome = run_seed(seed, plan)
            if outcome.problem:
                return outcome
    return None


def _caught(name: str, outcome: Outcome | None) -> None:
    assert outcome is not None, f"no seed shows that {name}"
    assert outcome.problem.startswith(FINDINGS), outcome.problem
    print(f"{name}: seed {outcome.seed}: {outcome.problem.splitlines()[0][:200]}")


@pytest.mark.parametrize("name", QUICK)
def test_a_broken_rule_is_seen_at_once(name: str) -> None:
    _caught(name, hunt(MUTATIONS[name], QUICK_SEEDS_MAX))


@pytest.mark.parametrize("name", DIRECTED)
def test_a_broken_rule_is_seen_by_the_fault_that_shows_it(name: str) -> None:
    _caught(name, hunt_with(DIRECTED[name], MUTATIONS[name], DIRECTED_SEEDS_MAX))


@pytest.mark.long
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_rule_is_seen_within_200_seeds(name: str) -> None:
    _caught(name, hunt(MUTATIONS[name], SEEDS_MAX))

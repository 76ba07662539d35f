"""The simulation must be able to fail: with each rule of safety switched off, some seed of the first 200 shows it.

The quick share runs those that the first seeds show within a second or so, and those that runs of one kind of fault
show; `make test-long` hunts all, but for the few that the lists below name. Each prints the seed that caught it.
"""

from __future__ import annotations

from random import Random

import pytest

from geodyne.sim.faults import LEADER, Fault
from geodyne.sim.run import Outcome, run_seed
from tests.sim import test_restarted_voters as voters
from tests.sim import test_stream_reads as stream_reads
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
    "what a duty builds waits for the turn",
    "dropped replicas leave no mark",
    "joint configurations count the new half only",
    "learners count",
    "replicas go before the move is done",
    "snapshots are not fsynced",
)

# Rules that only one kind of fault can show, and that kind: of those a run of nothing else is made. What it shows does
# not depend on what else the first seeds happen to draw.
DIRECTED = {
    "support is never withdrawn": "glimpse",
    "a failed fsync is tried again": "failed_sync",
    "a failed fsync is taken for a success": "failed_sync",
    "last words count what was not written": "read_only",
    "checksums of rows are not looked at": "rot_state",
    "damage is not healed": "rot_state",
    "damage in the log is taken for its torn end": "rot_log",
    "replicas that come back are trusted": "member",
}
DIRECTED_FAULTS, DIRECTED_EVERY_S, DIRECTED_S = 12, 4.0, (0.8, 1.6)
DIRECTED_SEEDS_MAX = 5
# What only the hunt through all seeds shows.
HUNTED = (
    "reads do not look at the lease",
    "reads are confirmed by an earlier round",
    "the log is cut before a checkpoint",
    "voters vote twice",
    "followers do not match the term before",
    "followers keep what contradicts the leader",
    "newcomers count",
    "reads see what is not committed",
    "writes are answered before they are committed",
    "refusals do not wait for what they rest on",
    "resent writes are done again",
    "the window is forgotten at restarts",
    "snapshots come without the window",
    "snapshots come without local entries",
    "entries of a local index stay",
    "the sizes of item collections are forgotten",
    "moves are never reported",
    "snapshots are taken of damaged rows",
)
# What no seed draws often enough, beside the runs that are directed at it.
SELDOM = frozenset(("support is never withdrawn", "damage is not healed"))
# What takes a course of events that no seed makes, and the scenario that does.
SCRIPTED = {
    "a restarted node gives up what its log knows": voters.test_a_node_that_gives_it_up_is_noticed,
    "shards are listed without a look at the lease": stream_reads.test_a_list_of_shards_as_they_were_is_noticed,
}
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


def test_of_each_broken_rule_is_said_what_shows_it() -> None:
    shown = [*QUICK, *DIRECTED, *HUNTED, *SCRIPTED]
    assert sorted(shown) == sorted(MUTATIONS)
    assert DIRECTED.keys() > SELDOM


@pytest.mark.parametrize("name", QUICK)
def test_a_broken_rule_is_seen_at_once(name: str) -> None:
    _caught(name, hunt(MUTATIONS[name], QUICK_SEEDS_MAX))


@pytest.mark.parametrize("name", DIRECTED)
def test_a_broken_rule_is_seen_by_the_fault_that_shows_it(name: str) -> None:
    _caught(name, hunt_with(DIRECTED[name], MUTATIONS[name], DIRECTED_SEEDS_MAX))


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(MUTATIONS.keys() - SELDOM - SCRIPTED.keys()))
def test_a_broken_rule_is_seen_within_200_seeds(name: str) -> None:
    _caught(name, hunt(MUTATIONS[name], SEEDS_MAX))

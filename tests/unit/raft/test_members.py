"""One replica while its group's members change: who counts, who stands, what a lease rests on; and who asks before it
campaigns."""

from __future__ import annotations

from random import Random

import pytest

from geodyne.peermessages import Append, Appended, Entry, TimeoutNow, Vote, VoteRequest
from node.raft.change import Act
from node.raft.configuration import Configuration
from node.raft.core import Role
from tests.unit.raft.replicas import START, G, Replica, S, request
from tests.unit.raft.simulation import Simulation

JOINT = Configuration(("a", "d", "e"), ("a", "b", "c"))


def configured(replica: Replica, *configurations: Configuration, leader: str = "b", term: int = 1) -> None:
    """A leader appends one configuration after the other."""
    replica.heard(leader)
    for configuration in configurations:
        last, last_term = replica.raft.log.last_index, replica.raft.log.last_term
        entry = Entry(last + 1, term, configuration.to_payload())
        replica.step(leader, Append(G, term, last, last_term, (entry,), replica.raft.commit_index))


def moving(replica: Replica, voters: tuple[str, ...]) -> Act:
    act = replica.raft.change_members(voters, now_ms=replica.now).act
    replica.take()
    return act


def joined(replica: Replica, peer: str) -> None:
    """A learner that was added in this term follows, and acknowledges heartbeats."""
    replica.heard(peer)
    replica.acked(peer, replica.now)
    replica.step(peer, replica.ok(replica.raft.log.last_index))


def role(replica: Replica) -> Role:
    return replica.raft.role


def entering() -> Replica:
    """A leader that has just proposed the joint configuration in which d and e are to replace b and c."""
    replica = Replica().leads()
    assert moving(replica, ("a", "d", "e")) is Act.PROPOSED
    replica.step("b", replica.ok(replica.raft.log.last_index))
    assert moving(replica, ("a", "d", "e")) is Act.WAIT
    for peer in "de":
        joined(replica, peer)
    assert moving(replica, ("a", "d", "e")) is Act.PROPOSED
    assert replica.raft.configuration.joint
    return replica


def test_learners_acknowledge_and_commit_nothing() -> None:
    replica = Replica().leads()
    moving(replica, ("a", "d", "e"))
    for peer in "de":
        joined(replica, peer)
    assert replica.raft.commit_index < replica.raft.log.last_index
    replica.step("c", replica.ok(replica.raft.log.last_index))
    assert replica.raft.commit_index == replica.raft.log.last_index


def test_a_joint_entry_needs_a_majority_of_the_old_and_of_the_new() -> None:
    replica = entering()
    last = replica.raft.log.last_index
    for peer in "de":
        replica.step(peer, replica.ok(last))
    assert replica.raft.commit_index < last
    replica.step("c", replica.ok(last))
    assert replica.raft.commit_index == last


def test_no_step_is_taken_while_the_one_before_is_not_committed() -> None:
    replica = entering()
    assert moving(replica, ("a", "d", "e")) is Act.WAIT
    assert moving(replica, ("a", "b", "c")) is Act.WAIT


def test_no_step_is_taken_before_an_entry_of_the_own_term_is_committed() -> None:
    replica = Replica()
    replica.time_out()
    replica.step("b", Vote(G, 1, True, True))
    replica.step("b", Vote(G, 1, True, False))
    assert replica.raft.role is Role.LEADER
    assert moving(replica, ("a", "b")) is Act.WAIT


def test_after_the_change_the_old_voters_count_no_more() -> None:
    replica = entering()
    for peer in "cde":
        replica.step(peer, replica.ok(replica.raft.log.last_index))
    assert moving(replica, ("a", "d", "e")) is Act.PROPOSED
    last = replica.raft.log.last_index
    for peer in "bc":
        replica.step(peer, replica.ok(last))
    assert replica.raft.commit_index < last
    replica.step("e", replica.ok(last))
    assert replica.raft.commit_index == last
    assert moving(replica, ("a", "d", "e")) is Act.DONE


def test_a_lease_rests_on_both_sets_while_joint_and_never_on_one_of_before() -> None:
    replica = Replica().leads()
    replica.acked("b", replica.now)
    assert replica.raft.lease_valid(replica.now)
    moving(replica, ("a", "d", "e"))
    replica.step("b", replica.ok(replica.raft.log.last_index))
    for peer in "de":
        replica.heard(peer)
        replica.step(peer, replica.ok(replica.raft.log.last_index))
        replica.acked(peer, replica.now)
    assert moving(replica, ("a", "d", "e")) is Act.PROPOSED
    assert replica.raft.lease_valid(replica.now)
    replica.now += S.lease_ms
    for peer in "de":
        replica.acked(peer, replica.now)
    assert not replica.raft.lease_valid(replica.now)  # the new ones alone
    assert not replica.raft.confirmed_since(replica.now)
    replica.acked("c", replica.now)
    replica.step("c", replica.ok(replica.raft.log.last_index))
    assert replica.raft.lease_valid(replica.now)


def test_a_lease_found_out_with_the_old_voters_ends_with_their_configuration() -> None:
    replica = entering()
    replica.acked("b", replica.now)
    for peer in "bde":
        replica.step(peer, replica.ok(replica.raft.log.last_index))
    assert replica.raft.lease_valid(replica.now)
    replica.acked("d", replica.now, epoch=2)  # they withdraw
    replica.acked("e", replica.now, epoch=2)
    assert replica.raft.lease_valid(replica.now)  # as was found out a moment ago
    replica.raft.change_members(("a", "d", "e"), now_ms=replica.now)
    assert not replica.raft.lease_valid(replica.now)


def test_an_election_in_a_joint_configuration_needs_both_majorities() -> None:
    replica = Replica()
    configured(replica, JOINT)
    replica.now += 10_000
    replica.liveness.lost(replica.now)
    replica.raft.peer_lost("b", replica.now)
    replica.tick()
    assert {peer for peer, _ in replica.sent} == set("bcde")
    for peer in "de":
        replica.step(peer, Vote(G, 2, True, True))
    assert role(replica) is Role.PRE_CANDIDATE
    replica.step("c", Vote(G, 2, True, True))
    assert role(replica) is Role.CANDIDATE


def test_a_removed_voter_stands_until_it_knows_that_its_removal_is_committed() -> None:
    replica = Replica()
    gone = Configuration(("b", "c", "d"))
    configured(replica, Configuration(("b", "c", "d"), ("a", "b", "c")), gone)
    replica.step("b", Append(G, 1, 2, 1, (), 1))
    replica.now += 10_000
    replica.raft.peer_lost("b", replica.now)
    replica.time_out()
    assert role(replica) is Role.PRE_CANDIDATE  # its log may be the only one that has the last entry
    replica.follows("b", 1, 2, 1)
    replica.step("b", Append(G, 1, 2, 1, (), 2))
    replica.now += 10_000
    replica.time_out()
    assert role(replica) is Role.FOLLOWER
    replica.raft.peer_lost("b", replica.now)
    assert replica.raft.next_deadline_ms is None


def test_when_the_log_is_cut_the_configuration_of_before_is_in_force_again() -> None:
    replica = Replica()
    configured(replica, Configuration(("d",), ("a", "b", "c")))
    assert replica.raft.configuration.joint
    replica.heard("c")
    replica.step("c", Append(G, 2, 0, 0, (Entry(1, 2, b""),), 0))
    assert replica.raft.configuration == Configuration(("a", "b", "c"))
    assert replica.raft.configuration_index == 0


def test_a_configuration_in_the_log_is_in_force_again_after_a_restart() -> None:
    replica = Replica()
    configured(replica, JOINT)
    again = Replica(term=1)
    again.raft = type(again.raft)(
        "a",
        G,
        Configuration(("a", "b", "c")),
        again.raft._known_hard_state,
        replica.raft.log,
        0,
        again.liveness,
        S,
        Random(7),
        START,
    )
    assert again.raft.configuration == JOINT


def test_a_learner_that_becomes_a_voter_looks_for_a_leader_when_there_is_none() -> None:
    replica = Replica(voters=("b", "c"), learners=("a",))
    replica.step("b", Append(G, 1, 0, 0, (Entry(1, 1, Configuration(("a", "b", "c"), ("b", "c")).to_payload()),), 0))
    assert replica.raft.next_deadline_ms is not None  # b was never heard as a node


def test_an_answer_that_a_member_gave_before_it_was_added_again_counts_for_nothing() -> None:
    replica = Replica().leads()
    moving(replica, ("a", "b", "d"))
    added_at = replica.raft.configuration_index
    replica.step("b", replica.ok(added_at))
    replica.heard("d")
    replica.acked("d", replica.now)
    replica.step("d", replica.ok(added_at - 1))  # of a replica that was destroyed since
    assert moving(replica, ("a", "b", "d")) is Act.WAIT
    replica.step("d", replica.ok(0)._replace(newcomer=True))
    admitted_at = replica.raft.log.last_index
    assert admitted_at > added_at
    replica.step("d", replica.ok(added_at))  # late as well
    assert moving(replica, ("a", "b", "d")) is Act.WAIT
    replica.step("b", replica.ok(admitted_at))
    replica.step("d", replica.ok(admitted_at))
    assert moving(replica, ("a", "b", "d")) is Act.PROPOSED


def test_an_only_voter_that_was_one_of_several_waits_after_a_restart() -> None:
    """It may have acknowledged a heartbeat of who led before it was alone."""
    alone = Replica(term=3, voters=("a",), fresh=False, configuration_index=9)
    assert (alone.raft.next_deadline_ms or 0) >= START + S.lease_ms
    assert Replica(term=3, voters=("a",), fresh=False).raft.next_deadline_ms == START


def test_a_transfer_goes_to_a_voter_that_stays() -> None:
    replica = entering()
    for peer in "bcde":
        replica.heard(peer)
        replica.step(peer, replica.ok(replica.raft.log.last_index))
    assert not replica.raft.transfer("b", replica.now)
    assert replica.raft.transfer("d", replica.now)
    assert ("d", TimeoutNow(G, 1)) in replica.take().before


# --- gray failure ------------------------------------------------------------------------------------------------


def test_one_that_misses_the_leader_asks_before_it_campaigns_and_is_told_no_without_a_new_term() -> None:
    """The way from the leader to this follower is blocked; the others hear it."""
    cut_off = Replica(rank=1)
    cut_off.follows("b", 1)
    cut_off.now += 2 * S.election_ms_max
    cut_off.liveness.lost(cut_off.now)
    cut_off.raft.peer_lost("b", cut_off.now)
    for _ in range(20):
        cut_off.tick()
        assert {type(message) for _, message in cut_off.sent} <= {VoteRequest}
        assert all(message.pre for _, message in cut_off.sent if isinstance(message, VoteRequest))
        cut_off.step("b", Vote(G, 1, False, True))
        cut_off.step("c", Vote(G, 1, False, True))
        assert cut_off.raft.term == 1


def test_one_that_hears_the_leader_grants_no_pre_vote_and_goes_on_confirming_it() -> None:
    follower = Replica()
    follower.follows("b", 1)
    refusal = ("c", Vote(G, 1, False, True, True))
    assert follower.step("c", request(2, pre=True)).before == (("b", request(1, pre=True)), refusal)
    assert follower.raft.leader == "b"
    assert follower.raft.term == 1


def test_a_leader_that_is_asked_for_a_pre_vote_keeps_term_and_lease() -> None:
    leader = Replica().leads()
    leader.acked("b", leader.now)
    leader.step("c", request(2, 1, 1, pre=True))
    assert leader.raft.role is Role.LEADER
    assert leader.raft.lease_valid(leader.now)
    assert any(isinstance(message, Append) for peer, message in leader.sent if peer == "c")  # it is told again


@pytest.mark.parametrize("seed", range(4))
def test_a_way_that_is_blocked_in_one_direction_disturbs_no_leader_that_a_majority_hears(seed: int) -> None:
    simulation = Simulation(seed, groups=1)
    simulation.kinds = [lambda one, other, lasting: None]
    simulation.calm = True
    simulation.run(4000)
    ((_, leader),) = simulation.leading()
    raft = simulation.nodes[leader].rafts[1]
    term = raft.term
    other = next(name for name in simulation.names if name != leader)
    simulation.blocked = {(leader, other)} if seed % 2 else {(other, leader)}
    for _ in range(200):
        simulation.run_until(simulation.now + 100)
        assert (raft.role, raft.term) == (Role.LEADER, term)
        assert raft.lease_valid(simulation.nodes[leader].now_ms())
    simulation.blocked = set()
    simulation.run_until(simulation.now + 8000)
    assert raft.term == term


def test_answers_of_strangers_elect_nobody() -> None:
    replica = Replica()
    replica.time_out()
    for stranger in "xyz":
        replica.step(stranger, Vote(G, 1, True, True))
        replica.step(stranger, Appended(G, 0, True, 0, 0, 1, 1))
    assert replica.raft.role is Role.PRE_CANDIDATE

"""Scripted scenarios of leases and transfers: one rule each, on a replica or a few that are fed by hand."""

from __future__ import annotations

from geodyne.peermessages import Append, TimeoutNow, Vote
from node.raft.core import Role
from node.raft.effects import HardState
from tests.unit.raft.replicas import START, G, Replica, S, request

# --- leases -----------------------------------------------------------------------------------------------


def test_a_lease_runs_from_the_send_time_that_a_majority_acknowledged() -> None:
    replica = Replica().leads()
    assert not replica.raft.lease_valid(START)
    replica.now = START + 100
    replica.acked("b", START + 20)
    assert replica.raft.lease_valid(START + 20 + S.lease_held_ms - 1)
    assert not replica.raft.lease_valid(START + 20 + S.lease_held_ms)


def test_an_acknowledgement_counts_only_with_a_confirmation_under_its_pair() -> None:
    replica = Replica().leads()
    replica.acked("b", START, epoch=2)  # b has withdrawn its support since it confirmed
    assert not replica.raft.lease_valid(START)
    replica.liveness.renewed()
    replica.raft.peer_renewed("b", START)
    assert ("b", Append(G, 1, 1, 1, (), 1)) in replica.take().before
    replica.step("b", replica.ok(1, epoch=2))
    assert replica.raft.lease_valid(START)


def test_a_learner_does_not_count_for_a_lease_or_a_commit() -> None:
    replica = Replica(learners=("d",)).leads()
    replica.raft.propose(b"x")
    replica.take()
    replica.acked("d", START)
    assert replica.step("d", replica.ok(2)).committed_to == 1
    assert not replica.raft.lease_valid(START)


def test_a_read_is_confirmed_by_a_heartbeat_sent_after_it_arrived() -> None:
    replica = Replica().leads()
    replica.now = START + 50
    replica.acked("b", START + 10)
    assert replica.raft.confirmed_since(START + 10)
    assert not replica.raft.confirmed_since(START + 11)


def test_a_transfer_ends_the_lease_before_it_asks_and_for_the_whole_term() -> None:
    replica = Replica().leads()
    replica.acked("b", START)
    assert replica.raft.lease_valid(START)
    assert replica.raft.transfer("b", START)
    assert ("b", TimeoutNow(G, 1)) in replica.take().before
    assert not replica.raft.lease_valid(START)
    assert not replica.raft.confirmed_since(0)
    replica.acked("b", START)
    replica.tick(START + S.transfer_ms)  # it failed: go on in another term
    assert replica.raft.role is Role.PRE_CANDIDATE


def test_a_transfer_waits_until_the_target_has_everything() -> None:
    replica = Replica().leads()
    replica.raft.propose(b"x")
    replica.take()
    assert replica.raft.transfer("b", START)
    assert replica.take().before == ()
    assert ("b", TimeoutNow(G, 1)) in replica.step("b", replica.ok(2)).before


def test_the_target_of_a_transfer_stands_at_once_and_gets_votes_in_spite_of_promises() -> None:
    target = Replica(rank=1)
    target.follows("b", 1)
    effects = target.step("b", TimeoutNow(G, 1))
    assert effects.hard_state == HardState(2, "a")
    assert effects.after == tuple((peer, request(2, transfer=True)) for peer in "bc")
    voter = Replica(rank=1)
    voter.follows("b", 1)
    assert voter.step("c", request(2, transfer=True)).after == (("c", Vote(G, 2, True, False)),)
    assert voter.liveness.support("b") == (1, 1)  # b gave its lease up itself


def test_a_late_call_to_stand_is_ignored() -> None:
    replica = Replica(rank=1)
    replica.follows("b", 1)
    replica.follows("c", 2)
    assert replica.step("b", TimeoutNow(G, 1)).hard_state is None


def test_leadership_is_offered_back_to_a_preferred_replica_that_has_everything() -> None:
    replica = Replica(voters=("b", "a", "c"), rank=1).leads()
    assert replica.raft.should_transfer_to(START) == "b"
    replica.raft.propose(b"x")
    assert replica.raft.should_transfer_to(START) == ""
    assert Replica().leads().raft.should_transfer_to(START) == ""

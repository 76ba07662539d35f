"""Scripted scenarios of following: one rule each, on a replica or a few that are fed by hand."""

from __future__ import annotations

import random

import pytest

from geodyne.peermessages import Append, Appended, Entry, Heartbeat
from node.raft.configuration import Configuration
from node.raft.core import ConsensusViolation, Raft
from node.raft.effects import HardState
from node.raft.liveness import Liveness
from node.raft.log import RaftLog
from tests.unit.raft.replicas import START, G, Replica, S

# --- following --------------------------------------------------------------------------------------------


def test_entries_are_durable_before_they_are_acknowledged() -> None:
    replica = Replica(rank=1)
    effects = replica.step("b", Append(G, 1, 0, 0, (Entry(1, 1, b"x"),), 0))
    assert effects.hard_state == HardState(1, "")
    assert effects.entries == (Entry(1, 1, b"x"),)
    assert effects.before == ()
    assert effects.after == (("b", Appended(G, 1, True, 1, 0, 1, 1)),)


def test_a_gap_or_a_conflict_is_answered_with_where_to_try() -> None:
    replica = Replica(term=3, entries="1133", rank=1)
    assert replica.step("b", Append(G, 4, 9, 4, (), 0)).after[0][1] == Appended(G, 4, False, 4, 3, 1, 1)
    assert replica.step("b", Append(G, 4, 4, 2, (), 0)).after[0][1] == Appended(G, 4, False, 2, 1, 1, 1)


def test_a_conflicting_tail_is_replaced() -> None:
    replica = Replica(term=3, entries="1133", rank=1)
    effects = replica.step("b", Append(G, 4, 2, 1, (Entry(3, 4, b"y"),), 0))
    assert effects.entries == (Entry(3, 4, b"y"),)
    assert replica.raft.log.last_index == 3


def test_a_follower_commits_only_what_it_was_shown_to_match() -> None:
    replica = Replica(term=3, entries="1133", rank=1)
    assert replica.step("b", Append(G, 4, 2, 1, (), 4)).committed_to == 2


def test_an_append_from_before_the_commit_index_is_answered_and_changes_nothing() -> None:
    replica = Replica(term=1, entries="111", rank=1)
    replica.step("b", Append(G, 1, 3, 1, (), 3))
    replica.raft.compact(2)
    effects = replica.step("b", Append(G, 1, 0, 0, (Entry(1, 1, b""), Entry(2, 1, b"")), 2))
    assert effects.after == (("b", Appended(G, 1, True, 3, 0, 1, 1)),)
    effects = replica.step("b", Append(G, 1, 1, 1, tuple(Entry(n, 1, b"") for n in (2, 3, 4)), 4))
    assert [entry.index for entry in effects.entries] == [4]
    assert effects.committed_to == 4


@pytest.mark.parametrize(
    "append",
    [
        Append(G, 4, 3, 4, (), 3),  # the entry before
        Append(G, 4, 1, 1, (Entry(2, 1, b""), Entry(3, 4, b"")), 3),  # one of those sent
        Append(G, 4, 1, 1, (Entry(2, 4, b""), Entry(3, 4, b""), Entry(4, 4, b"")), 3),
        Append(G, 4, 2, 4, (), 3),
    ],
)
def test_a_leader_that_contradicts_what_is_committed_gets_no_acknowledgement(append: Append) -> None:
    """It can lead only because voters have lost their logs: to say yes would hide that this replica has other data."""
    replica = Replica(term=3, entries="113", rank=1)
    replica.step("b", Append(G, 3, 3, 3, (), 3))
    with pytest.raises(ConsensusViolation, match="contradicts the committed entry"):
        replica.step("c", append)


def test_an_old_leader_is_told_of_the_newer_term() -> None:
    replica = Replica(term=5, rank=1)
    assert replica.step("b", Append(G, 4, 0, 0, (), 0)).after[0][1] == Appended(G, 5, False, 0, 5, 1, 1)
    assert replica.raft.leader == ""


def test_a_follower_of_a_leader_that_is_not_heard_keeps_a_deadline() -> None:
    replica = Replica(rank=1)
    replica.step("b", Append(G, 1, 0, 0, (), 0))
    assert replica.raft.next_deadline_ms is not None
    replica.living = "b"
    replica.tick()
    assert replica.raft.leader == "b"
    assert replica.raft.next_deadline_ms is None


def test_a_snapshot_takes_the_place_of_a_log_that_does_not_reach_it() -> None:
    replica = Replica(term=1, entries="11", rank=1)
    assert replica.raft.snapshot_offered("b", 2, 9, START)
    assert replica.take().hard_state == HardState(2, "")
    assert replica.raft.install_snapshot(9, 2, None)
    assert (replica.raft.log.first_index, replica.raft.log.last_index, replica.raft.commit_index) == (10, 9, 9)
    assert not replica.raft.snapshot_offered("b", 2, 9, START)
    assert not replica.raft.snapshot_offered("b", 1, 99, START)


def test_a_snapshot_leaves_a_log_that_goes_through_it_alone() -> None:
    replica = Replica(term=1, entries="1", rank=1)
    replica.step("b", Append(G, 1, 1, 1, (Entry(2, 1, b""), Entry(3, 1, b"")), 0), durable=False)
    assert not replica.raft.install_snapshot(2, 1, None)
    assert (replica.raft.log.last_index, replica.raft.commit_index) == (3, 2)
    replica.raft.persisted(3, 1)  # the answer that promised it was already waiting
    assert replica.raft.log.persisted_index == 3


def test_parts_that_contradict_each_other_are_refused_at_the_start() -> None:
    with pytest.raises(ValueError):
        Replica(term=1, entries="2")
    log, liveness = RaftLog(5, 1), Liveness(S, ["b"], 1, START)
    with pytest.raises(ValueError):
        Raft("a", G, Configuration(("a", "b")), HardState(1, ""), log, 4, liveness, S, random.Random(1), START)


def test_a_thousand_quiet_groups_ask_for_no_tick() -> None:
    liveness = Liveness(S, ["b", "c"], 1, START)
    liveness.on_heartbeat("b", Heartbeat(1, 1), START)
    configuration = Configuration(("b", "a", "c"))
    groups = [
        Raft("a", group, configuration, HardState(0, ""), RaftLog(), 0, liveness, S, random.Random(1), START)
        for group in range(1000)
    ]
    for raft in groups:
        raft.step("b", Append(raft.group, 1, 0, 0, (), 0), START)
        raft.take_effects()
    assert [raft for raft in groups if raft.next_deadline_ms is not None] == []

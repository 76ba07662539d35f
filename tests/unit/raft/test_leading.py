"""Scripted scenarios of leading: one rule each, on a replica or a few that are fed by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from geodyne.peermessages import Append, Appended, Entry, Vote
from node.raft.core import ConsensusViolation, NotLeaderError, Role
from node.raft.effects import HardState
from tests.unit.raft.replicas import START, G, Replica, S, request

# --- leading ----------------------------------------------------------------------------------------------


def test_a_leader_counts_itself_only_after_its_own_fsync() -> None:
    replica = Replica().leads()
    replica.raft.propose(b"x")
    effects = replica.take(durable=False)
    assert effects.before[0][1] == Append(G, 1, 1, 1, (Entry(2, 1, b"x"),), 1)
    assert replica.step("b", replica.ok(2)).committed_to == 1
    replica.raft.persisted(2, 1)
    assert replica.take().committed_to == 2


def test_two_followers_commit_without_the_leaders_disk() -> None:
    replica = Replica().leads()
    replica.step("c", replica.ok(1))
    replica.raft.propose(b"x")
    replica.take(durable=False)
    replica.step("b", replica.ok(2))
    assert replica.step("c", replica.ok(2)).committed_to == 2


def rejoins_empty(replica: Replica, peer: str) -> Append:
    """A peer of a leader starts again with nothing on its disk; returns what it is sent after its first answer."""
    replica.raft.peer_restarted(peer, replica.now)
    asked = dict(replica.take().before)[peer]
    assert isinstance(asked, Append)
    assert asked.prev_index == replica.raft.log.last_index
    sent = dict(replica.step(peer, Appended(G, replica.raft.term, False, 0, 0, 2, 1)).before)[peer]
    assert isinstance(sent, Append)
    return sent


def test_a_follower_that_lost_its_disk_is_sent_everything_again() -> None:
    replica = Replica().leads()
    replica.living = "bc"
    replica.raft.propose(b"x")
    replica.take()
    replica.everyone_has_all()
    sent = rejoins_empty(replica, "c")
    assert (sent.prev_index, [entry.index for entry in sent.entries]) == (0, [1, 2])


def test_what_a_process_had_does_not_count_for_the_one_that_follows_it() -> None:
    replica = Replica().leads()
    replica.raft.propose(b"x")
    replica.take(durable=False)
    replica.step("c", replica.ok(2))
    rejoins_empty(replica, "c")
    replica.step("c", replica.ok(2))  # a late answer of the old process
    replica.raft.persisted(2, 1)
    assert replica.take().committed_to != 2
    assert replica.step("c", Appended(G, 1, True, 2, 0, 2, 1)).committed_to == 2


def test_entries_of_earlier_terms_commit_only_with_one_of_the_own_term() -> None:
    replica = Replica(term=2, entries="12")
    replica.time_out()
    replica.step("b", Vote(G, 3, True, True))
    replica.step("b", Vote(G, 3, True, False))
    assert replica.step("b", replica.ok(2)).committed_to == 0
    assert not replica.raft.ready_to_serve
    assert replica.step("b", replica.ok(3)).committed_to == 3
    assert replica.raft.ready_to_serve


def test_only_a_leader_that_is_not_handing_over_takes_proposals() -> None:
    replica = Replica(rank=1)
    replica.follows("b", 1)
    with pytest.raises(NotLeaderError) as refused:
        replica.raft.propose(b"x")
    assert refused.value.leader == "b"
    leader = Replica().leads()
    assert leader.raft.transfer("b", leader.now)
    with pytest.raises(NotLeaderError) as refused:
        leader.raft.propose(b"x")
    assert refused.value.leader == "b"


def test_a_quiet_group_has_no_deadline_and_sends_nothing() -> None:
    replica = Replica(learners=("d",)).leads()
    replica.living = "bcd"
    assert replica.raft.next_deadline_ms is not None
    replica.everyone_has_all()  # and the one look at the quorum after an election is done
    assert replica.now >= START + S.election_ms_max
    assert replica.raft.role is Role.LEADER
    assert replica.raft.next_deadline_ms is None
    assert replica.take().before == ()


def test_a_follower_learns_the_commit_index_without_another_write() -> None:
    replica = Replica().leads()
    replica.step("c", replica.ok(1))
    replica.tick(START + S.commit_notice_ms)
    assert ("b", Append(G, 1, 1, 1, (), 1)) in replica.sent
    assert ("c", Append(G, 1, 1, 1, (), 1)) in replica.sent


def test_pipelining_is_bounded_by_appends_and_by_bytes() -> None:
    replica = Replica(settings=replace(S, inflight_appends_max=3)).leads()
    appends = []
    for _ in range(6):
        replica.raft.propose(b"x")
        appends += [message for peer, message in replica.take().before if peer == "b"]
    assert [len(message.entries) for message in appends if isinstance(message, Append)] == [1, 1, 1]
    effects = replica.step("b", replica.ok(2))
    assert [m.entries[0].index for peer, m in effects.before if peer == "b" and isinstance(m, Append)] == [5]
    narrow = Replica(settings=replace(S, append_bytes_max=10, inflight_bytes_max=20)).leads()
    for _ in range(9):
        narrow.raft.propose(b"12345")
    sent = [m for peer, m in narrow.take().before if peer == "b" and isinstance(m, Append)]
    assert [len(message.entries) for message in sent] == [2, 2]


def test_followers_at_the_same_place_get_the_same_message() -> None:
    replica = Replica().leads()
    replica.step("c", replica.ok(1))
    replica.raft.propose(b"x")
    first, second = (message for _, message in replica.take().before)
    assert first is second


def test_a_silent_live_follower_is_asked_again_with_growing_waits_a_dead_one_never() -> None:
    replica = Replica().leads()
    replica.living = "bc"
    waits = []
    for _ in range(5):
        before = replica.now
        while ("c", Append(G, 1, 0, 0, (), 1)) not in replica.tick().before:
            pass
        waits.append(replica.now - before)
    assert waits[0] <= S.retry_ms
    assert waits[-1] == S.retry_ms_max
    replica.living = "b"
    replica.now += S.election_ms_min
    replica.raft.peer_lost("c", replica.now)
    for _ in range(9):
        if replica.raft.next_deadline_ms is not None:
            assert all(peer != "c" for peer, _ in replica.tick().before)
            replica.step("b", replica.ok(1))
    assert replica.raft.next_deadline_ms is None
    replica.raft.peer_connected("c", replica.now)
    assert replica.take().before[0][0] == "c"


def test_a_new_stream_repeats_what_the_old_one_may_have_lost() -> None:
    replica = Replica().leads()
    replica.raft.propose(b"x")
    replica.take()
    replica.raft.peer_connected("b", replica.now)
    assert ("b", Append(G, 1, 1, 1, (Entry(2, 1, b"x"),), 1)) in replica.take().before


def test_a_leader_goes_back_a_term_at_a_time() -> None:
    replica = Replica(term=5, entries="1114455")
    replica.time_out()
    replica.step("b", Vote(G, 6, True, True))
    replica.step("b", Vote(G, 6, True, False))
    effects = replica.step("b", Appended(G, 6, False, 7, 3, 1, 1))  # it has term 3 at 7
    assert [m.prev_index for peer, m in effects.before if peer == "b" and isinstance(m, Append)] == [3]
    assert replica.step("b", Appended(G, 6, False, 7, 3, 1, 1)).before == ()  # said twice
    replica.step("b", replica.ok(8))
    assert replica.raft.commit_index == 8


def test_a_follower_whose_entries_are_compacted_gets_a_snapshot_and_then_the_log() -> None:
    replica = Replica(term=1, entries="1111").leads()
    replica.raft.compact(4)
    assert replica.step("c", Appended(G, 2, False, 0, 0, 1, 1)).need_snapshot == ("c",)
    replica.raft.propose(b"y")
    assert all(peer != "c" for peer, _ in replica.take().before)
    replica.raft.snapshot_sent("c", 5, 2, replica.now)
    assert ("c", Append(G, 2, 5, 2, (Entry(6, 2, b"y"),), 5)) in replica.take().before


def test_a_refused_snapshot_leads_to_the_question_where_the_follower_is() -> None:
    replica = Replica(term=1, entries="1111").leads()
    replica.living = "bc"
    replica.raft.compact(4)
    assert replica.step("c", Appended(G, 2, False, 0, 0, 1, 1)).need_snapshot == ("c",)
    replica.raft.snapshot_failed("c", replica.now)
    assert all(peer != "c" for peer, _ in replica.take().before)
    while not any(peer == "c" for peer, _ in replica.sent):
        replica.tick()
    assert ("c", Append(G, 2, 5, 2, (), 5)) in replica.sent


def test_a_leader_without_a_quorum_steps_down_and_one_with_it_does_not() -> None:
    for quorum in (True, False):
        replica = Replica().leads()
        replica.acked("b", START)
        replica.step("c", replica.ok(1))
        replica.now += S.election_ms_min
        for peer in "bc":
            replica.raft.peer_lost(peer, replica.now)
        while replica.raft.role is Role.LEADER and replica.raft.next_deadline_ms is not None:
            if quorum:
                replica.acked("b", replica.now)
            replica.tick()
        assert (replica.raft.role is Role.LEADER) == quorum
        assert replica.now <= START + 2 * S.election_ms_max


def test_a_leader_tells_a_voter_that_asks_for_votes_that_it_leads() -> None:
    replica = Replica().leads()
    replica.step("c", replica.ok(1))
    effects = replica.step("c", request(2, 1, 1, pre=True))
    assert effects.before == (("c", Vote(G, 1, False, True)), ("c", Append(G, 1, 1, 1, (), 1)))
    assert replica.step("c", request(2, 1, 1)).hard_state is None
    assert replica.raft.role is Role.LEADER


def test_a_higher_term_in_an_answer_ends_leadership() -> None:
    replica = Replica().leads()
    assert replica.step("c", Appended(G, 9, False, 0, 9, 1, 1)).hard_state == HardState(9, "")
    assert replica.raft.role is Role.FOLLOWER
    assert replica.raft.next_deadline_ms is not None


def test_a_second_leader_of_the_same_term_stops_the_replica() -> None:
    replica = Replica().leads()
    with pytest.raises(ConsensusViolation):
        replica.raft.step("c", Append(G, 1, 0, 0, (), 0), replica.now)

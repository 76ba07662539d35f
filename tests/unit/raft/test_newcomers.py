"""A replica that may have lost its disk: it counts for nothing until its leader admits it."""

from __future__ import annotations

from geodyne.peermessages import Append, Appended, Entry
from node.raft.effects import FORGOTTEN, HardState
from tests.unit.raft.replicas import G, Replica, request


def newcomer(term: int = 0) -> Replica:
    return Replica(term=term, vote=FORGOTTEN)


def test_a_newcomer_neither_votes_nor_stands() -> None:
    replica = newcomer()
    assert replica.raft.next_deadline_ms is None
    assert replica.step("b", request(1, pre=True)).before == ()
    assert replica.step("b", request(1)).after == ()
    assert replica.time_out().before == ()


def test_a_newcomer_follows_says_what_it_is_and_is_one_in_the_next_term_too() -> None:
    replica = newcomer()
    effects = replica.step("b", Append(G, 3, 0, 0, (Entry(1, 3, b""),), 0))
    assert effects.hard_state == HardState(3, FORGOTTEN)
    assert effects.after == (("b", Appended(G, 3, True, 1, 0, 1, 1, newcomer=True)),)


def test_a_newcomer_is_a_member_when_its_leader_tells_this_very_process_so() -> None:
    replica = newcomer()
    replica.follows("b", 3)
    assert replica.step("b", Append(G, 3, 0, 0, (), 0, admits=99)).hard_state is None
    effects = replica.step("b", Append(G, 3, 0, 0, (), 0, admits=1))
    assert effects.hard_state == HardState(3, "")
    assert effects.after == (("b", Appended(G, 3, True, 0, 0, 1, 1)),)


def test_what_a_newcomer_acknowledges_commits_nothing() -> None:
    leader = Replica().leads()
    index = leader.raft.propose(b"x")
    leader.take()
    assert leader.step("c", leader.ok(index)._replace(newcomer=True)).committed_to == index - 1
    assert leader.step("b", leader.ok(index)).committed_to == index


def test_a_leader_admits_a_newcomer_once_an_entry_from_after_its_return_is_committed_without_it() -> None:
    leader = Replica().leads()
    last = leader.raft.log.last_index
    effects = leader.step("c", leader.ok(last)._replace(newcomer=True))
    assert [entry.index for entry in effects.entries] == [last + 1]
    effects = leader.step("c", leader.ok(last + 1)._replace(newcomer=True))
    assert effects.committed_to == last
    effects = leader.step("b", leader.ok(last + 1))
    assert effects.committed_to == last + 1
    assert [message.admits for peer, message in effects.before if peer == "c" and isinstance(message, Append)] == [1]
    leader.step("c", leader.ok(last + 1))
    leader.raft.propose(b"y")
    leader.take()
    assert leader.step("c", leader.ok(last + 2)).committed_to == last + 2

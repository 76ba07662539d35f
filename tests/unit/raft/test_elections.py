"""Scripted scenarios of elections and promises: one rule each, on a replica or a few that are fed by hand."""

from __future__ import annotations

import pytest

from geodyne.peermessages import Append, Entry, Vote
from node.raft.core import Role
from node.raft.effects import FORGOTTEN, HardState
from tests.unit.raft.replicas import START, G, Replica, S, request

# --- elections --------------------------------------------------------------------------------------------


def test_the_preferred_leader_of_a_new_group_campaigns_at_once_and_the_others_wait() -> None:
    assert Replica(rank=0).raft.next_deadline_ms == START
    assert (Replica(rank=1).raft.next_deadline_ms or 0) >= START + S.election_ms_min


def test_a_candidate_asks_first_and_spends_no_term_on_it() -> None:
    replica = Replica()
    effects = replica.tick()
    assert effects.hard_state is None
    assert effects.before == tuple((peer, request(1, pre=True)) for peer in "bc")
    assert replica.raft.role is Role.PRE_CANDIDATE
    assert replica.raft.term == 0


def test_a_vote_for_itself_is_durable_before_votes_are_asked_for() -> None:
    replica = Replica()
    replica.tick()
    effects = replica.step("b", Vote(G, 1, True, True))
    assert effects.hard_state == HardState(1, "a")
    assert effects.before == ()
    assert effects.after == tuple((peer, request(1)) for peer in "bc")


def test_a_vote_is_durable_before_it_is_sent_and_given_once_a_term() -> None:
    replica = Replica(rank=1)
    effects = replica.step("b", request(3))
    assert effects.hard_state == HardState(3, "b")
    assert effects.before == ()
    assert effects.after == (("b", Vote(G, 3, True, False)),)
    assert replica.step("c", request(3)).after == (("c", Vote(G, 3, False, False)),)
    assert replica.step("b", request(3)).after == (("b", Vote(G, 3, True, False)),)


def test_a_vote_survives_a_restart() -> None:
    replica = Replica(term=3, vote="b", fresh=False, rank=1)
    replica.now += S.lease_ms
    assert replica.step("c", request(3)).after == (("c", Vote(G, 3, False, False)),)


@pytest.mark.parametrize(("last", "last_term", "granted"), [(2, 2, True), (1, 3, True), (1, 2, False), (9, 1, False)])
def test_votes_go_only_to_a_log_that_is_as_new(last: int, last_term: int, granted: bool) -> None:
    replica = Replica(term=3, entries="12", rank=1)
    assert replica.step("b", request(4, last, last_term, pre=True)).before[0][1] == Vote(
        G, 4 if granted else 3, granted, True, not granted
    )
    assert replica.step("b", request(4, last, last_term)).after[0][1] == Vote(G, 4, granted, False)


def test_a_leaders_first_act_is_an_empty_entry_of_its_own_term() -> None:
    replica = Replica(term=1, entries="1")
    replica.time_out()
    replica.step("b", Vote(G, 2, True, True))
    effects = replica.step("b", Vote(G, 2, True, False))
    assert effects.entries == (Entry(2, 2, b""),)
    assert effects.before == tuple((peer, Append(G, 2, 1, 1, (Entry(2, 2, b""),), 0)) for peer in "bc")
    assert effects.role_changed


def test_refused_pre_votes_leave_the_term_alone_and_are_asked_again_with_growing_waits() -> None:
    replica = Replica()
    waits = []
    for _ in range(5):
        replica.tick()
        for peer in "bc":
            replica.step(peer, Vote(G, 0, False, True))
        assert (replica.raft.role, replica.raft.term) == (Role.FOLLOWER, 0)
        waits.append((replica.raft.next_deadline_ms or 0) - replica.now)
    assert S.prevote_retry_ms <= waits[0] < 2 * S.prevote_retry_ms
    assert S.election_ms_min <= waits[-1] < 2 * S.election_ms_min


def test_a_higher_term_in_a_refusal_is_adopted() -> None:
    replica = Replica()
    replica.tick()
    assert replica.step("b", Vote(G, 5, False, True)).hard_state == HardState(5, "")


def test_a_learner_never_stands_but_votes_when_it_is_asked() -> None:
    """Who asks may know by a later entry that this learner is a voter; nobody else asks it."""
    learner = Replica(voters=("b", "c"), learners=("a",))
    assert learner.raft.next_deadline_ms is None
    assert learner.step("b", request(1)).after == (("b", Vote(G, 1, True, False)),)
    assert learner.raft.next_deadline_ms is None
    learner.time_out()
    assert learner.raft.role is Role.FOLLOWER
    assert learner.follows("b", 1).after[0][0] == "b"


def test_a_lone_voter_leads_and_commits_by_itself_even_right_after_a_restart() -> None:
    replica = Replica(term=4, entries="4", voters=("a",), fresh=False)
    effects = replica.tick(START)
    assert effects.hard_state == HardState(5, "a")
    assert replica.take().committed_to == 2
    assert replica.raft.ready_to_serve
    assert replica.raft.lease_valid(1 << 50)
    assert replica.raft.next_deadline_ms is None


# --- promises ---------------------------------------------------------------------------------------------


def test_a_restarted_node_grants_no_vote_for_one_lease() -> None:
    replica = Replica(term=1, entries="1", fresh=False, rank=1)
    assert replica.step("b", request(2, 1, 1, pre=True)).before == (("b", Vote(G, 1, False, True, True)),)
    effects = replica.step("b", request(2, 1, 1))
    assert (effects.hard_state, effects.after) == (None, ())
    replica.tick(replica.now + S.lease_ms - 1)
    assert replica.raft.role is Role.FOLLOWER
    replica.now += S.lease_ms
    assert replica.step("b", request(2, 1, 1)).after == (("b", Vote(G, 2, True, False)),)


def test_a_restarted_node_votes_at_once_in_a_group_that_never_had_a_term() -> None:
    assert Replica(fresh=False, rank=1).step("b", request(1)).after == (("b", Vote(G, 1, True, False)),)


def test_who_regards_a_live_peer_as_leader_answers_no_vote_for_another() -> None:
    replica = Replica(rank=1)
    replica.follows("b", 1)
    refusal = ("c", Vote(G, 1, False, True, True))
    assert replica.step("c", request(2, 9, 9, pre=True)).before == (("b", request(1, pre=True)), refusal)
    effects = replica.step("c", request(2, 9, 9))
    assert (effects.hard_state, effects.after) == (None, ())
    assert (replica.raft.term, replica.raft.leader) == (1, "b")
    assert replica.raft.next_deadline_ms is None


def doubting() -> Replica:
    """It follows "b" in term 2, and has asked it whether it leads yet, since "c" asks for pre-votes."""
    replica = Replica(rank=1)
    replica.follows("b", 2)
    assert replica.step("c", request(3, pre=True)).before[0] == ("b", request(2, pre=True))
    return replica


def test_a_leader_is_asked_whether_it_leads_once_an_election_timeout_at_most() -> None:
    replica = doubting()
    replica.heard("b")
    for _ in range(3):
        assert [to for to, _ in replica.step("c", request(3, pre=True)).before] == ["c"]
    replica.now += S.election_ms_min - 1
    replica.heard("b")
    assert [to for to, _ in replica.step("c", request(3, pre=True)).before] == ["c"]
    replica.now += 1
    assert [to for to, _ in replica.step("c", request(3, pre=True)).before] == ["b", "c"]


@pytest.mark.parametrize(
    ("sender", "answer", "ends"),
    [
        ("b", Vote(G, 2, False, True), False),  # it leads
        ("b", Vote(G, 1, False, True, True), False),  # from before it led
        ("b", Vote(G, 3, True, True), False),  # from before it led, too: a granted pre-vote names the term of who asked
        ("c", Vote(G, 2, False, True, True), False),  # nobody's word but its own
        ("b", Vote(G, 2, False, True, True), True),
        ("b", Vote(G, 3, False, True), True),
    ],
)
def test_support_ends_only_with_the_leaders_own_word_that_it_leads_that_term_no_more(
    sender: str, answer: Vote, ends: bool
) -> None:
    replica = doubting()
    replica.step(sender, answer)
    replica.raft.peer_lost("c", replica.now)
    assert (replica.raft.leader == "") == ends
    assert replica.step("c", request(4)).after == ((("c", Vote(G, 4, True, False)),) if ends else ())
    assert replica.liveness.support("b") == (1, 1)  # other groups may rely on it


def test_a_leader_and_a_candidate_do_not_say_that_they_lead_no_more() -> None:
    leader = Replica().leads()
    assert leader.step("c", request(1, pre=True)).before[0] == ("c", Vote(G, 1, False, True))
    candidate = Replica()
    candidate.time_out()
    candidate.step("b", Vote(G, 1, True, True))
    assert candidate.raft.role is Role.CANDIDATE
    assert candidate.step("c", request(1, pre=True)).before[0] == ("c", Vote(G, 1, False, True))


def test_a_newcomer_says_that_it_leads_no_more_to_who_asks_in_a_term_that_is_over_and_nothing_else() -> None:
    newcomer = Replica(term=3, vote=FORGOTTEN, rank=1)
    assert newcomer.step("b", request(3, pre=True)).before == (("b", Vote(G, 3, False, True, True)),)
    assert newcomer.step("b", request(4, pre=True)) == newcomer.take()
    assert newcomer.step("b", request(3)) == newcomer.take()


def test_support_is_withdrawn_before_a_vote_for_another_and_only_once() -> None:
    replica = Replica(rank=1)
    replica.follows("b", 1)
    replica.now += S.election_ms_min
    assert replica.liveness.lost(replica.now) == ["b"]
    replica.raft.peer_lost("b", replica.now)
    assert replica.raft.leader == ""
    assert replica.step("c", request(2, 9, 9)).after == (("c", Vote(G, 2, True, False)),)
    assert replica.liveness.support("b") == (1, 2)
    replica.step("c", request(3, 9, 9))
    assert replica.liveness.support("b") == (1, 2)


def test_a_promise_outlives_the_knowledge_of_who_leads() -> None:
    replica = Replica(rank=1)
    replica.follows("b", 1)
    replica.now += S.election_ms_min
    replica.raft.peer_lost("b", replica.now)
    replica.heard("b")  # it was only slow: its lease may count on this node again
    assert replica.step("c", request(2, 9, 9)).after == ()
    replica.tick()
    assert replica.raft.leader == "b"
    assert replica.raft.next_deadline_ms is None


def test_a_request_from_the_regarded_leader_means_that_it_leads_no_more() -> None:
    replica = Replica(rank=1)
    replica.follows("b", 1)
    assert replica.step("b", request(2, pre=True)).before == (("b", Vote(G, 2, True, True)),)
    assert replica.raft.leader == ""
    assert replica.raft.next_deadline_ms is not None
    assert replica.step("c", request(2)).after == (("c", Vote(G, 2, True, False)),)
    assert replica.liveness.support("b") == (1, 1)  # nothing to withdraw


def test_an_old_request_of_the_regarded_leader_changes_nothing() -> None:
    replica = Replica(rank=1)
    replica.follows("b", 2)
    replica.step("b", request(2, pre=True))
    assert replica.raft.leader == "b"


def test_a_term_that_had_a_leader_gets_no_further_vote() -> None:
    replica = Replica(rank=1)
    replica.follows("b", 2)
    replica.now += S.election_ms_min
    replica.raft.peer_lost("b", replica.now)
    assert replica.step("c", request(2, 9, 9)).after == (("c", Vote(G, 2, False, False)),)
    assert replica.liveness.support("b") == (1, 1)


def test_the_restart_of_the_leaders_node_releases_its_followers_at_once() -> None:
    replica = Replica(rank=1)
    replica.liveness.on_connected("b", 4, START)
    replica.heard("b", 4)
    replica.step("b", Append(G, 1, 0, 0, (), 0))
    replica.liveness.on_connected("b", 5, START)
    replica.raft.peer_restarted("b", START)
    assert replica.raft.leader == ""
    assert START + S.stagger_ms <= (replica.raft.next_deadline_ms or 0) < START + 2 * S.stagger_ms
    assert replica.step("c", request(2)).after == (("c", Vote(G, 2, True, False)),)


def test_a_late_report_of_a_restart_does_not_release_from_the_new_process() -> None:
    replica = Replica(rank=1)
    replica.liveness.on_connected("b", 4, START)
    replica.liveness.on_connected("b", 5, START)
    replica.heard("b", 5)
    replica.step("b", Append(G, 1, 0, 0, (), 0))
    replica.raft.peer_restarted("b", START)
    assert replica.raft.leader == "b"
    assert replica.step("c", request(2)).after == ()


def test_the_loss_of_a_leader_wakes_its_followers_by_rank_with_jitter() -> None:
    for rank in (0, 1, 2):
        replica = Replica(rank=rank)
        replica.follows("b", 1)
        now = START + S.election_ms_min
        replica.raft.peer_lost("b", now)
        wait_ms = (replica.raft.next_deadline_ms or 0) - now
        assert rank * S.stagger_ms <= wait_ms < (rank + 1) * S.stagger_ms


def test_who_grants_a_pre_vote_waits_with_its_own_campaign() -> None:
    replica = Replica(rank=2)
    replica.follows("b", 1)
    replica.now += S.election_ms_min
    replica.raft.peer_lost("b", replica.now)
    effects = replica.step("c", request(2, pre=True))
    assert effects.before == (("c", Vote(G, 2, True, True)),)
    assert (replica.raft.next_deadline_ms or 0) >= replica.now + S.prevote_retry_ms


@pytest.mark.parametrize(("rank", "role"), [(0, Role.PRE_CANDIDATE), (1, Role.FOLLOWER), (2, Role.FOLLOWER)])
def test_of_two_that_ask_at_once_the_less_preferred_gives_way(rank: int, role: Role) -> None:
    """Else each would vote for itself, and of three replicas that lost one none could win."""
    replica = Replica(rank=rank)
    replica.time_out()
    effects = replica.step("b", request(1, pre=True))
    assert effects.before == (("b", Vote(G, 1, True, True)),)
    assert replica.raft.role is role


def test_a_candidate_that_cannot_win_asks_again_as_soon_as_its_rank_allows() -> None:
    replica = Replica()
    replica.tick()
    replica.step("b", Vote(G, 1, True, True))
    assert replica.raft.role is Role.CANDIDATE
    replica.step("b", Vote(G, 1, False, False))
    replica.step("c", Vote(G, 1, False, False))
    assert replica.raft.role is Role.FOLLOWER
    assert replica.now <= (replica.raft.next_deadline_ms or 0) < replica.now + S.stagger_ms

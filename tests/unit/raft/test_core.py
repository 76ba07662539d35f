"""Scripted scenarios: one rule each, on a single replica that is fed by hand."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from geodyne.messages import (
    Append,
    Appended,
    Entry,
    Heartbeat,
    HeartbeatAck,
    RaftMessage,
    TimeoutNow,
    Vote,
    VoteRequest,
)
from node.raft.core import ConsensusViolation, NotLeaderError, Raft, Role
from node.raft.effects import Effects, HardState
from node.raft.liveness import Liveness
from node.raft.log import RaftLog
from node.raft.settings import Settings

S = Settings()
G = 7
START = 10_000


class Replica:
    """Node "a" of a group of "a", "b", "c"; its disk does what it is asked at once unless told otherwise."""

    def __init__(
        self,
        term: int = 0,
        entries: str = "",
        fresh: bool = True,
        voters: tuple[str, ...] = ("a", "b", "c"),
        learners: tuple[str, ...] = (),
        rank: int = 0,
        vote: str = "",
        settings: Settings = S,
    ) -> None:
        self.now = START
        peers = [peer for peer in (*voters, *learners) if peer != "a"]
        self.liveness = Liveness(settings, peers, 1, START, fresh)
        log = RaftLog(0, 0, [Entry(n, int(t), b"") for n, t in enumerate(entries, 1)])
        seeded = random.Random(1)
        hard_state = HardState(term, vote)
        self.raft = Raft(
            "a", G, voters, learners, rank, hard_state, log, 0, self.liveness, settings, seeded, START
        )  # fmt: skip
        self.sent: list[tuple[str, RaftMessage]] = []
        self.living = ""  # peers that are heard and acknowledge whenever time passes

    def take(self, durable: bool = True) -> Effects:
        effects = self.raft.take_effects()
        self.raft.check_invariants()
        if durable and effects.entries:
            self.raft.persisted(effects.entries[-1].index, effects.entries[-1].term)
        self.sent = [*effects.before, *effects.after]
        return effects

    def step(self, sender: str, message: RaftMessage, durable: bool = True) -> Effects:
        self.raft.step(sender, message, self.now)
        return self.take(durable)

    def tick(self, now: int | None = None) -> Effects:
        deadline = self.raft.next_deadline_ms
        assert now is not None or deadline is not None
        self.now = now if now is not None else deadline or 0
        for peer in self.living:
            self.heard(peer)
            self.acked(peer, self.now)
        self.raft.tick(self.now)
        return self.take()

    def heard(self, peer: str, incarnation: int = 1) -> None:
        self.liveness.on_heartbeat(peer, Heartbeat(incarnation, 1), self.now)

    def acked(self, peer: str, sent_ms: int, epoch: int = 1) -> None:
        self.liveness.on_heartbeat_ack(peer, HeartbeatAck(1, sent_ms, epoch), self.now)

    def follows(self, leader: str, term: int, last: int = 0, last_term: int = 0) -> Effects:
        self.heard(leader)
        return self.step(leader, Append(G, term, last, last_term, (), 0))

    def leads(self) -> Replica:
        """Win an election with b's votes and commit the first entry with b."""
        for peer in self.raft.voters:
            if peer != "a":
                self.heard(peer)
        self.raft.campaign_now(self.now)
        self.take()
        self.step("b", Vote(G, self.raft.term + 1, True, True))
        self.step("b", Vote(G, self.raft.term, True, False))
        assert self.raft.role is Role.LEADER
        self.step("b", self.ok(self.raft.log.last_index))
        assert self.raft.ready_to_serve
        return self

    def ok(self, match: int, epoch: int = 1, term: int | None = None) -> Appended:
        return Appended(G, self.raft.term if term is None else term, True, match, 0, 1, epoch)

    def everyone_has_all(self) -> None:
        """Answer whatever is in flight until nothing is."""
        for _ in range(8):
            for peer in self.raft.voters[1:] + self.raft.learners:
                self.step(peer, self.ok(self.raft.log.last_index))
            if self.raft.next_deadline_ms is not None:
                self.tick()


def request(term: int, last: int = 0, last_term: int = 0, pre: bool = False, transfer: bool = False) -> VoteRequest:
    return VoteRequest(G, term, last, last_term, pre, transfer)


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
        G, 4 if granted else 3, granted, True
    )
    assert replica.step("b", request(4, last, last_term)).after[0][1] == Vote(G, 4, granted, False)


def test_a_leaders_first_act_is_an_empty_entry_of_its_own_term() -> None:
    replica = Replica(term=1, entries="1")
    replica.raft.campaign_now(START)
    replica.take()
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


def test_learners_never_vote_or_campaign() -> None:
    learner = Replica(voters=("b", "c"), learners=("a",), rank=2)
    assert learner.raft.next_deadline_ms is None
    assert learner.step("b", request(1)).after == ()
    learner.raft.campaign_now(START)
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
    assert replica.step("b", request(2, 1, 1, pre=True)).before == (("b", Vote(G, 1, False, True)),)
    effects = replica.step("b", request(2, 1, 1))
    assert (effects.hard_state, effects.after) == (None, ())
    replica.raft.campaign_now(replica.now)
    assert replica.raft.role is Role.FOLLOWER
    replica.now += S.lease_ms
    assert replica.step("b", request(2, 1, 1)).after == (("b", Vote(G, 2, True, False)),)


def test_a_restarted_node_votes_at_once_in_a_group_that_never_had_a_term() -> None:
    assert Replica(fresh=False, rank=1).step("b", request(1)).after == (("b", Vote(G, 1, True, False)),)


def test_who_regards_a_live_peer_as_leader_answers_no_vote_for_another() -> None:
    replica = Replica(rank=1)
    replica.follows("b", 1)
    assert replica.step("c", request(2, 9, 9, pre=True)).before == (("c", Vote(G, 1, False, True)),)
    effects = replica.step("c", request(2, 9, 9))
    assert (effects.hard_state, effects.after) == (None, ())
    assert (replica.raft.term, replica.raft.leader) == (1, "b")
    assert replica.raft.next_deadline_ms is None


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


def test_entries_of_earlier_terms_commit_only_with_one_of_the_own_term() -> None:
    replica = Replica(term=2, entries="12")
    replica.raft.campaign_now(START)
    replica.take()
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
    replica.raft.campaign_now(START)
    replica.take()
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
    assert replica.raft.install_snapshot(9, 2)
    assert (replica.raft.log.first_index, replica.raft.log.last_index, replica.raft.commit_index) == (10, 9, 9)
    assert not replica.raft.snapshot_offered("b", 2, 9, START)
    assert not replica.raft.snapshot_offered("b", 1, 99, START)


def test_a_snapshot_leaves_a_log_that_goes_through_it_alone() -> None:
    replica = Replica(term=1, entries="1", rank=1)
    replica.step("b", Append(G, 1, 1, 1, (Entry(2, 1, b""), Entry(3, 1, b"")), 0), durable=False)
    assert not replica.raft.install_snapshot(2, 1)
    assert (replica.raft.log.last_index, replica.raft.commit_index) == (3, 2)
    replica.raft.persisted(3, 1)  # the answer that promised it was already waiting
    assert replica.raft.log.persisted_index == 3


def test_parts_that_contradict_each_other_are_refused_at_the_start() -> None:
    with pytest.raises(ValueError):
        Replica(term=1, entries="2")
    log, liveness = RaftLog(5, 1), Liveness(S, ["b"], 1, START, True)
    with pytest.raises(ValueError):
        Raft("a", G, ("a", "b"), (), 0, HardState(1, ""), log, 4, liveness, S, random.Random(1), START)


def test_a_thousand_quiet_groups_ask_for_no_tick() -> None:
    liveness = Liveness(S, ["b", "c"], 1, START, True)
    liveness.on_heartbeat("b", Heartbeat(1, 1), START)
    groups = [
        Raft("a", group, ("b", "a", "c"), (), 1, HardState(0, ""), RaftLog(), 0, liveness, S, random.Random(1), START)
        for group in range(1000)
    ]
    for raft in groups:
        raft.step("b", Append(raft.group, 1, 0, 0, (), 0), START)
        raft.take_effects()
    assert [raft for raft in groups if raft.next_deadline_ms is not None] == []

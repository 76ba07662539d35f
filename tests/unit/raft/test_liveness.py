"""Heartbeats, promises, support epochs and incarnations of one pair of nodes."""

from __future__ import annotations

from geodyne.peermessages import Heartbeat, HeartbeatAck
from node.raft.liveness import NEVER_MS, Liveness
from node.raft.settings import Settings

S = Settings()


def made(now_ms: int = 1000) -> Liveness:
    return Liveness(S, ["p"], 5, now_ms)


def test_a_heartbeat_is_due_at_once_then_once_an_interval_and_on_a_new_stream() -> None:
    live = made()
    assert live.heartbeat_due(1000)
    assert live.heartbeat(1000) == Heartbeat(5, 1000)
    assert not live.heartbeat_due(1000 + S.heartbeat_ms - 1)
    assert live.heartbeat_due(1000 + S.heartbeat_ms)
    live.heartbeat(1150)
    live.on_connected("p", 1, 1160)
    assert live.heartbeat_due(1160)


def test_the_acknowledgement_returns_the_send_time_and_the_present_support() -> None:
    live = made()
    assert live.on_heartbeat("p", Heartbeat(1, 77), 1010) == HeartbeatAck(5, 77, 1)
    live.withdraw("p")
    assert live.on_heartbeat("p", Heartbeat(1, 78), 1020) == HeartbeatAck(5, 78, 2)
    assert live.support("p") == (5, 2)


def test_a_peer_is_lost_once_after_silence_and_renewed_once_when_heard() -> None:
    live = made()
    assert not live.alive("p", 1000)
    live.on_heartbeat("p", Heartbeat(1, 1), 1000)
    assert live.renewed() == ["p"]
    assert live.renewed() == []
    assert live.lost(1000 + S.election_ms_min - 1) == []
    assert live.lost(1000 + S.election_ms_min) == ["p"]
    assert live.lost(9000) == []
    live.on_heartbeat("p", Heartbeat(1, 2), 9500)
    assert live.renewed() == ["p"]


def test_a_peer_that_is_heard_but_does_not_acknowledge_is_reported_but_stays_alive() -> None:
    live = made()
    live.on_heartbeat_ack("p", HeartbeatAck(3, 1000, 1), 1001)
    live.on_heartbeat("p", Heartbeat(3, 1), 1800)
    assert live.lost(1000 + S.election_ms_min) == ["p"]
    assert live.alive("p", 1000 + S.election_ms_min)


def test_a_reset_connection_shortens_detection_but_never_a_promise() -> None:
    live = made()
    live.on_heartbeat("p", Heartbeat(1, 1), 1000)
    live.on_disconnected("p", 1010)
    assert live.alive("p", 1000 + S.lease_ms - 1)
    assert not live.alive("p", 1000 + S.lease_ms)
    live.on_heartbeat("p", Heartbeat(1, 2), 2000)
    live.on_disconnected("p", 2000 + S.lease_ms - 20)
    assert live.alive("p", 2000 + S.lease_ms - 20 + S.disconnect_grace_ms - 1)
    assert not live.alive("p", 2000 + S.lease_ms - 20 + S.disconnect_grace_ms)


def test_an_acknowledgement_counts_only_under_the_pair_that_the_newest_one_shows() -> None:
    live = made()
    live.on_heartbeat_ack("p", HeartbeatAck(3, 1005, 1), 1010)
    assert live.acked_ms("p", 3, 1) == 1005
    live.on_heartbeat_ack("p", HeartbeatAck(3, 1020, 2), 1030)
    assert live.acked_ms("p", 3, 1) == NEVER_MS
    assert live.acked_ms("p", 3, 2) == 1020
    live.on_heartbeat_ack("p", HeartbeatAck(3, 1010, 1), 1040)  # late: neither time nor pair go back
    assert live.acked_ms("p", 3, 2) == 1020
    assert live.acked_ms("stranger", 3, 2) == NEVER_MS


def test_an_acknowledgement_that_comes_too_late_to_count_is_no_news_of_the_peer() -> None:
    live = made()
    live.on_heartbeat_ack("p", HeartbeatAck(3, 1005, 1), 1010)
    assert live.renewed() == ["p"]
    late = 1020 + S.election_ms_min
    assert live.lost(late) == ["p"]
    live.on_heartbeat_ack("p", HeartbeatAck(3, 1020, 1), late)
    assert (live.renewed(), live.lost(late)) == ([], [])
    live.on_heartbeat_ack("p", HeartbeatAck(3, late, 1), late + 1)
    assert (live.renewed(), live.lost(late + 1)) == (["p"], [])


def test_acknowledgements_with_times_that_this_process_never_sent_are_ignored() -> None:
    live = made()
    live.on_heartbeat_ack("p", HeartbeatAck(3, 999, 1), 1010)  # of the process before
    live.on_heartbeat_ack("p", HeartbeatAck(3, 1011, 1), 1010)
    assert live.acked_pair("p") == (0, 0)


def test_a_node_grants_no_vote_for_one_lease_after_its_start() -> None:
    restarted = made()
    assert not restarted.may_vote(1000 + S.lease_ms - 1)
    assert restarted.may_vote(1000 + S.lease_ms)


def test_a_new_incarnation_ends_promises_to_the_old_and_silences_it() -> None:
    live = made()
    live.on_connected("p", 7, 1000)
    live.on_heartbeat("p", Heartbeat(7, 1), 1000)
    assert live.restarted() == []
    live.on_connected("p", 8, 1010)
    assert live.restarted() == ["p"]
    assert live.restarted() == []
    assert not live.alive("p", 1011)
    assert live.on_heartbeat("p", Heartbeat(7, 2), 1012) is None
    assert live.on_heartbeat("p", Heartbeat(8, 3), 1013) == HeartbeatAck(5, 3, 1)


def test_the_next_loss_is_told_before_it_happens() -> None:
    liveness = Liveness(Settings(), ["b"], 1, 1_000)
    assert liveness.next_loss_ms() is None
    liveness.on_heartbeat("b", Heartbeat(1, 5), 1_100)
    due_ms = liveness.next_loss_ms()
    assert due_ms == 1_100 + Settings().election_ms_min
    assert liveness.lost(due_ms - 1) == []
    assert liveness.lost(due_ms) == ["b"]
    assert liveness.next_loss_ms() is None

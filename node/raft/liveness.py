"""Who is alive, kept once for each pair of nodes and used by all groups: the ground that leases stand on.

Why a lease is safe. Let node M acknowledge a heartbeat of P, sent at s on P's clock and received at r on M's, under
(M's incarnation, M's support epoch for P). From then on:

1. M counts P as alive at least until r + lease_ms, and while it does, M votes against P's leadership in no group in
   which it confirmed P's term (core.Raft). P itself relies on M only until s + lease_ms - clock_drift_ms.
2. Before M votes for another it withdraws: its support epoch for P grows. P counts M only for groups whose term M
   confirmed under the very pair that M's newest acknowledgement shows, so those confirmations never count again.
3. M restarted has forgotten what it promised, so it votes for nobody until lease_ms after its start; its
   new incarnation voids the confirmations that the old one gave.

Any election quorum shares a voter with the lease's quorum, so no new leader exists before the lease is over. The one
exception to 1 and 2 is a P that says itself that it leads that term no more: then there is no lease to be broken. What
counts as such a word, and why it is true whenever it arrives, is written in `support`.

That sentence holds while members change, too. Let P lead in term T, and let U be the next term that has a leader.
P reckons its lease by the configuration C that is the last in its log; the other one was elected by the last one, D, in
its own.

4. P has committed an entry of its own term (`Raft.ready_to_serve`) before it is asked for a lease, and with it what it
   found in its log; and if it proposed C itself, it did so only when the one before, B, was committed. So the leader of
   U has, as every later leader has, all that P has committed, which ends in a configuration B or C; and since no other
   leader was between, whatever more it has is P's own. So D is B or C.
5. B and C are the same or follow one another, and of two that follow one another, one is joint and the other one of its
   halves, or their voters are the same (`change.next_step`). A quorum of a joint configuration has a majority of each
   half. So a quorum of C shares a voter with one of D, and the lease's quorum is one of C: what was found out
   by an earlier configuration is thrown away with it (`Leadership.reconfigured`).
6. A node that restarts as its group's only voter waits for one lease as the others do, unless the group never had
   another configuration: it may have acknowledged heartbeats of a leader before it was alone
   (`Raft._may_have_promised`).
7. A replica that is destroyed and made again, in the same process even, has forgotten what it promised. It is made as a
   newcomer, which neither votes nor counts until it is admitted (core), and a leader that has added it takes no word
   for its own that the one before may have given (`Progress.standing`). The support epochs are the node's, and stay.
"""

from __future__ import annotations

from collections.abc import Iterable

from geodyne.peermessages import Heartbeat, HeartbeatAck
from node.raft.settings import Settings

NEVER_MS = -(1 << 62)  # earlier than any time


class _Peer:
    """Both directions of one pair, as this node knows them."""

    __slots__ = (
        "acked",
        "acked_sent_at_ms",
        "acking",
        "hearing",
        "incarnation",
        "lost_at_ms",
        "promised_until_ms",
        "support_epoch",
    )

    def __init__(self) -> None:
        self.incarnation = 0  # the newest seen of the peer; 0: none yet
        self.support_epoch = 1  # ours for the peer
        self.promised_until_ms = NEVER_MS  # no vote against it before
        self.lost_at_ms = NEVER_MS  # it is alive until then
        self.hearing = False  # False once reported lost
        self.acked = (0, 0)  # (incarnation, support epoch) of its newest acknowledgement
        self.acked_sent_at_ms = NEVER_MS
        self.acking = False


class Liveness:
    """The liveness of all peers of one node. Pure: every time is an argument, on this node's lease clock.

    `now_ms` of a received message must be read from the clock after the message was received, and `incarnation`
    must be larger at each start of a node. A node that stops driving one of its groups must not go on sending
    heartbeats under the same incarnation: the others would take that group's leader for alive.
    """

    def __init__(self, settings: Settings, peers: Iterable[str], incarnation: int, started_ms: int) -> None:
        if incarnation <= 0:
            raise ValueError("an incarnation is a positive number")
        self.settings = settings
        self.incarnation = incarnation
        self.started_ms = started_ms
        self.votes_from_ms = started_ms + settings.lease_ms
        self.reluctance_ms = 0  # so much longer than others this node waits before it asks for votes (node.clocks)
        self.now_ms = started_ms  # the latest time that any call brought
        self._peers = {peer: _Peer() for peer in peers}
        self._heartbeat_due_ms = started_ms
        self._restarted: list[str] = []
        self._renewed: list[str] = []

    # --- sending ------------------------------------------------------------------------------------------

    def heartbeat_due(self, now_ms: int) -> bool:
        return now_ms >= self._heartbeat_due_ms

    def heartbeat(self, now_ms: int) -> Heartbeat:
        """The heartbeat to send to every connected peer now."""
        self._advance(now_ms)
        self._heartbeat_due_ms = now_ms + self.settings.heartbeat_ms
        return Heartbeat(self.incarnation, now_ms)

    # --- receiving ----------------------------------------------------------------------------------------

    def on_connected(self, peer: str, incarnation: int, now_ms: int) -> None:
        """A stream's Hello. Must come before any message of that stream is stepped: what a group confirms to a
        leader is tied to the incarnation known here. Makes a heartbeat due."""
        self._advance(now_ms)
        self._saw_incarnation(peer, self._peer(peer), incarnation)
        self._heartbeat_due_ms = min(self._heartbeat_due_ms, now_ms)

    def on_heartbeat(self, peer: str, heartbeat: Heartbeat, now_ms: int) -> HeartbeatAck | None:
        """The acknowledgement to send back; None when the heartbeat is of a process that has been replaced."""
        self._advance(now_ms)
        state = self._peer(peer)
        if not self._saw_incarnation(peer, state, heartbeat.incarnation):
            return None
        state.promised_until_ms = max(state.promised_until_ms, now_ms + self.settings.lease_ms)
        state.lost_at_ms = max(state.lost_at_ms, now_ms + self.settings.election_ms_min)
        if not state.hearing:
            state.hearing = True
            self._renew(peer)
        return HeartbeatAck(self.incarnation, heartbeat.sent_at_ms, state.support_epoch)

    def on_heartbeat_ack(self, peer: str, ack: HeartbeatAck, now_ms: int) -> None:
        self._advance(now_ms)
        state = self._peer(peer)
        # An acknowledgement of another process's heartbeat would carry a time that this one never sent.
        if not (self.started_ms <= ack.sent_at_ms <= now_ms) or ack.sent_at_ms < state.acked_sent_at_ms:
            return
        pair = (ack.incarnation, ack.support_epoch)
        if pair < state.acked:
            return
        # One that comes too late to count is no sign of life: on a node that lags, each would be news of a peer
        # that is back, and at once of the same peer lost.
        acking = state.acking or now_ms < ack.sent_at_ms + self.settings.election_ms_min
        if pair != state.acked or acking != state.acking:
            state.acked = pair
            state.acking = acking
            self._renew(peer)
        state.acked_sent_at_ms = ack.sent_at_ms

    def on_disconnected(self, peer: str, now_ms: int) -> None:
        """The connection was reset: the peer counts as lost after a short grace, but never before what it was
        promised is over."""
        self._advance(now_ms)
        state = self._peer(peer)
        soon = max(state.promised_until_ms, now_ms + self.settings.disconnect_grace_ms)
        state.lost_at_ms = min(state.lost_at_ms, soon)

    # --- what changed, for the shell to pass on to its groups ---------------------------------------------

    def lost(self, now_ms: int) -> list[str]:
        """Peers that since the last call stopped being heard or stopped acknowledging: call `Raft.peer_lost` on
        every group."""
        self._advance(now_ms)
        lost = []
        for peer, state in self._peers.items():
            silent = state.hearing and now_ms >= state.lost_at_ms
            unheard = state.acking and now_ms >= state.acked_sent_at_ms + self.settings.election_ms_min
            if silent:
                state.hearing = False
            if unheard:
                state.acking = False
            if silent or unheard:
                lost.append(peer)
        return lost

    def next_loss_ms(self) -> int | None:
        """When `lost` will name a peer, if nothing more is heard of it; None: never."""
        silent = [state.lost_at_ms for state in self._peers.values() if state.hearing]
        patience_ms = self.settings.election_ms_min
        unheard = [state.acked_sent_at_ms + patience_ms for state in self._peers.values() if state.acking]
        return min(silent + unheard, default=None)

    def restarted(self) -> list[str]:
        """Peers seen with a new incarnation since the last call: call `Raft.peer_restarted` on every group."""
        peers, self._restarted = self._restarted, []
        return peers

    def renewed(self) -> list[str]:
        """Peers heard of again, or that acknowledge under a new pair, since the last call: call
        `Raft.peer_renewed` on every group that this node leads."""
        peers, self._renewed = self._renewed, []
        return peers

    # --- questions of the groups --------------------------------------------------------------------------

    def alive(self, peer: str, now_ms: int) -> bool:
        """True until the peer has been silent for too long. False only when nothing promised to it is left."""
        state = self._peers.get(peer)
        return state is not None and now_ms < state.lost_at_ms

    def peer_incarnation(self, peer: str) -> int:
        """The newest incarnation seen of the peer, 0 when none was."""
        state = self._peers.get(peer)
        return 0 if state is None else state.incarnation

    def may_vote(self, now_ms: int) -> bool:
        """False for one lease after a restart: an earlier process may have promised not to."""
        return now_ms >= self.votes_from_ms

    def support(self, peer: str) -> tuple[int, int]:
        """(own incarnation, own support epoch for `peer`), as the next acknowledgement to it carries them."""
        return (self.incarnation, self._peer(peer).support_epoch)

    def withdraw(self, peer: str) -> None:
        """Void every confirmation given to `peer`. Only when nothing promised to it is left, or it gave up itself."""
        self._peer(peer).support_epoch += 1

    def acked_pair(self, peer: str) -> tuple[int, int]:
        """(incarnation, support epoch) of the peer's newest acknowledgement, (0, 0) when there is none."""
        return self._peer(peer).acked

    def acked_ms(self, peer: str, incarnation: int, support_epoch: int) -> int:
        """Send time of our newest heartbeat that the peer acknowledged; NEVER_MS if it did so under another pair."""
        state = self._peers.get(peer)
        if state is None or state.acked != (incarnation, support_epoch):
            return NEVER_MS
        return state.acked_sent_at_ms

    # --- inside -------------------------------------------------------------------------------------------

    def _advance(self, now_ms: int) -> None:
        self.now_ms = max(self.now_ms, now_ms)

    def _peer(self, peer: str) -> _Peer:
        state = self._peers.get(peer)
        if state is None:
            state = self._peers[peer] = _Peer()  # bounded by the region's members: streams are opened to them only
        return state

    def _renew(self, peer: str) -> None:
        if peer not in self._renewed:
            self._renewed.append(peer)

    def _saw_incarnation(self, peer: str, state: _Peer, incarnation: int) -> bool:
        """False when the incarnation is older than one already seen."""
        if incarnation < state.incarnation:
            return False
        if incarnation > state.incarnation:
            if state.incarnation and peer not in self._restarted:
                self._restarted.append(peer)
            state.incarnation = incarnation
            # The process that was promised something is dead: nobody is left who could rely on it.
            state.promised_until_ms = state.lost_at_ms = NEVER_MS
            state.hearing = False
        return True

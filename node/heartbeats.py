"""The node's heartbeats, for all its groups: sent, answered, and missed (node/raft/liveness.py has the rules)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from geodyne.peermessages import Heartbeat, HeartbeatAck
from node.raft.core import Raft
from node.raft.settings import Settings

if TYPE_CHECKING:
    from node.service import NodeService

logger = logging.getLogger("geodyne.node")


class Heartbeats:
    """Of one node with each of its peers."""

    def __init__(self, service: NodeService, settings: Settings, peers: Sequence[str]) -> None:
        self._service = service
        self._settings = settings
        self.set_peers(peers)
        self._held_acks: dict[str, tuple[HeartbeatAck, int]] = {}  # since when, by the lease clock
        self._heard_ms: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loss_timer: asyncio.TimerHandle | None = None
        self._closed = False

    def set_peers(self, peers: Sequence[str]) -> None:
        """The other nodes of the region."""
        self.peers = tuple(peers)
        self._paced = frozenset(p for p in peers if self._service.node_id < p)  # whose heartbeats we set the pace of

    def close(self) -> None:
        self._closed = True
        for timer in (self._timer, self._loss_timer):
            if timer is not None:
                timer.cancel()

    # --- what arrives ------------------------------------------------------------------------------------

    def on_heartbeat(self, peer: str, message: Heartbeat, now_ms: int) -> None:
        """Of each pair of nodes the smaller id sets the pace: the other answers with its acknowledgement and its own
        heartbeat at once, whose acknowledgement travels with the next beat. Two messages a beat instead of four: an
        idle cluster does little else. A lease is counted from the send time, so a late acknowledgement is safe."""
        service = self._service
        ack = service.liveness.on_heartbeat(peer, message, now_ms)
        self._heard_ms[peer] = now_ms
        if ack is not None:
            if peer in self._paced:
                self._held_acks[peer] = ack, now_ms
            else:
                service.network.send(peer, ack._replace(wall_us=service.clock.wall_us()))
                service.network.send(peer, service.liveness.heartbeat(now_ms))
        self.pass_on(now_ms)

    def on_ack(self, peer: str, message: HeartbeatAck, now_ms: int) -> None:
        service = self._service
        service.liveness.on_heartbeat_ack(peer, message, now_ms)
        if message.incarnation == service.liveness.peer_incarnation(peer):
            service.clocks.heard(peer, message.sent_at_ms, message.held_ms, message.wall_us, now_ms)
        self.pass_on(now_ms)

    def on_disconnected(self, peer: str, now_ms: int) -> None:
        """The stream is over; its end may be noticed long before the silence would be."""
        self._held_acks.pop(peer, None)
        self._service.liveness.on_disconnected(peer, now_ms)
        self._expect_loss(now_ms)

    # --- what is sent ------------------------------------------------------------------------------------

    def beat(self) -> None:
        """Every heartbeat interval: tell the peers, notice the silent, expire long polls. Needs a running loop."""
        if self._closed:
            return
        service, heartbeat_ms = self._service, self._settings.heartbeat_ms
        now_ms = service.now_ms()
        if self.peers:
            heard, silence_ms = self._heard_ms, 2 * heartbeat_ms
            self.send(now_ms, [p for p in self.peers if p in self._paced or now_ms - heard.get(p, 0) >= silence_ms])
            self.pass_on(now_ms)
            self._expect_loss(now_ms)
            service.look_at_touched()
        if len(service.waits):
            service.waits.expire(now_ms)
        self._timer = asyncio.get_running_loop().call_later(heartbeat_ms / 1000, self.beat)

    def send(self, now_ms: int, peers: Sequence[str]) -> None:
        """A heartbeat to these, with the acknowledgements that waited for one."""
        send = self._service.network.send
        heartbeat = self._service.liveness.heartbeat(now_ms)
        for peer in peers:
            held = self._held_acks.pop(peer, None)
            if held is not None:
                ack, since_ms = held
                send(peer, ack._replace(wall_us=self._service.clock.wall_us(), held_ms=max(0, now_ms - since_ms)))
            send(peer, heartbeat)

    # --- what follows ------------------------------------------------------------------------------------

    def pass_on(self, now_ms: int) -> None:
        """Tell the groups which peers were lost, came back or restarted."""
        liveness, tell_groups = self._service.liveness, self._service.tell_groups
        for peer in liveness.lost(now_ms):
            logger.warning("peer lost", extra={"peer": peer})
            tell_groups(Raft.peer_lost, peer, now_ms)
        for peer in liveness.restarted():
            tell_groups(Raft.peer_restarted, peer, now_ms)
        for peer in liveness.renewed():
            tell_groups(Raft.peer_renewed, peer, now_ms)

    def _expect_loss(self, now_ms: int) -> None:
        """Notice at the very time that a peer is lost, not at the next beat: so do the others, and the replicas of its
        groups are woken by rank."""
        due_ms = self._service.liveness.next_loss_ms()
        if self._closed or due_ms is None or due_ms - now_ms >= self._settings.heartbeat_ms:
            return
        if self._loss_timer is not None:
            self._loss_timer.cancel()
        wait_s = (max(0, due_ms - now_ms) + 1) / 1000
        self._loss_timer = asyncio.get_running_loop().call_later(wait_s, self._notice_loss)

    def _notice_loss(self) -> None:
        self._loss_timer = None
        now_ms = self._service.now_ms()
        self.pass_on(now_ms)
        self._expect_loss(now_ms)
        self._service.look_at_touched()

"""Giving leadership away: all of it before an orderly stop, and what another node should rather have, now and then.

Leaders are spread over the zones by each partition's order of voters (`geodyne.catalog.PartitionRecord`); a node that
was away leads nothing when it comes back, until those that took over hand its partitions to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from node.group import Group
    from node.service import NodeService

SETTLED_MS = 2_000  # a peer that was connected for this long is connected to the routers too
STEADY_MS = 10_000  # a peer must have been connected for this long to be handed anything: it may come and go
BALANCED_AT_ONCE_MAX = 8  # groups in one step: each holds up its clients for about a round trip


class HandOver:
    """Transfers of leadership that one node starts."""

    def __init__(self, service: NodeService, peers: Sequence[str]) -> None:
        self._service = service
        self._peers = tuple(peers)
        self._connected_since_ms: dict[str, int] = {}

    def members_changed(self, peers: Sequence[str]) -> None:
        """There are other nodes in the region."""
        self._peers = tuple(peers)

    def offer_all(self, *, right_clocks_only: bool = False) -> list[Group]:
        """Offer every group that this node leads to a connected voter: to one that has everything if there is one, and
        of those to one whose clock is right and that has been up for a while. Returns the groups that are on their
        way."""
        service, now_ms = self._service, self._service.now_ms()
        led = [group for group in service.groups if group.leading]
        for group in led:
            if group.handing_over:
                continue
            peers = [peer for peer in group.raft.voters if service.network.connected(peer)]
            unfit = service.clocks.unfit(peers)
            if right_clocks_only:
                peers = [peer for peer in peers if peer not in unfit]
            ready = {
                peer: (group.raft.can_take_over(peer, now_ms), peer not in unfit, self._settled(peer, now_ms))
                for peer in peers
            }
            any(self._offer(group, peer, now_ms) for peer in sorted(peers, key=ready.__getitem__, reverse=True))
        service.leads_changed()
        return [group for group in led if group.handing_over]

    def balance(self) -> int:
        """Give some groups back to voters that come before this node in their order. Returns how many."""
        service, now_ms = self._service, self._service.now_ms()
        connected = [peer for peer in self._peers if service.network.connected(peer)]
        since = {peer: self._connected_since_ms.get(peer, now_ms) for peer in connected}
        self._connected_since_ms = since
        if not any(now_ms - at_ms >= STEADY_MS for at_ms in since.values()):
            return 0
        count = 0
        for group in service.groups:
            if not group.serving:
                continue
            peer = group.raft.should_transfer_to(now_ms)
            if peer and service.healing.unsound(group.partition, peer):
                continue  # it would give leadership back at once
            if peer and service.clocks.watch.peer_off(peer):
                continue
            if peer and service.membership.leaving(group.partition, peer):
                continue
            if peer and now_ms - since.get(peer, now_ms) >= STEADY_MS and self._offer(group, peer, now_ms):
                count += 1
                if count >= BALANCED_AT_ONCE_MAX:
                    break
        if count:
            service.leads_changed()
        return count

    def _settled(self, peer: str, now_ms: int) -> bool:
        return now_ms - self._connected_since_ms.get(peer, now_ms) >= SETTLED_MS

    def _offer(self, group: Group, peer: str, now_ms: int) -> bool:
        given = group.hand_over(peer, now_ms)
        if given:
            self._service.touch(group)
        return given

"""A replica whose state is damaged: it stops serving, gives leadership away and takes the whole state from the leader.

Its log is not in doubt - the log has checksums of its own - so it goes on to vote and to acknowledge what it has
fsynced. Until a snapshot has replaced its state it applies nothing and answers nothing from it.

A replica that nobody can heal goes on, and refuses only what is damaged: a lone node, and a leader whose every other
voter is damaged as well.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from geodyne.messages import Answer, NotLeader, Refused
from geodyne.peermessages import SnapshotWanted
from node.storage.port import GroupDamaged
from node.storage.sqlite import StateStore

if TYPE_CHECKING:
    from node.applying import AppliedBatch
    from node.group import Group
    from node.service import NodeService

logger = logging.getLogger("geodyne.node.storage")

UNSOUND_MS = 10_000  # a peer that asked for a snapshot within this time has no sound state to offer
TOLD_AGAIN_MS = 60_000  # damage that cannot be healed is logged once in this time, for each partition
HAND_OVER_MS_MAX = 1_000  # then a damaged leader steps down without a successor

_REFUSED = Refused("InternalServerError", "Internal server error")


class Healing:
    """The damaged replicas of one node, and those of its peers that it knows of."""

    def __init__(self, service: NodeService, store: StateStore) -> None:
        self._service = service
        self._unsound: dict[tuple[int, str], int] = {}  # when a peer last asked, by partition and peer
        self._told_ms: dict[int, int] = {}
        self._leading_since_ms: dict[int, int] = {}  # damaged leaders that look for a successor
        store.damage_found = self.found

    # --- damage ------------------------------------------------------------------------------------------

    def found(self, partition: int, what: str) -> None:
        """Something of this group's state is not as it was written. May come in the middle of a turn: nothing is read
        or proposed here."""
        self._service.metrics.damage.inc()
        group = self._service.groups.get(partition)
        if group is None or group.damaged:
            return
        if not self._healable(group):
            self._tell(partition, what)
            return
        logger.error("replica damaged; healing", extra={"partition": partition, "what": what})
        group.distrust(what)
        asyncio.get_running_loop().call_soon(self.step)

    def answer(self, error: GroupDamaged) -> Answer:
        """For a call that met damage and had no effect."""
        group = self._service.groups.get(error.partition)
        if group is not None and group.damaged:
            return NotLeader(error.partition, "")  # the caller comes back, and finds another leader
        return _REFUSED

    def without(self, batches: list[tuple[Group, AppliedBatch]], partition: int) -> list[tuple[Group, AppliedBatch]]:
        """The batches that can be applied although what one of them replaces is damaged. Where nobody heals, all
        entries of local indexes are made anew instead of following from the damaged row."""
        kept: list[tuple[Group, AppliedBatch]] = []
        for group, batch in batches:
            if group.partition != partition:
                kept.append((group, batch))
            elif not group.damaged:
                kept.append((group, batch._replace(update=batch.update._replace(reindex=True))))
        return kept

    def _healable(self, group: Group) -> bool:
        raft = group.raft
        return any(peer != raft.node_id and not self.unsound(group.partition, peer) for peer in raft.voters)

    def unsound(self, partition: int, peer: str) -> bool:
        """Whether the peer's replica is damaged, as far as this one, which leads, knows."""
        asked_ms = self._unsound.get((partition, peer))
        return asked_ms is not None and self._service.now_ms() - asked_ms < UNSOUND_MS

    def _tell(self, partition: int, what: str) -> None:
        now_ms = self._service.now_ms()
        told_ms = self._told_ms.get(partition)
        if told_ms is None or now_ms - told_ms >= TOLD_AGAIN_MS:
            self._told_ms[partition] = now_ms
            logger.critical(
                "damage that no other replica can heal: what is damaged is refused. Restore the data directory from a "
                "backup",
                extra={"partition": partition, "what": what},
            )

    # --- healing -----------------------------------------------------------------------------------------

    def step(self) -> None:
        """Now and then: each damaged replica goes on with its healing."""
        count = 0
        for group in self._service.groups:
            if group.damaged:
                count += 1
                if group.leading:
                    self._give_away(group)
                else:
                    self._ask(group)
        self._service.metrics.damaged_replicas.set(count)
        self._service.transfers.expire()

    def _give_away(self, group: Group) -> None:
        """To a sound voter, to one that has everything if there is one; in the end to nobody."""
        raft, now_ms = group.raft, self._service.now_ms()
        since_ms = self._leading_since_ms.setdefault(group.partition, now_ms)
        if now_ms - since_ms < HAND_OVER_MS_MAX:
            if group.handing_over:
                return
            connected = self._service.network.connected
            peers = [peer for peer in raft.voters if peer != raft.node_id and connected(peer)]
            for peer in peers:  # whoever takes over must know, or gives leadership back at once, by preference
                self._service.network.send(peer, SnapshotWanted(group.partition, raft.term))
            sound = [peer for peer in peers if not self.unsound(group.partition, peer)]
            ready = {peer: raft.can_take_over(peer, now_ms) for peer in sound}
            given = any(group.hand_over(peer, now_ms) for peer in sorted(sound, key=ready.__getitem__, reverse=True))
        else:
            given = False
        if not given:
            raft.step_down(now_ms)
            self._leading_since_ms.pop(group.partition, None)
        self._service.touch(group)
        self._service.leads_changed()

    def _ask(self, group: Group) -> None:
        self._leading_since_ms.pop(group.partition, None)
        leader = group.raft.leader
        if leader and self._service.network.connected(leader):
            self._service.network.send(leader, SnapshotWanted(group.partition, group.raft.term))

    def wanted(self, group: Group, peer: str) -> None:
        """A peer's replica is damaged and needs the state of this one, which leads."""
        self._unsound[(group.partition, peer)] = self._service.now_ms()
        if group.serving and peer in group.peers:
            self._service.transfers.begin(group, peer)

    def healed(self, group: Group) -> None:
        """A snapshot has replaced the damaged state."""
        logger.warning("replica healed", extra={"partition": group.partition})
        group.trust()
        self._service.metrics.heals.inc()

    def forget(self, partition: int) -> None:
        """The replica is gone."""
        self._told_ms.pop(partition, None)
        self._leading_since_ms.pop(partition, None)
        for key in [key for key in self._unsound if key[0] == partition]:
            del self._unsound[key]

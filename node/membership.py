"""Replicas on their way to other nodes, as one node has to do with them.

The leader of a partition drives its consensus to the voters that the catalog names, a step at a time (raft.change),
and reports what came of it to the metadata leader. That one takes the nodes of the launch file into the catalog,
notices who has been silent for long, and begins moves (node.catalog.moves). All of it may stop at any point and be
taken up by another node: where a partition stands is in its own log, where it is to go in the catalog.

Must hold:
- What the catalog names is pursued only from the voters that it knows; a catalog that is older than the log waits.
- A replica is given up only by what the catalog says after that report (node.groups).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from geodyne.catalog import MemberState, PartitionRecord
from geodyne.errors import ApiError
from geodyne.messages import METADATA_PARTITION, Control
from geodyne.rpc.codec import STREAM_FORMAT
from node.catalog.machine import MOVE_BEGIN, MOVE_DONE, NODE_STATE, NODES_SEEN
from node.catalog.members import all_speak, listed
from node.catalog.placement import REPLICAS
from node.raft.change import Act

if TYPE_CHECKING:
    from node.group import Group
    from node.service import NodeService

logger = logging.getLogger("geodyne.node.members")

MEMBERSHIP_FORMAT = 3  # of the streams: nodes that speak an older one do not know entries that change a configuration
STEP_S = 0.1  # between two looks at the groups that change, while there are any
REPORT_AGAIN_MS = 2_000  # a report that the catalog does not show after this time is sent again
REPORT_MS = 5_000
REPORTS_MAX = 16  # on their way at once from one node
REBUILD_AFTER_S = 300.0


class _Aim(NamedTuple):
    """What a group shall be; see Raft.change_members."""

    voters: tuple[str, ...]
    learners: tuple[str, ...]
    number: int


class Membership:
    """The changes of one node's groups; on the metadata leader, those of the region."""

    def __init__(self, service: NodeService, members: Mapping[str, str], rebuild_after_s: float) -> None:
        """`members`: node id -> zone, as the launch file has them, this node included."""
        self._service = service
        self._members = dict(members)
        self._rebuild_after_ms = int(rebuild_after_s * 1000)
        self._formats: dict[str, int] = {}  # that peers speak, as they last said
        self._changing: dict[int, str] = {}  # groups led here that are not as they should be, and the node waited for
        self._heard_ms: dict[str, int] = {}  # on the metadata leader: when each node was last known alive
        self._planned: set[tuple[int, str]] = set()  # (catalog revision, what was submitted)
        self._quiet_revision = -1  # of the catalog for which there was nothing to submit
        self._reported: dict[int, tuple[int, int]] = {}  # partition -> (configuration, when)
        self._reports: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    # --- what the node tells ------------------------------------------------------------------------------

    def members_changed(self, members: Mapping[str, str]) -> None:
        """The launch file names other nodes."""
        self._members = dict(members)
        self._quiet_revision = -1
        self.plan()

    def peer_speaks(self, peer: str, stream_format: int) -> None:
        """A stream to the peer is up."""
        self._formats[peer] = stream_format
        self._quiet_revision = -1
        self.plan()

    def review(self) -> None:
        """The catalog has changed: which groups are to change?"""
        for group in self._service.groups:
            self.look_at(group)
        self.plan()

    def look_at(self, group: Group) -> None:
        """The group has a leader, or another configuration."""
        if not group.serving:
            self._changing.pop(group.partition, None)
        elif self._amiss(group):
            self._changing.setdefault(group.partition, "")
            self._step_soon()

    def forget(self, partition: int) -> None:
        """The replica is gone."""
        self._changing.pop(partition, None)
        self._reported.pop(partition, None)

    def leaving(self, partition: int, peer: str) -> bool:
        """Whether a voter is on its way out: leadership is not given to it."""
        record = self._service.catalog.assigned(partition)
        return record is not None and bool(record.target) and peer not in record.target

    def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._reports:
            task.cancel()

    async def wait_closed(self) -> None:
        await asyncio.gather(*self._reports, return_exceptions=True)

    # --- the leader of a partition ------------------------------------------------------------------------

    def _aim(self, group: Group) -> _Aim:
        """What the group shall be. Without a move: what it is, with no change left half done."""
        raft = group.raft
        record = self._service.catalog.assigned(group.partition)
        voters, number = raft.voters, raft.configuration.number
        if record is not None:
            number = max(number, record.number)
            if record.target and (raft.configuration.joint or {*voters} in ({*record.voters}, {*record.target})):
                voters, number = record.target, record.number
        if group.partition != METADATA_PARTITION:
            return _Aim(voters, (), number)
        members = self._service.catalog.catalog.members
        if not members or not self._may_begin():
            return _Aim(voters, tuple(node for node in raft.learners if node not in voters), number)
        staying = [node for node in sorted(members) if members[node].state is not MemberState.LEFT]
        return _Aim(voters, tuple(node for node in staying if node not in voters), number)

    def _amiss(self, group: Group) -> bool:
        aim, configuration = self._aim(group), group.raft.configuration
        if configuration.joint or configuration.voters != aim.voters or {*configuration.learners} != {*aim.learners}:
            return True
        return self._untold(group)

    def _untold(self, group: Group) -> bool:
        """Consensus has voters that the catalog does not show; or a later configuration, and some replica may be kept
        for one that is only its own (`Groups`): that of a move which was given up, say."""
        record, raft = self._service.catalog.assigned(group.partition), group.raft
        if record is None:
            return False
        if (record.target or record.voters) != record.voters or record.voters != raft.voters:
            return True
        return raft.configuration_index > record.configuration and group.partition != METADATA_PARTITION

    def _step_soon(self) -> None:
        if self._timer is None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(STEP_S, self._step)

    def _step(self) -> None:
        """Take each changing group a step further."""
        self._timer = None
        handed_over = False
        for partition in list(self._changing):
            group = self._service.groups.get(partition)
            if group is None or not group.serving or not group.leading:
                self._changing.pop(partition, None)
                continue
            handed_over |= self._drive(group)
        if handed_over:
            self._service.leads_changed()
        if self._changing:
            self._step_soon()

    def _drive(self, group: Group) -> bool:
        """One step of one group. True when its leadership is being given away."""
        service, partition = self._service, group.partition
        now_ms = service.now_ms()
        step = group.change_members(*self._aim(group), now_ms)
        self._changing[partition] = step.peer
        if step.act is Act.PROPOSED:
            logger.info(
                "members change", extra={"partition": partition, "configuration": str(group.raft.configuration)}
            )
            service.touch(group)
        elif step.act is Act.HAND_OVER:
            return self._give_way(group, step.peer, now_ms)
        elif step.act is Act.DONE:
            if self._untold(group):
                self._report(group, now_ms)
            else:
                self._changing.pop(partition, None)
        return False

    def _give_way(self, group: Group, peer: str, now_ms: int) -> bool:
        """Have a voter lead that stays: `peer`, or another one if that one's replica is damaged and would be given
        leadership in vain. It heals while this node leads."""
        stays = self._aim(group).voters
        peers = [peer, *(voter for voter in group.raft.voters if voter != peer and voter in stays)]
        unsound = self._service.healing.unsound
        for one in peers:
            whole = one == peer or group.raft.can_take_over(one, now_ms)
            if whole and not unsound(group.partition, one) and group.hand_over(one, now_ms):
                self._service.touch(group)
                return True
        return False

    def _report(self, group: Group, now_ms: int) -> None:
        partition, raft = group.partition, group.raft
        configuration, at_ms = self._reported.get(partition, (-1, 0))
        told = configuration == raft.configuration_index and now_ms - at_ms < REPORT_AGAIN_MS
        if told or len(self._reports) >= REPORTS_MAX:
            return
        self._reported[partition] = raft.configuration_index, now_ms
        index, log = raft.configuration_index, raft.log
        term = log.term(index) if index >= log.offset_index else 0  # it may be compacted by now
        body = {"partition": partition, "voters": list(raft.voters), "configuration": index, "term": term}
        if self._leads_metadata():
            self._service.control_internally(Control(MOVE_DONE, body))
            return
        task = asyncio.get_running_loop().create_task(self._send(Control(MOVE_DONE, body)))
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)

    async def _send(self, call: Control) -> None:
        """To the metadata leader, wherever it is. Should it not arrive, it is sent again while it is true."""
        try:
            await self._service.region_link.client().call(call, timeout_ms=REPORT_MS)
        except ApiError as error:
            logger.info("report not delivered", extra={"call": call.operation, "reason": str(error)})

    # --- the metadata leader ------------------------------------------------------------------------------

    def _leads_metadata(self) -> bool:
        group = self._service.groups.get(METADATA_PARTITION)
        return group is not None and group.serving and group.leading

    def lead(self) -> None:
        """This node has become the metadata leader."""
        self._heard_ms.clear()
        self._planned.clear()
        self._quiet_revision = -1
        self.plan()

    def maintain(self) -> None:
        """Every second: who is silent, who is back; and what was submitted in vain is submitted again."""
        self._planned.clear()
        if self._leads_metadata():
            self._watch_members(self._service.now_ms())
            self.plan()
            if self._service.catalog.awaits_time:
                self._service.leads_changed()
        if self._service.groups.lingering:
            self._service.replicas_freed()
        self._measure()

    def plan(self) -> None:
        """Submit the operations that are due, each once for each revision of the catalog."""
        keeper = self._service.catalog
        if not self._leads_metadata() or keeper.revision == self._quiet_revision:
            return
        unwritten = {
            node: zone
            for node, zone in self._members.items()
            if node not in keeper.catalog.members or keeper.catalog.members[node].format < self._speaks(node)
        }
        if unwritten or keeper.catalog.metadata is None:
            metadata = self._service.groups.get(METADATA_PARTITION)
            assert metadata is not None
            formats = {node: self._speaks(node) for node in unwritten}
            body = {"members": unwritten, "formats": formats, "voters": list(metadata.raft.voters)}
            self._submit(NODES_SEEN, ",".join(unwritten), body)
            return
        moves = keeper.moves_due() if self._may_begin() else []
        for partition, voters, target in moves:
            body = {"partition": partition, "voters": list(voters), "target": list(target)}
            self._submit(MOVE_BEGIN, str(partition), body)
        if not moves:
            self._quiet_revision = keeper.revision

    def _speaks(self, node: str) -> int:
        return STREAM_FORMAT if node == self._service.node_id else self._formats.get(node, 0)

    def _may_begin(self) -> bool:
        """Every node that takes part knows entries that change a configuration."""
        members = self._service.catalog.catalog.members
        return not members or all_speak(members, MEMBERSHIP_FORMAT)

    def _watch_members(self, now_ms: int) -> None:
        liveness = self._service.liveness
        for node, member in self._service.catalog.catalog.members.items():
            alive = node == self._service.node_id or liveness.alive(node, now_ms)
            if alive or node not in self._heard_ms:
                self._heard_ms[node] = now_ms
            silent = now_ms - self._heard_ms[node] >= self._rebuild_after_ms
            if alive and member.state is MemberState.DOWN:
                self._submit_state(node, MemberState.DOWN, MemberState.ACTIVE)
            elif silent and member.state is MemberState.ACTIVE:
                self._submit_state(node, MemberState.ACTIVE, MemberState.DOWN)

    def _submit_state(self, node: str, expected: MemberState, state: MemberState) -> None:
        logger.warning("node is taken for another state", extra={"node": node, "state": state.value})
        self._submit(NODE_STATE, node, {"node": node, "expected": expected.value, "state": state.value})

    def _submit(self, operation: str, subject: str, body: dict[str, Any]) -> None:
        mark = self._service.catalog.revision, f"{operation}/{subject}"
        if mark not in self._planned:
            self._planned.add(mark)
            self._service.control_internally(Control(operation, body))

    # --- what is told of it -------------------------------------------------------------------------------

    def _measure(self) -> None:
        metrics = self._service.metrics
        metrics.replicas_moving.set(len(self.moves()))
        metrics.groups_short.set(len(self.short()))
        metrics.newcomers.set(sum(group.raft.newcomer for group in self._service.groups))

    def members(self) -> list[dict[str, Any]]:
        """The region's nodes as this node's catalog has them; see ControlOperation.NODE_LIST."""
        catalog = self._service.catalog.catalog
        return listed(catalog.members, catalog.replicated())

    def moves(self) -> list[dict[str, Any]]:
        """Of the partitions led here: what their replicas are on the way to, and who is waited for."""
        moving = []
        for partition, waits_for in self._changing.items():
            group, record = self._service.groups.get(partition), self._service.catalog.assigned(partition)
            if group is not None and record is not None:
                moving.append(_described(group, record, waits_for))
        return moving

    def short(self) -> list[int]:
        """The partitions led here with fewer voters alive than the region has zones to keep them in."""
        zones = len({member.zone for member in self._service.catalog.catalog.members.values()})
        wanted = min(REPLICAS, zones)
        own, alive, now_ms = self._service.node_id, self._service.liveness.alive, self._service.now_ms()
        led = (group for group in self._service.groups if group.serving)
        return [
            group.partition
            for group in led
            if sum(voter == own or alive(voter, now_ms) for voter in group.raft.voters) < wanted
        ]


def _described(group: Group, record: PartitionRecord, waits_for: str) -> dict[str, Any]:
    configuration = group.raft.configuration
    return {
        "partition": group.partition,
        "voters": list(configuration.voters),
        "outgoing": list(configuration.outgoing),
        "learners": list(configuration.learners),
        "target": list(record.target),
        "waits_for": waits_for,
    }

"""Snapshots between nodes: a replica that is further behind than the log reaches gets the whole state.

One chunk is in flight at a time for each transfer, acknowledged by the receiver: a slow receiver slows its own
transfer only. The receiver imports into a space of its own; the old state stays in use until the new one is complete
and durable. When the stream between the two breaks, the transfer goes on behind the last part that was acknowledged, as
long as both processes live and the sender leads in the same term: both ends keep what they have for a while.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, NamedTuple

from geodyne.messages import METADATA_PARTITION
from geodyne.peermessages import SnapshotAck, SnapshotChunk
from geodyne.ports import PeerNetwork
from node.engine.localindexes import LocalIndexes
from node.places import Places
from node.state import GroupState
from node.storage.port import GroupLog, StateDamaged, StateFailed, StorageError, WalFailed
from node.storage.sqlite import EXPORTS_MAX, StateStore
from node.storage.sqlite_snapshots import Export, Import
from node.window import Window

if TYPE_CHECKING:
    from node.group import Group
    from node.service import NodeService

logger = logging.getLogger("geodyne.node.snapshot")

CHUNK_BYTES = 256 * 1024
ACK_TIMEOUT_S = 10.0
RESUME_S_MAX = 20.0  # how long a part waits for a stream on which it can be sent, or sent again
RESUME_POLL_S = 0.1
IDLE_MS_MAX = 60_000  # an import that nothing was added to for so long is given up
WAITING_MAX = 10_000  # transfers of a node that are under way or wait for their turn


class _Outgoing:
    __slots__ = ("ack", "acked", "group", "task")

    def __init__(self, group: Group) -> None:
        self.group = group
        self.ack: SnapshotAck | None = None
        self.acked = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class _Incoming:
    __slots__ = ("chunk", "expected", "heard_ms", "importing", "sender")

    def __init__(self, sender: str, chunk: SnapshotChunk, importing: Import, now_ms: int) -> None:
        self.sender = sender
        self.chunk = chunk  # the first one: identifies the snapshot
        self.importing = importing
        self.expected = 0
        self.heard_ms = now_ms

    def continued_by(self, sender: str, chunk: SnapshotChunk) -> bool:
        """Whether this is the next part of the same snapshot, or the last one that was taken, sent again."""
        first = self.chunk
        same = chunk.term, chunk.snapshot_index, chunk.snapshot_term
        again = chunk.number == self.expected - 1 and not chunk.done
        return (
            sender == self.sender
            and same == (first.term, first.snapshot_index, first.snapshot_term)
            and (chunk.number == self.expected or again)
        )


class _Installing(NamedTuple):
    sender: str
    chunk: SnapshotChunk  # the last one
    task: asyncio.Task[None]


class SnapshotTransfers:
    """All transfers of one node, both directions."""

    def __init__(self, service: NodeService, store: StateStore, log: GroupLog, network: PeerNetwork) -> None:
        self._service = service
        self._store = store
        self._log = log
        self.network = network
        self._outgoing: dict[tuple[int, str], _Outgoing] = {}
        self._places = Places(EXPORTS_MAX)
        self._incoming: dict[int, _Incoming] = {}
        self._installing: dict[int, _Installing] = {}

    def close(self) -> None:
        """Give up all transfers."""
        for task in self._tasks():
            task.cancel()

    async def wait_closed(self) -> None:
        """Until what `close` has cancelled lets go of log and state."""
        await asyncio.gather(*self._tasks(), return_exceptions=True)

    def _tasks(self) -> list[asyncio.Task[None]]:
        sending = [outgoing.task for outgoing in self._outgoing.values() if outgoing.task is not None]
        return [*sending, *(one.task for one in self._installing.values())]

    # --- sending -----------------------------------------------------------------------------------------

    def begin(self, group: Group, peer: str) -> None:
        """Send this group's state to a peer, unless that is under way. In the term that this node leads now: when the
        task first runs, the group may follow somebody else already, in a term that is not this node's to speak for."""
        key = (group.partition, peer)
        under_way = self._outgoing.get(key)
        if not group.leading or (under_way is not None and under_way.group is group):
            return
        taken = under_way is not None  # by a replica that was here before: it ends soon, and tells this one nothing
        taken = taken or (len(self._outgoing) >= WAITING_MAX and group.partition != METADATA_PARTITION)
        if taken or group.damaged:  # what a damaged replica lacks must not become another one's truth
            group.raft.snapshot_failed(peer, self._service.now_ms())
            return
        outgoing = self._outgoing[key] = _Outgoing(group)
        outgoing.task = asyncio.get_running_loop().create_task(self._send(group, peer, group.raft.term, outgoing))

    def peer_lost(self, peer: str) -> None:
        for (_, receiver), outgoing in self._outgoing.items():
            if receiver == peer:
                outgoing.acked.set()  # with no acknowledgement: the part is sent again on the next stream

    def forget(self, partition: int) -> None:
        """The replica is being destroyed: nothing more is installed into it, or sent of it."""
        self._abort(partition)
        for (of, _), outgoing in self._outgoing.items():
            if of == partition:
                outgoing.acked.set()  # no answer will reach it: it looks again whether it may go on
        installing = self._installing.get(partition)
        if installing is not None:
            installing.task.cancel()

    def on_ack(self, group: Group, peer: str, ack: SnapshotAck) -> None:
        outgoing = self._outgoing.get((group.partition, peer))
        if outgoing is not None:
            outgoing.ack = ack
            outgoing.acked.set()

    async def _send(self, group: Group, peer: str, term: int, outgoing: _Outgoing) -> None:
        raft, partition = group.raft, group.partition
        export: Export | None = None
        try:
            await self._its_turn(group)
        except asyncio.CancelledError:
            del self._outgoing[(partition, peer)]
            raise
        try:
            heard = self.network.connected(peer) and self._service.liveness.alive(peer, self._service.now_ms())
            if not heard or not self._leads(group, term):  # who is silent would keep the place from others for long
                raise _Refused("things have changed while it waited for its turn")
            export = await self._export(group)
            index, index_term = export.applied_index, export.applied_term
            logger.info("sending snapshot", extra={"partition": partition, "peer": peer, "index": index})
            number = 0
            async with aclosing(aiter(export)) as chunks:
                async for data in chunks:
                    part = SnapshotChunk(partition, term, index, index_term, number, data, False)
                    await self._send_chunk(group, peer, outgoing, part)
                    number += 1
            last = SnapshotChunk(partition, term, index, index_term, number, b"", True)
            await self._send_chunk(group, peer, outgoing, last)
            if raft.term == term:
                raft.snapshot_sent(peer, index, index_term, self._service.now_ms())
            else:  # led again, in a later term, which waits for this transfer: it has to ask the peer anew
                raft.snapshot_failed(peer, self._service.now_ms())
            self._service.metrics.snapshots.labels("sent", "ok").inc()
        except (_Refused, StorageError) as reason:
            if isinstance(reason, StateDamaged):
                self._service.healing.found(partition, str(reason))
            logger.info("snapshot not taken", extra={"partition": partition, "peer": peer, "reason": str(reason)})
            self._service.metrics.snapshots.labels("sent", "failed").inc()
            raft.snapshot_failed(peer, self._service.now_ms())
            if isinstance(reason, StateFailed):
                self._service.failure.happened("the state", reason)
        finally:
            try:
                if export is not None:
                    await export.close()
            finally:
                self._places.give_back()
                del self._outgoing[(partition, peer)]
                self._service.touch(group)

    def _leads(self, group: Group, term: int) -> bool:
        return group.leading and group.raft.term == term and self._service.groups.get(group.partition) is group

    async def _its_turn(self, group: Group) -> None:
        """Until one of the few snapshots that are read at once is over: those of groups that wait for a commit first,
        as what they lack may be this very follower. The catalog's waits for none: without it the receiver knows of no
        other partition."""
        if group.partition == METADATA_PARTITION:
            self._places.take_now()
        else:
            await self._places.take(lambda: group.raft.log.last_index > group.raft.commit_index)

    async def _export(self, group: Group) -> Export:
        """Begin to read the state, with a window as new as the rows: the receiver has no log to catch up from."""
        group.frozen += 1
        try:
            self._store.save_window(group.partition, group.window.to_bytes(), group.state.applied_index)
            first = group.partition == METADATA_PARTITION
            return await self._store.export(group.partition, CHUNK_BYTES, first)
        finally:
            group.frozen -= 1
            self._service.touch(group)

    async def _send_chunk(self, group: Group, peer: str, outgoing: _Outgoing, chunk: SnapshotChunk) -> None:
        """Until it is acknowledged; over a stream that breaks, again on the next one."""
        loop = asyncio.get_running_loop()
        latest = loop.time() + RESUME_S_MAX
        while True:
            if self.network.connected(peer):
                outgoing.acked.clear()
                outgoing.ack = None
                self.network.send(peer, chunk)
                if await self._acknowledged(outgoing, chunk):
                    return
                logger.info("snapshot interrupted", extra={"partition": chunk.group, "peer": peer, "at": chunk.number})
            if loop.time() >= latest:
                raise _Refused("no stream to send it on")
            if not self._leads(group, chunk.term):
                raise _Refused("no longer the leader")
            await asyncio.sleep(RESUME_POLL_S)

    async def _acknowledged(self, outgoing: _Outgoing, chunk: SnapshotChunk) -> bool:
        """False when the stream broke, or stayed silent, before the answer. Raises _Refused."""
        while True:
            try:
                await asyncio.wait_for(outgoing.acked.wait(), ACK_TIMEOUT_S)
            except TimeoutError:
                return False
            ack = outgoing.ack
            if ack is None:
                return False
            outgoing.acked.clear()
            outgoing.ack = None
            if ack.snapshot_index == chunk.snapshot_index:
                if ack.refused:
                    raise _Refused("refused")
                if ack.installed or ack.number > chunk.number:
                    self._service.metrics.snapshot_chunks.labels("sent").inc()
                    return True

    # --- receiving ---------------------------------------------------------------------------------------

    def on_chunk(self, group: Group, peer: str, chunk: SnapshotChunk) -> None:
        """Take the next part. Anything unexpected is refused: the sender starts again."""
        wanted = group.raft.snapshot_offered(peer, chunk.term, chunk.snapshot_index, self._service.now_ms())
        wanted = wanted or _heals(group, peer, chunk)
        self._service.touch(group)
        if wanted and chunk.done and self._installs(peer, chunk):
            return  # sent again, while what it says is being done: that will be answered
        if not wanted or group.partition in self._installing:
            self._abort(group.partition)
            self._answer(peer, group, chunk, refused=True)
            return
        incoming = self._incoming.get(group.partition)
        if chunk.number == 0 and not chunk.done:
            self._abort(group.partition)
            importing = self._store.begin_import(group.partition, _indexes_of)
            incoming = self._incoming[group.partition] = _Incoming(peer, chunk, importing, self._service.now_ms())
        if incoming is None or not incoming.continued_by(peer, chunk):
            self._answer(peer, group, chunk, refused=True)
            return
        incoming.heard_ms = self._service.now_ms()
        if chunk.number < incoming.expected:
            self._answer(peer, group, chunk, number=incoming.expected)
            return
        try:
            if chunk.done:
                del self._incoming[group.partition]
                task = asyncio.get_running_loop().create_task(self._install(group, peer, chunk, incoming.importing))
                self._installing[group.partition] = _Installing(peer, chunk, task)
                task.add_done_callback(lambda _: self._installing.pop(group.partition, None))
                return
            incoming.importing.add(chunk.data)
        except StateFailed as error:
            self._service.failure.happened("the state", error)
            return
        except StorageError as error:
            logger.warning("snapshot damaged", extra={"partition": group.partition, "reason": str(error)})
            self._abort(group.partition)
            self._answer(peer, group, chunk, refused=True)
            return
        incoming.expected += 1
        self._service.metrics.snapshot_chunks.labels("received").inc()
        self._answer(peer, group, chunk, number=incoming.expected)

    async def _install(self, group: Group, peer: str, chunk: SnapshotChunk, importing: Import) -> None:
        """Make the snapshot the group's state: durable first, then the log is cut, then consensus goes on from it."""
        if chunk.snapshot_index <= group.state.applied_index and not _heals(group, peer, chunk):
            importing.abort()
            self._answer(peer, group, chunk, refused=True)
            return
        group.frozen += 1
        try:
            state = GroupState.from_bytes(importing.state)
            self._service.mark.state(state)
            await importing.commit()
            raft, index, term = group.raft, chunk.snapshot_index, chunk.snapshot_term
            if raft.install_snapshot(index, term, state.configuration):  # else the log has it all, and more
                self._log.reset(group.partition, index, term)
            group.reload(state, Window.from_bytes(importing.window))
            if group.damaged:
                self._service.healing.healed(group)
            self._service.metrics.snapshots.labels("received", "ok").inc()
            logger.info("snapshot installed", extra={"partition": group.partition, "index": index})
            self._service.reloaded(group)
        except StateFailed as error:
            self._service.failure.happened("the state", error)
            return
        except StorageError as error:
            logger.warning("snapshot not installed", extra={"partition": group.partition, "reason": str(error)})
            self._answer(peer, group, chunk, refused=True)
            return
        except asyncio.CancelledError:
            importing.abort()
            raise
        finally:
            group.frozen -= 1
            self._service.touch(group)
        self._answer(peer, group, chunk, installed=True)

    def _installs(self, peer: str, chunk: SnapshotChunk) -> bool:
        one = self._installing.get(chunk.group)
        return one is not None and (one.sender, one.chunk) == (peer, chunk)

    def expire(self) -> None:
        """Every second: give up imports whose senders have been silent for long."""
        now_ms = self._service.now_ms()
        for partition in [p for p, one in self._incoming.items() if now_ms - one.heard_ms > IDLE_MS_MAX]:
            self._abort(partition)

    def _abort(self, partition: int) -> None:
        incoming = self._incoming.pop(partition, None)
        if incoming is not None:
            incoming.importing.abort()

    def _answer(
        self,
        peer: str,
        group: Group,
        chunk: SnapshotChunk,
        *,
        number: int = 0,
        installed: bool = False,
        refused: bool = False,
    ) -> None:
        def send() -> None:
            incarnation, support_epoch = self._service.liveness.support(peer)
            self.network.send(
                peer,
                SnapshotAck(
                    group.partition,
                    chunk.term,
                    chunk.snapshot_index,
                    number,
                    installed,
                    refused,
                    incarnation,
                    support_epoch,
                ),
            )

        def once_durable() -> None:
            try:
                self._log.sync(send)
            except WalFailed:  # the log has told of it already: the process ends, and answers nobody
                return

        # The acknowledgement confirms the leader's term, so a new term must be durable first: it is among the
        # effects that the rest of this turn performs.
        asyncio.get_running_loop().call_soon(once_durable)


def _indexes_of(state: bytes) -> LocalIndexes | None:
    return LocalIndexes.of(GroupState.from_bytes(state).definition)


class _Refused(Exception):
    """The receiver does not want the snapshot, or is gone."""


def _heals(group: Group, peer: str, chunk: SnapshotChunk) -> bool:
    """Whether a damaged replica takes a snapshot that is no newer than what it had: its own log leads on from there."""
    raft = group.raft
    return (
        bool(group.damaged)
        and chunk.term == raft.term
        and peer == raft.leader
        and chunk.snapshot_index >= raft.log.offset_index
    )

"""The node's loop turn: takes what has arrived, lets the groups decide, writes the log once, sends once, applies once.

Order that must hold within a turn (node.raft.core.Effects says the same per group):
1. messages of peers, then calls of clients, are handed to their groups;
2. every touched group closes its entry; entries and hard states of all groups go into the log in one append;
3. what may be sent before the log is durable goes out (a leader's appends); what rests on it (votes, acknowledgements)
   goes out when the one fsync that covers it is done;
4. answers whose entries are committed go out; reads go out after a look at the lease;
5. committed entries are applied to SQLite, all groups in one transaction, in a later step of the loop, so that
   answers leave first.

A failure inside a turn leaves memory in doubt: the process stops and recovers from disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from time import perf_counter
from typing import NamedTuple

from geodyne.messages import METADATA_PARTITION, Busy, Control, Moved, Refused, Request, Response, Unknown
from geodyne.peermessages import (
    Heartbeat,
    HeartbeatAck,
    Hello,
    Introduction,
    Leads,
    PeerMessage,
    ScrubDigest,
    SnapshotAck,
    SnapshotChunk,
    SnapshotWanted,
    VoteRequest,
)
from geodyne.ports import Clock, PeerNetwork
from node.applying import AppliedBatch
from node.calls import Calls
from node.catalog.keeper import CatalogKeeper, catalog_records, told_revision
from node.clocks import ClockGuard
from node.conflictlog import ConflictLog
from node.early import EarlyMessages
from node.failing import StorageFailure
from node.feed.duty import FeedDuty
from node.feed.retention import FeedSettings
from node.feed.tombstones import TombstoneDuty
from node.formatmark import FormatMark
from node.group import Group
from node.groups import Groups
from node.healing import Healing
from node.heartbeats import Heartbeats
from node.indexes.duties import IndexDuties
from node.leadnews import LeadNews
from node.membership import Membership
from node.metrics import NodeMetrics
from node.raft.core import Raft
from node.raft.effects import Effects
from node.raft.liveness import Liveness
from node.raft.settings import Settings as RaftSettings
from node.regionlink import RegionLink
from node.scans import Scans
from node.scrub import Scrub
from node.space import SpaceGuard
from node.storage.directory import INCARNATION_MAX
from node.storage.port import GroupDamaged, GroupLog, StateDamaged, StateFailed, WalFailed
from node.storage.roster import Roster
from node.storage.sqlite import StateStore
from node.transactions.recovery import Recovery
from node.transactions.sweeper import Sweeper
from node.transfer import SnapshotTransfers
from node.ttl import Expiring, TtlSettings
from node.waits import CATALOG_TOPIC, Waits

logger = logging.getLogger("geodyne.node")

TICK_S = 0.05  # only while some group has a deadline
APPLY_TURN_EFFECTS_MAX = 256  # about 2 ms of SQLite: then other work gets its turn


class _Durable(NamedTuple):
    """What waits for an fsync: `index` 0 when only messages do."""

    group: Group
    index: int  # type: ignore[assignment]  # shadows tuple.index
    term: int
    after: Sequence[tuple[str, PeerMessage]]


class NodeService:
    """Handler of client streams and of peer streams of one node."""

    def __init__(
        self,
        *,
        node_id: str,
        clock: Clock,
        random: Random,
        log: GroupLog,
        store: StateStore,
        liveness: Liveness,
        settings: RaftSettings,
        groups: Groups,
        roster: Roster,
        catalog: CatalogKeeper,
        network: PeerNetwork,
        peers: Sequence[str],
        metrics: NodeMetrics,
        region_link: RegionLink,
        fatal: Callable[[str], None],
        members: Mapping[str, str],
        rebuild_after_s: float,
        ttl: TtlSettings,
        feed: FeedSettings,
    ) -> None:
        """`members`: node id -> zone of the region's nodes as the launch file has them; the replicas of one that is
        silent for `rebuild_after_s` are rebuilt on others."""
        self.node_id = node_id
        self.region_link = region_link
        self.catalog = catalog
        self.groups = groups
        self.waits = Waits()
        self.transfers = SnapshotTransfers(self, store, log, network)
        self.liveness = liveness
        self.metrics = metrics
        self.network = network
        self.clock = clock
        self._random = random
        self.healing = Healing(self, store)
        self.scrub = Scrub(self, store)
        self.scans = Scans(self, store, self.apply_all)
        self.recovery = Recovery(self)
        self.sweeper = Sweeper(self, store)
        self.lead_news = LeadNews(self)
        self.membership = Membership(self, members, rebuild_after_s)
        self._log = log
        self._store = store
        self._roster = roster
        self._heartbeats = Heartbeats(self, settings, peers)
        self._fatal = fatal
        self.failure = StorageFailure(self, fatal)
        self.space: SpaceGuard | None = None
        self.conflicts: ConflictLog | None = None
        self.clocks = ClockGuard(clock, liveness, metrics)
        self.mark = FormatMark()  # raised before what older versions would misread is written
        self.outgrow: Callable[[int], None] = _ignore_number  # the next start is to have a larger incarnation
        self._loop: asyncio.AbstractEventLoop | None = None
        self._requests: list[tuple[Sequence[Request], Callable[[Response], None]]] = []
        self._messages: list[tuple[str, Sequence[PeerMessage]]] = []
        self._early = EarlyMessages()
        self._touched: set[Group] = set()
        self._readers: set[Group] = set()
        self._unconfirmed: set[Group] = set()
        self._behind: set[Group] = set()
        self._awake: set[Group] = set()
        self._syncs = 0
        self._scheduled = False
        self._pumping = False
        self._apply_scheduled = False
        self._tick_timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.wall_us = self.turn_ms = 0  # of the turn that is going on
        self.calls = Calls(self, log, store)
        self.indexes = IndexDuties(self, store, metrics)
        self.expiring = Expiring(self, store, ttl)
        self.feeds = FeedDuty(self, store, feed)
        self.tombstones = TombstoneDuty(self, store)

    def members_changed(self, members: Mapping[str, str]) -> None:
        """The launch file names other nodes (node id -> zone), this one included. The network knows them already."""
        self._heartbeats.set_peers([node for node in sorted(members) if node != self.node_id])
        self.membership.members_changed(members)

    # --- start and stop ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to take part. Called on the loop that the node runs on."""
        self._loop = asyncio.get_running_loop()
        for group in self.groups:
            self.adopt(group)
        self.groups.settle(self.catalog.next_partition())
        self._catalog_changed()
        self._heartbeats.beat()
        self._schedule()

    def stop(self) -> None:
        if self._closed:
            self.failure.cancel()
        self._closed = True
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        self._heartbeats.close()
        self.transfers.close()
        self.recovery.close()
        self.sweeper.close()
        self.indexes.close()
        self.expiring.close()
        self.lead_news.close()
        self.membership.close()

    def adopt(self, group: Group) -> None:
        """A group has been created or recovered: drive it."""
        group.catch_up_sink = self._write_batch
        self.recovery.adopt(group)
        self.expiring.review(group)
        self._touched.add(group)
        self._note_behind(group)
        self._messages += [(peer, (message,)) for peer, message in self._early.take(group.partition)]
        self._schedule()

    def fail(self, reason: str) -> None:
        """A duty of the node failed for good: stop and recover from disk."""
        self._fatal(reason)

    def now_ms(self) -> int:
        return self.clock.lease_ms()

    def reloaded(self, group: Group) -> None:
        """A snapshot has replaced the group's state."""
        if group.partition == METADATA_PARTITION:
            self.catalog.restore(group.state.catalog_revision, catalog_records(self._store))
            self._catalog_changed()
        self.scans.news(group.partition)
        self.expiring.review(group)
        self.leads_changed()
        self.waits.news(group.partition)

    def touch(self, group: Group) -> None:
        """Something outside a turn may have given this group work."""
        self._touched.add(group)
        self._schedule()

    def wake(self) -> None:
        """There is something for a turn to do."""
        self._schedule()

    def look_at_touched(self) -> None:
        """A turn, if some group needs one."""
        if self._touched:
            self._schedule()

    def confirm_soon(self, group: Group) -> None:
        """Reads of this group wait for the look at the lease that ends the turn."""
        self._readers.add(group)

    def proposed(self, group: Group) -> None:
        """A call has given this group something to propose or to answer in this very turn."""
        self._touched.add(group)
        self._readers.add(group)

    # --- what arrives ------------------------------------------------------------------------------------

    def on_requests(self, requests: Sequence[Request], reply: Callable[[Response], None]) -> None:
        self._requests.append((requests, reply))
        self._schedule()

    def on_peer_messages(self, peer: str, messages: Sequence[PeerMessage]) -> None:
        if self._closed:
            self.failure.hear(peer, messages)
            return
        self._messages.append((peer, messages))
        self._schedule()

    def on_peer_connected(self, peer: str, hello: Hello) -> None:
        if self._closed:
            return  # nothing may be sent any more that tells of life
        logger.info("peer connected", extra={"peer": peer})
        now_ms = self.clock.lease_ms()
        self.liveness.on_connected(peer, hello.incarnation, now_ms)
        self._heartbeats.pass_on(now_ms)
        directory, seen = self._roster.directory, self.liveness.peer_incarnation(peer)
        self.network.send(peer, Introduction(directory, self._roster.known(peer), seen))
        self.network.send(peer, self.liveness.heartbeat(now_ms))
        self.network.send(peer, self.catalog.leads())
        self.tell_groups(Raft.peer_connected, peer, now_ms)
        self.membership.peer_speaks(peer, hello.format)
        self._schedule()

    def on_peer_disconnected(self, peer: str, reason: str) -> None:
        logger.info("peer disconnected", extra={"peer": peer, "reason": reason})
        self.lead_news.lost(peer)
        # What is left of this stream must not be taken for a message of the peer's next process.
        self._messages = [entry for entry in self._messages if entry[0] != peer]
        self._early.forget(peer)
        self._heartbeats.on_disconnected(peer, self.clock.lease_ms())
        self.transfers.peer_lost(peer)

    # --- the turn ----------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        if self._scheduled or self._closed or self._loop is None:
            return
        self._scheduled = True
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if self._closed or self._loop is None:
            return
        try:
            self.wall_us, self.turn_ms = self.clock.wall_us(), self.clock.lease_ms()
            messages, self._messages = self._messages, []
            for peer, batch in messages:
                for message in batch:
                    self._on_peer_message(peer, message, self.turn_ms)
            requests, self._requests = self._requests, []
            for calls, reply in requests:
                for request in calls:
                    self.calls.dispatch(request, reply)
            if self.scans:
                self.scans.step()
            self._pump()
        except (WalFailed, StateFailed) as error:
            self.failure.happened("the state", error)  # the log has told of its own failure already
        except Exception as error:
            logger.exception("the turn failed")
            self._fatal(f"the node's turn failed: {error}")
            raise

    def _pump(self) -> None:
        """Perform the groups' effects until there are none."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._touched:
                touched, self._touched = self._touched, set()
                durable: list[_Durable] = []
                for group in touched:
                    if self.groups.get(group.partition) is not group:
                        continue  # destroyed meanwhile: nothing of it may reach the log again
                    group.seal()
                    self._perform(group, group.raft.take_effects(), durable)
                if durable:
                    self._syncs += 1
                    self._log.sync(partial(self._synced, durable, perf_counter()))
        finally:
            self._pumping = False
        readers, self._readers = self._readers, set()
        waiting = False
        for group in readers:
            if group.confirm_reads(self.clock.lease_ms):
                self._unconfirmed.add(group)
                waiting = True
        if waiting:
            self._heartbeats.send(self.clock.lease_ms(), self.peers)
        if self._touched or self._messages or self._requests or self.scans:
            self._schedule()

    def _perform(self, group: Group, effects: Effects, durable: list[_Durable]) -> None:
        log, send = self._log, self.network.send
        index = term = 0
        if effects.hard_state is not None:
            log.set_hard_state(group.partition, effects.hard_state.term, effects.hard_state.vote)
            if group.partition == METADATA_PARTITION:  # a newcomer may be a member now, and have it all already
                self.groups.settle(self.catalog.next_partition())
        if effects.configuration_changed:
            self.mark.members_change()
        if effects.entries:
            self.mark.entries(effects.entries)
            log.append(group.partition, effects.entries)
            index, term = effects.entries[-1].index, effects.entries[-1].term
        for peer, message in effects.before:
            send(peer, message)
        if effects.entries or effects.hard_state is not None or (effects.after and self._syncs):
            durable.append(_Durable(group, index, term, effects.after))
        else:
            for peer, message in effects.after:
                send(peer, message)
        if effects.role_changed or (group.leading and not group.serving):
            serving = group.serving
            group.role_changed()
            if group.serving != serving or effects.role_changed:
                self._role_changed(group)
        if effects.configuration_changed:
            group.configuration_changed()
            self.membership.look_at(group)
        group.committed()
        self._note_behind(group)
        for peer in effects.need_snapshot:
            self.transfers.begin(group, peer)
        if group.raft.next_deadline_ms is not None:
            self._wake(group)

    def _synced(self, durable: Sequence[_Durable], began_s: float) -> None:
        """The log is durable up to and including what `durable` names."""
        self._syncs -= 1
        self.metrics.fsync_seconds.observe(perf_counter() - began_s)
        for group, index, term, after in durable:
            for peer, message in after:
                self.network.send(peer, message)
            if index and self.groups.get(group.partition) is group:
                group.raft.persisted(index, term)
                self._touched.add(group)
        if not self._pumping and self._touched:
            self._schedule()

    def _role_changed(self, group: Group) -> None:
        self.metrics.role_changes.inc()
        logger.info(
            "role changed",
            extra={
                "partition": group.partition,
                "term": group.raft.term,
                "leader": group.raft.leader,
                "serving": group.serving,
            },
        )
        self._touched.add(group)
        self.scans.news(group.partition)
        self.waits.news(group.partition)
        self.leads_changed()
        self.catalog.counts.forget(group.partition)
        if group.serving:
            self.recovery.watch(group)
            self.sweeper.led(group)
            self.catalog.define(group, self.wall_us)
        self.membership.look_at(group)
        if group.partition == METADATA_PARTITION:
            if group.serving:
                self.catalog.lead(self.lead_news.led())
                self.membership.lead()
            self._retry_controls()  # here, or (no longer the leader) to learn where

    # --- consensus ---------------------------------------------------------------------------------------

    def _on_peer_message(self, peer: str, message: PeerMessage, now_ms: int) -> None:
        kind = type(message)
        if kind is Heartbeat:
            assert isinstance(message, Heartbeat)
            self._heartbeats.on_heartbeat(peer, message, now_ms)
            return
        if kind is HeartbeatAck:
            assert isinstance(message, HeartbeatAck)
            self._heartbeats.on_ack(peer, message, now_ms)
            if self._unconfirmed:
                self._readers |= self._unconfirmed
                self._unconfirmed = set()
            return
        if kind is Leads:
            assert isinstance(message, Leads)
            self.lead_news.heard(peer, message)
            return
        if kind is Introduction:
            assert isinstance(message, Introduction)
            self._on_introduction(peer, message, now_ms)
            return
        group = self.groups.get(message.group)  # type: ignore[union-attr]
        if group is None:
            self._on_early(peer, message)
        elif kind is SnapshotChunk:
            assert isinstance(message, SnapshotChunk)
            self.transfers.on_chunk(group, peer, message)
        elif kind is SnapshotAck:
            assert isinstance(message, SnapshotAck)
            self.transfers.on_ack(group, peer, message)
        elif kind is SnapshotWanted:
            self.healing.wanted(group, peer)
        elif kind is ScrubDigest:
            assert isinstance(message, ScrubDigest)
            self.scrub.on_digest(group, peer, message)
        else:
            group.raft.step(peer, message, now_ms)  # type: ignore[arg-type]
            self._touched.add(group)

    def _on_early(self, peer: str, message: PeerMessage) -> None:
        """It may be for a replica that is yet to be made. Not where one has been given up: what is said to that one,
        that it is a member now above all, must not reach the next one; what is asked of it others may wait for."""
        partition: int = message.group  # type: ignore[union-attr]
        if not self.groups.given_up(partition):
            self._early.add(peer, partition, message)
        elif isinstance(message, VoteRequest) and (answer := self.groups.resigned(message)) is not None:
            self.network.send(peer, answer)

    def _on_introduction(self, peer: str, message: Introduction, now_ms: int) -> None:
        """Before anything else of the stream, so that nothing is taken from a directory that is not on the roster."""
        if not self._roster.meet(peer, message.directory, message.knows):
            logger.warning(
                "this node had another data directory before: its replicas vote again once they are rebuilt",
                extra={"peer": peer, "directory": self._roster.directory, "before": message.knows},
            )
        self._touched.update(self.groups.vouched(now_ms))
        if self.liveness.incarnation < message.incarnation < INCARNATION_MAX:  # with that one no start could be later
            self._outdated(peer, message.incarnation)

    def _outdated(self, peer: str, incarnation: int) -> None:
        """This process counts as an earlier one than one that is gone: the data directory was emptied, and the wall
        clock, which the first incarnation of a directory comes from, was set back. Nobody would ever listen to it."""
        logger.critical(
            "this node counts as an earlier process of itself; it starts anew as a later one",
            extra={
                "peer": peer,
                "incarnation": self.liveness.incarnation,
                "before": incarnation,
                "hint": "the wall clock of this machine was set back, or is wrong",
            },
        )
        try:
            self.outgrow(incarnation)
        except OSError as error:
            self.failure.happened("the data directory", error)
        else:
            self.fail("another process of this node had a larger incarnation; see the log")

    def tell_groups(self, tell: Callable[[Raft, str, int], None], peer: str, now_ms: int) -> None:
        """Something about a peer that concerns all groups of which it has a replica."""
        for group in self.groups:
            if peer in group.peers or peer == group.raft.leader:  # it may lead, or have led, as none of its voters
                tell(group.raft, peer, now_ms)
                self._touched.add(group)

    def _wake(self, group: Group) -> None:
        self._awake.add(group)
        if self._tick_timer is None and self._loop is not None:
            self._tick_timer = self._loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._tick_timer = None
        now_ms = self.clock.lease_ms()
        awake, self._awake = self._awake, set()
        for group in awake:
            deadline = group.raft.next_deadline_ms
            if deadline is None or self.groups.get(group.partition) is not group:
                continue
            if deadline <= now_ms:
                group.raft.tick(now_ms)
                self._touched.add(group)
            self._awake.add(group)
        if self._awake and self._loop is not None:
            self._tick_timer = self._loop.call_later(TICK_S, self._tick)
        if self._touched:
            self._schedule()

    # --- applying ----------------------------------------------------------------------------------------

    def _note_behind(self, group: Group) -> None:
        if group.behind:
            self._behind.add(group)
            if not self._apply_scheduled and self._loop is not None:
                self._apply_scheduled = True
                self._loop.call_soon(self._apply_turn)

    def _apply_turn(self) -> None:
        self._apply_scheduled = False
        if self._closed:
            return
        try:
            batches: list[tuple[Group, AppliedBatch]] = []
            unfinished: list[Group] = []
            budget = APPLY_TURN_EFFECTS_MAX
            while self._behind and budget > 0:
                group = self._behind.pop()
                batch = group.take_applied(budget)
                if batch is not None:
                    batches.append((group, batch))
                    budget -= 1 + len(batch.applied_keys)
                if group.behind:
                    unfinished.append(group)  # not at once: storage takes a group once a transaction
            self._behind.update(unfinished)
            self._write_batches(batches)
            if self._behind:
                self._apply_scheduled = True
                assert self._loop is not None
                self._loop.call_soon(self._apply_turn)
        except (WalFailed, StateFailed) as error:
            self.failure.happened("the state", error)
        except Exception as error:
            logger.exception("applying failed")
            if isinstance(error, StateDamaged) and self.peers:
                self._store.condemn()
            self._fatal(f"applying the log failed: {error}")
            raise

    def _write_batch(self, batch: AppliedBatch) -> None:
        group = self.groups.get(batch.update.partition)
        assert group is not None
        self._write_batches([(group, batch)])

    def _write_batches(self, batches: Sequence[tuple[Group, AppliedBatch]]) -> None:
        if not batches:
            return
        batches = self._store_batches(list(batches))
        self.metrics.apply_effects.inc(sum(len(batch.applied_keys) for _, batch in batches))
        for group, batch in batches:
            group.applied(batch)
            if group.serving:
                self.catalog.counts.touch(group.partition)
            self.scans.news(group.partition)
            if batch.fed:
                self.waits.news(group.partition)
                self.indexes.news(group.partition)
            if batch.scrub is not None:
                self.scrub.applied(group, batch.scrub)
            if batch.conflicts and self.conflicts is not None:
                self.conflicts.note(group.partition, batch.conflicts, leading=group.serving)
            for revision, changes in batch.catalog:
                self.catalog.apply(revision, changes)
            if group.partition == METADATA_PARTITION:
                self.groups.settle(self.catalog.next_partition())
                if batch.catalog:
                    self._retry_controls()
                    self._catalog_changed()
            if (told := told_revision(group)) != group.reported_revision:
                group.reported_revision = told
                self.expiring.review(group)
                self.leads_changed()

    def _store_batches(self, batches: list[tuple[Group, AppliedBatch]]) -> list[tuple[Group, AppliedBatch]]:
        """Returns those that the state has taken: not those of replicas that turned out to be damaged."""
        while batches:
            try:
                self._store.apply([batch.update for _, batch in batches])
            except GroupDamaged as error:
                batches = self.healing.without(batches, error.partition)
            else:
                break
        return batches

    def apply_all(self, group: Group) -> None:
        """Apply what can be applied, so that a read of SQLite sees it."""
        while group.behind:
            batch = group.take_applied(APPLY_TURN_EFFECTS_MAX)
            if batch is not None:
                self._write_batch(batch)

    # --- who leads what ----------------------------------------------------------------------------------

    @property
    def peers(self) -> tuple[str, ...]:
        return self._heartbeats.peers

    def leads_changed(self) -> None:
        """Leadership, a definition or the catalog may have changed: who needs to know is told soon."""
        self.lead_news.changed()

    def _catalog_changed(self) -> None:
        """Take up and put down replicas as the catalog now says, and tell everybody."""
        self.mark.tables(self.catalog.catalog.tables.values())
        self._touched.update(self.catalog.changed())
        self.leads_changed()
        self.membership.review()
        self.waits.news(CATALOG_TOPIC)
        self._schedule()

    def replicas_freed(self) -> None:
        """What could not be held, or given up, when the catalog said so may be now."""
        self._catalog_changed()

    def look_after(self) -> None:
        """Go on healing what is damaged, comparing the replicas that are led here with the others, and moving some."""
        self.healing.step()
        self.scrub.step()
        self.membership.maintain()
        self.feeds.step()
        self.tombstones.step()
        if self.conflicts is not None:
            self.conflicts.sweep()
        self.clocks.step(self.peers)

    def publish_counts(self) -> None:
        """Tell watchers how many items the partitions hold that have changed."""
        if self.catalog.counts.publish(self.groups.get, self._store):
            self.waits.news(CATALOG_TOPIC)

    # --- operations of the node's own ------------------------------------------------------------------

    def _retry_controls(self) -> None:
        for call, asker in self.catalog.next_controls():
            self.on_requests((Request(asker.id, call, None, 5_000),), asker.reply)

    def control_internally(self, call: Control) -> None:
        """A control operation of the node's own planning; the answer is of no interest: it is planned anew."""
        self.on_requests((Request(0, call, None, 5_000),), _ignore)

    def moved(self, group: Group) -> None:
        """The replica is being destroyed: whoever waits for it looks elsewhere."""
        elsewhere = self.catalog.elsewhere(group.partition, group.state.epoch)
        group.abandon(elsewhere or Moved(group.partition, self.catalog.revision))
        for groups in (self._touched, self._behind, self._awake, self._readers, self._unconfirmed):
            groups.discard(group)
        self.transfers.forget(group.partition)
        self.catalog.counts.forget(group.partition)
        self.healing.forget(group.partition)
        self.scrub.forget(group.partition)
        self.membership.forget(group.partition)
        self.scans.news(group.partition)
        self.waits.news(group.partition)


def _ignore_number(number: int) -> None:
    return None


def _ignore(response: Response) -> None:
    if isinstance(response.answer, (Refused, Unknown, Busy)):
        logger.debug("planned control operation not done", extra={"answer": str(response.answer)})

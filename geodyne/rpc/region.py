"""A region as its clients see it: one object that sends a call to the right node and brings the answer.

Routers and replicators use it, over gRPC links or local ones.  It keeps a link to every node of the region, follows the
catalog and the leaders through one outstanding Watch a node, and carries each call through elections, lost links and
full queues: it resends until there is an answer or the caller's time is up.

Why resending is safe: a write keeps its WriteId over all its resends and takes effect once (the leader's deduplication
window); `low` tells the leader that nothing below it will come again.  Reads have no effect, and ApplyChanges and
AdvanceCursor may be repeated.

No task and no future is made for a call: `call` returns a Reply (geodyne.rpc.drive), which the answer resumes in place.
Deadlines and retries are kept by one coarse timer, which exists only while something is in flight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from geodyne.errors import ApiError
from geodyne.messages import (
    METADATA_PARTITION,
    Answer,
    Busy,
    Call,
    Moved,
    NotLeader,
    Request,
    Response,
    Unknown,
    Watched,
)
from geodyne.ports import ClientConnector
from geodyne.rpc.catalogview import CatalogView, LeaderMap
from geodyne.rpc.drive import Reply
from geodyne.rpc.nodelink import NodeAddress, NodeLink
from geodyne.rpc.pending import NEVER, PendingCall, RevisionWaiter, WriteSequences

__all__ = ["NodeAddress", "RegionClient", "RegionSettings"]

IN_FLIGHT_MAX: Final = 16_384
HOPS_MAX: Final = 3  # immediate resends after a hint, before the call waits its back-off
RETRY_MS_MIN: Final = 25
RETRY_MS_MAX: Final = 400
PROBE_AFTER_MS: Final = 150  # with no leader known, ask some replica: its NotLeader names one, if it knows

_RETRIED: Final = frozenset({NotLeader, Unknown, Busy})


@dataclass(frozen=True, slots=True)
class RegionSettings:
    """`hold_ms`: how long a call may make no progress (no leader, refused, link lost) before it fails."""

    hold_ms: int = 2_500
    watch_ms: int = 10_000
    sweep_ms: int = 50
    in_flight_max: int = IN_FLIGHT_MAX


class RegionClient:
    """Calls on one region. All methods belong to the loop on which `start` was called."""

    def __init__(
        self,
        region: str,
        zone: str,
        nodes: Sequence[NodeAddress],
        connector: ClientConnector,
        *,
        router_incarnation: int,
        settings: RegionSettings | None = None,
    ) -> None:
        """`router_incarnation`: 64 bits, random, new at each start of the process; the identity of its writes."""
        self.region = region
        self.zone = zone
        self.catalog = CatalogView()
        self.leaders = LeaderMap()
        self.settings = settings or RegionSettings()
        self.resends = 0  # how many requests were sent again
        self.failures = 0  # how many calls ended without an answer
        self._connector = connector
        self._router = router_incarnation
        self._nodes = {node.id: NodeLink(self, node) for node in nodes}
        # Own zone first; the others in the order given.
        self._by_distance = tuple(sorted(self._nodes.values(), key=lambda node: node.zone != zone))
        self._nearest: dict[int, NodeLink] = {}
        self._writes: dict[int, WriteSequences] = {}
        self._last_id = 0
        self._sent: dict[int, PendingCall] = {}
        self._waiting: set[PendingCall] = set()
        self._revision_waiters: list[RevisionWaiter] = []
        self._subscribers: list[Callable[[], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweep_at = NEVER
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._ready: asyncio.Event | None = None

    # --- life -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the links. Needs a running loop; returns at once, see wait_ready."""
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        for node in self._nodes.values():
            node.open(self._connector, self._loop)

    async def members_changed(self, nodes: Sequence[NodeAddress]) -> None:
        """From now on the region's nodes are these. Links to those that stay where they are stay up; what is under way
        at the others is sent again elsewhere."""
        assert self._loop is not None, "start() comes first"
        wanted = {node.id: node for node in nodes}
        gone = [link for link in self._nodes.values() if wanted.get(link.id) != (link.id, link.zone, link.address)]
        for link in gone:
            del self._nodes[link.id]
        fresh = [NodeLink(self, node) for node in nodes if node.id not in self._nodes]
        self._nodes.update((link.id, link) for link in fresh)
        given = {node.id: place for place, node in enumerate(nodes)}
        self._by_distance = tuple(
            sorted(self._nodes.values(), key=lambda node: (node.zone != self.zone, given[node.id]))
        )
        self._nearest.clear()
        for link in fresh:
            link.open(self._connector, self._loop)
        for link in gone:
            await link.close()
            if link.connected:  # a link that does not tell of its end when it is closed
                link.on_disconnected(link.id, "no member any more")

    async def close(self) -> None:
        """Close the links; calls that still wait fail."""
        self._closed = True
        for pending in [*self._sent.values(), *self._waiting]:
            self._expire(pending)
        for waiter in self._revision_waiters:
            waiter.succeed(False)
        self._revision_waiters.clear()
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        for node in self._nodes.values():
            await node.close()

    @property
    def ready(self) -> bool:
        """The catalog was told by a node that leads the metadata group: a table that is not in it does not exist."""
        return self._ready is not None and self._ready.is_set()

    async def wait_ready(self) -> None:
        """Until `ready`. Not bounded: the caller decides how long a region may take to come up."""
        assert self._ready is not None, "start() comes first"
        await self._ready.wait()

    @property
    def complete(self) -> bool:
        """Ready, and the leader of every partition is known and connected: no call has to wait for a link."""
        partitions = (METADATA_PARTITION, *self.catalog.partitions())
        leaders = (self._nodes.get(self.leaders.leader(partition)) for partition in partitions)
        return self.ready and all(node is not None and node.connected for node in leaders)

    def wait_revision(self, revision: int, timeout_ms: int = 2_500) -> Reply[bool]:
        """Awaitable: True once the catalog is at `revision` or later, False when the time is up."""
        waiter = RevisionWaiter(revision, self._time() + timeout_ms / 1_000)
        if self.catalog.revision >= revision:
            waiter.succeed(True)
        elif self._closed:  # nothing will make it newer, and nobody would look at the time
            waiter.succeed(False)
        else:
            self._revision_waiters.append(waiter)
            self._sweep_by(waiter.deadline)
        return waiter

    def subscribe(self, on_change: Callable[[], None]) -> None:
        """Have `on_change` called after each change of the catalog."""
        self._subscribers.append(on_change)

    def status(self) -> dict[str, object]:
        """For reports: JSON-compatible."""
        return {
            "ready": self.ready,
            "revision": self.catalog.revision,
            "in_flight": len(self._sent) + len(self._waiting),
            "resends": self.resends,
            "failures": self.failures,
            "nodes": {node.id: {"zone": node.zone, "connected": node.connected} for node in self._by_distance},
        }

    # --- calls ------------------------------------------------------------------------------------------

    def call(self, call: Call, *, timeout_ms: int, request_id: str = "") -> Reply[Answer]:
        """Send a call now; the awaitable gives its answer: any Answer but NotLeader, Unknown and Busy.

        Moved is answered once the catalog is as new as the answer asked for: resolve the partition again.
        Raises (on await) ApiError InternalServerError when the time is up and the call may have had an effect, or
        is a read that was sent; ServiceUnavailable when it had none for certain.
        """
        loop = self._loop
        assert loop is not None, "start() comes first"
        deadline = loop.time() + timeout_ms / 1_000
        pending = PendingCall(call, request_id, deadline)
        sent = self._sent
        if len(sent) + len(self._waiting) >= self.settings.in_flight_max or self._closed:
            pending.fail(ApiError("ServiceUnavailable", "The service is overloaded; try again later"))
            return pending
        partition = pending.partition
        if pending.is_write:
            writes = self._writes.get(partition)
            if writes is None:
                writes = self._writes[partition] = WriteSequences()
            pending.write_id = writes.begin(self._router)
        node = self._nodes.get(self.leaders.leader(partition)) if pending.at_leader else self._nearest.get(partition)
        if node is not None and node.connected:
            self._last_id = id_ = self._last_id + 1
            pending.id = id_
            pending.node = pending.last = node
            sent[id_] = pending
            node.send(Request(id_, call, pending.write_id, timeout_ms, request_id))
        else:
            self._dispatch(pending)
        if deadline < self._sweep_at:
            self._sweep_by(deadline)
        return pending

    def nearest(self, partition: int) -> str:
        """The connected replica that eventual reads of a partition go to; "" when there is none."""
        node = self._nearest.get(partition) or self._find_nearest(partition, None)
        return node.id if node is not None else ""

    def _dispatch(self, pending: PendingCall) -> None:
        """Send to the node that should answer, or let the call wait."""
        if pending.at_leader:
            node = self._nodes.get(self.leaders.leader(pending.partition))
        else:
            node = self._nearest.get(pending.partition) if pending.last is None else None
            node = node or self._find_nearest(pending.partition, pending.last)
        if node is None or not node.connected:
            self._park(pending)
            return
        self._send(pending, node)

    def _send(self, pending: PendingCall, node: NodeLink) -> None:
        left_ms = int((pending.deadline - self._time()) * 1_000)
        if left_ms <= 0:
            self._expire(pending)
            return
        self._last_id = id_ = self._last_id + 1
        if pending.last is not None:
            self.resends += 1
        pending.id = id_
        pending.node = pending.last = node
        self._sent[id_] = pending
        node.send(Request(id_, pending.call, pending.write_id, left_ms, pending.request_id))

    def _find_nearest(self, partition: int, last: NodeLink | None) -> NodeLink | None:
        """The closest connected voter; after an attempt at `last` the one that follows it, which may do better."""
        voters = self.catalog.voters(partition)
        live = [node for node in self._by_distance if node.connected and (node.id in voters or not voters)]
        if not live:
            return None
        if last in live:
            return live[(live.index(last) + 1) % len(live)]
        if voters:
            self._nearest[partition] = live[0]
        return live[0]

    # --- answers ----------------------------------------------------------------------------------------

    def on_responses(self, node: NodeLink, responses: Sequence[Response]) -> None:
        """Answers of one node, in a batch."""
        sent = self._sent
        for id_, answer in responses:
            pending = sent.pop(id_, None)
            if pending is None:
                if id_ == node.watch_id:
                    node.on_watch_answer(answer)
                continue  # given up, or answered by another node meanwhile
            kind = type(answer)
            if kind in _RETRIED:
                self._try_again(pending, node, answer)
            elif kind is Moved:
                self._moved(pending, answer)  # type: ignore[arg-type]
            else:
                self._finish(pending)
                pending.succeed(answer)

    def _try_again(self, pending: PendingCall, node: NodeLink, answer: Answer) -> None:
        if isinstance(answer, Unknown):
            pending.uncertain = True
        if isinstance(answer, (Unknown, NotLeader)):
            self.leaders.hinted(pending.partition, node.id, answer.leader)
            leader = self._nodes.get(self.leaders.leader(pending.partition))
            if leader is not None and leader is not node and leader.connected and pending.hops < HOPS_MAX:
                pending.hops += 1
                self._send(pending, leader)
                return
        self._park(pending)

    def _moved(self, pending: PendingCall, answer: Moved) -> None:
        if pending.uncertain and pending.is_write:
            # An earlier attempt may have taken effect where the partition was: the caller must not write again.
            self._expire(pending)
        elif answer.revision <= self.catalog.revision:
            self._finish(pending)
            pending.succeed(answer)
        else:
            pending.moved = answer
            self._waiting.add(pending)
            pending.retry_at = pending.deadline
            self._sweep_by(pending.deadline)

    def _finish(self, pending: PendingCall) -> None:
        if pending.write_id is not None:
            self._writes[pending.partition].end(pending.write_id.sequence)

    def _expire(self, pending: PendingCall) -> None:
        """No more time: say what is known of the outcome."""
        self._sent.pop(pending.id, None)
        self._waiting.discard(pending)
        self._finish(pending)
        if pending.moved is not None:
            pending.succeed(pending.moved)
            return
        self.failures += 1
        unanswered = pending.node is not None
        if pending.uncertain or unanswered or (pending.last is not None and not pending.is_write):
            pending.fail(ApiError("InternalServerError", "The request did not complete in time"))
        else:
            pending.fail(ApiError("ServiceUnavailable", "The service is temporarily unable to handle the request"))

    @property
    def watch_ms(self) -> int:
        """How long a node may let a Watch wait."""
        return self.settings.watch_ms

    @property
    def catalog_revision(self) -> int:
        """What the next Watch asks to be newer than."""
        return self.catalog.revision

    def next_id(self) -> int:
        """An id that no other request of this client has: the same on all its streams."""
        self._last_id += 1
        return self._last_id

    # --- waiting ----------------------------------------------------------------------------------------

    def _park(self, pending: PendingCall) -> None:
        """The call cannot go on now: wait for a leader, or for the back-off."""
        now = self._time()
        pending.node = None
        pending.hops = 0
        if now - pending.retry_at > self.settings.hold_ms / 1_000:
            pending.stuck_since = now  # the first trouble, or the first after a long time at a node (a long poll)
            pending.backoff_ms = 0
        pending.backoff_ms = min(pending.backoff_ms * 2, RETRY_MS_MAX) if pending.backoff_ms else RETRY_MS_MIN
        pending.retry_at = now + pending.backoff_ms / 1_000
        self._waiting.add(pending)
        self._sweep_by(now + self.settings.sweep_ms / 1_000)

    def _wake(self, partitions: set[int] | None) -> None:
        """Something became known for these partitions (None: all): calls that wait for it go on at once."""
        for pending in [p for p in self._waiting if partitions is None or p.partition in partitions]:
            if pending.moved is None:
                self._waiting.discard(pending)
                self._dispatch(pending)

    def _retry(self, pending: PendingCall, now: float) -> None:
        self._waiting.discard(pending)
        node = self._nodes.get(self.leaders.leader(pending.partition)) if pending.at_leader else None
        leaderless = pending.at_leader and (node is None or not node.connected)
        if leaderless and now - pending.stuck_since >= PROBE_AFTER_MS / 1_000:
            probe = self._find_nearest(pending.partition, pending.last)
            if probe is not None:
                self._send(pending, probe)
                return
        self._dispatch(pending)

    def _sweep_by(self, when: float) -> None:
        """Have the sweep run no later than `when` (loop time, seconds)."""
        if when >= self._sweep_at or self._loop is None or self._closed:
            return
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        self._sweep_at = when
        self._sweep_timer = self._loop.call_at(when, self._sweep)

    def _sweep(self) -> None:
        """Retries that are due and calls whose time is up."""
        self._sweep_timer = None
        self._sweep_at = NEVER
        now = self._time()
        hold = self.settings.hold_ms / 1_000
        for pending in [p for p in self._sent.values() if p.deadline <= now]:
            self._expire(pending)
        for pending in list(self._waiting):
            held_out = pending.moved is None and now - pending.stuck_since >= hold
            if pending.deadline <= now or held_out:
                self._expire(pending)
            elif pending.retry_at <= now:
                self._retry(pending, now)
        overdue = [w for w in self._revision_waiters if w.deadline <= now]
        self._revision_waiters = [w for w in self._revision_waiters if w.deadline > now]
        for waiter in overdue:
            waiter.succeed(False)
        step = self.settings.sweep_ms / 1_000
        following = min((p.deadline for p in self._sent.values()), default=NEVER)
        following = min(following, min((w.deadline for w in self._revision_waiters), default=NEVER))
        for pending in self._waiting:
            held_until = pending.deadline if pending.moved is not None else pending.stuck_since + hold
            following = min(following, pending.retry_at, pending.deadline, held_until)
        if following < NEVER:
            self._sweep_by(max(following, now + step))

    def _time(self) -> float:
        assert self._loop is not None, "start() comes first"
        return self._loop.time()

    # --- what the nodes tell ------------------------------------------------------------------------------

    def on_node_up(self, node: NodeLink) -> None:
        """A link came up."""
        self._nearest.clear()
        self._wake(None)

    def on_node_down(self, node: NodeLink) -> None:
        """A link went down: everything sent there has an unknown outcome and is sent elsewhere, or waits."""
        self._nearest.clear()
        self.leaders.forget(node.id)
        for pending in [p for p in self._sent.values() if p.node is node]:
            del self._sent[pending.id]
            pending.uncertain = True
            self._dispatch(pending)

    def on_watched(self, node: NodeLink, watched: Watched) -> None:
        """A node told its catalog and what it leads."""
        if self._nodes.get(node.id) is not node:
            return  # a member no more
        changed = self.leaders.claimed(node.id, watched.leads)
        newer = self.catalog.apply(watched)
        self.catalog.counted(watched.counts)
        if newer:
            self._nearest.clear()
        leads_metadata = any(partition == METADATA_PARTITION for partition, _ in watched.leads)
        if leads_metadata and watched.revision >= 0 and self._ready is not None:
            self._ready.set()
        if changed:
            self._follow(changed)
        if newer:
            self._on_catalog()

    def _follow(self, partitions: set[int]) -> None:
        """New leaders: what waits for them goes on, what was sent to their predecessors is sent again.

        The predecessor may be stopped without its connection being closed; waiting for it to answer would cost
        the whole detection time of a silent link.
        """
        self._wake(partitions)
        for pending in list(self._sent.values()):
            if pending.at_leader and pending.partition in partitions and pending.node is not None:
                leader = self._nodes.get(self.leaders.leader(pending.partition))
                if leader is not None and leader is not pending.node and leader.connected:
                    del self._sent[pending.id]
                    pending.uncertain = True
                    self._send(pending, leader)

    def _on_catalog(self) -> None:
        revision = self.catalog.revision
        arrived = [w for w in self._revision_waiters if w.revision <= revision]
        self._revision_waiters = [w for w in self._revision_waiters if w.revision > revision]
        for pending in list(self._waiting):
            moved = pending.moved
            if moved is not None and moved.revision <= revision:
                self._waiting.discard(pending)
                self._finish(pending)
                pending.succeed(moved)
        for waiter in arrived:
            waiter.succeed(True)
        for on_change in self._subscribers:
            on_change()

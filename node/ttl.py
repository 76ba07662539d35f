"""Deleting what has expired, in the partitions that this node leads; and completing the index of what expires, in all
replicas that it holds.

Every interval each partition whose table has Time to Live is looked at. Where something is due, or the index lacks rows
that were there before it, work is done in small steps with other work of the loop in between, so that the requests of
clients do not wait for it.

Must hold:
- An item goes only if its newest image, uncommitted ones included, is due at the moment at which the deletion is
  proposed, by the leader's clock. The index only says where to look.
- An item that a transaction has locked stays until the next look.
- In a global table the region that wrote an image deletes it, so that one region's stream tells of the deletion as one
  for its time. The others do it in its stead only after a while: it may be away.
- Where the table's write mode names one region for an item, that one alone deletes it, at once.
- The version of a deletion follows that of the image that was judged, and nothing else: a write that another region
  made since then, and that has not come here yet, prevails wherever it arrives.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geodyne.model.expiry import Expiry, due_seconds
from node.storage.port import GroupDamaged, StateFailed
from node.storage.sqlite import StateStore

if TYPE_CHECKING:
    from node.group import Group
    from node.service import NodeService

logger = logging.getLogger("geodyne.node.ttl")

INTERVAL_S = 1.0
STEP_S = 0.02  # between two steps of one node
DELETES_PER_STEP = 10  # so at most 500 a second and node: more is felt by the requests of clients (decision 0019)
FILL_ROWS_PER_STEP = 64
BACKLOG_BYTES_MAX = 1 << 20  # with more proposed and not applied, the partition has enough to do
FOREIGN_GRACE_US = 15_000_000  # then an item goes although the region that wrote it has not deleted it
START = (0, b"")


@dataclass(frozen=True, slots=True)
class TtlSettings:
    """`interval_s`: how often is looked for what has expired."""

    interval_s: float = INTERVAL_S


class Expiring:
    """The duty of one node. Costs nothing while no partition here belongs to a table with Time to Live."""

    def __init__(self, service: NodeService, store: StateStore, settings: TtlSettings) -> None:
        self._service = service
        self._store = store
        self._interval_s = settings.interval_s
        self._look_timer: asyncio.TimerHandle | None = None
        self._step_timer: asyncio.TimerHandle | None = None
        self._queue: deque[int] = deque()  # partitions with something to do; each once
        self._positions: dict[int, tuple[int, bytes]] = {}  # of those: where the next step goes on
        self._closed = False

    def review(self, group: Group) -> None:
        """A group is here, or has another definition or state."""
        if group.state.definition.ttl and self._look_timer is None and not self._closed:
            self._look_timer = asyncio.get_running_loop().call_later(self._interval_s, self._guarded, self._look)

    def close(self) -> None:
        self._closed = True
        for timer in (self._look_timer, self._step_timer):
            if timer is not None:
                timer.cancel()

    def _guarded(self, act: Callable[[], None]) -> None:
        if self._closed:
            return
        try:
            act()
        except StateFailed as error:
            self._service.failure.happened("the state", error)
        except Exception as error:
            logger.exception("expiring failed")
            self._service.fail(f"deleting expired items failed: {error}")
            raise

    # --- looking ----------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Queue the partitions that have something to do."""
        loop = asyncio.get_running_loop()
        self._look_timer = None
        wall_us = self._service.clock.wall_us()
        first, last = due_seconds(wall_us)
        oldest, filling, watched = last, 0, False
        for group in self._service.groups:
            if not group.state.definition.ttl or group.damaged:
                continue
            watched = True
            filled = self._store.expiries_filled(group.partition)
            filling += not filled
            try:
                deletes = group.serving and bool(group.expires_by)
                due = self._store.expiring(group.partition, (first, b""), last, 1) if deletes else []
            except GroupDamaged:
                continue  # the store has told who heals it
            if due:
                oldest = min(oldest, due[0][0])
            if (due or not filled) and group.partition not in self._positions:
                self._queue.append(group.partition)
                self._positions[group.partition] = START
        self._service.metrics.ttl_overdue_seconds.set(last - oldest)
        self._service.metrics.ttl_filling.set(filling)
        if self._queue and self._step_timer is None:
            self._step_timer = loop.call_later(STEP_S, self._guarded, self._step)
        if watched:
            self._look_timer = loop.call_later(self._interval_s, self._guarded, self._look)

    # --- working ----------------------------------------------------------------------------------------

    def _step(self) -> None:
        """One partition's next share of work."""
        self._step_timer = None
        partition = self._queue.popleft()
        group = self._service.groups.get(partition)
        if group is not None and self._work(group):
            self._queue.append(partition)
        else:
            del self._positions[partition]
        if self._queue:
            self._step_timer = asyncio.get_running_loop().call_later(STEP_S, self._guarded, self._step)

    def _work(self, group: Group) -> bool:
        """True when there is more to do."""
        if not group.state.definition.ttl or group.damaged:
            return False
        try:
            filling = self._store.fill_expiries(group.partition, FILL_ROWS_PER_STEP)
            return self._delete_some(group) or filling
        except GroupDamaged:
            return False

    def _delete_some(self, group: Group) -> bool:
        attribute = group.expires_by
        if not attribute or not self._may_write(group):
            return False
        wall_us = self._service.clock.wall_us()
        first, last = due_seconds(wall_us)
        after = max(self._positions[group.partition], (first, b""))
        found = self._store.expiring(group.partition, after, last, DELETES_PER_STEP)
        deleted = 0
        try:
            for _, key in found:
                deleted += expire(group, Expiry(attribute), key, wall_us)
        finally:  # damage may be met half-way
            group.seal()  # this is no turn
            self._service.metrics.ttl_deleted.inc(deleted)
            if found:
                self._service.touch(group)
        more = len(found) == DELETES_PER_STEP
        # Filling enters what is due behind the last position, too.
        self._positions[group.partition] = found[-1] if more else START
        return more

    def _may_write(self, group: Group) -> bool:
        space = self._service.space
        return (space is None or not space.low) and ready(group)


def ready(group: Group) -> bool:
    """Whether a group may delete now: it leads, keeps up, and the indexes are not too far behind for more changes."""
    keeps_up = group.uncommitted_bytes <= BACKLOG_BYTES_MAX and not group.feed_full
    return group.serving and group.leading and keeps_up


def expire(group: Group, expiry: Expiry, key: bytes, wall_us: int) -> bool:
    """On the serving leader: propose the deletion of an item, if it is due. True when that was proposed."""
    if group.participant.blocks(key):
        return False
    _, row = group.newest(key)
    if row is None or not expiry.due(row.value, wall_us - FOREIGN_GRACE_US if group.foreign(row) else wall_us):
        return False
    if not group.expires_here(row):
        return False
    group.expire(key, row, wall_us)
    return True

"""Background duties of a node: checkpoints, log compaction, garbage, leaders back in their places.

The log may be cut only up to an index that a completed, fsynced checkpoint of the state covers and that the saved
deduplication window has reached; a tail is kept beyond that, so that a replica that was away briefly needs no snapshot.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from node.groups import Groups
from node.metrics import NodeMetrics
from node.space import SpaceGuard
from node.storage.port import GroupDamaged
from node.storage.sqlite import StateStore
from node.storage.wal import Wal

logger = logging.getLogger("geodyne.node.storage")

INTERVAL_S = 1.0
CHECKPOINT_LOG_BYTES = 16 * 1024 * 1024  # checkpoint once the log has grown by this much
CHECKPOINT_INTERVAL_S = 30.0  # or after this long, if anything was applied
COUNTS_INTERVAL_S = 2.0  # the service itself refreshes its counts every six hours
TAIL_BYTES = 4 * 1024 * 1024  # kept per group for replicas that lag a little
TAIL_BYTES_OF_NODE = 256 * 1024 * 1024  # and by all groups together, however many there are
GARBAGE_ROWS = 256


def tail_bytes(groups: int, low_on_space: bool) -> int:
    """How much of its log each of so many groups keeps beyond what it needs. None while the disk is nearly full: a
    follower that lags then takes a snapshot. No follower is waited for in any case."""
    return 0 if low_on_space else min(TAIL_BYTES, TAIL_BYTES_OF_NODE // max(1, groups))


class Maintenance:
    def __init__(
        self,
        groups: Groups,
        log: Wal,
        store: StateStore,
        metrics: NodeMetrics,
        space: SpaceGuard,
        balance: Callable[[], int],
        publish_counts: Callable[[], None],
        look_after: Callable[[], None],
    ) -> None:
        """`balance` gives leadership back to preferred replicas, some groups a call; `publish_counts` tells watchers
        how many items changed partitions hold; `look_after` compares replicas and goes on healing damaged ones."""
        self._space = space
        self._look_after = look_after
        self._publish_counts = publish_counts
        self._balance = balance
        self._groups = groups
        self._log = log
        self._store = store
        self._metrics = metrics
        self._applied: dict[int, int] = {}

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        last_bytes, last_time = self._log.bytes_on_disk, loop.time()
        last_count = loop.time()
        while True:
            await asyncio.sleep(INTERVAL_S)
            self._log.mark_end()
            self._space.step()
            self._balance()
            self._look_after()
            if loop.time() - last_count >= COUNTS_INTERVAL_S:
                last_count = loop.time()
                self._publish_counts()
            self._metrics.log_bytes.set(self._log.bytes_on_disk)
            self._metrics.partitions.set(len(self._groups))
            grown = self._log.bytes_on_disk - last_bytes
            if grown < CHECKPOINT_LOG_BYTES and loop.time() - last_time < CHECKPOINT_INTERVAL_S:
                continue
            last_time = loop.time()
            if self._dirty():
                await self.checkpoint()
            last_bytes = self._log.bytes_on_disk
            await self._store.collect_garbage(GARBAGE_ROWS)

    def _dirty(self) -> bool:
        return any(self._applied.get(group.partition) != group.state.applied_index for group in self._groups)

    async def checkpoint(self) -> None:
        """Save windows, checkpoint the state, cut the log."""
        windows: dict[int, int] = {}
        for number, group in enumerate(self._groups):
            if self._groups.get(group.partition) is not group:
                continue  # destroyed since the loop began
            index = group.state.applied_index
            if self._applied.get(group.partition) != index and not group.damaged:
                try:
                    self._store.save_window(group.partition, group.window.to_bytes(), index)
                except GroupDamaged:
                    continue  # the store has told who heals it
                windows[group.partition] = index
            if number % 64 == 63:
                await asyncio.sleep(0)
        covered = await self._store.checkpoint()
        tail = tail_bytes(len(self._groups), self._space.low)
        for partition, applied in covered.items():
            held = self._groups.get(partition)
            if held is None or held.frozen:
                continue
            self._applied[partition] = windows.get(partition, 0)
            log = held.raft.log
            through = min(applied, self._store.window_covered(partition), log.tail_start(tail), log.persisted_index)
            if through > log.offset_index:
                term = log.term(through)
                held.raft.compact(through)
                self._log.compact(partition, through, term)
        self._groups.forget_marks()
        self._metrics.checkpoints.inc()

"""The maintainers of a node: one for each partition that it leads whose table has global indexes."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from geodyne.catalog import TableRecord
from geodyne.messages import AdvanceCursor, Request, Response
from node.indexes.maintainer import Maintainer
from node.metrics import NodeMetrics
from node.regionlink import RegionCalls
from node.storage.sqlite import StateStore

if TYPE_CHECKING:
    from node.group import Group
    from node.service import NodeService

logger = logging.getLogger("geodyne.node.indexes")

SUBMIT_MS = 5_000


class IndexDuties:
    """Starts and ends maintainers as leadership and definitions change; implements their Host."""

    def __init__(self, service: NodeService, store: StateStore, metrics: NodeMetrics) -> None:
        self._service = service
        self._store = store
        self._metrics = metrics
        self._running: dict[int, tuple[Maintainer, asyncio.Task[None]]] = {}  # by partition of a table
        self._ending: set[asyncio.Task[None]] = set()
        self._numbers: dict[int, tuple[int, dict[int, int]]] = {}  # partition -> term, numbers of that term
        self._tables: tuple[int, dict[int, TableRecord]] = (-1, {})
        self._closed = False
        metrics.index_lag_seconds.set_function(self.lag_s)

    def review(self) -> None:
        """Leadership, a definition or the catalog may have changed."""
        if self._closed:
            return
        wanted = {group.partition: group for group in self._service.groups if _has_duties(group)}
        for partition, (maintainer, _) in list(self._running.items()):
            group = wanted.get(partition)
            if group is None or group.raft.term != maintainer.term:
                self._end(partition)
            else:
                maintainer.wake()
        for partition, group in wanted.items():
            if partition not in self._running:
                self._begin(group)

    def news(self, partition: int) -> None:
        """The partition's feed has grown."""
        running = self._running.get(partition)
        if running is not None:
            running[0].wake()

    def lag_s(self) -> float:
        """Age of the oldest change that is not in all indexes yet; 0 when there is none."""
        oldest = [maintainer.oldest_us for maintainer, _ in self._running.values()]
        waiting = [at_us for at_us in oldest if at_us is not None]
        return max(0.0, (self._service.clock.wall_us() - min(waiting)) / 1e6) if waiting else 0.0

    def close(self) -> None:
        self._closed = True
        for partition in list(self._running):
            self._end(partition)

    async def wait_closed(self) -> None:
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _begin(self, group: Group) -> None:
        term, numbers = self._numbers.get(group.partition, (0, {}))
        if term != group.raft.term:
            numbers = {}
            held = self._service.groups
            self._numbers = {one: kept for one, kept in self._numbers.items() if held.get(one) is not None}
            self._numbers[group.partition] = (group.raft.term, numbers)
        maintainer = Maintainer(group, self._store, self, numbers)
        task = asyncio.get_running_loop().create_task(maintainer.run())
        task.add_done_callback(self._ended)
        self._running[group.partition] = maintainer, task

    def _end(self, partition: int) -> None:
        _, task = self._running.pop(partition)
        if not task.done():
            self._ending.add(task)
            task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("index maintenance failed", exc_info=task.exception())
            self._service.fail("index maintenance failed; see the log")

    # --- what maintainers ask ---------------------------------------------------------------------------

    def table_of(self, partition: int) -> TableRecord | None:
        catalog = self._service.catalog.catalog
        if self._tables[0] != catalog.revision:
            self._tables = catalog.revision, catalog.partitions()
        return self._tables[1].get(partition)

    @property
    def catalog_revision(self) -> int:
        return self._service.catalog.revision

    def region(self) -> RegionCalls:
        return self._service.region_link.client()

    def submit(self, call: AdvanceCursor) -> None:
        self._service.on_requests((Request(0, call, None, SUBMIT_MS),), _ignore)

    def sent(self, entries: int) -> None:
        self._metrics.index_entries.inc(entries)

    def retried(self) -> None:
        self._metrics.index_retries.inc()

    def fail(self, reason: str) -> None:
        self._service.fail(reason)


def _has_duties(group: Group) -> bool:
    return group.serving and bool(group.state.definition.indexes) and bool(group.state.definition.global_indexes)


def _ignore(response: Response) -> None:
    return None

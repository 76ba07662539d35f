"""Looking after the feeds of the partitions that a node leads: retention, new shards, how far consumers are behind."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Collection
from typing import TYPE_CHECKING

from geodyne.catalog import MemberState
from node.catalog import streams
from node.catalog.members import all_speak
from node.feed.retention import FeedReader, FeedSettings, FeedStanding, standing, upkeep
from node.metrics import CONSUMER_KINDS
from node.storage.port import GroupDamaged
from node.storage.sqlite import StateStore

if TYPE_CHECKING:
    from node.group import Group
    from node.service import NodeService

logger = logging.getLogger("geodyne.node.feed")

PROMISE_AFTER_US = 900_000  # of a quiet partition of a global table: an entry with each step
PROMISES_PER_STEP = 64  # of one node, in one turn: some 5 ms. With more quiet partitions each has its turn later
LOOK_MS = 5_000  # between two looks at a feed, unless it seems to hold too much
WATERMARK_FORMAT = 5  # of the streams between nodes, from which on they know what is logged for watermarks
GROUPS_PER_STEP = 64  # a step each second; some 10 records of each group are read


def kind_of(consumer: str) -> str:
    """The kind of consumer for metrics: a small, fixed number of them."""
    kind = consumer.split("/", 1)[0].removesuffix("-oldest")
    return kind if kind in CONSUMER_KINDS else "other"


class FeedDuty:
    """Of one node. Costs nothing for partitions without consumers."""

    def __init__(self, service: NodeService, store: StateStore, settings: FeedSettings) -> None:
        self._service = service
        self._store = store
        self._settings = settings
        self._due_ms: dict[int, int] = {}
        self._standings: dict[int, FeedStanding] = {}
        self._totals: dict[int, int] = {}  # bytes that there were at the last look, less those retained
        self._lost: set[tuple[int, str]] = set()  # told already
        metrics = service.metrics
        self._lags = {
            kind: (metrics.feed_lag_seconds.labels(kind), metrics.feed_lag_bytes.labels(kind))
            for kind in CONSUMER_KINDS
        }

    def step(self) -> None:
        """Each second."""
        now_ms, looked = self._service.now_ms(), 0
        led = {group.partition: group for group in self._service.groups if _has_duties(group)}
        for partition in [each for each in self._due_ms if each not in led]:
            self._forget(partition)
        self._promise(led.values())
        for partition, group in led.items():
            over = group.state.feed_total - self._totals.get(partition, 0) > self._settings.bytes_max
            if looked < GROUPS_PER_STEP and (over or self._due_ms.get(partition, 0) <= now_ms):
                looked += 1
                self._due_ms[partition] = now_ms + LOOK_MS
                try:
                    self._look(group)
                except GroupDamaged:
                    continue  # the store has told who heals it
        self._measure()

    def standing(self, partition: int) -> FeedStanding | None:
        """As of the last look at a partition that is led here."""
        return self._standings.get(partition)

    def _promise(self, led: Collection[Group]) -> None:
        """Watermarks of global tables' quiet partitions move on (decision 0021): those first that wait longest."""
        promises = all_speak(self._service.catalog.catalog.members, WATERMARK_FORMAT, but=(MemberState.LEFT,))
        space, wall_us = self._service.space, self._service.clock.wall_us()
        for group in led:
            group.promises = promises
        if not promises or (space is not None and space.low):  # then the log does not grow by it
            return
        quiet = [
            one for one in led if one.state.definition.tombstones and wall_us - one.state.safe_us > PROMISE_AFTER_US
        ]
        for group in heapq.nsmallest(PROMISES_PER_STEP, quiet, key=lambda one: one.state.safe_us):
            group.promise(wall_us)
            self._service.touch(group)

    def _look(self, group: Group) -> None:
        partition, state = group.partition, group.state
        reader = FeedReader(self._store, partition, state)
        found = standing(state, reader, self._settings)
        if found.full != group.feed_full:
            logger.warning(
                "indexes are behind: writes wait" if found.full else "indexes have caught up",
                extra={"partition": partition, "bytes": found.bytes},
            )
        group.feed_full = found.full
        self._standings[partition] = found
        self._totals[partition] = state.feed_total - found.bytes
        wall_us = self._service.clock.wall_us()
        known = streams.known(self._service.catalog.catalog.members)
        due = upkeep(state, reader, found.bytes, wall_us, self._settings, known)
        if due.cursors or due.roll:
            group.keep_feed(due.cursors, due.roll, wall_us)
            self._service.touch(group)
        for consumer in state.definition.consumers:
            self._note_lost(partition, consumer, consumer not in state.cursors)

    def _note_lost(self, partition: int, consumer: str, lost: bool) -> None:
        mark = partition, consumer
        if lost and mark not in self._lost:
            self._lost.add(mark)
            self._service.metrics.feed_places_lost.inc()
            logger.warning(
                "a consumer has lost its place in the feed, which is full: it must resynchronise",
                extra={"partition": partition, "consumer": consumer},
            )
        elif not lost:
            self._lost.discard(mark)

    def _forget(self, partition: int) -> None:
        """Of a partition that is led elsewhere, or whose last consumer is gone: nobody is behind any more."""
        group = self._service.groups.get(partition)
        if group is not None:
            group.feed_full = False
        self._due_ms.pop(partition, None)
        self._standings.pop(partition, None)
        self._totals.pop(partition, None)
        self._lost = {mark for mark in self._lost if mark[0] != partition}

    def _measure(self) -> None:
        metrics, now_us = self._service.metrics, self._service.clock.wall_us()
        lags = dict.fromkeys(CONSUMER_KINDS, 0.0)
        waiting = dict.fromkeys(CONSUMER_KINDS, 0)
        for found in self._standings.values():
            for consumer, (count, since_us) in found.waiting.items():
                kind = kind_of(consumer)
                waiting[kind] += count
                if since_us:
                    lags[kind] = max(lags[kind], (now_us - since_us) / 1e6)
        for kind, (lag_seconds, lag_bytes) in self._lags.items():
            lag_seconds.set(lags[kind])
            lag_bytes.set(waiting[kind])
        metrics.feed_bytes.set(sum(found.bytes for found in self._standings.values()))
        metrics.feeds_full.set(sum(found.full for found in self._standings.values()))


def _has_duties(group: Group) -> bool:
    return group.serving and group.leading and bool(group.state.cursors)

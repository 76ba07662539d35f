"""Collecting tombstones of global tables, on the leaders of their partitions (decision 0021).

A tombstone may go once no region can bring anything older than it: the replicator tells up to when everything that any
region wrote is in every region (`stable_us`). The leader looks through the rows slice by slice, and logs which
tombstones go; all replicas drop the same ones at the same place of the log. While a region is cut off the watermark
stands still, and so do the tombstones that are newer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from geodyne.catalog import REPLICA_PREFIX, replica_consumer
from geodyne.messages import AdvanceCursor
from geodyne.model import version as versions
from geodyne.model.keys import KEYS_END
from node.storage.port import GroupDamaged
from node.storage.sqlite import StateStore

if TYPE_CHECKING:
    from node.group import Group
    from node.service import NodeService

SLICE_ROWS = 1024  # looked at in one partition at a time: some 5 ms
SLICE_BYTES = 512 * 1024  # likewise; the item that reaches the bound still belongs to it
SLICES_PER_STEP = 2  # of one node; a step each second
COLLECTED_MAX = 256  # in one entry
REST_MS = 30_000  # between two passes over a partition


@dataclass(slots=True)
class _Pass:
    """The standing of one partition that is led here."""

    revision: int  # of the definition under which the marks were heard
    stable_us: int
    arrived: tuple[tuple[str, int], ...]
    after: bytes = b""
    due_ms: int = 0
    found: list[tuple[bytes, bytes]] = field(default_factory=list)  # (key, version) of tombstones that may go
    head: int = 0  # of the feed, when they were found: the changes that made them lie before it
    seen: int = 0  # tombstones in this pass so far
    counted: int = 0  # in the whole of the last one


class TombstoneDuty:
    """Of one node. Costs nothing for partitions of whose watermarks nothing was heard."""

    def __init__(self, service: NodeService, store: StateStore) -> None:
        self._service = service
        self._store = store
        self._passes: dict[int, _Pass] = {}
        self._turn = 0  # where the last step ended, so that each partition has its turn

    def hear(self, group: Group, call: AdvanceCursor) -> None:
        """The replicator's word on a partition that serves here. Ignored unless it is of exactly the other regions
        that the partition ships to: one that was added meanwhile may lack what a tombstone hides."""
        state = group.state
        shipped_to = {name for name in state.definition.consumers if name.startswith(REPLICA_PREFIX)}
        if not group.promises or shipped_to != {replica_consumer(region) for region, _ in call.arrived}:
            return
        known = self._passes.get(group.partition)
        if known is None or known.revision != state.definition.revision:
            known = self._passes[group.partition] = _Pass(state.definition.revision, 0, ())
        known.stable_us, known.arrived = max(known.stable_us, call.stable_us), call.arrived

    def step(self) -> None:
        """Each second."""
        for partition in [each for each in self._passes if not self._stands(each)]:
            del self._passes[partition]
        now_ms, left = self._service.now_ms(), SLICES_PER_STEP
        partitions = sorted(self._passes)
        later = [each for each in partitions if each > self._turn]
        for partition in later + partitions[: len(partitions) - len(later)]:
            one, group = self._passes[partition], self._service.groups.get(partition)
            if not left:
                break
            if group is None or one.due_ms > now_ms or (one.found and not _passed(group, one.head)):
                continue  # while a region is away this may last: it must not cost the others their turn
            self._turn = partition
            left -= 1
            try:
                self._advance(group, one, now_ms)
            except GroupDamaged:
                continue  # the store has told who heals it
        self._service.metrics.tombstones.set(sum(one.counted for one in self._passes.values()))

    def _stands(self, partition: int) -> bool:
        group = self._service.groups.get(partition)
        return (
            group is not None
            and group.serving
            and group.leading
            and group.state.definition.revision == self._passes[partition].revision
        )

    def _advance(self, group: Group, one: _Pass, now_ms: int) -> None:
        """Collect what the last slice found, and look through the next one. Raises GroupDamaged."""
        if one.found:
            self._collect(group, one)
        self._look(group, one, now_ms)

    def _collect(self, group: Group, one: _Pass) -> None:
        going = [(key, version) for key, version in one.found if _still_deleted(group, key, version)]
        one.found = []
        if going:
            group.collect(going, one.arrived, self._service.clock.wall_us())
            self._service.metrics.tombstones_collected.inc(len(going))
            self._service.touch(group)

    def _look(self, group: Group, one: _Pass, now_ms: int) -> None:
        limit_us = min(one.stable_us, group.state.safe_us)  # what is written here later must exceed what goes
        looked = self._store.range(
            group.partition, one.after, KEYS_END, False, SLICE_ROWS, tombstones=True, bytes_max=SLICE_BYTES
        )
        one.head = group.state.feed_head
        exhausted = len(looked) < SLICE_ROWS and sum(len(row.value or b"") for _, row in looked) < SLICE_BYTES
        one.after = b"" if exhausted else looked[-1][0] + b"\0"
        for key, row in looked:
            if row.value is not None:
                continue
            one.seen += 1
            if versions.time_us(row.version) <= limit_us:
                one.found.append((key, row.version))
                if len(one.found) == COLLECTED_MAX:
                    one.after = key + b"\0"
                    break
        if not one.after:
            one.counted, one.seen = one.seen, 0
            one.due_ms = 0 if one.found else now_ms + REST_MS


def _still_deleted(group: Group, key: bytes, version: bytes) -> bool:
    row = group.newest(key)[1]
    locked = bool(group.participant.locks) and group.participant.blocks(key)
    return not locked and row is not None and row.value is None and row.version == version


def _passed(group: Group, head: int) -> bool:
    """Every other region has applied what this one wrote up to a place in the feed."""
    state = group.state
    replicas = [name for name in state.definition.consumers if name.startswith(REPLICA_PREFIX)]
    return all(state.cursors.get(name, -1) >= head for name in replicas)
